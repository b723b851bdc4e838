/**
 * The order in which Jest starts test files: those that take minutes first, so that no worker is left with one of them at
 * the end while the others have nothing to do. The rest by size, as a fresh clone has no record of durations.
 */
const { statSync } = require('node:fs');

const LONG = [
  'e2e/prove-plants.spec.ts',
  'e2e/bench.spec.ts',
  'e2e/prove-imitation.spec.ts',
  'e2e/prove.spec.ts',
  'medium/lock-order.spec.ts',
  'e2e/start.spec.ts',
  'e2e/bad-input.spec.ts',
  'medium/embedded-postgres.spec.ts',
];

const rank = (file) => {
  const index = LONG.findIndex((name) => file.replaceAll('\\', '/').endsWith(name));
  return index < 0 ? LONG.length : index;
};

module.exports = class LongestFirst {
  sort(tests) {
    const size = new Map(tests.map((test) => [test.path, statSync(test.path).size]));
    return [...tests].sort((a, b) => rank(a.path) - rank(b.path) || size.get(b.path) - size.get(a.path));
  }

  shard(tests) {
    return tests;
  }

  allFailedTests(tests) {
    return tests;
  }

  cacheResults() {}
};
