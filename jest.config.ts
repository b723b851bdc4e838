import type { Config } from 'jest';

// For the long form of the property tests.
const { HOLDFAST_PROPERTY_RUNS: runs, HOLDFAST_PROPERTY_SEED: seed } = process.env;
const PROPERTIES = { ...(runs && { runs: Number(runs) }), ...(seed && { seed: Number(seed) }) };

const project = (displayName: string, folders: string[], needsDatabase: boolean) => ({
  displayName,
  roots: folders.map((folder) => `<rootDir>/${folder}`),
  testEnvironment: 'node',
  globals: { PROPERTIES },
  testRegex: '\\.spec\\.ts$',
  testPathIgnorePatterns: ['/node_modules/', '<rootDir>/test/architecture/fixtures/'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        swcrc: false,
        sourceMaps: 'inline',
        jsc: {
          target: 'es2023',
          parser: { syntax: 'typescript', decorators: true, dynamicImport: true },
          transform: { legacyDecorator: true, decoratorMetadata: true, useDefineForClassFields: false },
          keepClassNames: true,
        },
        module: { type: 'commonjs' },
      },
    ],
  },
  // Jest runs each of these files once however many projects name it.
  ...(needsDatabase && {
    globalSetup: '<rootDir>/test/support/global-setup.ts',
    globalTeardown: '<rootDir>/test/support/global-teardown.ts',
  }),
});

const config: Config = {
  testTimeout: 60_000,
  // Medium and end-to-end tests measure races; more workers than this and they mostly measure the machine.
  maxWorkers: 2,
  testSequencer: '<rootDir>/test/support/longest-first.cjs',
  projects: [
    project('small', ['src', 'tools'], false),
    project('medium', ['test/medium'], true),
    project('e2e', ['test/e2e'], true),
    project('architecture', ['test/architecture'], false),
  ],
};

// Node reads this file by erasing its types, and in a CommonJS package what is left must be CommonJS.
module.exports = config;
