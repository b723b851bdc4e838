import { STORMS } from '../../tools/prove/storms';
import { seedClinic, startApp, type TestApp } from '../support/app';
import { prove } from '../support/prove';

const ROUNDS = 2;

describe('prove against a fresh install', () => {
  it('finds nothing wrong with Holdfast in any storm', async () => {
    const run = await prove(['--clients', '20', '--rounds', String(ROUNDS)]);
    expect({ ...run.report.violations, stderr: run.exitCode === 0 ? '' : run.stderr }).toEqual({ stderr: '' });
    expect(run.exitCode).toBe(0);
    expect(run.report.notRun).toEqual([]);
    expect(run.report.notChecked).toEqual([]);
    const names = [...new Set(run.report.storms.map(({ storm }) => storm))];
    expect(names).toEqual(STORMS.map(({ name }) => name));
    for (const figures of run.report.storms) {
      const { defaults, byTheClock } = STORMS.find(({ name }) => name === figures.storm)!;
      const rounds = byTheClock ? 1 : Math.min(ROUNDS, defaults.rounds ?? Infinity);
      expect(figures).toMatchObject({ rounds, serverErrors: 0 });
    }
    // Each of the life's races was seen with both of its ends.
    const answersOf = (name: string) => Object.keys(run.report.storms.find(({ storm }) => storm === name)!.answers);
    expect(answersOf('hold-expiry')).toEqual(expect.arrayContaining(['confirmed', 'hold_expired', 'slot_taken']));
    expect(answersOf('reschedule')).toEqual(expect.arrayContaining(['rescheduled', 'cancelled', 'slot_taken']));
    expect(answersOf('two-admins')).toEqual(expect.arrayContaining(['confirmed', 'cancelled', 'invalid_transition']));
    expect(answersOf('one-etag')).toEqual(expect.arrayContaining(['confirmed', 'rescheduled', 'version_stale']));
    expect(answersOf('sweeper')).toEqual(expect.arrayContaining(['swept', 'rescheduled', 'cancelled']));
    expect(answersOf('random')).toEqual(expect.arrayContaining(['cut', 'learnt from the key', 'replayed', 'edited']));
    expect(answersOf('published')).toEqual(expect.arrayContaining(['edited', 'outside_hours', 'slot_taken']));
    expect(answersOf('otp')).toEqual(expect.arrayContaining(['a code was good', 'guessed in vain']));
    expect(answersOf('limiter')).toContain('rate_limited');
    expect(answersOf('invitations')).toContain('already_exists');
    expect(answersOf('refresh')).toContain('session ended');
    const oneSlot = run.report.storms.filter(({ storm }) => storm === 'one-slot');
    expect(oneSlot.map(({ clients, winners }) => [clients, winners])).toEqual([
      [10, ROUNDS],
      [20, ROUNDS],
    ]);
  }, 600_000);
});

/** What a test location must be fit for; the sweeper would be waited for in vain, for this app has no worker. */
const FEW = [
  ...['--clients', '20', '--rounds', '1'],
  ...[
    '--storms',
    'one-slot,same-key,new-patient,hours-edited,hold-expiry,composites,groups,published,otp,limiter,invitations,refresh,random,two-processes',
  ],
];

/** Limits and distributed locks are soft protections: with both switched off nothing of what is proved here changes. */
describe('prove against a given install, with limits and distributed locks off', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ rateLimits: false, distributedLocks: false });
  });
  afterAll(() => app.stop());

  it('works in a test location of its own, without the database, and removes it', async () => {
    const clinic = await seedClinic(app);
    const everything = async () => {
      const lists = ['locations', 'practitioners', 'rooms', 'services', 'patients'].map(
        async (what) => (await clinic.call('GET', `/v1/${what}?limit=200`)).body.data,
      );
      return Promise.all(lists);
    };
    const before = await everything();
    const run = await prove(['--url', app.url, '--api-key', clinic.apiKey, ...FEW], { DATABASE_URL: '' });
    expect(run.stdout).toContain('No violations.');
    expect(run.exitCode).toBe(0);
    for (const storm of ['several processes, one database', 'one invitation, one e-mail address', 'one refresh token'])
      expect(run.stdout).toContain(`NOT run: ${storm}`);
    const limiter = run.report.storms.find(({ storm }) => storm === 'limiter')!;
    expect([limiter.winners > 5, limiter.answers]).toEqual([true, { 'no limit met': 1 }]);
    expect(run.report.notChecked.map(({ check }) => check)).toContain(
      'no two claims on one seat overlap, and every seat is one of its schedule',
    );
    expect(await everything()).toEqual(before);
    const occupying = await clinic.call('GET', '/v1/appointments?status=held,pending,confirmed,checked_in');
    expect(occupying.body.data).toEqual([]);
  }, 600_000);
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
