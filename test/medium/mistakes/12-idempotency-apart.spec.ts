import { Idempotency } from '../../../src/platform';
import { pauseBefore, until } from '../../support/sessions';
import { DAY, openStand, SOUND, type Stand } from './stand';

/**
 * Mistake 12: an idempotency row that is committed apart from its effect. Before it: a crash in between leaves a key that
 * answers "done" for what never was. After it: whoever asks in between does it again.
 *
 * Interleavings: (before) the key is committed, the session dies, the repetition is answered from the key. (after) the
 * effect is committed, the repetition finds no key and has the effect once more, then both store the key.
 *
 * Holdfast stores the answer in the transaction of its effect, behind a lock on the key that ends with that transaction.
 */
describe('mistake 12: an idempotency row committed apart from its effect', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.key (key text PRIMARY KEY, answer text);
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz)`);
  });
  afterAll(() => stand.close());
  beforeEach(() => stand.stage.look('TRUNCATE mistake.key, mistake.booking'));

  const known = `SELECT answer FROM mistake.key WHERE key = 'k'`;
  const remember = `INSERT INTO mistake.key VALUES ('k', 'booked') ON CONFLICT DO NOTHING`;
  const effect = `INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z')`;

  it('stored before, answers for an effect that never was', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    expect(await one.run(known)).toEqual([]);
    await one.run(remember);
    await one.kill();
    expect(await other.run(known)).toEqual([{ answer: 'booked' }]);
    expect(await stand.stage.look('SELECT 1 FROM mistake.booking')).toEqual([]);
  });

  it('stored after, has the effect twice', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    expect(await one.run(known)).toEqual([]);
    await one.run(effect);
    expect(await other.run(known)).toEqual([]);
    await other.run(effect);
    for (const session of [one, other]) await session.run(remember);
    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  const ask = (key: string, time: string, practitioner = 0) =>
    stand.clinic.call('POST', '/v1/appointments', {
      headers: { 'Idempotency-Key': key },
      body: {
        serviceId: stand.clinic.services[0]!.id,
        practitionerId: stand.clinic.practitioners[practitioner]!.id,
        startsAt: time,
        patient: { phone: '+4915112345678' },
      },
    });
  const trace = () =>
    stand.stage.look(
      `SELECT (SELECT count(*) FROM appointment) AS appointments, (SELECT count(*) FROM claim) AS claims,
              (SELECT count(*) FROM outbox_event WHERE type LIKE 'appointment.%') AS events,
              (SELECT count(*) FROM idempotency_key) AS keys`,
    );

  const more = (before: object) => Object.fromEntries(Object.entries(before).map(([name, count]) => [name, count + 1]));

  it('does not in Holdfast: while the first runs the second is told so, and afterwards gets its answer', async () => {
    const time = `${DAY}T10:00:00Z`;
    const before = (await trace())[0]!;
    const pause = pauseBefore(stand.app.app.get(Idempotency, { strict: false }), 'keep');
    const first = ask('one', time);
    await pause.reached;
    expect(await ask('one', time)).toMatchObject({ status: 409, body: { code: 'request_in_progress' } });
    pause.resume();
    const answer = await first;
    expect(answer.status).toBe(201);
    const replay = await ask('one', time);
    expect([replay.status, replay.headers.get('idempotency-replayed')]).toEqual([201, 'true']);
    expect(replay.body).toEqual(answer.body);
    expect(await trace()).toEqual([more(before)]);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: a crash before the key is stored leaves neither key nor effect, and the key is free', async () => {
    const time = `${DAY}T12:00:00Z`;
    const before = (await trace())[0]!;
    const pause = pauseBefore(stand.app.app.get(Idempotency, { strict: false }), 'keep');
    // Nothing is known yet of a practitioner who was never booked: this one is booked step by step.
    const first = ask('two', time, 1);
    await pause.reached;
    const [crashed] = await stand.stage.look<{ pid: number }>(
      `SELECT pid FROM pg_locks WHERE locktype = 'advisory'
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    await crash(crashed!.pid);
    expect(await trace()).toEqual([before]);
    expect((await ask('two', time, 1)).status).toBe(201);
    pause.resume();
    expect((await first).status).toBe(503);
    expect(await trace()).toEqual([more(before)]);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: nor does one in the middle of the statement that books what is known, and keeps its answer', async () => {
    const time = `${DAY}T14:00:00Z`;
    const before = (await trace())[0]!;
    const session = await stand.stage.session();
    await session.run('BEGIN');
    await session.run('SELECT FROM schedule_day WHERE day = $1 FOR NO KEY UPDATE', [DAY]);
    const first = ask('three', time);
    await stand.stage.waiting(1);
    expect(await ask('three', time)).toMatchObject({ status: 409, body: { code: 'request_in_progress' } });
    const [waiter] = await stand.stage.waiters();
    expect(waiter!.query).toContain('known AS MATERIALIZED');
    await crash(waiter!.pid);
    // COMMIT was on its way when the connection broke.
    expect(await first).toMatchObject({ status: 503, body: { code: 'outcome_unknown' } });
    expect(await trace()).toEqual([before]);
    await session.run('COMMIT');
    expect((await ask('three', time)).status).toBe(201);
    expect(await trace()).toEqual([more(before)]);
    expect((await ask('three', time)).headers.get('idempotency-replayed')).toBe('true');
    expect(await stand.ledger()).toEqual(SOUND);
  });

  async function crash(pid: number): Promise<void> {
    await stand.stage.look('SELECT pg_terminate_backend($1)', [pid]);
    await until('the backend is gone', async () => {
      const left = await stand.stage.look('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [pid]);
      return left.length === 0;
    });
  }
});
