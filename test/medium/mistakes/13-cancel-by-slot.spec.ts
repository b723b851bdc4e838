import { ExpiryService } from '../../../src/appointments';
import { endIn } from '../../support/life';
import { DAY, openStand, SOUND, type Stand, statusesOf } from './stand';

/**
 * Mistake 13: a cancellation that frees "the slot". Repeated, or late, it frees whoever has the slot by then.
 *
 * Interleaving: Ada books, cancels; Ben books the slot that is free again; Ada's cancellation arrives a second time and
 * frees it under him; Cleo books it.
 *
 * In Holdfast an appointment releases its own claim, by its id, once; a second cancellation is refused.
 */
describe('mistake 13: cancelling by slot', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.slot (id integer PRIMARY KEY, free boolean);
      INSERT INTO mistake.slot VALUES (1, true);
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz, patient text)`);
  });
  afterAll(() => stand.close());

  it("frees another one's time, which is then booked twice", async () => {
    const session = await stand.stage.session();
    const book = async (patient: string) => {
      const took = await session.run('UPDATE mistake.slot SET free = false WHERE id = 1 AND free RETURNING id');
      if (took.length === 0) return false;
      await session.run(`INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z', $1)`, [
        patient,
      ]);
      return true;
    };
    const cancel = async (patient: string) => {
      await session.run('DELETE FROM mistake.booking WHERE patient = $1', [patient]);
      await session.run('UPDATE mistake.slot SET free = true WHERE id = 1');
    };
    expect(await book('Ada')).toBe(true);
    await cancel('Ada');
    expect(await book('Ben')).toBe(true);
    await cancel('Ada');
    expect(await book('Cleo')).toBe(true);

    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it('does not in Holdfast: a second cancellation, and one that was under way, free nothing', async () => {
    const ada = (await stand.book('10:00')).body;
    const operator = await stand.stage.session();
    await operator.run('BEGIN');
    await operator.run('SELECT 1 FROM appointment WHERE id = $1 FOR UPDATE', [ada.id]);
    const cancellations = [stand.cancel(ada.id), stand.cancel(ada.id)];
    await stand.stage.waiting(2);
    await operator.run('COMMIT');
    expect(statusesOf(await Promise.all(cancellations))).toEqual([200, 409]);

    const ben = await stand.book('10:00');
    expect(ben.status).toBe(201);
    expect(await stand.cancel(ada.id)).toMatchObject({ status: 409, body: { code: 'invalid_transition' } });
    expect(await stand.book('10:00')).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect(await stand.stage.look('SELECT holder FROM claim')).toEqual([{ holder: ben.body.id }]);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  const hold = (time: string) =>
    stand.clinic.call('POST', '/v1/appointments', {
      body: {
        serviceId: stand.clinic.services[0]!.id,
        practitionerId: stand.clinic.practitioners[0]!.id,
        startsAt: `${DAY}T${time}:00Z`,
        patient: { phone: '+4915199999999' },
        hold: true,
      },
    });
  const act = (id: string, action: string, body: object = {}) =>
    stand.clinic.call('POST', `/v1/appointments/${id}/${action}`, { body });
  const holders = async (time: string) => {
    const rows = await stand.stage.look<{ holder: string }>('SELECT holder FROM claim WHERE starts_at = $1', [
      `${DAY}T${time}:00Z`,
    ]);
    return rows.map((row) => row.holder);
  };

  it.each(['cancel', 'reschedule', 'sweep'])(
    'does not in Holdfast: what is done too late to a hold that is over frees nothing of who has its time (%s)',
    async (late) => {
      const time = { cancel: '12:00', reschedule: '13:00', sweep: '14:00' }[late]!;
      const ada = (await hold(time)).body;
      await endIn(stand.stage, -1, ada.id);
      const ben = (await stand.book(time)).body;
      if (late === 'sweep')
        expect(await stand.app.app.get(ExpiryService, { strict: false }).sweep()).toBeGreaterThan(0);
      else {
        const answer = await act(ada.id, late, late === 'reschedule' ? { startsAt: `${DAY}T14:30:00Z` } : {});
        expect(answer).toMatchObject({ status: 409, body: { code: 'invalid_transition', currentStatus: 'expired' } });
      }
      expect(await holders(time)).toEqual([ben.id]);
      expect(await stand.book(time)).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
      expect(await stand.ledger()).toEqual(SOUND);
    },
  );

  it('does not in Holdfast: who was moved away frees where he is, not where he was', async () => {
    const ada = (await stand.book('09:00')).body;
    expect((await act(ada.id, 'reschedule', { startsAt: `${DAY}T09:30:00Z` })).status).toBe(200);
    const ben = (await stand.book('09:00')).body;
    expect((await stand.cancel(ada.id)).status).toBe(200);
    expect([await holders('09:00'), await holders('09:30')]).toEqual([[ben.id], []]);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it.each(['complete', 'no-show'])(
    'does not in Holdfast: an end that waited while the time went to another one frees nothing (%s)',
    async (action) => {
      const time = action === 'complete' ? '08:00' : '08:30';
      const ada = (await stand.book(time)).body;
      const operator = await stand.stage.session();
      await operator.run('BEGIN');
      await operator.run('SELECT 1 FROM appointment WHERE id = $1 FOR UPDATE', [ada.id]);
      const ends = [stand.cancel(ada.id)];
      await stand.stage.waiting(1);
      ends.push(act(ada.id, action));
      await stand.stage.waiting(2);
      await operator.run('COMMIT');
      expect((await ends[0]!).status).toBe(200);
      expect(await ends[1]).toMatchObject({
        status: 409,
        body: { code: 'invalid_transition', currentStatus: 'cancelled' },
      });
      const ben = (await stand.book(time)).body;
      expect(await act(ada.id, action)).toMatchObject({ status: 409, body: { code: 'invalid_transition' } });
      expect(await holders(time)).toEqual([ben.id]);
      expect(await stand.ledger()).toEqual(SOUND);
    },
  );
});
