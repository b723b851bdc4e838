import { startApp } from '../../support/app';
import { Idempotency } from '../../../src/platform';
import { pauseBefore } from '../../support/sessions';
import { DAY, openStand, SOUND, type Stand } from './stand';

/**
 * Mistake 3: trusting a lock that is not the database's own lock on what is written. A lease (a Redis lock is one) ends
 * while its holder is stopped; an advisory lock on a connection of its own ends with that connection. The holder is not
 * told, wakes up, and writes; looking at the lock just before writing only moves the gap. And the fear that goes with it
 * is unfounded: row locks do hold across app instances.
 *
 * Interleaving: A has the lock and has seen that the time is free. The lock is lost. B gets it, sees the time free, books.
 * A goes on and books too. (The lease's end is written, not waited for.)
 *
 * Holdfast's lock lives in the transaction of the write: losing the one is losing the other, and a second process waits.
 */
describe('mistake 3: a lock without fencing', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.lease (key text PRIMARY KEY, owner text, expires_at timestamptz);
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz)`);
  });
  afterAll(() => stand.close());
  beforeEach(() => stand.stage.look('TRUNCATE mistake.booking, mistake.lease'));

  const free = 'SELECT count(*) = 0 AS free FROM mistake.booking WHERE practitioner = 1';
  const write = `INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z')`;

  it('double-books when a lease ends while its holder is stopped, though the holder looked just before', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    const acquire = `
      INSERT INTO mistake.lease VALUES ('practitioner 1', $1, clock_timestamp() + interval '30 seconds')
      ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
        WHERE lease.expires_at < clock_timestamp() RETURNING owner`;
    expect(await one.run(acquire, ['one'])).toEqual([{ owner: 'one' }]);
    expect(await other.run(acquire, ['other'])).toEqual([]);
    expect(await one.run(free)).toEqual([{ free: true }]);
    const mine = `SELECT owner FROM mistake.lease WHERE key = 'practitioner 1' AND expires_at > clock_timestamp()`;
    expect(await one.run(mine)).toEqual([{ owner: 'one' }]);
    // Here the process stands still for longer than its lease.
    await stand.stage.look(`UPDATE mistake.lease SET expires_at = clock_timestamp() - interval '1 second'`);
    expect(await other.run(acquire, ['other'])).toEqual([{ owner: 'other' }]);
    expect(await other.run(free)).toEqual([{ free: true }]);
    await other.run(write);
    await one.run(write);

    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it('double-books when the connection that holds an advisory lock is not the one that writes', async () => {
    const [lock, writer, other] = [
      await stand.stage.session(),
      await stand.stage.session(),
      await stand.stage.session(),
    ];
    await lock.run('SELECT pg_advisory_lock(1)');
    expect(await writer.run(free)).toEqual([{ free: true }]);
    const acquired = other.run('SELECT pg_advisory_lock(1)');
    await other.blocked();
    await lock.kill();
    await acquired;
    expect(await other.run(free)).toEqual([{ free: true }]);
    await other.run(write);
    await writer.run(write);

    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it('does not in Holdfast: two processes with connections of their own wait for one row, and one books', async () => {
    const second = await startApp({ databaseUrl: stand.app.databaseUrl });
    try {
      const pause = pauseBefore(stand.app.app.get(Idempotency, { strict: false }), 'keep');
      const here = stand.book('10:00', { 'Idempotency-Key': 'here' });
      await pause.reached;
      const there = second.as(stand.clinic.apiKey)('POST', '/v1/appointments', {
        body: {
          serviceId: stand.clinic.services[0]!.id,
          practitionerId: stand.clinic.practitioners[0]!.id,
          startsAt: `${DAY}T10:00:00Z`,
          patient: { phone: '+4915111111111' },
        },
      });
      await stand.stage.waiting(1);
      pause.resume();
      expect((await here).status).toBe(201);
      expect(await there).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    } finally {
      await second.stop();
    }
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: who loses the lock loses the transaction, and writes nothing more', async () => {
    const pause = pauseBefore(stand.app.app.get(Idempotency, { strict: false }), 'keep');
    const stopped = stand.book('13:00', { 'Idempotency-Key': 'stopped' });
    await pause.reached;
    const other = stand.book('13:00');
    await stand.stage.waiting(1);
    const [waiter] = await stand.stage.waiters();
    await stand.stage.look('SELECT pg_terminate_backend($1)', [waiter!.blockers[0]]);
    expect((await other).status).toBe(201);
    pause.resume();
    expect((await stopped).status).toBe(503);
    expect(await stand.ledger()).toEqual(SOUND);
  });
});
