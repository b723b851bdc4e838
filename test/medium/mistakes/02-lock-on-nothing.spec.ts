import { ScheduleDayRepository } from '../../../src/availability';
import { pauseBefore } from '../../support/sessions';
import { DAY, openStand, SOUND, type Stand, statusesOf } from './stand';

/**
 * Mistake 2: `SELECT ... FOR UPDATE` over the bookings that overlap. Where there are none, no row is locked, and PostgreSQL
 * has no locks on gaps: the statement that is meant to keep the other one out does nothing.
 *
 * Interleaving: both sessions select the overlaps for update and get none, neither waits, both insert, both commit.
 *
 * Holdfast locks a row that exists: the day row of the schedule, which is made before it is locked.
 */
describe('mistake 2: FOR UPDATE that matches no row', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(
      'CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz)',
    );
  });
  afterAll(() => stand.close());

  it('locks nothing, and double-books', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    const overlaps = `SELECT 1 FROM mistake.booking
      WHERE practitioner = 1 AND starts_at < '2030-01-07T11:00Z' AND ends_at > '2030-01-07T10:00Z' FOR UPDATE`;
    for (const session of [one, other]) await session.run('BEGIN');
    expect(await one.run(overlaps)).toEqual([]);
    // Were anything locked, this would never come back.
    expect(await other.run(overlaps)).toEqual([]);
    for (const session of [one, other]) {
      await session.run(`INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z')`);
      await session.run('COMMIT');
    }

    expect(await stand.doubleBookings('booking')).toBe(1);
  });

  it('is not what Holdfast does: on an empty day, the second waits for the first from the lock on', async () => {
    // The first has made and locked the day, decided, and not yet written.
    const pause = pauseBefore(stand.app.app.get(ScheduleDayRepository, { strict: false }), 'insertClaims');
    const first = stand.book('10:00');
    await pause.reached;
    const second = stand.book('10:00');
    await stand.stage.waiting(1);
    pause.resume();

    expect((await first).status).toBe(201);
    expect(await second).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('is not what Holdfast does: on days that are there, with nobody named, the others wait at the lock alone', async () => {
    const { clinic, stage } = stand;
    const book = (time: string, who?: number) =>
      clinic.call('POST', '/v1/appointments', {
        body: {
          serviceId: clinic.services[0]!.id,
          startsAt: `${DAY}T${time}:00Z`,
          patient: { phone: '+4915112312312' },
          ...(who === undefined ? {} : { practitionerId: clinic.practitioners[who]!.id }),
        },
      });
    // Two are free at noon; everybody's day has its row.
    for (const who of clinic.practitioners.keys()) {
      expect((await book(who < 2 ? '14:30' : '12:00', who)).status).toBe(201);
    }
    const pause = pauseBefore(stand.app.app.get(ScheduleDayRepository, { strict: false }), 'insertClaims');
    const first = book('12:00');
    await pause.reached;
    const others = [book('12:00'), book('12:00')];
    await stage.waiting(2);
    pause.resume();

    expect(statusesOf(await Promise.all([first, ...others]))).toEqual([201, 201, 409]);
    expect(await stand.ledger()).toEqual(SOUND);
  });
});
