import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { auditLedger } from '../../src/operations';
import { Database, Idempotency, LIMITS } from '../../src/platform';
import { type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { pauseBefore, Stage, until } from '../support/sessions';

/** Bounds are for a machine that is busy with other tests: what counts is that an answer comes at all, and which one. */
const SLACK = 6_000;

/**
 * A process that books as Holdfast does, up to the point where it is stopped: it opens a transaction, takes the day row by
 * changing it, says so, and waits to be told to go on.
 */
const HOLDER = `
  const { Client } = require('pg');
  const [url, opening, scheduleId, day] = process.argv.slice(1);
  const client = new Client({ connectionString: url, application_name: 'holder' });
  const errors = [];
  client.on('error', (error) => errors.push(error.code || error.message));
  (async () => {
    await client.connect();
    await client.query('BEGIN');
    if (opening) await client.query(opening);
    const { rowCount } = await client.query(
      'UPDATE schedule_day SET taken = tstzmultirange(covers) WHERE schedule_id = $1 AND day = $2', [scheduleId, day]);
    console.log(JSON.stringify({ locked: rowCount }));
    await new Promise((resolve) => process.stdin.once('data', resolve));
    const refused = await client.query('UPDATE schedule_day SET version = version + 1000')
      .then(() => client.query('COMMIT')).then(() => null, (error) => error.code || error.message);
    console.log(JSON.stringify({ refused, errors }));
    process.exit(0);
  })();`;

interface DatabaseInside {
  findRoles(): Promise<object>;
  opening(kind: 'write', roles: object, organizationId: string): string;
}

describe('a holder of the lock that stands still', () => {
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  let holder: ChildProcess | undefined;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
  });
  afterEach(async () => {
    // A stopped process takes no other signal.
    if (holder && holder.exitCode === null && holder.signalCode === null) {
      holder.kill('SIGKILL');
      await once(holder, 'exit');
    }
    holder = undefined;
  });
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  let callers = 0;
  const book = (who: number, day: string, time: string, headers: Record<string, string> = {}): Promise<Answer> =>
    clinic.call('POST', '/v1/appointments', {
      headers,
      body: {
        serviceId: clinic.services[0]!.id,
        practitionerId: clinic.practitioners[who]!.id,
        startsAt: `${day}T${time}:00Z`,
        patient: { phone: `+49151${40_000_000 + callers++}` },
      },
    });
  const timed = async (answer: Promise<Answer>) => {
    const started = performance.now();
    return { ...(await answer), milliseconds: performance.now() - started };
  };
  const findings = () => auditLedger(app.databaseUrl);
  const dayRow = async (who: number, day: string) => {
    const [row] = await stage.look<{ taken: unknown[]; version: number }>(
      'SELECT taken, version FROM schedule_day WHERE schedule_id = $1 AND day = $2',
      [clinic.practitioners[who]!.scheduleId, day],
    );
    return row!;
  };

  const say = async (lines: AsyncIterator<string>) => String((await lines.next()).value);

  /** Starts the process, and resolves when it holds the day row. */
  async function startHolder(who: number, day: string): Promise<AsyncIterator<string>> {
    // What Holdfast's own transactions begin with: role, organization, time-outs.
    const database = app.app.get<unknown, DatabaseInside>(Database, { strict: false });
    const opening = database.opening('write', await database.findRoles(), clinic.organizationId);
    holder = spawn(
      process.execPath,
      ['-e', HOLDER, app.databaseUrl, opening, clinic.practitioners[who]!.scheduleId, day],
      { cwd: path.join(__dirname, '../..'), stdio: ['pipe', 'pipe', 'inherit'] },
    );
    const lines = createInterface({ input: holder.stdout! })[Symbol.asyncIterator]();
    expect(JSON.parse(await say(lines))).toEqual({ locked: 1 });
    return lines;
  }

  it('and was stopped: the server ends it, the waiters get their answer, its later write is refused', async () => {
    const day = workday(5);
    expect((await book(0, day, '14:30')).status).toBe(201);
    const before = await dayRow(0, day);
    const lines = await startHolder(0, day);
    holder!.kill('SIGSTOP');

    const race = ['10:00', '10:15'].map((time) => timed(book(0, day, time)));
    await stage.waiting(2);
    const answers = await Promise.all(race);
    for (const answer of answers) {
      expect([201, 409, 503]).toContain(answer.status);
      if (answer.status === 503) {
        expect(answer.body.code).toBe('busy');
        expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
      }
      expect(answer.milliseconds).toBeLessThan(LIMITS.budget + SLACK);
    }
    const won = answers.filter((answer) => answer.status === 201);
    expect(won.length).toBeLessThanOrEqual(1);

    // The server gives up on the stopped one by itself, and with it goes all that it had written.
    await until('the server has ended the stopped holder', async () => {
      return (await stage.look(`SELECT 1 FROM pg_stat_activity WHERE application_name = 'holder'`)).length === 0;
    });
    expect((await dayRow(0, day)).taken).toHaveLength(before.taken.length + won.length);
    expect(await findings()).toEqual([]);

    const { version } = await dayRow(0, day);
    holder!.kill('SIGCONT');
    holder!.stdin!.write('go on\n');
    const outcome = JSON.parse(await say(lines)) as { refused: string | null; errors: string[] };
    expect(outcome.refused).toMatch(/25P03|terminated|not queryable|ECONNRESET|EPIPE/);
    expect((await dayRow(0, day)).version).toBe(version);
    expect(await findings()).toEqual([]);
  });

  it('and knows no time-outs: waiters are told busy in time, and the same request succeeds once it lets go', async () => {
    const day = workday(6);
    expect((await book(1, day, '14:30')).status).toBe(201);
    const booked = await book(1, day, '14:00');
    const appointments = async () => stage.look('SELECT count(*) FROM appointment');
    const before = [await dayRow(1, day), await appointments()];
    const session = await stage.session();
    await session.run('BEGIN');
    await session.run('SELECT 1 FROM schedule_day WHERE schedule_id = $1 FOR UPDATE', [
      clinic.practitioners[1]!.scheduleId,
    ]);

    const keyed = { 'Idempotency-Key': 'the same again' };
    const answers = await Promise.all([
      timed(book(1, day, '10:00', keyed)),
      timed(book(1, day, '10:15')),
      timed(clinic.call('POST', `/v1/appointments/${booked.body.id}/cancel`, { body: {} })),
    ]);
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 503, body: { code: 'busy' } });
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
      expect(answer.milliseconds).toBeLessThan(LIMITS.budget + SLACK);
    }
    await session.run('COMMIT');
    expect([await dayRow(1, day), await appointments()]).toEqual(before);

    // The caller's retry: the body and the key of the request that was told busy.
    callers = callers - 2;
    expect((await book(1, day, '10:00', keyed)).status).toBe(201);
    expect((await clinic.call('POST', `/v1/appointments/${booked.body.id}/cancel`, { body: {} })).status).toBe(200);
    expect(await findings()).toEqual([]);
  });

  it('is told busy itself when it wakes up in the middle of a request, and has changed nothing', async () => {
    const day = workday(7);
    expect((await book(2, day, '14:30')).status).toBe(201);
    const pause = pauseBefore(app.app.get(Idempotency, { strict: false }), 'keep');
    const stopped = book(2, day, '10:00', { 'Idempotency-Key': 'stopped' });
    await pause.reached;
    // The process stands still between two statements; its time runs out on the server.
    await until('the server has ended the transaction', async () => {
      const open = await stage.look(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`,
      );
      return open.length === 0;
    });
    expect((await book(2, day, '10:00')).status).toBe(201);
    pause.resume();
    expect(await stopped).toMatchObject({ status: 503, body: { code: 'busy' } });
    expect(await findings()).toEqual([]);
  });
});
