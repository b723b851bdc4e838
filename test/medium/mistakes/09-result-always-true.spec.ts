import { Ledger } from '../../../src/availability';
import { pauseBefore } from '../../support/sessions';
import { openStand, SOUND, type Stand, statusesOf } from './stand';

/**
 * Mistake 9: a conditional update (compare-and-swap) whose result is judged by something that is always true: the driver's
 * result object, an array, "no error". The loser believes that he won.
 *
 * Interleaving: both sessions read "free", both update where it is still free; the second waits, then matches no row, and
 * goes on to write its booking all the same.
 *
 * Holdfast writes the booking from the updated row itself (no row, no booking), and counts what comes back.
 */
describe('mistake 9: a result that is always true', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.slot (id integer PRIMARY KEY, status text);
      INSERT INTO mistake.slot VALUES (1, 'free');
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz)`);
  });
  afterAll(() => stand.close());

  it('lets the loser book', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    const swap = `UPDATE mistake.slot SET status = 'booked' WHERE id = 1 AND status = 'free' RETURNING id`;
    const write = `INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z')`;
    for (const session of [one, other]) await session.run('BEGIN');
    const first = await one.run(swap);
    const waiting = other.run(swap);
    await other.blocked();
    if (first) await one.run(write);
    await one.run('COMMIT');
    const second = await waiting;
    // The mistake: an empty array is true.
    if (second) await other.run(write);
    await other.run('COMMIT');

    expect([first.length, second.length]).toEqual([1, 0]);
    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it('does not in Holdfast: the guarded booking that waited and matched no row writes nothing', async () => {
    expect((await stand.book('15:00')).status).toBe(201);
    const count = `SELECT (SELECT count(*) FROM appointment) AS appointments, (SELECT count(*) FROM appointment_history) AS lines,
                          (SELECT count(*) FROM outbox_event WHERE type LIKE 'appointment.%') AS events, (SELECT count(*) FROM claim) AS claims`;
    const holder = await stand.stage.session();
    await holder.run('BEGIN');
    await holder.run('SELECT 1 FROM schedule_day FOR NO KEY UPDATE');
    const race = [stand.book('10:00'), stand.book('10:00')];
    await stand.stage.waiting(2);
    await holder.run('COMMIT');
    expect(statusesOf(await Promise.all(race))).toEqual([201, 409]);
    expect(await stand.stage.look(count)).toEqual([{ appointments: 2, lines: 2, events: 2, claims: 2 }]);
  });

  it('does not in Holdfast: of two cancellations at once one cancels, the other is told', async () => {
    const { body } = await stand.book('11:00');
    const pause = pauseBefore(stand.app.app.get(Ledger, { strict: false }), 'release');
    const first = stand.cancel(body.id);
    await pause.reached;
    const second = stand.cancel(body.id);
    await stand.stage.waiting(1);
    pause.resume();
    expect((await first).status).toBe(200);
    expect(await second).toMatchObject({
      status: 409,
      body: { code: 'invalid_transition', currentStatus: 'cancelled' },
    });
    const history = await stand.clinic.call('GET', `/v1/appointments/${body.id}/history`);
    expect(history.body.data.map((line: { action: string }) => line.action)).toEqual(['book', 'cancel']);
    expect(await stand.ledger()).toEqual(SOUND);
  });
});
