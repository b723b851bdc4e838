import { Metrics } from '../../../src/platform';
import type { Answer } from '../../support/app';
import { DAY, openStand, type Stand, statusesOf } from './stand';

const OCCUPYING = ['held', 'pending', 'confirmed', 'checked_in'];

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

  /** Holdfast's own booking, that leads to this status: a hold, a request, or at once. Nobody is here before he has booked. */
  const book = (status: string, time: string): Promise<Answer> =>
    stand.clinic.call('POST', '/v1/appointments', {
      body: {
        serviceId: stand.clinic.services.find(
          ({ key }) => key === (status === 'pending' ? 'approval' : 'consultation'),
        )!.id,
        practitionerId: stand.clinic.practitioners[0]!.id,
        startsAt: `${DAY}T${time}:00Z`,
        patient: { phone: '+4915112345678' },
        hold: status === 'held',
        ...(status === 'checked_in' ? { metadata: { status } } : {}),
      },
    });
  beforeAll(() =>
    stand.stage.look(`
      CREATE FUNCTION mistake.give_status() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.status := coalesce(NEW.metadata->>'status', NEW.status); RETURN NEW; END $$;
      CREATE TRIGGER give_status BEFORE INSERT ON appointment FOR EACH ROW EXECUTE FUNCTION mistake.give_status()`),
  );
  const pairs = OCCUPYING.flatMap((one) => OCCUPYING.map((other) => [one, other] as const));
  const timeOf = (index: number) => {
    const minutes = 8 * 60 + index * 30;
    return `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;
  };

  it('does not in Holdfast: each occupying status shuts out each other one', async () => {
    const { scheduleId } = stand.clinic.practitioners[0]!;
    const path = `/v1/schedules/${scheduleId}/hours`;
    const hours = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '00:00', end: '24:00' }));
    const headers = { 'If-Match': '"1"' };
    expect((await stand.clinic.call('PUT', path, { headers, body: { timeZone: 'UTC', hours } })).status).toBe(200);
    expect((await stand.book('07:00')).status).toBe(201);
    for (const [index, [one, other]] of pairs.entries()) {
      const holder = await stand.stage.session();
      await holder.run('BEGIN');
      await holder.run('SELECT 1 FROM schedule_day WHERE schedule_id = $1 FOR NO KEY UPDATE', [scheduleId]);
      const race = [book(one, timeOf(index)), book(other, timeOf(index))];
      await stand.stage.waiting(2);
      await holder.run('COMMIT');
      expect(statusesOf(await Promise.all(race))).toEqual([201, 409]);
    }
    const found = await stand.stage.look<{ status: string }>('SELECT DISTINCT status FROM appointment ORDER BY status');
    expect(found.map((row) => row.status)).toEqual([...OCCUPYING].sort());
    expect(await stand.ledger()).toMatchObject({ doubleBookings: 0 });
    expect(await refusedByConstraint()).toBe(0);
  });

  it('does not in Holdfast even where the day row is wrong: the constraint knows no status either', async () => {
    for (const [refused, status] of OCCUPYING.entries()) {
      await stand.stage.look(`UPDATE schedule_day SET taken = '{}'`);
      expect((await book(status, '08:15')).status).toBe(409);
      expect(await refusedByConstraint()).toBe(refused + 1);
    }
    expect(await stand.ledger()).toMatchObject({ doubleBookings: 0 });
  });

  async function refusedByConstraint(): Promise<number> {
    const { values } = await stand.app.app.get(Metrics, { strict: false }).racesCaught.get();
    return values.find((value) => value.labels.race === 'exclusion_constraint')?.value ?? 0;
  }
});
