import { AppointmentRepository, ExpiryService } from '../../../src/appointments';
import { Ledger } from '../../../src/availability';
import { endIn } from '../../support/life';
import { pauseBefore } from '../../support/sessions';
import { DAY, openStand, SOUND, type Stand, statusesOf } from './stand';

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
    expect((await stand.book('14:30')).status).toBe(201);
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

  it('does not in Holdfast: a change that was decided on another version is counted, and takes everything back', async () => {
    const { body } = await stand.book('12:00');
    const rows = () =>
      stand.stage.look(
        `SELECT to_jsonb(a) AS appointment, (SELECT jsonb_agg(c) FROM claim c WHERE c.holder = a.id) AS claims,
                (SELECT taken::text FROM schedule_day d WHERE d.schedule_id = s.schedule_id AND d.day = a.starts_at::date) AS taken,
                (SELECT count(*) FROM appointment_history h WHERE h.appointment_id = a.id) AS lines,
                (SELECT count(*) FROM outbox_event e WHERE e.subject_id = a.id) AS events
         FROM appointment a JOIN appointment_segment s ON s.appointment_id = a.id WHERE a.id = $1`,
        [body.id],
      );
    const before = await rows();
    // As if the lock were not there: what was read is older than what is stored when the change is recorded.
    const appointments = stand.app.app.get(AppointmentRepository, { strict: false });
    const lock = appointments.lock.bind(appointments);
    const stale = jest
      .spyOn(appointments, 'lock')
      .mockImplementationOnce(async (...values) => ({ ...(await lock(...values)), version: 0 }));
    expect((await stand.cancel(body.id)).status).toBe(500);
    expect(stale).toHaveBeenCalled();
    // The claim was deleted and the day recomputed by then.
    expect(await rows()).toEqual(before);
    expect(await stand.book('12:00')).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect((await stand.cancel(body.id)).status).toBe(200);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: one stale change among many takes back the batch', async () => {
    const ids: string[] = [];
    for (const time of ['13:00', '13:30', '14:00']) {
      const made = await stand.clinic.call('POST', '/v1/appointments', {
        body: {
          serviceId: stand.clinic.services[0]!.id,
          practitionerId: stand.clinic.practitioners[0]!.id,
          startsAt: `${DAY}T${time}:00Z`,
          patient: { phone: '+4915199999999' },
          hold: true,
        },
      });
      ids.push(made.body.id);
    }
    await endIn(stand.stage, -1, ...ids);
    const states = () =>
      stand.stage.look(
        `SELECT id, status, version, (SELECT count(*) FROM claim WHERE holder = a.id) AS claims FROM appointment a
         WHERE id = ANY($1) ORDER BY id`,
        [ids],
      );
    const before = await states();
    const appointments = stand.app.app.get(AppointmentRepository, { strict: false });
    const lockOverdue = appointments.lockOverdue.bind(appointments);
    jest.spyOn(appointments, 'lockOverdue').mockImplementationOnce(async (...values) => {
      const [first, ...others] = await lockOverdue(...values);
      return [{ ...first!, version: 0 }, ...others];
    });
    const sweeper = stand.app.app.get(ExpiryService, { strict: false });
    await expect(sweeper.sweep()).rejects.toThrow('3 changes were decided on, and 2 could be recorded');
    expect(await states()).toEqual(before);
    expect(await sweeper.sweep()).toBe(3);
    expect(await stand.ledger()).toEqual(SOUND);
  });
});
