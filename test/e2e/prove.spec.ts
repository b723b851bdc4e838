import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { STORMS } from '../../tools/prove/storms';
import { type Offence, OFFENCES, startStandIn } from '../plants/stand-in';
import { seedClinic, startApp, type TestApp } from '../support/app';
import { createTestDatabase } from '../support/database';

const ROOT = path.resolve(__dirname, '../..');
const plant = (name: string) => ['--app-require', path.join(ROOT, `test/plants/${name}.cjs`)];
const NO_LOCK = plant('no-lock');
// The primary key refuses equal starts; without it and the exclusion constraint nothing is refused.
const NO_CONSTRAINT = [
  '--sql-after-start',
  'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap; ALTER TABLE claim DROP CONSTRAINT claim_pkey',
];

interface Run {
  exitCode: number | null;
  stdout: string;
  stderr: string;
  report: {
    storms: Array<{
      storm: string;
      clients: number;
      rounds: number;
      winners: number;
      serverErrors: number;
      answers: Record<string, number>;
    }>;
    notRun: unknown[];
    notChecked: Array<{ check: string }>;
    violations: Array<{ storm: string; check: string; examples: string[] }>;
  };
  /** Names of the checks that were broken. */
  broken: Set<string>;
}

/** `npm run prove`, as the build that `npm test` makes first. */
async function prove(options: string[], environment: NodeJS.ProcessEnv = {}): Promise<Run> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-test-prove-'));
  const json = path.join(folder, 'figures.json');
  try {
    const child = spawn(
      process.execPath,
      [path.join(ROOT, 'dist/tools/prove/main.js'), '--seed', '7', '--json', json, ...options],
      { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const output = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => (output.stdout += chunk));
    child.stderr.on('data', (chunk) => (output.stderr += chunk));
    const exitCode = await new Promise<number | null>((resolve) => child.once('close', resolve));
    const figures = await readFile(json, 'utf8').catch(() => '{"violations":[]}');
    const report = JSON.parse(figures) as Run['report'];
    return { exitCode, ...output, report, broken: new Set(report.violations.map(({ check }) => check)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const SHORT = ['--clients', '20', '--rounds', '4'];
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

describe('prove against a fresh install', () => {
  it('finds nothing wrong with Holdfast in any storm', async () => {
    const run = await prove(SHORT);
    expect({ ...run.report.violations, stderr: run.exitCode === 0 ? '' : run.stderr }).toEqual({ stderr: '' });
    expect(run.exitCode).toBe(0);
    expect(run.report.notRun).toEqual([]);
    expect(run.report.notChecked).toEqual([]);
    const names = [...new Set(run.report.storms.map(({ storm }) => storm))];
    expect(names).toEqual(STORMS.map(({ name }) => name));
    for (const figures of run.report.storms) {
      const { rounds = Infinity } = STORMS.find(({ name }) => name === figures.storm)!.defaults;
      expect(figures).toMatchObject({ rounds: Math.min(4, rounds), serverErrors: 0 });
    }
    // Each of the life's races was seen with both of its ends.
    const answersOf = (name: string) => Object.keys(run.report.storms.find(({ storm }) => storm === name)!.answers);
    expect(answersOf('hold-expiry')).toEqual(expect.arrayContaining(['confirmed', 'hold_expired', 'slot_taken']));
    expect(answersOf('reschedule')).toEqual(expect.arrayContaining(['rescheduled', 'cancelled', 'slot_taken']));
    expect(answersOf('two-admins')).toEqual(expect.arrayContaining(['confirmed', 'cancelled', 'invalid_transition']));
    expect(answersOf('one-etag')).toEqual(expect.arrayContaining(['confirmed', 'rescheduled', 'version_stale']));
    expect(answersOf('sweeper')).toEqual(expect.arrayContaining(['swept', 'rescheduled', 'cancelled']));
    const oneSlot = run.report.storms.filter(({ storm }) => storm === 'one-slot');
    expect(oneSlot.map(({ clients, winners }) => [clients, winners])).toEqual([
      [10, 4],
      [20, 4],
    ]);
  }, 600_000);
});

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

describe('prove against a given install', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp();
  });
  afterAll(() => app.stop());

  it('works in a test location of its own, without the database, and removes it', async () => {
    const clinic = await seedClinic(app);
    const everything = async () => {
      const lists = ['locations', 'practitioners', 'services', 'patients'].map(
        async (what) => (await clinic.call('GET', `/v1/${what}?limit=200`)).body.data,
      );
      return Promise.all(lists);
    };
    const before = await everything();
    const run = await prove(['--url', app.url, '--api-key', clinic.apiKey, ...SHORT], { DATABASE_URL: '' });
    expect(run.stdout).toContain('No violations.');
    expect(run.exitCode).toBe(0);
    expect(run.stdout).toContain('NOT run: several processes, one database');
    expect(run.report.notChecked.map(({ check }) => check)).toContain('no two claims on one seat overlap');
    expect(await everything()).toEqual(before);
    const occupying = await clinic.call('GET', '/v1/appointments?status=held,pending,confirmed,checked_in');
    expect(occupying.body.data).toEqual([]);
  }, 600_000);
});

/** What each offence must break, seen from outside alone, and the storm that shows it soonest. */
const CAUGHT: Record<Offence, [storm: string, check: string]> = {
  'takes time twice': ['one-slot', 'as many winners as there is room, no more and no fewer'],
  'loses an acknowledged booking': ['overlapping', 'every acknowledged booking is there, as it was acknowledged'],
  'keeps a refused booking': ['one-slot', 'every occupying appointment was acknowledged, or its outcome is unknown'],
  'refuses free time': ['new-patient', 'every slot_taken had somebody who may have held the time'],
  'offers taken slots': ['one-slot', 'GET /v1/slots offers exactly the free time'],
  'hides free slots': ['one-slot', 'GET /v1/slots offers exactly the free time'],
  'leaves out alternatives': ['one-slot', 'slot_taken carries alternatives'],
  'offers the lost time again': ['one-slot', 'slot_taken does not offer the time that was just lost'],
  'fails with a 5xx': ['one-slot', 'no answer is a 5xx but 503 busy'],
  'is busy all the time': ['one-slot', 'nobody is sent away as busy among up to 50 for one slot'],
  'books another time than asked': ['one-slot', 'an acknowledged booking is the one that was asked for'],
  'frees time on a second cancel': ['book-against-cancel', 'an appointment was cancelled once at most'],
  'forgets idempotency keys': ['same-key', 'one key has one effect'],
  'replays another answer': ['same-key', 'all answers under one key are equal, byte by byte'],
  'serves another body under a used key': [
    'same-key',
    'another body under a used key is refused with 422 idempotency_key_reused',
  ],
  'makes a patient for every request': ['new-patient', 'one phone makes one patient, whoever comes first'],
  'books into closed hours': ['hours-edited', 'nobody is booked into time that is closed'],
  'closes time without naming its bookings': [
    'hours-edited',
    'an edit that closes time names the bookings in it (affectedAppointments)',
  ],
  'accepts edits of an old version': [
    'hours-edited',
    'of two edits of one version, one is made and one is told version_stale',
  ],
  'has holes in the history': ['one-slot', 'the history leads from version 1 to the present version and status'],
  'leaves the test location behind': ['one-slot', 'the test location was removed'],
  'lets holds block past their time': ['hold-expiry', 'a hold past its time blocks nobody'],
  'ends holds too early': ['hold-expiry', 'no two acknowledged bookings held overlapping time at once'],
  'confirms a hold whose time somebody else has': [
    'hold-expiry',
    'no two acknowledged bookings held overlapping time at once',
  ],
  'refuses every late confirm': [
    'hold-expiry',
    'every hold_expired came after the end of the hold, and had somebody who may have held the time',
  ],
  'shows holds past their time as held': ['hold-expiry', 'a hold past its time reads as expired'],
  'keeps the old time of what it moves': ['reschedule', 'every slot_taken had somebody who may have held the time'],
  'loses the new time of what it moves': ['reschedule', 'no two acknowledged bookings held overlapping time at once'],
  'moves in name only': ['reschedule', 'every acknowledged booking is there, as it was acknowledged'],
  'moves what is cancelled': ['reschedule', 'every acknowledged change was allowed in the status before it'],
  'confirms as often as it is asked to': [
    'two-admins',
    'of several who confirm one request, one is served, and one of those who cancel it',
  ],
  'does not say what came before': [
    'two-admins',
    'whoever came too late is told invalid_transition, and the status that came before',
  ],
  'says that something else came before': [
    'two-admins',
    'every invalid_transition names a status that the appointment may have had, and that does not allow it',
  ],
  'changes old versions': [
    'one-etag',
    'of all changes under one ETag one is served, and all others are told 412 version_stale',
  ],
  'refuses present versions as stale': [
    'one-etag',
    'every version_stale had somebody who may have made another version',
  ],
  'raises the version twice': [
    'one-etag',
    'every acknowledged change made a version of its own, the next one, based on the one in If-Match',
  ],
  'expires what was confirmed': ['sweeper', 'every acknowledged booking is there, as it was acknowledged'],
};

describe('prove against a small imitation of Holdfast', () => {
  const proveStandIn = async (offence: Offence | undefined, options: string[]) => {
    const standIn = await startStandIn(offence);
    try {
      return await prove(['--url', standIn.url, '--api-key', 'any', ...options], { DATABASE_URL: '' });
    } finally {
      await standIn.close();
    }
  };

  it('that does nothing wrong, finds nothing', async () => {
    expect(await proveStandIn(undefined, SHORT)).toMatchObject({ exitCode: 0, report: { violations: [] } });
  }, 600_000);

  it('repeats the storms with other choices until the minutes are over', async () => {
    const options = ['--clients', '10', '--rounds', '1', '--storms', 'one-slot', '--minutes', '0.1'];
    const run = await proveStandIn(undefined, options);
    expect(run).toMatchObject({ exitCode: 0, report: { violations: [] } });
    expect(run.report.storms[0]!.rounds).toBeGreaterThan(1);
  });

  it.each(OFFENCES.map((offence) => [offence, ...CAUGHT[offence]] as const))(
    'that %s, turns red in the storm %s: %s',
    async (offence, storm, check) => {
      const rounds = ['hold-expiry', 'sweeper'].includes(storm) ? '2' : '6';
      const run = await proveStandIn(offence, ['--clients', '20', '--rounds', rounds, '--storms', storm]);
      expect(run.broken).toContain(check);
      expect(run.exitCode).toBe(1);
    },
  );
});

describe('the options of prove', () => {
  it.each([
    [['--clients', 'many'], '--clients must be a whole number from 2 to 5000'],
    [['--rounds', '0'], '--rounds must be a whole number from 1 to 1000000'],
    [['--minutes', '-1'], "Option '--minutes' argument is ambiguous"],
    [['--url', 'http://127.0.0.1:1'], '--url needs --api-key'],
    [['--url', 'nowhere', '--api-key', 'k'], '--url: nowhere is not an http(s) URL'],
    [['--storms', 'tempest'], '--storms: there is no storm tempest'],
    [['--weather', 'fine'], "Unknown option '--weather'"],
    [['--url', 'http://127.0.0.1:1', '--api-key', 'k'], 'http://127.0.0.1:1 is not ready'],
  ])('%j: one line, and exit code 2', async (options, message) => {
    const run = await prove(options);
    expect(run.exitCode).toBe(2);
    expect(run.stderr).toContain(message);
    expect(
      run.stderr
        .trim()
        .split('\n')
        .filter((line) => !line.startsWith('Seed')),
    ).toHaveLength(1);
  });
});
