import { Temporal } from 'temporal-polyfill';
import { uuidv7 } from 'uuidv7';
import { ScheduleDayRepository } from '../../src/availability';
import { auditLedger } from '../../src/operations';
import { Clock, Idempotency, Metrics } from '../../src/platform';
import { type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { pauseAfter, pauseBefore, Stage } from '../support/sessions';

/**
 * The ledger of time against a real database, in interleavings stepped by hand: a session of the test, or a pause within
 * the product's own code, holds one side at the step that matters until the catalog says that the other side waits.
 */
describe('the ledger', () => {
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
  });
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });
  afterEach(() => jest.restoreAllMocks());

  // Every test has a day of its own, so that what one leaves behind cannot help another.
  let days = 3;
  const newDay = () => {
    const day = workday((days += 1));
    days = Math.round((Date.parse(day) - Date.parse(workday(0))) / 86_400_000) + 1;
    return day;
  };
  const next = (day: string) => Temporal.PlainDate.from(day).add({ days: 1 }).toString();
  const at = (day: string, time: string, zone = clinic.timeZone) =>
    Temporal.PlainDateTime.from(`${day}T${time}`).toZonedDateTime(zone).toInstant().toString();

  let callers = 0;
  interface Wish {
    who?: number;
    at: string;
    service?: 'consultation' | 'follow-up';
    hold?: boolean;
    headers?: Record<string, string>;
  }
  const book = (wish: Wish): Promise<Answer> =>
    clinic.call('POST', '/v1/appointments', {
      headers: wish.headers,
      body: {
        serviceId: clinic.services.find((each) => each.key === (wish.service ?? 'consultation'))!.id,
        startsAt: wish.at,
        hold: wish.hold ?? false,
        ...(wish.who === undefined ? {} : { practitionerId: clinic.practitioners[wish.who]!.id }),
        patient: { phone: `+49151${20_000_000 + callers++}` },
      },
    });
  const cancel = (id: string) => clinic.call('POST', `/v1/appointments/${id}/cancel`, { body: {} });
  const scheduleOf = (who: number) => clinic.practitioners[who]!.scheduleId;

  const WEEK = [1, 2, 3, 4, 5, 6, 7];
  const setHours = async (who: number, start: string, end: string, zone = clinic.timeZone): Promise<Answer> => {
    const path = `/v1/schedules/${scheduleOf(who)}`;
    const before = await clinic.call('GET', path);
    return clinic.call('PUT', `${path}/hours`, {
      headers: { 'If-Match': before.headers.get('etag')! },
      body: { timeZone: zone, hours: WEEK.map((weekday) => ({ weekday, start, end })) },
    });
  };
  /** Writes day rows by what does it in production: a booking, which is then cancelled. */
  const materialise = async (who: number, ...starts: string[]) => {
    for (const start of starts) {
      const made = await book({ who, at: start, service: 'follow-up' });
      expect(made.status).toBe(201);
      expect((await cancel(made.body.id)).status).toBe(200);
    }
  };

  /** What is taken, as `HH:MM-HH:MM` in UTC. */
  const takenOn = async (who: number, day: string): Promise<string[]> => {
    const rows = await stage.look<{ text: string }>(
      `SELECT to_char(lower(r) AT TIME ZONE 'UTC', 'HH24:MI') || '-' || to_char(upper(r) AT TIME ZONE 'UTC', 'HH24:MI') AS text
       FROM schedule_day, unnest(taken) AS r WHERE schedule_id = $1 AND day = $2 ORDER BY r`,
      [scheduleOf(who), day],
    );
    return rows.map((row) => row.text);
  };
  const claimsOf = (holder: string) => stage.look('SELECT * FROM claim WHERE holder = $1', [holder]);
  const audit = (...who: number[]) =>
    auditLedger(app.databaseUrl, { organizationId: clinic.organizationId, scheduleIds: who.map(scheduleOf) });
  const statuses = (answers: Answer[]) => answers.map((answer) => answer.status).sort((a, b) => a - b);
  const hhmm = (instant: string) => instant.slice(11, 16);
  const metric = async (race: string): Promise<number> => {
    const { values } = await app.app.get(Metrics, { strict: false }).racesCaught.get();
    return values.find((value) => value.labels.race === race)?.value ?? 0;
  };
  /** A session that holds day rows, so that whoever wants them has to queue up. */
  const holdDays = async (who: number[], ...on: string[]) => {
    const session = await stage.session();
    await session.run('BEGIN');
    const held = await session.run(
      `SELECT 1 FROM schedule_day WHERE schedule_id = ANY($1) AND day = ANY($2::date[])
       ORDER BY schedule_id, day FOR NO KEY UPDATE`,
      [who.map(scheduleOf), on],
    );
    expect(held).toHaveLength(who.length * on.length);
    return session;
  };

  describe('within a day', () => {
    it('is decided by the day row: of several guarded bookings one gets through, and the constraint has nothing to do', async () => {
      const day = newDay();
      await materialise(1, at(day, '15:00'));
      const caught = await metric('exclusion_constraint');
      const holder = await holdDays([1], day);
      const race = ['10:00', '10:00', '10:15', '09:45'].map((time) => book({ who: 1, at: at(day, time) }));
      await stage.waiting(4);
      await holder.run('COMMIT');

      expect(statuses(await Promise.all(race))).toEqual([201, 409, 409, 409]);
      expect(await metric('exclusion_constraint')).toBe(caught);
      expect(await audit(1)).toEqual([]);
    });

    it('books neighbours that wait for each other, all of them', async () => {
      const day = newDay();
      await materialise(1, at(day, '15:00'));
      const holder = await holdDays([1], day);
      const race = ['10:00', '10:30', '11:00', '11:30'].map((time) => book({ who: 1, at: at(day, time) }));
      await stage.waiting(4);
      await holder.run('COMMIT');

      expect(statuses(await Promise.all(race))).toEqual([201, 201, 201, 201]);
      expect(await takenOn(1, day)).toEqual([`${hhmm(at(day, '10:00'))}-${hhmm(at(day, '12:00'))}`]);
      expect(await audit(1)).toEqual([]);
    });
  });

  describe('across midnight', () => {
    beforeAll(async () => {
      expect((await setHours(0, '00:00', '24:00')).status).toBe(200);
    });

    it('books one of two that overlap on both days, whose locks are taken in the order of days', async () => {
      const day = newDay();
      await materialise(0, at(day, '10:00'), at(next(day), '10:00'));
      const holder = await holdDays([0], next(day));
      // The first holds the first day and waits for the second; the other waits for the first.
      const race = [book({ who: 0, at: at(day, '23:40') }), book({ who: 0, at: at(day, '23:50') })];
      await stage.waiting(2);
      await holder.run('COMMIT');
      const answers = await Promise.all(race);

      expect(statuses(answers)).toEqual([201, 409]);
      const won = answers.find((answer) => answer.status === 201)!.body;
      const midnight = hhmm(at(next(day), '00:00'));
      expect(await takenOn(0, day)).toEqual([`${hhmm(won.startsAt)}-${midnight}`]);
      expect(await takenOn(0, next(day))).toEqual([`${midnight}-${hhmm(won.endsAt)}`]);
      expect(await audit(0)).toEqual([]);

      expect((await cancel(won.id)).status).toBe(200);
      expect(await takenOn(0, day)).toEqual([]);
      expect(await takenOn(0, next(day))).toEqual([]);
    });

    it('books one of two that meet on the second day alone: two days locked against one statement', async () => {
      const day = newDay();
      await materialise(0, at(day, '10:00'), at(next(day), '10:00'));
      const holder = await holdDays([0], next(day));
      const race = [book({ who: 0, at: at(day, '23:45') }), book({ who: 0, at: at(next(day), '00:00') })];
      await stage.waiting(2);
      await holder.run('COMMIT');

      expect(statuses(await Promise.all(race))).toEqual([201, 409]);
      expect(await audit(0)).toEqual([]);
    });

    it('books one of two while neither day has a row yet', async () => {
      const day = newDay();
      const repository = app.app.get(ScheduleDayRepository, { strict: false });
      // Both have seen that the rows are missing before either writes them.
      const first = pauseBefore(repository, 'insertMissing');
      const one = book({ who: 0, at: at(day, '23:40') });
      await first.reached;
      const second = pauseBefore(repository, 'insertMissing');
      const other = book({ who: 0, at: at(day, '23:50') });
      await second.reached;
      first.resume();
      second.resume();

      expect(statuses(await Promise.all([one, other]))).toEqual([201, 409]);
      expect(await audit(0)).toEqual([]);
    });
  });

  describe('with nobody named', () => {
    it('books each of those who are free once, when more want one than there are', async () => {
      const day = newDay();
      const everybody = clinic.practitioners.map((_, who) => who);
      for (const who of everybody) await materialise(who, at(day, '15:00'));
      for (const who of everybody.slice(3)) expect((await book({ who, at: at(day, '11:00') })).status).toBe(201);

      const holder = await holdDays(everybody, day);
      const race = Array.from({ length: 12 }, () => book({ at: at(day, '11:00') }));
      // Half of the pool of connections is let in; the others queue up behind it in the process.
      await stage.waiting(6);
      await holder.run('COMMIT');
      const answers = await Promise.all(race);

      expect(statuses(answers)).toEqual([201, 201, 201, ...Array<number>(9).fill(409)]);
      const won = answers.filter((answer) => answer.status === 201).map((each) => each.body.segments[0].scheduleId);
      expect(new Set(won)).toEqual(new Set(everybody.slice(0, 3).map(scheduleOf)));
      expect(await audit(...everybody)).toEqual([]);
    });
  });

  describe('materialising a day', () => {
    it('leaves one row and one booking when two do it at once', async () => {
      const day = newDay();
      const writer = await stage.session();
      await writer.run('BEGIN');
      // A third one's row of that day, not yet committed: both bookings see no row, both write one, both wait here.
      await writer.run(
        `INSERT INTO schedule_day (organization_id, schedule_id, day, covers, open) VALUES ($1, $2, $3, $4, '{}')`,
        [clinic.organizationId, scheduleOf(1), day, `[${at(day, '00:00')},${at(next(day), '00:00')})`],
      );
      const race = [book({ who: 1, at: at(day, '10:00') }), book({ who: 1, at: at(day, '10:15') })];
      await stage.waiting(2);
      await writer.run('ROLLBACK');

      expect(statuses(await Promise.all(race))).toEqual([201, 409]);
      const rows = await stage.look('SELECT open FROM schedule_day WHERE schedule_id = $1 AND day = $2', [
        scheduleOf(1),
        day,
      ]);
      expect(rows).toHaveLength(1);
      expect(await audit(1)).toEqual([]);
    });

    it('waits for hours that are being edited, and books by the new ones', async () => {
      const [edited, missing] = [newDay(), newDay()];
      expect((await setHours(2, '09:00', '17:00')).status).toBe(200);
      await materialise(2, at(edited, '10:00'));
      // The edit has locked the schedule and waits for a day that somebody holds.
      const holder = await holdDays([2], edited);
      const edit = setHours(2, '09:00', '12:00');
      await stage.waiting(1);
      const [late, early] = [book({ who: 2, at: at(missing, '16:00') }), book({ who: 2, at: at(missing, '09:00') })];
      await stage.waiting(3);
      await holder.run('COMMIT');

      expect((await edit).status).toBe(200);
      expect(await late).toMatchObject({ status: 422, body: { code: 'outside_hours' } });
      expect((await early).status).toBe(201);
      expect(await audit(2)).toEqual([]);
    });

    it('lets one of two edits of the hours through, the other is based on an old version', async () => {
      const editor = await stage.session();
      await editor.run('BEGIN');
      await editor.run('SELECT 1 FROM schedule WHERE id = $1 FOR NO KEY UPDATE', [scheduleOf(2)]);
      const race = [setHours(2, '09:00', '13:00'), setHours(2, '13:00', '17:00')];
      await stage.waiting(2);
      await editor.run('COMMIT');
      expect(statuses(await Promise.all(race))).toEqual([200, 412]);
      expect(await audit(2)).toEqual([]);
    });

    it('makes an edit of hours wait, which then tells of the booking', async () => {
      const day = newDay();
      expect((await setHours(2, '09:00', '17:00')).status).toBe(200);
      const pause = pauseBefore(app.app.get(ScheduleDayRepository, { strict: false }), 'insertClaims');
      const booking = book({ who: 2, at: at(day, '16:00') });
      await pause.reached;
      const edit = setHours(2, '09:00', '12:00');
      await stage.waiting(1);
      pause.resume();

      const booked = await booking;
      expect(booked.status).toBe(201);
      expect((await edit).body.affectedAppointments.map((each: { id: string }) => each.id)).toContain(booked.body.id);
      expect(await audit(2)).toEqual([]);
    });
  });

  describe('a zone that changes while its schedule is booked', () => {
    const away = 'America/New_York';
    const change = async (who: number, start: string, end: string, booking: () => Promise<Answer>, zone = away) => {
      const pause = pauseBefore(app.app.get(ScheduleDayRepository, { strict: false }), 'replan');
      const edit = setHours(who, start, end, zone);
      await pause.reached;
      // The schedule and its days are locked and changed, but nothing is committed: the booking plans in the old zone.
      const answer = booking();
      await stage.waiting(1);
      pause.resume();
      expect((await edit).status).toBe(200);
      return answer;
    };

    it('refuses what is closed there', async () => {
      const day = newDay();
      expect((await setHours(3, '09:00', '17:00')).status).toBe(200);
      await materialise(3, at(day, '12:00'));
      const answer = await change(3, '09:00', '17:00', () => book({ who: 3, at: at(day, '10:00') }));
      expect(answer).toMatchObject({ status: 422, body: { code: 'outside_hours' } });
      expect(await audit(3)).toEqual([]);
    });

    it('books what is open there too, on the day that it is there', async () => {
      const day = newDay();
      expect((await setHours(3, '00:00', '24:00')).status).toBe(200);
      await materialise(3, at(day, '12:00'));
      // Half past midnight in Berlin is the evening before in New York.
      const answer = await change(3, '00:00', '24:00', () => book({ who: 3, at: at(day, '00:30') }));
      expect(answer.status).toBe(201);
      const before = Temporal.PlainDate.from(day).subtract({ days: 1 }).toString();
      expect(await takenOn(3, before)).toEqual([`${hhmm(answer.body.startsAt)}-${hhmm(answer.body.endsAt)}`]);
      expect(await takenOn(3, day)).toEqual([]);
      expect(await audit(3)).toEqual([]);
    });

    it('is noticed by the locking form as well, which begins again with the days as they are now', async () => {
      const day = newDay();
      for (const who of [0, 4]) expect((await setHours(who, '00:00', '24:00')).status).toBe(200);
      for (const who of [0, 4]) await materialise(who, at(day, '12:00'));
      // The first of several who are free moves to another zone; he is still free, and still the first.
      const answer = await change(0, '00:00', '24:00', () => book({ at: at(day, '00:30') }));
      expect(answer.status).toBe(201);
      expect(answer.body.segments[0].scheduleId).toBe(scheduleOf(0));
      expect(await audit(0, 4)).toEqual([]);
    });

    it('is noticed where it moves midnight between a booking and its buffer', async () => {
      const day = newDay();
      const { body: service } = await clinic.call('POST', '/v1/services', {
        body: {
          name: 'With a buffer',
          durationMinutes: 30,
          bufferBeforeMinutes: 30,
          practitionerIds: [clinic.practitioners[4]!.id],
        },
      });
      expect((await setHours(4, '00:00', '24:00')).status).toBe(200);
      await materialise(4, at(day, '12:00'));
      // In Berlin both lie on one day; in London, an hour behind, the buffer lies on the day before.
      const startsAt = at(day, '01:15');
      const answer = await change(
        4,
        '00:00',
        '24:00',
        () =>
          clinic.call('POST', '/v1/appointments', {
            body: { serviceId: service.id, startsAt, patient: { phone: `+49151${20_000_000 + callers++}` } },
          }),
        'Europe/London',
      );
      expect(answer.status).toBe(201);
      const before = Temporal.PlainDate.from(day).subtract({ days: 1 }).toString();
      const midnight = hhmm(at(day, '00:00', 'Europe/London'));
      expect(await takenOn(4, before)).toEqual([`${hhmm(at(day, '00:45'))}-${midnight}`]);
      expect(await takenOn(4, day)).toEqual([`${midnight}-${hhmm(at(day, '01:45'))}`]);
      expect(await audit(4)).toEqual([]);
    });
  });

  describe('releasing', () => {
    it('keeps what a booking has taken while the cancellation waited for it', async () => {
      const day = newDay();
      const first = await book({ who: 5, at: at(day, '10:00') });
      // The second booking holds the day and is about to commit.
      const pause = pauseBefore(app.app.get(Idempotency, { strict: false }), 'keep');
      const second = book({ who: 5, at: at(day, '10:30'), headers: { 'Idempotency-Key': uuidv7() } });
      await pause.reached;
      const cancelled = cancel(first.body.id);
      await stage.waiting(1);
      pause.resume();

      expect([(await second).status, (await cancelled).status]).toEqual([201, 200]);
      expect(await takenOn(5, day)).toEqual([`${hhmm(at(day, '10:30'))}-${hhmm(at(day, '11:00'))}`]);
      expect(await audit(5)).toEqual([]);
    });

    it('never gives a time to two: it is taken until the cancellation has committed', async () => {
      const day = newDay();
      const first = await book({ who: 5, at: at(day, '10:00') });
      const pause = pauseBefore(app.app.get(ScheduleDayRepository, { strict: false }), 'lockAndFree');
      const cancelled = cancel(first.body.id);
      await pause.reached;
      expect(await book({ who: 5, at: at(day, '10:00') })).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
      pause.resume();
      expect((await cancelled).status).toBe(200);
      expect((await book({ who: 5, at: at(day, '10:00') })).status).toBe(201);
      expect(await audit(5)).toEqual([]);
    });

    it('lets a booking that waits on the day in on what the cancellation leaves', async () => {
      const day = newDay();
      const first = await book({ who: 5, at: at(day, '10:00') });
      const pause = pauseAfter(app.app.get(ScheduleDayRepository, { strict: false }), 'lockAndFree');
      const cancelled = cancel(first.body.id);
      await pause.reached;
      const neighbour = book({ who: 5, at: at(day, '10:30') });
      await stage.waiting(1);
      pause.resume();

      expect([(await cancelled).status, (await neighbour).status]).toEqual([200, 201]);
      expect(await takenOn(5, day)).toEqual([`${hhmm(at(day, '10:30'))}-${hhmm(at(day, '11:00'))}`]);
      expect(await audit(5)).toEqual([]);
    });

    it('recomputes what is taken, and does not subtract: a time that another claim also covers stays taken', async () => {
      const day = newDay();
      const first = await book({ who: 5, at: at(day, '10:00') });
      const [from, to] = [at(day, '10:15'), at(day, '10:45')];
      await stage.look(
        `WITH seat AS (
           INSERT INTO claim (organization_id, schedule_id, seat, starts_at, ends_at, core_starts_at, core_ends_at, holder)
           VALUES ($1, $2, 2, $4, $5, $4, $5, $6))
         UPDATE schedule_day SET taken = taken + tstzmultirange(tstzrange($4, $5)) WHERE schedule_id = $2 AND day = $3`,
        [clinic.organizationId, scheduleOf(5), day, from, to, uuidv7()],
      );
      expect(await takenOn(5, day)).toEqual([`${hhmm(at(day, '10:00'))}-${hhmm(to)}`]);
      expect((await cancel(first.body.id)).status).toBe(200);
      expect(await takenOn(5, day)).toEqual([`${hhmm(from)}-${hhmm(to)}`]);
      await stage.look('DELETE FROM claim WHERE schedule_id = $1 AND seat = 2', [scheduleOf(5)]);
      await stage.look(`UPDATE schedule_day SET taken = '{}' WHERE schedule_id = $1 AND day = $2`, [
        scheduleOf(5),
        day,
      ]);
      expect(await audit(5)).toEqual([]);
    });
  });

  describe('a hold', () => {
    /** A hold that is `seconds` from its end by the database's clock. */
    const hold = async (start: string, seconds: number): Promise<string> => {
      const { status, body } = await book({ who: 6, at: start, hold: true });
      expect([status, body.status]).toEqual([201, 'held']);
      await stage.look(
        `WITH held AS (UPDATE claim SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE holder = $1 RETURNING expires_at)
         UPDATE appointment SET expires_at = (SELECT expires_at FROM held) WHERE id = $1`,
        [body.id, seconds],
      );
      return body.id;
    };
    const statusOf = async (id: string) => (await stage.look('SELECT status FROM appointment WHERE id = $1', [id]))[0];

    it('past its time blocks nobody; its claim goes, its appointment is not touched', async () => {
      const day = newDay();
      const held = await hold(at(day, '10:00'), -1);
      const answer = await book({ who: 6, at: at(day, '10:15') });
      expect(answer.status).toBe(201);
      expect(await claimsOf(held)).toEqual([]);
      expect(await statusOf(held)).toEqual({ status: 'held' });
      expect(await takenOn(6, day)).toEqual([`${hhmm(at(day, '10:15'))}-${hhmm(at(day, '10:45'))}`]);
      expect(await audit(6)).toEqual([]);
    });

    it('past its time goes to one, when many meet it at once', async () => {
      const day = newDay();
      const held = await hold(at(day, '10:00'), -1);
      const holder = await holdDays([6], day);
      const race = [1, 2, 3, 4].map(() => book({ who: 6, at: at(day, '10:00') }));
      await stage.waiting(4);
      await holder.run('COMMIT');
      expect(statuses(await Promise.all(race))).toEqual([201, 409, 409, 409]);
      expect(await claimsOf(held)).toEqual([]);
      expect(await audit(6)).toEqual([]);
    });

    it('is judged once more under the lock: one that was confirmed meanwhile stays', async () => {
      const day = newDay();
      const held = await hold(at(day, '10:00'), -1);
      const confirm = await holdDays([6], day);
      const booking = book({ who: 6, at: at(day, '10:00') });
      await stage.waiting(1);
      await confirm.run('UPDATE claim SET expires_at = NULL WHERE holder = $1', [held]);
      await confirm.run(
        `WITH line AS (INSERT INTO appointment_history (organization_id, appointment_id, version, action, from_status, to_status, actor, channel)
                       SELECT organization_id, id, 2, 'confirm', 'held', 'confirmed', 'test', 'api' FROM appointment WHERE id = $1)
         UPDATE appointment SET status = 'confirmed', version = 2, expires_at = NULL WHERE id = $1`,
        [held],
      );
      await confirm.run('COMMIT');

      expect(await booking).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
      expect(await claimsOf(held)).toHaveLength(1);
      expect(await audit(6)).toEqual([]);
    });

    it("is over by the database's clock, not by the process's", async () => {
      const day = newDay();
      const clock = app.app.get(Clock, { strict: false });
      const now = Date.now();
      await hold(at(day, '10:00'), 1800);
      const fast = jest.spyOn(clock, 'now').mockReturnValue(now + 3_600_000);
      expect(await book({ who: 6, at: at(day, '10:00') })).toMatchObject({ status: 409, body: { code: 'slot_taken' } });

      await hold(at(day, '14:00'), -1);
      fast.mockReturnValue(now - 3_600_000);
      expect((await book({ who: 6, at: at(day, '14:00') })).status).toBe(201);
    });
  });

  describe('whose day row lies', () => {
    const lie = (day: string) =>
      stage.look(`UPDATE schedule_day SET taken = '{}' WHERE schedule_id = $1 AND day = $2`, [scheduleOf(7), day]);
    const everything = () =>
      stage.look(
        `SELECT (SELECT count(*) FROM appointment) AS appointments, (SELECT count(*) FROM claim) AS claims,
                (SELECT count(*) FROM appointment_segment) AS segments, (SELECT count(*) FROM appointment_history) AS lines,
                (SELECT count(*) FROM outbox_event) AS events, (SELECT count(*) FROM patient) AS patients,
                (SELECT count(*) FROM idempotency_key) AS keys, (SELECT sum(version) FROM schedule_day) AS versions`,
      );

    it.each([
      ['the same start', '10:00'],
      ['an overlap', '10:15'],
    ])('still books nothing twice: the constraint has the last word (%s)', async (_, time) => {
      const day = newDay();
      const first = await book({ who: 7, at: at(day, '10:00') });
      expect(first.status).toBe(201);
      await lie(day);
      const [before, caught] = [await everything(), await metric('exclusion_constraint')];

      const answer = await book({ who: 7, at: at(day, time), headers: { 'Idempotency-Key': uuidv7() } });
      expect(answer).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
      expect(await everything()).toEqual(before);
      expect(await metric('exclusion_constraint')).toBe(caught + 1);
      expect(await audit(7)).toEqual([
        expect.objectContaining({ check: 'day_row_taken', subject: `${scheduleOf(7)}/${day}` }),
      ]);

      // A cancellation recomputes the row, and with it the truth.
      expect((await cancel(first.body.id)).status).toBe(200);
      expect(await audit(7)).toEqual([]);
    });

    it('in the locking form as well', async () => {
      const day = newDay();
      for (const who of [6, 7]) await materialise(who, at(day, '15:00'));
      const first = await book({ who: 7, at: at(day, '10:00') });
      await lie(day);
      // Nobody else is free, so the liar's row decides.
      for (const who of [0, 1, 2, 3, 4, 5, 6]) await book({ who, at: at(day, '10:00') });
      const before = await everything();
      expect(await book({ at: at(day, '10:00') })).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
      expect(await everything()).toEqual(before);
      expect((await cancel(first.body.id)).status).toBe(200);
    });
  });
});

