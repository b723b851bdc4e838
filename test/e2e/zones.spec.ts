import { auditLedger, compareWallTimes, type MovedSegment } from '../../src/operations';
import { Log, openDatabase } from '../../src/platform';
import { after, ALWAYS, inDays, maker, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

/** What the wall shows in a zone: `Mon 09:00`. */
const wall = (zone: string, instant: string): string =>
  new Intl.DateTimeFormat('en-GB', { timeZone: zone, weekday: 'short', hour: '2-digit', minute: '2-digit' })
    .format(new Date(instant))
    .replace(/,? /, ' ');

/** The same instant, written with another offset. */
function withOffset(instant: string, offset: `${'+' | '-'}${number}:${number}`): string {
  const [hours, minutes] = offset.slice(1).split(':').map(Number);
  const shift = (offset.startsWith('-') ? -1 : 1) * (hours! * 60 + minutes!);
  return new Date(Date.parse(instant) + shift * 60_000).toISOString().replace(/(\.\d+)?Z$/, offset);
}

describe('zones', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  beforeAll(async () => {
    app = await startApp();
    call = (await seedClinic(app)).call;
    make = maker(call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const lane = async (hours: object[], timeZone: string, fields: object = {}) => {
    const practitioner = await make.practitioner({ hours, timeZone });
    const service = await make.service([practitioner.id], { maxDaysAhead: 400, ...fields });
    return { service, scheduleId: practitioner.scheduleId as string };
  };
  const slots = async (serviceId: string, from: string, to: string): Promise<string[]> => {
    const window = `from=${encodeURIComponent(from)}&to=${encodeURIComponent(to)}`;
    const answer = await call('GET', `/v1/slots?serviceId=${serviceId}&${window}&limit=1000`);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body.data.map((slot: { startsAt: string }) => slot.startsAt);
  };

  describe('a schedule in one, seen from another', () => {
    const AUCKLAND = 'Pacific/Auckland';
    const mondays = [{ weekday: 1, start: '09:00', end: '12:00' }];
    const nights = [1, 2, 3, 4, 5, 6, 7].flatMap((weekday) => [
      { weekday, start: '00:00', end: '02:00' },
      { weekday, start: '22:00', end: '24:00' },
    ]);

    it('opens by its own clock, on its own weekday', async () => {
      const { service } = await lane(mondays, AUCKLAND);
      const [from, to] = [inDays(20), inDays(27)];
      const starts = await slots(service.id, from, to);
      expect(starts.map((start) => wall(AUCKLAND, start))).toEqual(
        ['09:00', '09:30', '10:00', '10:30', '11:00', '11:30'].map((time) => `Mon ${time}`),
      );
      expect(new Set(starts.map((start) => wall('America/Los_Angeles', start).slice(0, 3)))).toEqual(new Set(['Sun']));
    });

    it('is the same for whoever asks, with whatever offset', async () => {
      const { service } = await lane(mondays, AUCKLAND);
      const [from, to] = [inDays(20), inDays(27)];
      const starts = await slots(service.id, from, to);
      expect(await slots(service.id, withOffset(from, '-08:00'), withOffset(to, '+05:45'))).toEqual(starts);

      const startsAt = starts[2]!;
      const booked = await make.book({ serviceId: service.id, startsAt: withOffset(startsAt, '-08:00') });
      expect([booked.status, booked.body.startsAt]).toEqual([201, startsAt]);
      const again = await make.book({ serviceId: service.id, startsAt: withOffset(startsAt, '+05:45') });
      expect(problemOf(again)).toEqual(problem(409, 'slot_taken'));
      const left = await slots(service.id, withOffset(from, '+13:00'), withOffset(to, '-03:30'));
      expect(left).toEqual(starts.filter((start) => start !== startsAt));
    });

    it('takes what crosses its midnight, and not what crosses another’s alone', async () => {
      const { service } = await lane(nights, AUCKLAND, { durationMinutes: 180, slotIntervalMinutes: 60 });
      const starts = await slots(service.id, inDays(20), inDays(22));
      expect(new Set(starts.map((start) => wall(AUCKLAND, start).slice(4)))).toEqual(new Set(['22:00', '23:00']));
      const startsAt = starts.find((start) => wall(AUCKLAND, start).endsWith('23:00'))!;
      const booked = await make.book({ serviceId: service.id, startsAt: withOffset(startsAt, '-08:00') });
      expect(booked.status).toBe(201);
      const earlier = await make.book({ serviceId: service.id, startsAt: after(startsAt, -60) });
      expect(problemOf(earlier)).toEqual(problem(409, 'slot_taken'));
      const late = await make.book({ serviceId: service.id, startsAt: after(startsAt, 24 * 60 + 60) });
      expect(problemOf(late)).toEqual(problem(422, 'outside_hours'));
      const days = await sql(
        `SELECT count(*)::int AS days FROM schedule_day d JOIN claim c USING (schedule_id)
         WHERE c.holder = $1 AND d.taken && multirange(c.during)`,
        [booked.body.id],
      );
      expect(days).toEqual([{ days: 2 }]);
    });
  });

  describe('a schedule that changes its zone while it is booked', () => {
    const ZONES = ['Pacific/Kiritimati', 'America/Los_Angeles', 'Asia/Kathmandu', 'Pacific/Auckland', 'Europe/Berlin'];
    const byDay = ALWAYS.map((each) => ({ ...each, start: '06:00', end: '22:00' }));

    const overlapping = (scheduleId: string) =>
      sql(
        `SELECT a.appointment_id FROM appointment_segment a JOIN appointment x ON x.id = a.appointment_id
         JOIN appointment_segment b ON b.schedule_id = a.schedule_id AND b.appointment_id > a.appointment_id
         JOIN appointment y ON y.id = b.appointment_id
         WHERE a.schedule_id = $1 AND x.status = 'confirmed' AND y.status = 'confirmed'
           AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at`,
        [scheduleId],
      );

    it.each([
      ['round the clock', ALWAYS, ['slot_taken', 'busy'], 40],
      ['by day', byDay, ['slot_taken', 'outside_hours', 'busy'], 10],
    ])('%s: nobody is booked twice, and the ledger agrees with its rules', async (_name, hours, refusals, atLeast) => {
      const { service, scheduleId } = await lane(hours, 'Europe/Berlin', { bufferBeforeMinutes: 10 });
      let booked = 0;
      for (const [round, zone] of ZONES.entries()) {
        // Pairs that overlap, on days that have no row yet, each pair two hours later in its day than the one before.
        const start = after(inDays(20 + round * 13), round * 300);
        const book = (index: number) =>
          make.book({
            serviceId: service.id,
            startsAt: after(start, Math.floor(index / 2) * 26 * 60 - (index % 2) * 20),
          });
        const bookings = Array.from({ length: 12 }, (_, index) => book(index));
        const changed = call('PUT', `/v1/schedules/${scheduleId}/hours`, {
          body: { timeZone: zone, hours },
          headers: { 'If-Match': '*' },
        });
        bookings.push(...Array.from({ length: 12 }, (_, index) => book(12 + index)));
        for (const answer of await Promise.all(bookings)) {
          if (answer.status === 201) booked++;
          else expect(refusals).toContain(answer.body.code);
        }
        // Who edits may have to come back, too; then the zone is the old one.
        if ((await changed).status !== 200) expect((await changed).body.code).toBe('busy');
        else {
          const schedule = await call('GET', `/v1/schedules/${scheduleId}`);
          expect(schedule.body.timeZone).toBe(zone);
        }
        expect(await auditLedger(app.databaseUrl, { scheduleIds: [scheduleId] })).toEqual([]);
      }
      expect(booked).toBeGreaterThan(atLeast);
      const claims = await sql('SELECT count(*)::int AS count FROM claim WHERE schedule_id = $1', [scheduleId]);
      expect(claims).toEqual([{ count: booked }]);
      expect(await overlapping(scheduleId)).toEqual([]);
    });
  });

  describe('a new zone database', () => {
    const KATHMANDU = 'Asia/Kathmandu';
    const compare = async (pageSize?: number) => {
      const { database, close } = await openDatabase(app.databaseUrl, Log.create('silent'));
      try {
        const moved: MovedSegment[] = [];
        const counted = await compareWallTimes(database, (each) => moved.push(each), pageSize);
        return { ...counted, told: moved };
      } finally {
        await close();
      }
    };
    /** Records what an older database would have made of a booking. */
    const record = (id: string, timeZone: string | null, local: string | null) =>
      sql('UPDATE appointment_segment SET time_zone = $2, local_starts_at = $3::timestamp WHERE appointment_id = $1', [
        id,
        timeZone,
        local,
      ]);
    const localIn = (instant: string, minutes: number) => after(instant, minutes).slice(0, 19);

    it('moves wall times, and is told which, by how much, and what would keep them', async () => {
      await sql(`UPDATE appointment SET status = 'cancelled' WHERE status <> 'cancelled'`);
      const { service, scheduleId } = await lane(ALWAYS, KATHMANDU);
      const book = async (days: number): Promise<{ id: string; startsAt: string }> => {
        const answer = await make.book({ serviceId: service.id, startsAt: inDays(days, '08:00') });
        if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
        return answer.body;
      };
      // The first is left as its booking recorded it.
      const [, later, earlier, unknown, unrecorded, cancelled, past] = [
        await book(10),
        await book(11),
        await book(12),
        await book(13),
        await book(14),
        await book(15),
        await book(16),
      ];
      // Booked while Kathmandu was thought to be 5:30 from UTC, and as if it were 6:45.
      await record(later.id, KATHMANDU, localIn(later.startsAt, 330));
      await record(earlier.id, KATHMANDU, localIn(earlier.startsAt, 405));
      await record(unknown.id, 'Asia/Nowhere', localIn(unknown.startsAt, 345));
      await record(unrecorded.id, null, null);
      for (const each of [cancelled, past]) await record(each.id, KATHMANDU, localIn(each.startsAt, 0));
      expect((await make.act(cancelled.id, 'cancel')).status).toBe(200);
      await sql(`UPDATE appointment SET starts_at = now() - interval '1 hour' WHERE id = $1`, [past.id]);

      // Another organization, between whose appointments none of these is.
      const other = await addOrganization(app);
      const theirs = maker(app.as(other.apiKey));
      const elsewhere = await theirs.lane();
      const [abroad, beside] = await Promise.all(
        [elsewhere, await theirs.lane()].map(async (each) => {
          const answer = await theirs.book({ serviceId: each.service.id, startsAt: inDays(9, '08:00') });
          expect(answer.status).toBe(201);
          return answer.body as { id: string; startsAt: string };
        }),
      );
      await record(abroad!.id, 'Etc/UTC', localIn(abroad!.startsAt, 1440));
      // At the same instant, so that a page may end between the two.
      await record(beside!.id, 'Etc/UTC', localIn(beside!.startsAt, 0));

      const segment = { scheduleId, timeZone: KATHMANDU };
      const due = [
        {
          ...segment,
          appointmentId: later.id,
          booked: localIn(later.startsAt, 330),
          now: {
            shown: localIn(later.startsAt, 345),
            minutes: 15,
            keptAt: Date.parse(later.startsAt) - 15 * 60_000,
          },
        },
        {
          ...segment,
          appointmentId: earlier.id,
          booked: localIn(earlier.startsAt, 405),
          now: {
            shown: localIn(earlier.startsAt, 345),
            minutes: -60,
            keptAt: Date.parse(earlier.startsAt) + 60 * 60_000,
          },
        },
        {
          scheduleId,
          timeZone: 'Asia/Nowhere',
          appointmentId: unknown.id,
          booked: localIn(unknown.startsAt, 345),
        },
        {
          scheduleId: elsewhere.practitioner.scheduleId,
          timeZone: 'Etc/UTC',
          appointmentId: abroad!.id,
          booked: localIn(abroad!.startsAt, 1440),
          now: {
            shown: localIn(abroad!.startsAt, 0),
            minutes: -1440,
            keptAt: Date.parse(abroad!.startsAt) + 1440 * 60_000,
          },
        },
      ];
      for (const pageSize of [1, 2, 1_000]) {
        expect(await compare(pageSize)).toEqual({ segments: 7, moved: 4, unrecorded: 1, told: due });
      }

      const moved = await make.act(later.id, 'reschedule', {
        startsAt: new Date(due[0]!.now!.keptAt).toISOString(),
      });
      expect(moved.status).toBe(200);
      expect((await compare()).moved).toBe(3);
    });

    it('leaves day rows as they were planned, until the hours are saved again', async () => {
      const { service, scheduleId } = await lane(ALWAYS, KATHMANDU);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') })).status).toBe(201);
      const scope = { scheduleIds: [scheduleId] };
      expect(await auditLedger(app.databaseUrl, scope)).toEqual([]);
      await sql(
        `UPDATE schedule_day SET covers = tstzrange(lower(covers) + interval '15 min', upper(covers) + interval '15 min')
         WHERE schedule_id = $1`,
        [scheduleId],
      );
      const checks = (await auditLedger(app.databaseUrl, scope)).map((finding) => finding.check);
      expect(checks).toContain('day_row_covers');
      await make.setHours(scheduleId, ALWAYS, KATHMANDU);
      expect(await auditLedger(app.databaseUrl, scope)).toEqual([]);
    });
  });
});
