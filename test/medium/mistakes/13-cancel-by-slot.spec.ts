import { openStand, SOUND, type Stand, statusesOf } from './stand';

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
});
