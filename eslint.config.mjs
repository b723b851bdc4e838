import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

// Rules are here to catch bugs and to hold the house's boundaries; layout is Prettier's business alone.
// `consistent-type-imports` stays off: Nest injects by the class that an import brings at run time, and whether an import
// is "only a type" changes with every decorator.

/** What Node offers without an import, as the running Node says it, so that no list grows old here. */
const nodeGlobals = Object.fromEntries(Object.getOwnPropertyNames(globalThis).map((name) => [name, 'readonly']));

const CONFIGURATION = 'The environment is read in src/platform/config.ts alone; take the value from its Config.';
const LEDGER = 'All SQL goes through Database.transaction or Database.read: it sets role, organization and time-outs.';
const CLOCK = '"Now" comes from Clock, so that a test can set it.';

const environment = {
  properties: [{ object: 'process', property: 'env', message: CONFIGURATION }],
  imports: ['process', 'node:process'].map((name) => ({ name, importNames: ['env'], message: CONFIGURATION })),
};
const rawConnections = [
  { name: 'typeorm', importNames: ['DataSource'], message: LEDGER },
  { name: '@nestjs/typeorm', importNames: ['InjectDataSource', 'InjectEntityManager'], message: LEDGER },
];
const circularInjection = {
  name: '@nestjs/common',
  importNames: ['forwardRef'],
  message: 'Modules meet down the graph by a call, up the graph by an outbox event.',
};
const anyRepository = { selector: "CallExpression[callee.property.name='getRepository']", message: LEDGER };
const ownClock = [
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: CLOCK },
  { selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']", message: CLOCK },
];

export default defineConfig(
  globalIgnores(['dist', 'coverage', '.holdfast', 'test/architecture/fixtures']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    rules: {
      'array-callback-return': 'error',
      eqeqeq: 'error',
      'no-constructor-return': 'error',
      'no-self-compare': 'error',
      'no-template-curly-in-string': 'error',
      'no-unmodified-loop-condition': 'error',
      'no-unreachable-loop': 'error',
    },
  },
  {
    files: ['**/*.{mjs,cjs}'],
    languageOptions: { globals: nodeGlobals },
  },
  {
    files: ['**/*.cjs'],
    languageOptions: { sourceType: 'commonjs', globals: { __dirname: 'readonly' } },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', ignoreRestSiblings: true }],
      // Inside try, a promise returned without await escapes the catch: a rollback or a translation would be skipped.
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/require-array-sort-compare': ['error', { ignoreStringArrays: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      // Numbers read well in messages; objects and undefined do not.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // An async method without await still turns a throw into a rejection, which callers of an interface count on.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'no-console': 'error',
      'no-restricted-properties': ['error', ...environment.properties],
      'no-restricted-imports': ['error', { paths: [...environment.imports, ...rawConnections, circularInjection] }],
      'no-restricted-syntax': ['error', anyRepository, ...ownClock],
    },
  },
  {
    // The floor itself: it owns the connections and the clock. The environment stays with its one reader.
    files: ['src/platform/**/*.ts'],
    rules: {
      'no-restricted-imports': ['error', { paths: [...environment.imports, circularInjection] }],
      'no-restricted-syntax': 'off',
    },
  },
  {
    files: ['src/**/*.repository.ts'],
    rules: { 'no-restricted-syntax': ['error', ...ownClock] },
  },
  {
    files: ['src/platform/config.ts'],
    rules: { 'no-restricted-properties': 'off', 'no-restricted-imports': ['error', { paths: [circularInjection] }] },
  },
  {
    // A program for the terminal speaks through it.
    files: ['src/cli.ts', 'src/main.ts'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['test/**/*.ts', 'src/**/*.spec.ts'],
    rules: {
      // Replies and rows come in as `any` and are judged by the assertion itself.
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      // `expect(mock.method)` does not call it.
      '@typescript-eslint/unbound-method': 'off',
      'no-restricted-properties': 'off',
      'no-restricted-syntax': 'off',
    },
  },
);
