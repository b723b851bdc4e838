import { createTestDatabase } from '../support/database';
import { plant, prove, type Run } from '../support/prove';

const NO_LOCK = plant('no-lock');
// The primary key refuses equal starts; without it and the exclusion constraint nothing is refused.
const NO_CONSTRAINT = [
  '--sql-after-start',
  'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap; ALTER TABLE claim DROP CONSTRAINT claim_pkey',
];

const AUDITED = "the app's own auditor finds nothing: every day row is equal to its sources, the constraint is there";
const DAY_ROWS = 'every day row covers its day, is open by its rules and taken by its claims';
const CLAIMS = 'every occupying appointment has exactly its claims, and every claim its appointment';
const VERSIONS = 'every acknowledged change made a version of its own, the next one, based on the one in If-Match';
const ACKNOWLEDGED = 'every acknowledged booking is there, as it was acknowledged';
const OVERLAPS = [
  'no two acknowledged bookings held overlapping time at once',
  'no two occupying appointments of a practitioner overlap',
  'no two claims on one seat overlap',
  'no two occupying appointments overlap, buffers included',
];

describe('prove against Holdfast with a protection taken away', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  beforeAll(async () => {
    database = await createTestDatabase();
  });
  afterAll(() => database.drop());
  // Beside DATABASE_URL prove makes a database of its own, whose schema it may damage.
  const proveWithout = (plants: string[], storms: string, { clients = '20', rounds = '8', seed = '7' } = {}) =>
    prove(['--clients', clients, '--rounds', rounds, '--seed', seed, '--storms', storms, ...plants], {
      DATABASE_URL: database.url,
    });
  const brokenIn = ({ report }: Run, storm: string) =>
    report.violations.filter((violation) => violation.storm.startsWith(`${storm} `)).map(({ check }) => check);

  /**
   * Proves until every storm has broken the checks named for it. A race is a matter of luck: a storm that is short enough to
   * be run here may miss one of several ways in which a planted mistake shows. Every run must turn red, though.
   */
  async function breaks(
    plants: string[],
    expected: Record<string, string[]>,
    { clients = '20', rounds = '8', never = [] as string[] } = {},
  ): Promise<void> {
    let missing = Object.entries(expected).flatMap(([storm, checks]) => checks.map((check) => ({ storm, check })));
    for (let attempt = 1; missing.length > 0 && attempt <= 4; attempt++) {
      const storms = [...new Set(missing.map(({ storm }) => storm))].join(',');
      const run = await proveWithout(plants, storms, { clients, rounds, seed: String(6 + attempt) });
      expect(run.exitCode).toBe(1);
      for (const check of never) expect(run.broken).not.toContain(check);
      missing = missing.filter(({ storm, check }) => !brokenIn(run, storm).includes(check));
    }
    expect(missing).toEqual([]);
  }

  it('without the constraint: the lock keeps everything right, and the auditor misses the constraint', async () => {
    const run = await proveWithout(NO_CONSTRAINT, 'one-slot,overlapping,any-practitioner,two-processes');
    expect(run.broken).toEqual(new Set([AUDITED]));
    for (const { examples } of run.report.violations) {
      expect(examples).toEqual([expect.stringContaining('claim_no_overlap')]);
    }
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without the lock: the constraint lets nothing overlap, but the day rows drift, and prove turns red', async () => {
    const storms = { 'book-against-cancel': [DAY_ROWS, AUDITED], 'hours-edited': [DAY_ROWS, AUDITED] };
    await breaks(NO_LOCK, storms, { never: OVERLAPS });
  }, 600_000);

  it('without both: time is sold twice, and prove says so in every way it knows', async () => {
    const winners = 'as many winners as there is room, no more and no fewer';
    await breaks([...NO_LOCK, ...NO_CONSTRAINT], {
      'one-slot': [...OVERLAPS, winners],
      'any-practitioner': [...OVERLAPS, winners],
    });
  }, 600_000);

  it("without an appointment's lock: what two do to it at once is done twice, by the sweeper too", async () => {
    const expected = {
      reschedule: [VERSIONS, ACKNOWLEDGED],
      'two-admins': [
        VERSIONS,
        ACKNOWLEDGED,
        'of several who confirm one request, one is served, and one of those who cancel it',
      ],
      'one-etag': [
        VERSIONS,
        ACKNOWLEDGED,
        'of all changes under one ETag one is served, and all others are told 412 version_stale',
      ],
      sweeper: [VERSIONS, ACKNOWLEDGED],
    };
    await breaks(plant('no-appointment-lock'), expected, { clients: '32', rounds: '3' });
  }, 600_000);

  it('without an end of holds: they block whoever comes after it', async () => {
    const checks = ['a hold past its time blocks nobody', 'every slot_taken had somebody who may have held the time'];
    await breaks(plant('holds-never-end'), { 'hold-expiry': checks }, { rounds: '2' });
  }, 600_000);

  it('without taking the time again: a late confirm sells it twice', async () => {
    const checks = ['no two acknowledged bookings held overlapping time at once', CLAIMS];
    await breaks(plant('late-confirms-take-nothing'), { 'hold-expiry': checks, sweeper: checks }, { rounds: '2' });
  }, 600_000);

  it('without giving the old time up: what is moved has both', async () => {
    const checks = ['every slot_taken had somebody who may have held the time', CLAIMS];
    await breaks(plant('keeps-the-old-time'), { reschedule: checks }, { rounds: '2' });
  }, 600_000);

  it('without one order of locks: what is moved in both directions at once deadlocks', async () => {
    await breaks(plant('locks-in-any-order'), { reschedule: ['no deadlocks'] }, { rounds: '2' });
  }, 600_000);
});