/** Each of the auditor's checks, seen red. */
describe('the auditor', () => {
  let app: TestApp;
  let stage: Stage;
  let appointmentId: string;
  beforeAll(async () => {
    app = await startApp();
    const clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
    const booked = await clinic.call('POST', '/v1/appointments', {
      body: {
        serviceId: clinic.services[0]!.id,
        practitionerId: clinic.practitioners[0]!.id,
        startsAt: `${workday()}T10:00:00Z`,
        patient: { phone: '+4915123456789' },
      },
    });
    appointmentId = booked.body.id;
  });
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  const checks = async () => (await auditLedger(app.databaseUrl)).map((finding) => finding.check);
  const anotherClaim = (from: string, to: string, holder: string) =>
    `INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder)
     SELECT organization_id, schedule_id, ${from}, ${to}, ${from}, ${to}, ${holder} FROM claim WHERE holder = '%'`;

  it.each([
    ['open', `UPDATE schedule_day SET open = '{}'`, ['day_row_open']],
    ['covers', `UPDATE schedule_day SET covers = tstzrange(lower(covers), upper(covers) + interval '1 hour')`, ['day_row_covers']], // prettier-ignore
    ['taken, emptied', `UPDATE schedule_day SET taken = '{}'`, ['day_row_taken']],
    ['taken, with more than there is', `UPDATE schedule_day SET taken = taken + tstzmultirange(covers)`, ['day_row_taken']], // prettier-ignore
    ['grid', `UPDATE schedule_day SET grid = '[]'`, ['day_row_grid']],
    ['an orphan claim', anotherClaim(`ends_at`, `ends_at + interval '1 hour'`, 'gen_random_uuid()'), ['day_row_taken', 'claim_without_appointment']], // prettier-ignore
    ['a claim of a cancelled appointment', `UPDATE appointment SET status = 'cancelled' WHERE id = '%'`, ['claim_without_appointment', 'history']], // prettier-ignore
    ['a missing claim', `DELETE FROM claim WHERE holder = '%'`, ['day_row_taken', 'appointment_without_claim']],
    ['a claim elsewhere', `UPDATE claim SET starts_at = starts_at - interval '1 hour', ends_at = starts_at, core_starts_at = starts_at - interval '1 hour', core_ends_at = starts_at`, ['day_row_taken', 'appointment_without_claim']], // prettier-ignore
    ['a missing constraint', 'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap', ['constraint']],
    ['overlapping claims', `ALTER TABLE claim DROP CONSTRAINT claim_no_overlap; ${anotherClaim(`starts_at + interval '15 minutes'`, 'ends_at', 'holder')}`, ['constraint', 'overlapping_claims']], // prettier-ignore
    ['a claim that ends at another time', `UPDATE claim SET expires_at = now() + interval '1 hour' WHERE holder = '%'`, ['expiry']], // prettier-ignore
    [
      'a history that is gone before its time',
      `DELETE FROM appointment_history WHERE appointment_id = '%'`,
      ['history'],
    ],
    ['a history that is gone in part', `UPDATE appointment SET version = 2, updated_at = '2001-01-01' WHERE id = '%'; UPDATE appointment_history SET version = 2 WHERE appointment_id = '%'`, ['history']], // prettier-ignore
    ['no history that was pruned whole, long after', `UPDATE appointment SET updated_at = '2001-01-01' WHERE id = '%'; DELETE FROM appointment_history WHERE appointment_id = '%'`, []], // prettier-ignore
    ['a version without its line', `UPDATE appointment SET version = version + 1 WHERE id = '%'`, ['history']],
    ['a status without its line', `UPDATE appointment SET status = 'checked_in' WHERE id = '%'`, ['history']],
  ])('reports %s', async (_, offence, findings) => {
    expect(await checks()).toEqual([]);
    const repair = await snapshot();
    try {
      await stage.look(offence.replaceAll('%', appointmentId));
      expect(await checks()).toEqual(findings);
    } finally {
      await repair();
    }
    expect(await checks()).toEqual([]);
  });

  /** The rows as they are now, to be put back. */
  async function snapshot(): Promise<() => Promise<void>> {
    const tables = ['schedule_day', 'claim', 'appointment', 'appointment_segment', 'appointment_history'];
    const rows = await Promise.all(tables.map((table) => stage.look(`SELECT to_jsonb(t) AS row FROM ${table} t`)));
    const columns = await Promise.all(
      tables.map(async (table) => {
        const names = await stage.look<{ name: string }>(
          `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND attgenerated = ''`,
          [table],
        );
        return names.map((each) => each.name).join(', ');
      }),
    );
    return async () => {
      await stage.look(`TRUNCATE ${tables.join(', ')}`);
      await stage.look(
        `ALTER TABLE claim DROP CONSTRAINT IF EXISTS claim_no_overlap;
         ALTER TABLE claim ADD CONSTRAINT claim_no_overlap EXCLUDE USING gist (schedule_id WITH =, seat WITH =, during WITH &&)`,
      );
      for (const [index, table] of tables.entries()) {
        await stage.look(
          `INSERT INTO ${table} (${columns[index]})
           SELECT ${columns[index]} FROM jsonb_populate_recordset(NULL::${table}, $1)`,
          [JSON.stringify(rows[index]!.map((each) => each.row))],
        );
      }
    };
  }
});
