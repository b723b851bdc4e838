import { AUDITED, NO_CONSTRAINT, type Plant, PLANTS } from '../plants/plants';
import { createTestDatabase } from '../support/database';
import { prove, type Run } from '../support/prove';

describe('prove against Holdfast with a mistake planted into it', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  beforeAll(async () => {
    database = await createTestDatabase();
  });
  afterAll(() => database.drop());
  // Beside DATABASE_URL prove makes a database of its own, whose schema it may damage.
  const proveWith = (options: string[]) => prove(options, { DATABASE_URL: database.url });
  const brokenIn = ({ report }: Run, storm: string) =>
    report.violations.filter((violation) => violation.storm.startsWith(`${storm} `)).map(({ check }) => check);

  /**
   * Proves until every storm has broken the checks named for it. A race is a matter of luck: a storm that is short enough to
   * be run here may miss one of several ways in which a planted mistake shows, or all of them. Then it runs again, for twice
   * as long.
   */
  async function turnsRed({ options, clients, breaks, never = [], ...plant }: Plant): Promise<void> {
    let missing = Object.entries(breaks).flatMap(([storm, checks]) => checks.map((check) => ({ storm, check })));
    for (let attempt = 0; missing.length > 0 && attempt < 4; attempt++) {
      const storms = [...new Set(missing.map(({ storm }) => storm))].join(',');
      const rounds = plant.rounds * 2 ** attempt;
      const few = ['--processes', '1', '--clients', String(clients), '--rounds', String(rounds)];
      const run = await proveWith([...few, '--seed', String(7 + attempt), '--storms', storms, ...options]);
      expect([0, 1]).toContain(run.exitCode);
      for (const check of never) expect(run.broken).not.toContain(check);
      missing = missing.filter(({ storm, check }) => !brokenIn(run, storm).includes(check));
    }
    expect(missing).toEqual([]);
  }

  it('no constraint: the lock keeps everything right, and the auditor misses the constraint', async () => {
    const few = ['--clients', '10', '--rounds', '4', '--seed', '7', '--storms', 'one-slot,overlapping,two-processes'];
    const run = await proveWith([...few, ...NO_CONSTRAINT]);
    expect(run.broken).toEqual(new Set([AUDITED]));
    for (const { examples } of run.report.violations) {
      expect(examples).toEqual([expect.stringContaining('claim_no_overlap')]);
    }
    expect(run.exitCode).toBe(1);
  }, 600_000);

  // All of them take seven minutes: HOLDFAST_PLANTS=all.
  const chosen = PLANTS.filter((plant) => !plant.long || process.env['HOLDFAST_PLANTS'] === 'all');
  it.each(chosen.map((plant) => [plant.name, plant] as const))('%s', (_, plant) => turnsRed(plant), 600_000);
});
