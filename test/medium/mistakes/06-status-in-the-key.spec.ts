import { uuidv7 } from 'uuidv7';
import { OCCUPYING } from '../../../src/appointments/appointment.entities';
import { GUARDED_BOOKING, recordValues } from '../../../src/appointments/booking.sql';
import { guardedClaimValues } from '../../../src/availability';
import { ConstraintViolation, Database } from '../../../src/platform';
import { DAY, openStand, SOUND, type Stand } from './stand';

/**
 * Mistake 6: the status inside the unique key. UNIQUE (practitioner, start, status) lets a time be booked and confirmed and
 * rescheduled, once each; and the partial index `WHERE status = 'booked'`, which is what people write when they learn that
 * a table constraint takes no WHERE, forgets every status that it does not name.
 *
 * Interleaving: one session books. Another confirms an older request for the same time. No key is violated.
 *
 * In Holdfast time is a claim, and a claim has no status: whoever occupies time, held or checked in, has the one claim.
 */
describe('mistake 6: a status inside the unique key', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.keyed (practitioner integer, starts_at timestamptz, ends_at timestamptz, status text,
                                  UNIQUE (practitioner, starts_at, status));
      CREATE TABLE mistake.partial (practitioner integer, starts_at timestamptz, ends_at timestamptz, status text);
      CREATE UNIQUE INDEX ON mistake.partial (practitioner, starts_at) WHERE status = 'booked'`);
  });
  afterAll(() => stand.close());

  it.each(['keyed', 'partial'])('lets booked and confirmed coexist (%s)', async (table) => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    for (const session of [one, other]) await session.run('BEGIN');
    const write = `INSERT INTO mistake.${table} VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z', $1)`;
    await one.run(write, ['booked']);
    await other.run(write, ['confirmed']);
    for (const session of [one, other]) await session.run('COMMIT');

    expect(await stand.doubleBookings(table)).toBe(1);
  });

  /** Holdfast's booking statement, for an appointment of any status. */
  async function book(status: string, time: string): Promise<number> {
    const { clinic, app } = stand;
    const { body: patient } = await clinic.call('POST', '/v1/patients', { body: { phone: '+4915155555555' } });
    const [holder, start] = [uuidv7(), Date.parse(`${DAY}T${time}:00Z`)];
    const [startsAt, endsAt] = [new Date(start), new Date(start + 1_800_000)];
    const core = { start, end: endsAt.getTime() };
    const { id: practitionerId, scheduleId } = clinic.practitioners[0]!;
    const { organizationId } = clinic;
    const values = [
      ...guardedClaimValues({
        organizationId,
        scheduleId,
        day: DAY,
        span: { core, buffered: core },
        holder,
        expiresAt: null,
      }),
      ...recordValues({
        appointment: {
          id: holder,
          organizationId,
          status: status as 'held',
          version: 1,
          serviceId: clinic.services[0]!.id,
          patientId: patient.id,
          attendeeName: null,
          startsAt,
          endsAt,
          expiresAt: null,
          mode: 'in_person',
          confirmationStatus: 'none',
          source: 'test',
          notes: null,
          metadata: {},
          createdAt: startsAt,
          updatedAt: startsAt,
        },
        segments: [
          {
            appointmentId: holder,
            position: 0,
            organizationId,
            name: null,
            scheduleId,
            practitionerId,
            roomId: null,
            startsAt,
            endsAt,
          },
        ],
        actor: 'test',
        channel: 'test',
        eventId: uuidv7(),
      }),
    ];
    const database = app.app.get(Database, { strict: false });
    const rows = await database.transaction(organizationId, (tx) => tx.query(GUARDED_BOOKING as never, values));
    return (rows as unknown[]).length;
  }

  it('does not in Holdfast: each occupying status shuts out each other one', async () => {
    expect((await stand.book('15:00')).status).toBe(201);
    const times = ['09:00', '10:00', '11:00', '12:00'];
    for (const [index, status] of OCCUPYING.entries()) {
      expect(await book(status, times[index]!)).toBe(1);
      for (const other of OCCUPYING) expect(await book(other, times[index]!)).toBe(0);
    }
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast even where the day row is wrong: the constraint knows no status either', async () => {
    await stand.stage.look(`UPDATE schedule_day SET taken = '{}'`);
    for (const status of OCCUPYING) await expect(book(status, '09:15')).rejects.toBeInstanceOf(ConstraintViolation);
    expect((await stand.ledger()).doubleBookings).toBe(0);
  });
});
