import { openStand, SOUND, type Stand, statusesOf } from './stand';

/**
 * Mistake 1: comparing starts. "Is there a booking that starts at this time?", with a unique key on the start behind it,
 * says nothing of 10:00-11:00 against 10:30-11:30.
 *
 * Interleaving: both sessions ask and find nothing, both insert, both commit; the unique key has nothing to refuse.
 *
 * Holdfast compares ranges: the day row's `taken` under its lock, and behind it an exclusion constraint over
 * (schedule, seat, range).
 */
describe('mistake 1: equality on the start time', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz,
                                    UNIQUE (practitioner, starts_at))`);
  });
  afterAll(() => stand.close());

  it('double-books what overlaps without starting together', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    const ask = 'SELECT 1 FROM mistake.booking WHERE practitioner = 1 AND starts_at = $1 FOR UPDATE';
    for (const session of [one, other]) await session.run('BEGIN');
    expect(await one.run(ask, ['2030-01-07T10:00Z'])).toEqual([]);
    expect(await other.run(ask, ['2030-01-07T10:30Z'])).toEqual([]);
    await one.run(`INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z')`);
    await other.run(`INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:30Z', '2030-01-07T11:30Z')`);
    for (const session of [one, other]) await session.run('COMMIT');

    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it("does not in Holdfast: one of two overlapping bookings waits at the other's day, and finds it taken", async () => {
    expect((await stand.book('14:30')).status).toBe(201);
    const holder = await stand.stage.session();
    await holder.run('BEGIN');
    await holder.run('SELECT 1 FROM schedule_day FOR NO KEY UPDATE');
    const race = [stand.book('10:00'), stand.book('10:15')];
    await stand.stage.waiting(2);
    await holder.run('COMMIT');

    expect(statusesOf(await Promise.all(race))).toEqual([201, 409]);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast even where nobody took the lock: the constraint makes the second one wait, and refuses it', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    const claim = `
      INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder)
      SELECT organization_id, id, $2::timestamptz, $2::timestamptz + interval '1 hour', $2::timestamptz,
             $2::timestamptz + interval '1 hour', gen_random_uuid() FROM schedule WHERE id = $1`;
    const { scheduleId } = stand.clinic.practitioners[1]!;
    await one.run('BEGIN');
    await one.run(claim, [scheduleId, '2030-01-07T10:00Z']);
    const second = other.run(claim, [scheduleId, '2030-01-07T10:30Z']);
    await other.blocked();
    await one.run('COMMIT');

    await expect(second).rejects.toMatchObject({ code: '23P01', constraint: 'claim_no_overlap' });
  });
});
