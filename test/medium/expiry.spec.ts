import { Temporal } from 'temporal-polyfill';
import { AppointmentRepository, ExpiryService } from '../../src/appointments';
import { Ledger, ScheduleDayRepository } from '../../src/availability';
import { auditLedger } from '../../src/operations';
import { Clock, Idempotency, LIMITS } from '../../src/platform';
import { ALWAYS, maker } from '../support/api';
import { addOrganization, type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { endIn, standingBackend } from '../support/life';
import { pauseAfter, pauseBefore, type Session, Stage, until } from '../support/sessions';

/**
 * The end of holds and requests: whoever meets one that is over takes its time, and the sweeper writes down that it was.
 * Who comes first is stepped by hand.
 */
describe('expiry', () => {
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
    const { setHours } = maker(clinic.call);
    for (const { scheduleId } of clinic.practitioners) await setHours(scheduleId, ALWAYS);
  });
  beforeEach(async () => {
    // What another test has left overdue would be counted here.
    await sweep();
  });
  afterEach(async () => {
    for (const session of open.splice(0)) await session.close();
    jest.restoreAllMocks();
    expect(await auditLedger(app.databaseUrl)).toEqual([]);
  });
  // What a test that failed has left open would keep the next ones waiting.
  const open: Session[] = [];
  const newSession = async () => {
    const session = await stage.session();
    open.push(session);
    return session;
  };
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  // Every test has days of its own.
  let days = 3;
  const newDay = () => {
    const day = workday((days += 1));
    days = Math.round((Date.parse(day) - Date.parse(workday(0))) / 86_400_000) + 1;
    return day;
  };
  const next = (day: string) => Temporal.PlainDate.from(day).add({ days: 1 }).toString();
  const at = (day: string, time: string) =>
    Temporal.PlainDateTime.from(`${day}T${time}`).toZonedDateTime(clinic.timeZone).toInstant().toString();

  let callers = 0;
  interface Wish {
    who?: number;
    at: string;
    service?: 'consultation' | 'follow-up' | 'approval';
    hold?: boolean | { seconds: number };
    key?: string;
  }
  const book = (wish: Wish): Promise<Answer> =>
    clinic.call('POST', '/v1/appointments', {
      headers: wish.key === undefined ? {} : { 'Idempotency-Key': wish.key },
      body: {
        serviceId: clinic.services.find((each) => each.key === (wish.service ?? 'consultation'))!.id,
        startsAt: wish.at,
        hold: wish.hold ?? false,
        ...(wish.who === undefined ? {} : { practitionerId: clinic.practitioners[wish.who]!.id }),
        patient: { phone: `+49151${50_000_000 + callers++}` },
      },
    });
  const made = async (wish: Wish): Promise<string> => {
    const { status, body } = await book(wish);
    expect([status, body.code]).toEqual([201, undefined]);
    return body.id;
  };
  const held = (who: number, start: string) => made({ who, at: start, hold: true });
  const act = (id: string, action: string, body: object = {}) =>
    clinic.call('POST', `/v1/appointments/${id}/${action}`, { body });
  const get = async (id: string) => (await clinic.call('GET', `/v1/appointments/${id}`)).body;
  const sweep = () => app.app.get(ExpiryService, { strict: false }).sweep();
  const scheduleOf = (who: number) => clinic.practitioners[who]!.scheduleId;

  const rowsOf = (id: string) =>
    stage.look(
      `SELECT to_jsonb(a) AS appointment, (SELECT jsonb_agg(c) FROM claim c WHERE c.holder = a.id) AS claims,
              (SELECT jsonb_agg(h ORDER BY h.version) FROM appointment_history h WHERE h.appointment_id = a.id) AS history,
              (SELECT jsonb_agg(e ORDER BY e.version) FROM outbox_event e WHERE e.subject_id = a.id) AS events
       FROM appointment a WHERE a.id = $1`,
      [id],
    );
  const stored = async (id: string) => {
    const [row] = await stage.look<{ status: string; version: number }>(
      'SELECT status, version FROM appointment WHERE id = $1',
      [id],
    );
    return [row!.status, row!.version];
  };
  const actionsOf = async (id: string) => {
    const lines = await stage.look<{ action: string }>(
      'SELECT action FROM appointment_history WHERE appointment_id = $1 ORDER BY version',
      [id],
    );
    return lines.map((line) => line.action);
  };
  const claimsOf = async (id: string) =>
    (await stage.look('SELECT expires_at FROM claim WHERE holder = $1', [id])).length;
  /** What is taken, in the clinic's local time. */
  const takenOn = async (who: number, day: string): Promise<string[]> => {
    const rows = await stage.look<{ text: string }>(
      `SELECT to_char(lower(r) AT TIME ZONE $3, 'HH24:MI') || '-' || to_char(upper(r) AT TIME ZONE $3, 'HH24:MI') AS text
       FROM schedule_day, unnest(taken) AS r WHERE schedule_id = $1 AND day = $2 ORDER BY r`,
      [scheduleOf(who), day, clinic.timeZone],
    );
    return rows.map((row) => row.text);
  };
  /** A session that holds day rows, so that whoever wants them has to queue up. */
  const holdDays = async (who: number, ...on: string[]) => {
    const session = await newSession();
    await session.run('BEGIN');
    const rows = await session.run(
      'SELECT 1 FROM schedule_day WHERE schedule_id = $1 AND day = ANY($2::date[]) ORDER BY day FOR NO KEY UPDATE',
      [scheduleOf(who), on],
    );
    expect(rows).toHaveLength(on.length);
    return session;
  };
  /** Nobody gives up waiting for a lock, and so nobody loses his place in the queue, however slow the machine. */
  const waitPatiently = () => {
    jest.replaceProperty(LIMITS, 'lockTimeout', 30_000);
    jest.replaceProperty(LIMITS, 'statementTimeout', 30_000);
    jest.replaceProperty(LIMITS, 'budget', 60_000);
  };
  const isOver = (id: string) =>
    until(`the time of ${id} is over`, async () => {
      const [row] = await stage.look<{ over: boolean }>(
        'SELECT expires_at <= clock_timestamp() AS over FROM appointment WHERE id = $1',
        [id],
      );
      return row!.over;
    });

  describe('the sweeper', () => {
    it('writes down what is over, with its line of history and its event, and frees the time', async () => {
      const day = newDay();
      const hold = await held(0, at(day, '10:00'));
      const request = await made({ who: 0, at: at(day, '11:00'), service: 'approval' });
      const living = [
        await held(0, at(day, '12:00')),
        await made({ who: 0, at: at(day, '13:00'), service: 'approval' }),
        await made({ who: 0, at: at(day, '14:00') }),
      ];
      const confirmed = await held(0, at(day, '15:00'));
      expect((await act(confirmed, 'confirm')).status).toBe(200);
      const before = await Promise.all([...living, confirmed].map(rowsOf));
      await endIn(stage, -1, hold, request);
      const { organizationId } = clinic;

      expect(await sweep()).toBe(2);
      for (const [id, from] of [
        [hold, 'held'],
        [request, 'pending'],
      ] as const) {
        const [{ appointment, claims, history, events }] = (await rowsOf(id)) as [Record<string, any>]; // eslint-disable-line @typescript-eslint/no-explicit-any -- rows as they come
        expect(appointment).toMatchObject({ status: 'expired', version: 2 });
        expect(claims).toBeNull();
        expect(history).toHaveLength(2);
        expect(history[1]).toEqual({
          organization_id: organizationId,
          appointment_id: id,
          version: 2,
          action: 'expire',
          from_status: from,
          to_status: 'expired',
          actor: 'system',
          channel: 'system',
          reason: null,
          details: {},
          at: appointment.updated_at,
        });
        expect(events.map((event: { type: string; version: number }) => [event.type, event.version])).toEqual([
          [`appointment.${from}`, 1],
          ['appointment.expired', 2],
        ]);
        expect(await get(id)).toMatchObject({ status: 'expired', version: 2 });
      }
      expect(await Promise.all([...living, confirmed].map(rowsOf))).toEqual(before);
      expect(await takenOn(0, day)).toEqual(['12:00-12:30', '13:00-13:30', '14:00-14:30', '15:00-15:30']);
      expect(await sweep()).toBe(0);
    });

    it('leaves out what somebody has locked, and takes it the next time', async () => {
      const day = newDay();
      const [locked, other] = [await held(0, at(day, '10:00')), await held(0, at(day, '11:00'))];
      await endIn(stage, -1, locked, other);
      const session = await newSession();
      await session.run('BEGIN');
      await session.run('SELECT 1 FROM appointment WHERE id = $1 FOR NO KEY UPDATE', [locked]);

      expect(await sweep()).toBe(1);
      expect([await stored(locked), await stored(other)]).toEqual([
        ['held', 1],
        ['expired', 2],
      ]);
      await session.run('COMMIT');
      expect(await sweep()).toBe(1);
      expect(await stored(locked)).toEqual(['expired', 2]);
    });

    it('expires each once when two of them run at once', async () => {
      const day = newDay();
      const ids: string[] = [];
      for (const hour of [9, 10, 11, 12]) ids.push(await held(1, at(day, `${String(hour).padStart(2, '0')}:00`)));
      await endIn(stage, -1, ...ids);
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'release');
      const first = sweep();
      await pause.reached;
      const late = await held(1, at(day, '14:00'));
      await endIn(stage, -1, late);
      // The second finds what the first has not locked, and does not wait for it.
      expect(await sweep()).toBe(1);
      pause.resume();
      expect(await first).toBe(4);
      for (const id of [...ids, late]) expect(await actionsOf(id)).toEqual(['book', 'expire']);
    });

    it('serves all organizations, and those beside one whose day is locked', async () => {
      const others = [await addOrganization(app, 'Second'), await addOrganization(app, 'Third')];
      const holds: string[] = [];
      for (const { apiKey } of others) {
        const clinicOf = maker(app.as(apiKey));
        const practitioner = await clinicOf.practitioner();
        const service = await clinicOf.service([practitioner.id]);
        const answer = await clinicOf.book({ serviceId: service.id, startsAt: at(newDay(), '10:00'), hold: true });
        expect(answer.status).toBe(201);
        holds.push(answer.body.id);
      }
      const day = newDay();
      const waiting = await held(2, at(day, '10:00'));
      await endIn(stage, -1, waiting, ...holds);
      const before = await rowsOf(waiting);
      const session = await holdDays(2, day);
      jest.replaceProperty(LIMITS, 'lockTimeout', 200);
      jest.replaceProperty(LIMITS, 'budget', 1_000);

      // It waits for a while, and gives up without failing.
      expect(await sweep()).toBe(2);
      for (const id of holds) expect(await stored(id)).toEqual(['expired', 2]);
      expect(await rowsOf(waiting)).toEqual(before);
      await session.run('COMMIT');
      expect(await sweep()).toBe(1);
      expect(await stored(waiting)).toEqual(['expired', 2]);
    });

    it('leaves nothing half done when its backend dies', async () => {
      const day = newDay();
      const ids = [await held(3, at(day, '10:00')), await held(3, at(day, '11:00'))];
      await endIn(stage, -1, ...ids);
      const before = await Promise.all(ids.map(rowsOf));
      // The claims are deleted, the day is recomputed, the appointments are not written.
      const pause = pauseAfter(app.app.get(ScheduleDayRepository, { strict: false }), 'lockAndFree');
      const killed = sweep();
      await pause.reached;
      await stage.look('SELECT pg_terminate_backend($1, 10000)', [await standingBackend(stage)]);
      pause.resume();
      expect(await killed).toBe(0);
      expect(await Promise.all(ids.map(rowsOf))).toEqual(before);
      expect(await auditLedger(app.databaseUrl)).toEqual([]);
      expect(await sweep()).toBe(2);
    });

    it('writes down a hold whose claim a booking has removed', async () => {
      const day = newDay();
      const hold = await held(3, at(day, '10:00'));
      await endIn(stage, -1, hold);
      const booking = await made({ who: 3, at: at(day, '10:15') });
      expect(await stored(hold)).toEqual(['held', 1]);
      expect(await claimsOf(hold)).toBe(0);
      expect((await get(hold)).status).toBe('expired');
      expect(await auditLedger(app.databaseUrl)).toEqual([]);

      expect(await sweep()).toBe(1);
      expect(await stored(hold)).toEqual(['expired', 2]);
      expect(await claimsOf(booking)).toBe(1);
      expect(await takenOn(3, day)).toEqual(['10:15-10:45']);
    });

    it('sweeps a thousand in batches, on days without a row too', async () => {
      const [first] = [newDay(), newDay(), newDay(), newDay(), newDay(), newDay()];
      const template = await held(4, at(first, '09:00'));
      await endIn(stage, -60, template);
      // Seven schedules, five days, thirty-two quarters of an hour; the booking that they are like is one of them.
      await stage.look(
        `WITH made AS (
           SELECT gen_random_uuid() AS id, s.id AS schedule_id, p.id AS practitioner_id,
                  t.starts_at + d * interval '1 day' + k * interval '15 minutes' AS starts_at
           FROM appointment t, unnest($2::uuid[]) AS s (id) JOIN practitioner p ON p.schedule_id = s.id,
                generate_series(0, 4) AS d, generate_series(0, 31) AS k WHERE t.id = $1 LIMIT 999
         ), appointments AS (
           INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, expires_at, mode)
           SELECT t.organization_id, m.id, 'held', t.service_id, t.patient_id, m.starts_at, m.starts_at + interval '15 minutes',
                  t.expires_at, t.mode FROM made m, appointment t WHERE t.id = $1
         ), segments AS (
           INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at,
                                            appointment_starts_at)
           SELECT t.organization_id, m.id, 0, m.schedule_id, m.practitioner_id, m.starts_at, m.starts_at + interval '15 minutes', m.starts_at
           FROM made m, appointment t WHERE t.id = $1
         ), lines AS (
           INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
           SELECT t.organization_id, m.id, 1, 'book', 'held', 'test', 'api' FROM made m, appointment t WHERE t.id = $1
         )
         INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
         SELECT t.organization_id, m.schedule_id, m.starts_at, m.starts_at + interval '15 minutes', m.starts_at,
                m.starts_at + interval '15 minutes', m.id, t.expires_at FROM made m, appointment t WHERE t.id = $1`,
        [template, [0, 1, 2, 3, 5, 6, 7].map(scheduleOf)],
      );
      const batches = jest.spyOn(app.app.get(AppointmentRepository, { strict: false }), 'lockOverdue');
      // Two at once, as two workers would.
      const counts = await Promise.all([sweep(), sweep()]);
      expect(counts[0] + counts[1] + (await sweep())).toBe(1000);
      expect(batches.mock.calls.length).toBeGreaterThan(5);
      const left = await stage.look(
        `SELECT status, count(*)::int FROM appointment WHERE starts_at >= $1::timestamptz AND starts_at < $1::timestamptz + interval '5 days'
         GROUP BY status`,
        [at(first, '00:00')],
      );
      expect(left).toEqual([{ status: 'expired', count: 1000 }]);
      const [{ lines }] = (await stage.look(
        `SELECT count(*)::int AS lines FROM appointment_history h JOIN appointment a ON a.id = h.appointment_id
         WHERE h.action = 'expire' AND a.starts_at >= $1::timestamptz AND a.starts_at < $1::timestamptz + interval '5 days'`,
        [at(first, '00:00')],
      )) as [{ lines: number }];
      expect(lines).toBe(1000);
    });
  });

  describe('a sweep that stands still, the appointment locked and its days not yet', () => {
    const during = async <T>(id: string, work: () => Promise<T>): Promise<T> => {
      await endIn(stage, -1, id);
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'release');
      const swept = sweep();
      await pause.reached;
      const working = work();
      await stage.waiting(1);
      pause.resume();
      expect(await swept).toBe(1);
      return working;
    };

    it('lets a confirm of the hold wait, which then takes its time again', async () => {
      const day = newDay();
      const hold = await held(5, at(day, '10:00'));
      const answer = await during(hold, () => act(hold, 'confirm'));
      expect(answer).toMatchObject({ status: 200, body: { status: 'confirmed', version: 3 } });
      expect(await actionsOf(hold)).toEqual(['book', 'expire', 'confirm']);
      expect(await takenOn(5, day)).toEqual(['10:00-10:30']);
    });

    it.each(['confirm', 'cancel', 'reschedule'])('refuses to %s a request that it expires', async (action) => {
      const day = newDay();
      const request = await made({ who: 5, at: at(day, '10:00'), service: 'approval' });
      const answer = await during(request, () => act(request, action, action === 'reschedule' ? { startsAt: at(day, '12:00') } : {})); // prettier-ignore
      expect(answer).toMatchObject({ status: 409, body: { code: 'invalid_transition', currentStatus: 'expired' } });
      expect(await actionsOf(request)).toEqual(['book', 'expire']);
      expect(await takenOn(5, day)).toEqual([]);
    });

    it.each(['cancel', 'reschedule'])('refuses to %s a hold that it expires', async (action) => {
      const day = newDay();
      const hold = await held(5, at(day, '10:00'));
      const answer = await during(hold, () => act(hold, action, action === 'reschedule' ? { startsAt: at(day, '12:00') } : {})); // prettier-ignore
      expect(answer).toMatchObject({ status: 409, body: { code: 'invalid_transition', currentStatus: 'expired' } });
      expect(await actionsOf(hold)).toEqual(['book', 'expire']);
      expect(await takenOn(5, day)).toEqual([]);
    });
  });

  // Before the days are looked up, between that and their lock, and under it, when a booking has to wait.
  it.each([
    ['before', 'claimsOf', 0],
    ['before', 'lockAndFree', 0],
    ['after', 'lockAndFree', 1],
  ] as const)('a sweep that stands still %s %s gives the time to a booking', async (when, method, waiters) => {
    const day = newDay();
    const hold = await held(6, at(day, '10:00'));
    await endIn(stage, -1, hold);
    const days = app.app.get(ScheduleDayRepository, { strict: false });
    const pause = when === 'before' ? pauseBefore(days, method) : pauseAfter(days, method);
    const swept = sweep();
    await pause.reached;
    const booking = book({ who: 6, at: at(day, '10:00') });
    if (waiters === 0) expect((await booking).status).toBe(201);
    else await stage.waiting(waiters);
    pause.resume();
    expect(await swept).toBe(1);
    const { status, body } = await booking;
    expect(status).toBe(201);
    expect([await stored(hold), await claimsOf(hold), await claimsOf(body.id)]).toEqual([['expired', 2], 0, 1]);
    expect(await takenOn(6, day)).toEqual(['10:00-10:30']);
  });

  describe('an action under way', () => {
    it.each([
      ['confirm', {}, 'confirmed', ['book', 'confirm']],
      ['cancel', {}, 'cancelled', ['book', 'cancel']],
      ['reschedule', { startsAt: '12:00' }, 'held', ['book', 'reschedule']],
    ])('is not disturbed by the sweep: %s', async (action, body, status, actions) => {
      const day = newDay();
      const hold = await held(7, at(day, '10:00'));
      waitPatiently();
      const session = await holdDays(7, day);
      await endIn(stage, 1, hold);
      const acting = act(hold, action, 'startsAt' in body ? { startsAt: at(day, '12:00') } : {});
      await stage.waiting(1);
      await isOver(hold);
      expect(await sweep()).toBe(0);
      await session.run('COMMIT');
      const answer = await acting;
      // On a slow machine the action may have begun when the hold was over already.
      if (answer.status === 200) expect((await rowsOf(hold))[0]).toMatchObject({ appointment: { status } });
      else
        expect(answer).toMatchObject({ status: 409, body: { code: 'invalid_transition', currentStatus: 'expired' } });
      const done = (await actionsOf(hold)).filter((each) => each !== 'expire');
      expect(done).toEqual(answer.status === 200 ? actions : ['book']);
      await sweep();
    });
  });

  describe('a hold that ends while somebody waits for its day', () => {
    it('gives its time to a booking that waited with the guarded statement, and looks again', async () => {
      const day = newDay();
      await made({ who: 0, at: at(day, '15:00') });
      // The hold has the day and is about to commit; the booking has read that the time is free.
      const store = pauseBefore(app.app.get(Idempotency, { strict: false }), 'keep');
      const holding = book({ who: 0, at: at(day, '10:15'), hold: true, key: 'a hold that is over soon' });
      await store.reached;
      const booking = book({ who: 0, at: at(day, '10:00') });
      await stage.waiting(1);
      const lookAgain = pauseBefore(app.app.get(ScheduleDayRepository, { strict: false }), 'readAt');
      store.resume();
      const hold = (await holding).body.id;
      await lookAgain.reached;
      await endIn(stage, -1, hold);
      lookAgain.resume();

      expect((await booking).status).toBe(201);
      expect([await stored(hold), await claimsOf(hold)]).toEqual([['held', 1], 0]);
      expect(await takenOn(0, day)).toEqual(['10:00-10:30', '15:00-15:30']);
    });

    it('gives its time to a booking that waits in the locking form', async () => {
      const day = newDay();
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'claim');
      const booking = book({ who: 0, at: at(day, '10:00') });
      await pause.reached;
      const hold = await held(0, at(day, '10:15'));
      const session = await holdDays(0, day);
      const tries = jest.spyOn(app.app.get(Ledger, { strict: false }), 'claim');
      pause.resume();
      await stage.waiting(1);
      await endIn(stage, -1, hold);
      await session.run('COMMIT');

      expect((await booking).status).toBe(201);
      expect(tries).not.toHaveBeenCalled();
      expect([await stored(hold), await claimsOf(hold)]).toEqual([['held', 1], 0]);
      expect(await takenOn(0, day)).toEqual(['10:00-10:30']);
    });

    it('is kept by a confirm that waits, when nobody else wants it', async () => {
      const day = newDay();
      const hold = await held(0, at(day, '10:00'));
      waitPatiently();
      const session = await holdDays(0, day);
      await endIn(stage, 1, hold);
      const confirmed = act(hold, 'confirm');
      await stage.waiting(1);
      await isOver(hold);
      await session.run('COMMIT');

      expect(await confirmed).toMatchObject({ status: 200, body: { status: 'confirmed', holdExpiresAt: null } });
      expect(await takenOn(0, day)).toEqual(['10:00-10:30']);
      expect(await stage.look('SELECT expires_at FROM claim WHERE holder = $1', [hold])).toEqual([
        { expires_at: null },
      ]);
    });

    it('is lost to a booking that stood before the confirm', async () => {
      const day = newDay();
      // The booking is to lock the day in whichever form; it read it before the hold was made.
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'claim');
      const booking = book({ who: 0, at: at(day, '10:15') });
      await pause.reached;
      const hold = await held(0, at(day, '10:00'));
      waitPatiently();
      const session = await holdDays(0, day);
      await endIn(stage, 1, hold);
      pause.resume();
      await stage.waiting(1);
      const confirmed = act(hold, 'confirm');
      await stage.waiting(2);
      await isOver(hold);
      await session.run('COMMIT');

      expect((await booking).status).toBe(201);
      expect(await confirmed).toMatchObject({ status: 410, body: { code: 'hold_expired' } });
      expect([await stored(hold), await claimsOf(hold)]).toEqual([['held', 1], 0]);
      expect(await takenOn(0, day)).toEqual(['10:15-10:45']);
    });
  });

  describe('a hold over midnight that is over', () => {
    const overMidnight = async () => {
      const day = newDay();
      // The day after belongs to this test as well. Both have their row.
      newDay();
      await made({ who: 2, at: at(day, '12:00') });
      await made({ who: 2, at: at(next(day), '12:00') });
      const hold = await held(2, at(day, '23:45'));
      expect([await takenOn(2, day), await takenOn(2, next(day))]).toEqual([
        ['12:00-12:30', '23:45-00:00'],
        ['00:00-00:15', '12:00-12:30'],
      ]);
      await endIn(stage, -1, hold);
      return { day, hold };
    };

    it.each([
      ['first', '23:45', [['12:00-12:30', '23:45-00:00'], ['12:00-12:30']]],
      ['second', '00:00', [['12:00-12:30'], ['00:00-00:15', '12:00-12:30']]],
    ])('leaves no trace on either day when a booking meets it on the %s', async (which: string, time, taken) => {
      const { day, hold } = await overMidnight();
      const [own, other] = which === 'first' ? [day, next(day)] : [next(day), day];
      // The other day has to be recomputed too, so its lock is waited for.
      const session = await holdDays(2, other);
      const booking = book({ who: 2, at: at(own, time), service: 'follow-up' });
      await stage.waiting(1);
      await session.run('COMMIT');
      expect((await booking).status).toBe(201);
      expect(await claimsOf(hold)).toBe(0);
      expect([await takenOn(2, day), await takenOn(2, next(day))]).toEqual(taken);
    });

    it('gives each of its days to another, when two want them at once', async () => {
      const { day, hold } = await overMidnight();
      const session = await holdDays(2, day);
      const race = [
        book({ who: 2, at: at(day, '23:45'), service: 'follow-up' }),
        book({ who: 2, at: at(next(day), '00:00'), service: 'follow-up' }),
      ];
      await stage.waiting(2);
      await session.run('COMMIT');
      expect((await Promise.all(race)).map((answer) => answer.status)).toEqual([201, 201]);
      expect(await claimsOf(hold)).toBe(0);
      expect([await takenOn(2, day), await takenOn(2, next(day))]).toEqual([
        ['12:00-12:30', '23:45-00:00'],
        ['00:00-00:15', '12:00-12:30'],
      ]);
    });

    it('is swept from both days', async () => {
      const { day } = await overMidnight();
      expect(await sweep()).toBe(1);
      expect([await takenOn(2, day), await takenOn(2, next(day))]).toEqual([['12:00-12:30'], ['12:00-12:30']]);
    });

    it('is taken again on both days by a late confirm', async () => {
      const { day, hold } = await overMidnight();
      await sweep();
      expect((await act(hold, 'confirm')).status).toBe(200);
      expect([await takenOn(2, day), await takenOn(2, next(day))]).toEqual([
        ['12:00-12:30', '23:45-00:00'],
        ['00:00-00:15', '12:00-12:30'],
      ]);
    });
  });

  it.each([
    ['an hour fast', 3_600_000],
    ['an hour slow', -3_600_000],
  ])("is the database's to tell, where the process is %s", async (_, off) => {
    const day = newDay();
    jest.spyOn(app.app.get(Clock, { strict: false }), 'now').mockImplementation(() => Date.now() + off);
    const clock = async () => (await stage.look<{ now: Date }>('SELECT clock_timestamp() AS now'))[0]!.now.getTime();
    const before = await clock();
    const answer = await book({ who: 1, at: at(day, '10:00'), hold: { seconds: 600 } });
    const booked = Date.parse(answer.body.holdExpiresAt) - 600_000;
    expect([before <= booked, booked <= (await clock())]).toEqual([true, true]);
    const living = answer.body.id;
    const [over, taken, free] = [await held(1, at(day, '11:00')), await held(1, at(day, '12:00')), await held(1, at(day, '13:00'))]; // prettier-ignore
    await endIn(stage, -1, over, taken, free);

    const list = async (status: string) => {
      const query = `practitionerId=${clinic.practitioners[1]!.id}&from=${at(day, '00:00')}&to=${at(next(day), '00:00')}`;
      const { body } = await clinic.call('GET', `/v1/appointments?${query}&status=${status}`);
      return body.data.map((each: { id: string }) => each.id);
    };
    expect(await list('held')).toEqual([living]);
    expect(await list('expired')).toEqual([over, taken, free]);
    expect([(await get(living)).status, (await get(over)).status]).toEqual(['held', 'expired']);
    expect(await book({ who: 1, at: at(day, '10:00') })).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect((await book({ who: 1, at: at(day, '12:00') })).status).toBe(201);
    expect((await act(taken, 'confirm')).status).toBe(410);
    expect((await act(free, 'confirm')).status).toBe(200);
    expect(await sweep()).toBe(2);
    expect([await stored(living), await stored(over), await stored(taken)]).toEqual([
      ['held', 1],
      ['expired', 2],
      ['expired', 2],
    ]);
    expect((await act(living, 'confirm')).status).toBe(200);
  });
});
