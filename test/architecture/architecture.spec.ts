import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(__dirname, '../..');
const FIXTURES = join(__dirname, 'fixtures');

/** One tiny tree for each offence, and the one rule that has to see it. */
const OFFENCES: Record<string, string> = {
  'upward-import': 'only-down-the-graph',
  'upward-type-import': 'only-down-the-graph',
  'sideways-import': 'only-down-the-graph',
  'platform-imports-clinic': 'platform-knows-no-module',
  'unknown-module-imported': 'every-module-is-in-the-graph',
  'unknown-module-imports': 'every-module-is-in-the-graph',
  'deep-import': 'modules-meet-through-their-index',
  'composition-imports-deep': 'composition-imports-indexes',
  'module-imports-composition': 'nothing-imports-composition',
  'test-imports-deep': 'tools-and-tests-import-indexes',
  'tool-imports-deep': 'tools-and-tests-import-indexes',
  'source-imports-test': 'source-imports-no-tools-or-tests',
  'source-imports-tool': 'source-imports-no-tools-or-tests',
  'spec-imported': 'nothing-imports-a-spec',
  'migration-imports-source': 'migrations-import-no-source',
  'single-migration-imported': 'migrations-are-listed-in-their-index',
  cycle: 'no-cycle',
  'connection-outside-platform': 'connections-belong-to-the-platform',
  'development-package': 'no-development-package-in-source',
  'undeclared-package': 'every-package-is-declared',
  'unresolved-import': 'every-import-resolves',
};

interface Summary {
  totalCruised: number;
  violations: { rule: string; from: string; to: string }[];
}

describe('the module graph', () => {
  let summaries: Record<string, Summary>;
  const summaryOf = (tree: string): Summary => {
    const summary = summaries[tree];
    if (!summary) throw new Error(`${tree} was not looked at`);
    return summary;
  };

  beforeAll(() => {
    const trees = [ROOT, ...readdirSync(FIXTURES).map((tree) => join(FIXTURES, tree))];
    const report = execFileSync(process.execPath, [join(__dirname, 'cruise.mjs'), ...trees], { encoding: 'utf8' });
    summaries = JSON.parse(report) as Record<string, Summary>;
  }, 60_000);

  test('holds in the source', () => {
    const { violations, totalCruised } = summaryOf(ROOT);
    expect(violations.map(({ rule, from, to }) => `${rule}: ${from} → ${to}`)).toEqual([]);
    expect(totalCruised).toBeGreaterThan(10);
  });

  test('lets pass what is allowed', () => {
    const { violations, totalCruised } = summaryOf(join(FIXTURES, 'allowed'));
    expect(violations).toEqual([]);
    expect(totalCruised).toBeGreaterThan(10);
  });

  test.each(Object.entries(OFFENCES))('%s is seen by %s', (tree, rule) => {
    const { violations } = summaryOf(join(FIXTURES, tree));
    expect([...new Set(violations.map((violation) => violation.rule))]).toEqual([rule]);
  });

  test('every rule and every planted tree is in the table', () => {
    const config = jest.requireActual<{ forbidden: { name: string }[] }>(join(ROOT, '.dependency-cruiser.cjs'));
    const rules = new Set(config.forbidden.map(({ name }) => name));
    expect([...rules].sort()).toEqual([...new Set(Object.values(OFFENCES))].sort());
    expect(readdirSync(FIXTURES).sort()).toEqual(['allowed', ...Object.keys(OFFENCES)].sort());
  });
});
