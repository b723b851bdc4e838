/**
 * The module graph, held as a table. Every rule is planted as an offence in test/architecture/fixtures and has to turn red
 * there (test/architecture/architecture.spec.ts).
 */
const { join } = require('node:path');

/**
 * What each module stands on. It may import what is named here and all that lies below; everything else, its neighbours on
 * the same floor included, it meets through an outbox event. A new module gets its line here first.
 */
const STANDS_ON = {
  platform: [],
  auth: ['platform'],
  clinic: ['auth'],
  availability: ['clinic'],
  appointments: ['availability'],
  messaging: ['appointments'],
  reminders: ['appointments'],
  'calendar-sync': ['appointments'],
  payments: ['appointments'],
  waitlist: ['appointments'],
  offers: ['appointments'],
  webhooks: ['appointments'],
  fhir: ['appointments'],
  operations: ['messaging', 'reminders', 'calendar-sync', 'payments', 'waitlist', 'offers', 'webhooks', 'fhir'],
};

const modules = Object.keys(STANDS_ON);
const below = (module) => [...new Set(STANDS_ON[module].flatMap((next) => [next, ...below(next)]))];
const oneOf = (names) => `(?:${names.join('|')})`;

const ANY_MODULE = '^src/[^/]+/';
// The embedded server has a door of its own: test harnesses start it without the rest of the floor.
const INDEX = '^src/(?:[^/]+|platform/embedded)/index\\.ts$';
const SPEC = '\\.spec\\.ts$';
const npm = (name) => `(?:^|/)node_modules/(?:@types/)?${name}/`;

const downTheGraph = modules
  .filter((module) => module !== 'platform')
  .map((module) => ({
    name: 'only-down-the-graph',
    comment: 'Call down the graph; tell upwards, and sideways, by an outbox event.',
    severity: 'error',
    from: { path: `^src/${module}/` },
    to: { path: ANY_MODULE, pathNot: `^src/${oneOf([module, ...below(module)])}/` },
  }));

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...downTheGraph,
    {
      name: 'platform-knows-no-module',
      comment: 'The floor knows nothing of appointments, clinics or callers.',
      severity: 'error',
      from: { path: '^src/platform/' },
      to: { path: ANY_MODULE, pathNot: '^src/platform/' },
    },
    {
      name: 'every-module-is-in-the-graph',
      comment: 'A folder below src is a module and has its line in STANDS_ON.',
      severity: 'error',
      from: { path: ANY_MODULE, pathNot: `^src/${oneOf(modules)}/` },
      to: {},
    },
    {
      name: 'every-module-is-in-the-graph',
      comment: 'A folder below src is a module and has its line in STANDS_ON.',
      severity: 'error',
      from: {},
      to: { path: ANY_MODULE, pathNot: `^src/${oneOf(modules)}/` },
    },
    {
      name: 'modules-meet-through-their-index',
      comment: "What another module's index.ts does not export is its own affair.",
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: ANY_MODULE, pathNot: ['^src/$1/', INDEX] },
    },
    {
      name: 'composition-imports-indexes',
      comment: 'main.ts, app.module.ts and cli.ts put modules together and reach into none.',
      severity: 'error',
      from: { path: '^src/[^/]+\\.ts$' },
      to: { path: ANY_MODULE, pathNot: INDEX },
    },
    {
      name: 'nothing-imports-composition',
      comment: 'Who needs a part of the composition needs a module in its place.',
      severity: 'error',
      from: { path: ANY_MODULE },
      to: { path: '^src/[^/]+\\.ts$' },
    },
    {
      name: 'tools-and-tests-import-indexes',
      comment: 'Tools and tests use a module as any other caller does; white-box tests lie beside the code.',
      severity: 'error',
      from: { path: '^(?:tools|test)/' },
      to: { path: ANY_MODULE, pathNot: INDEX },
    },
    {
      name: 'source-imports-no-tools-or-tests',
      comment: 'What serves patients does not hang on what checks it.',
      severity: 'error',
      from: { path: '^(?:src|migrations)/' },
      to: { path: '^(?:tools|test)/' },
    },
    {
      name: 'nothing-imports-a-spec',
      comment: 'A spec runs when it is imported; what two specs share goes to test/support.',
      severity: 'error',
      from: {},
      to: { path: SPEC },
    },
    {
      name: 'migrations-import-no-source',
      comment: 'A migration says what was true when it was written; the source moves on.',
      severity: 'error',
      from: { path: '^migrations/' },
      to: { path: '^src/' },
    },
    {
      name: 'migrations-are-listed-in-their-index',
      comment: 'The order of migrations is written down once.',
      severity: 'error',
      from: { pathNot: '^migrations/' },
      to: { path: '^migrations/', pathNot: '^migrations/index\\.ts$' },
    },
    {
      name: 'no-cycle',
      comment: 'With decorators a cycle is an undefined constructor parameter at boot. Types alone are gone by then.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'connections-belong-to-the-platform',
      comment:
        'A connection of its own would pass by role, organization and time-outs. (The DataSource of TypeORM is one name ' +
        'among others that every module may import: eslint.config.mjs holds that one.)',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/platform/' },
      to: { path: [npm('pg'), npm('pg-pool')] },
    },
    {
      name: 'no-development-package-in-source',
      comment: 'The image is installed without them.',
      severity: 'error',
      from: { path: '^(?:src|migrations)/', pathNot: SPEC },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm', 'npm-optional', 'npm-peer', 'type-only'] },
    },
    {
      name: 'every-package-is-declared',
      comment: 'A package that is there by accident leaves by accident.',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'every-import-resolves',
      comment: 'An import that is not found would slip past all the rules above.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    // Only the edge into a package matters, not what the package does.
    doNotFollow: { path: '(?:^|/)node_modules/' },
    exclude: { path: '^test/architecture/fixtures/' },
    // Without it an import used only as a type would be invisible, and knowledge is what the graph is about.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: join(__dirname, 'tsconfig.json') },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
