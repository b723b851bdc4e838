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
  const proveWithout = (plants: string[], storms: string, { clients = '20', rounds = '8' } = {}) =>
    prove(['--clients', clients, '--rounds', rounds, '--storms', storms, ...plants], { DATABASE_URL: database.url });
  const brokenIn = ({ report }: Run, storm: string) =>
    report.violations.filter((violation) => violation.storm.startsWith(`${storm} `)).map(({ check }) => check);

  it('without the constraint: the lock keeps everything right, and the auditor misses the constraint', async () => {
    const run = await proveWithout(NO_CONSTRAINT, 'one-slot,overlapping,any-practitioner,two-processes');
    expect(run.broken).toEqual(new Set([AUDITED]));
    for (const { examples } of run.report.violations) {
      expect(examples).toEqual([expect.stringContaining('claim_no_overlap')]);
    }
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without the lock: the constraint lets nothing overlap, but the day rows drift, and prove turns red', async () => {
    const run = await proveWithout(NO_LOCK, 'any-practitioner,book-against-cancel,hours-edited');
    for (const check of OVERLAPS) expect(run.broken).not.toContain(check);
    expect(run.broken).toContain(DAY_ROWS);
    expect(run.broken).toContain(AUDITED);
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without both: time is sold twice, and prove says so in every way it knows', async () => {
    const run = await proveWithout([...NO_LOCK, ...NO_CONSTRAINT], 'one-slot,overlapping,any-practitioner');
    for (const check of OVERLAPS) expect(run.broken).toContain(check);
    expect(run.broken).toContain('as many winners as there is room, no more and no fewer');
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it("without an appointment's lock: what two do to it at once is done twice, by the sweeper too", async () => {
    const storms = 'reschedule,two-admins,one-etag,sweeper';
    const run = await proveWithout(plant('no-appointment-lock'), storms, { clients: '32', rounds: '3' });
    for (const storm of storms.split(',')) {
      expect([storm, ...brokenIn(run, storm)]).toEqual(expect.arrayContaining([VERSIONS, ACKNOWLEDGED]));
    }
    expect(brokenIn(run, 'two-admins')).toContain(
      'of several who confirm one request, one is served, and one of those who cancel it',
    );
    expect(brokenIn(run, 'one-etag')).toContain(
      'of all changes under one ETag one is served, and all others are told 412 version_stale',
    );
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without an end of holds: they block whoever comes after it', async () => {
    const run = await proveWithout(plant('holds-never-end'), 'hold-expiry', { rounds: '2' });
    expect(run.broken).toContain('a hold past its time blocks nobody');
    expect(run.broken).toContain('every slot_taken had somebody who may have held the time');
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without taking the time again: a late confirm sells it twice', async () => {
    const run = await proveWithout(plant('late-confirms-take-nothing'), 'hold-expiry,sweeper', { rounds: '2' });
    for (const storm of ['hold-expiry', 'sweeper']) {
      const checks = ['no two acknowledged bookings held overlapping time at once', CLAIMS];
      expect(brokenIn(run, storm)).toEqual(expect.arrayContaining(checks));
    }
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without giving the old time up: what is moved has both', async () => {
    const run = await proveWithout(plant('keeps-the-old-time'), 'reschedule', { rounds: '2' });
    const checks = ['every slot_taken had somebody who may have held the time', CLAIMS];
    expect(brokenIn(run, 'reschedule')).toEqual(expect.arrayContaining(checks));
    expect(run.exitCode).toBe(1);
  }, 600_000);

  it('without one order of locks: what is moved in both directions at once deadlocks', async () => {
    const run = await proveWithout(plant('locks-in-any-order'), 'reschedule', { rounds: '2' });
    expect(run.broken).toContain('no deadlocks');
    expect(run.exitCode).toBe(1);
  }, 600_000);
});
