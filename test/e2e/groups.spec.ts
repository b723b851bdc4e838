import { ExpiryService } from '../../src/appointments';
import { audit } from '../../src/operations';
import { Database } from '../../src/platform';
import {
  after,
  ALWAYS,
  contentsOf,
  inDays,
  lapse,
  maker,
  newPhone,
  openSql,
  problem,
  problemOf,
  type Sql,
} from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('services for several patients at once', () => {
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
  afterEach(async () => {
    expect(await audit(app.app.get(Database, { strict: false }))).toEqual([]);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const START = inDays(10, '08:00');
  const at = (minutes: number) => after(START, minutes);
  const made = (answer: Answer) => {
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const statusOf = async (id: string) => (await call('GET', `/v1/appointments/${id}`)).body.status;

  async function group(fields: object = {}) {
    const { practitioner, service } = await make.lane({
      durationMinutes: 60,
      capacity: 3,
      slotIntervalMinutes: 30,
      ...fields,
    });
    const book = (minutes = 0, more: object = {}) =>
      make.book({ serviceId: service.id, startsAt: at(minutes), ...more });
    /** How many seats each start of the next three hours has left, as it is offered. */
    const remaining = async (query = ''): Promise<Record<number, number>> => {
      const range = `from=${START}&to=${at(180)}`;
      const { data } = (await call('GET', `/v1/slots?serviceId=${service.id}&${range}${query}`)).body;
      return Object.fromEntries(
        data.map((slot: { startsAt: string; remaining: number }) => [
          (Date.parse(slot.startsAt) - Date.parse(START)) / 60_000,
          slot.remaining,
        ]),
      );
    };
    const claims = () =>
      sql('SELECT holder, shared, expires_at FROM claim WHERE schedule_id = $1', [practitioner.scheduleId]);
    const seats = async () => {
      const rows = await sql(
        `SELECT holder FROM attendance a JOIN group_session g ON g.id = a.session_id WHERE g.schedule_id = $1 ORDER BY g.starts_at, seat`,
        [practitioner.scheduleId],
      );
      return rows.map((row) => row.holder);
    };
    return { practitioner, service, book, remaining, claims, seats };
  }
  const ALL_FREE = { 0: 3, 30: 3, 60: 3, 90: 3, 120: 3, 150: 3 };
  /** While there is a session at START with so many seats left. */
  const withSession = (left: number) => ({ ...(left > 0 && { 0: left }), 60: 3, 90: 3, 120: 3, 150: 3 });

  it('share one session until it is full', async () => {
    const { book, remaining, claims, service, practitioner } = await group();
    expect(await remaining()).toEqual(ALL_FREE);
    for (const left of [2, 1, 0]) {
      const booked = made(await book(0, left === 1 ? { practitionerId: practitioner.id } : {}));
      expect([booked.startsAt, booked.endsAt, booked.segments[0].scheduleId]).toEqual([
        START,
        at(60),
        practitioner.scheduleId,
      ]);
      expect(await remaining()).toEqual(withSession(left));
      expect(await claims()).toMatchObject([{ shared: true, expires_at: null }]);
    }
    const before = await contentsOf(sql);
    const full = await book();
    expect(problemOf(full)).toEqual(problem(409, 'slot_taken'));
    expect(await contentsOf(sql)).toEqual(before);
    expect(full.body.alternatives).toHaveLength(3);
    for (const { startsAt } of full.body.alternatives) {
      const { id } = made(await make.book({ serviceId: service.id, startsAt, practitionerId: practitioner.id }));
      await make.act(id, 'cancel');
    }
  });

  it('leave their seat, and the last one the time', async () => {
    const { book, remaining, claims, seats, service } = await group();
    const ids = [made(await book()).id, made(await book()).id, made(await book()).id];
    expect(await seats()).toEqual(ids);
    await make.act(ids[0], 'cancel');
    expect(await remaining()).toEqual(withSession(1));
    expect(problemOf(await book(30))).toEqual(problem(409, 'slot_taken'));
    const joined = made(await book());
    expect(await seats()).toEqual([joined.id, ids[1], ids[2]]);
    for (const id of [ids[2], joined.id]) await make.act(id, 'cancel');
    expect(await remaining()).toEqual(withSession(2));
    await make.act(ids[1], 'cancel');
    expect(await remaining()).toEqual(ALL_FREE);
    expect([await claims(), await seats()]).toEqual([[], []]);
    expect(await sql('SELECT 1 FROM group_session WHERE service_id = $1', [service.id])).toEqual([]);
    made(await book(30));
    expect(await remaining()).toEqual({ 30: 2, 90: 3, 120: 3, 150: 3 });
  });

  it('exclude sessions that overlap, and those of other services, and buffers', async () => {
    const { book, practitioner, remaining } = await group({ bufferBeforeMinutes: 10, bufferAfterMinutes: 20 });
    const other = await make.service([practitioner.id], { durationMinutes: 60, capacity: 3 });
    made(await book());
    for (const minutes of [-30, -1, 1, 30, 89]) expect([minutes, (await book(minutes)).status]).toEqual([minutes, 409]);
    expect((await make.book({ serviceId: other.id, startsAt: START })).status).toBe(409);
    expect((await make.book({ serviceId: other.id, startsAt: at(79) })).status).toBe(409);
    expect(await remaining()).toEqual({ 0: 2, 90: 3, 120: 3, 150: 3 });
    made(await book(90));
    made(await book(0));
    expect(await remaining()).toEqual({ 0: 1, 90: 2 });
  });

  it('let exactly as many of thirty at once win as there are seats', async () => {
    const { book, remaining, seats } = await group({ capacity: 10 });
    const answers = await Promise.all(Array.from({ length: 30 }, () => book()));
    const statuses = answers.map((answer) => answer.status).sort((a, b) => a - b);
    expect(statuses).toEqual([...Array<number>(10).fill(201), ...Array<number>(20).fill(409)]);
    expect(await seats()).toHaveLength(10);
    expect((await remaining())[0]).toBeUndefined();
  });

  it('let somebody join while another one leaves', async () => {
    const { book, seats, claims } = await group({ capacity: 2 });
    let last = made(await book());
    for (let round = 0; round < 10; round++) {
      const [left, joined] = await Promise.all([make.act(last.id, 'cancel'), book()]);
      expect([left.status, joined.status]).toEqual([200, 201]);
      last = joined.body;
      expect(await seats()).toEqual([last.id]);
      expect(await claims()).toHaveLength(1);
    }
  });

  it('are taken by any practitioner, in the session that has begun to fill', async () => {
    const [one, two] = [await make.practitioner(), await make.practitioner()];
    const service = await make.service([one.id, two.id], { capacity: 2 });
    const book = () => make.book({ serviceId: service.id, startsAt: START });
    const ids: string[] = [];
    for (let index = 0; index < 4; index++) ids.push(made(await book()).segments[0].practitionerId);
    expect([ids[0] === ids[1], ids[2] === ids[3], ids[0] === ids[2]]).toEqual([true, true, false]);
    expect(problemOf(await book())).toEqual(problem(409, 'slot_taken'));
  });

  it('under one Idempotency-Key take one seat', async () => {
    const { service, seats } = await group();
    const send = () =>
      call('POST', '/v1/appointments', {
        body: { serviceId: service.id, startsAt: START, patient: { phone: '+4915155555555' } },
        headers: { 'Idempotency-Key': `seat ${service.id}` },
      });
    const [first, again] = [await send(), await send()];
    expect([first.status, again.body]).toEqual([201, first.body]);
    expect(await seats()).toEqual([first.body.id]);
  });

  it('are offered also where the hours name a location of their own', async () => {
    const [north, south] = [await make.location(), await make.location()];
    const practitioner = await make.practitioner({
      hours: ALWAYS.map((each) => ({ ...each, locationId: south.id })),
      locationId: north.id,
    });
    const service = await make.service([practitioner.id], { capacity: 2 });
    const offered = async (query: string) =>
      (await call('GET', `/v1/slots?serviceId=${service.id}&from=${START}&to=${at(1)}${query}`)).body.data.map(
        (slot: { remaining: number }) => slot.remaining,
      );
    expect(await offered(`&locationId=${south.id}`)).toEqual([2]);
    made(await make.book({ serviceId: service.id, startsAt: START }));
    expect(await offered('')).toEqual([1]);
    expect(await offered(`&locationId=${south.id}`)).toEqual([1]);
    expect(await offered(`&locationId=${north.id}`)).toEqual([]);
  });

  it('begun off the grid are offered while seats are left', async () => {
    const { book, remaining } = await group();
    made(await book(10));
    expect(await remaining()).toEqual({ 10: 2, 90: 3, 120: 3, 150: 3 });
    made(await book(10));
    made(await book(10));
    expect(await remaining()).toEqual({ 90: 3, 120: 3, 150: 3 });
  });

  describe('held', () => {
    it('keep their seat, and give it back by themselves', async () => {
      const { book, remaining, seats, claims } = await group();
      const stays = made(await book());
      const held = made(await book(0, { hold: true }));
      const other = made(await book(0, { hold: true }));
      expect(await remaining()).toEqual(withSession(0));
      expect(problemOf(await book())).toEqual(problem(409, 'slot_taken'));
      await lapse(sql, held.id);
      expect(await remaining()).toEqual(withSession(1));
      expect(await statusOf(held.id)).toBe('expired');
      const joined = made(await book());
      expect(new Set(await seats())).toEqual(new Set([stays.id, other.id, joined.id]));
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
      expect(await claims()).toMatchObject([{ expires_at: null }]);
    });

    it('by nobody else, the time is free when the last one is over', async () => {
      const { book, remaining } = await group();
      const [one, two] = [made(await book(0, { hold: true })), made(await book(0, { hold: true }))];
      await lapse(sql, one.id);
      expect(await remaining()).toEqual(withSession(2));
      expect((await book(30)).status).toBe(409);
      await lapse(sql, two.id);
      expect(await remaining()).toEqual(ALL_FREE);
      made(await book(30));
      for (const { id } of [one, two])
        expect(problemOf(await make.act(id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
    });

    it('outlasts a shorter one, and the session stays for who confirms', async () => {
      const { book, claims, remaining } = await group();
      const [short, long] = [
        made(await book(0, { hold: { seconds: 60 } })),
        made(await book(0, { hold: { seconds: 3600 } })),
      ];
      expect(await claims()).toMatchObject([{ expires_at: new Date(long.holdExpiresAt) }]);
      expect((await make.act(short.id, 'confirm')).status).toBe(200);
      expect(await claims()).toMatchObject([{ expires_at: null }]);
      await make.act(short.id, 'cancel');
      expect(await claims()).toMatchObject([{ expires_at: new Date(long.holdExpiresAt) }]);
      await lapse(sql, long.id);
      expect(await remaining()).toEqual(ALL_FREE);
    });

    it('and over, are confirmed late while there are seats', async () => {
      const { book, remaining, seats } = await group();
      const held = made(await book(0, { hold: true }));
      const stays = made(await book());
      await lapse(sql, held.id);
      expect((await make.act(held.id, 'confirm')).body.status).toBe('confirmed');
      expect(new Set(await seats())).toEqual(new Set([held.id, stays.id]));
      expect(await remaining()).toEqual(withSession(1));
    });

    it('and over by themselves, are confirmed late into a session of their own', async () => {
      const { book, remaining, seats } = await group();
      const held = made(await book(0, { hold: true }));
      await lapse(sql, held.id);
      expect((await make.act(held.id, 'confirm')).body.status).toBe('confirmed');
      expect([await seats(), await remaining()]).toEqual([[held.id], withSession(2)]);
    });

    it('and over, and swept, leave nothing', async () => {
      const { book, seats, claims } = await group();
      const [held, other] = [made(await book(0, { hold: true })), made(await book(0, { hold: true }))];
      await lapse(sql, held.id, other.id);
      await app.app.get(ExpiryService, { strict: false }).sweep();
      expect([await seats(), await claims()]).toEqual([[], []]);
      expect(await sql('SELECT status FROM appointment WHERE id = ANY($1)', [[held.id, other.id]])).toEqual([
        { status: 'expired' },
        { status: 'expired' },
      ]);
    });
  });

  describe('are moved', () => {
    it('from one session into another, and back into one of their own', async () => {
      const { book, remaining, seats } = await group();
      const [one, two] = [made(await book(0)), made(await book(0))];
      const other = made(await book(60));
      expect(await remaining()).toEqual({ 0: 1, 60: 2, 120: 3, 150: 3 });
      const moved = await make.act(one.id, 'reschedule', { startsAt: at(60) });
      expect([moved.status, moved.body.startsAt]).toEqual([200, at(60)]);
      expect(await remaining()).toEqual({ 0: 2, 60: 1, 120: 3, 150: 3 });
      expect(await seats()).toEqual([two.id, other.id, one.id]);
      expect((await make.act(two.id, 'reschedule', { startsAt: at(60) })).status).toBe(200);
      expect(await remaining()).toEqual({ 0: 3, 120: 3, 150: 3 });
      expect((await make.act(two.id, 'reschedule', { startsAt: START })).status).toBe(200);
      expect(await remaining()).toEqual({ 0: 2, 60: 1, 120: 3, 150: 3 });
    });

    it('to where they are, and over their own time when alone', async () => {
      const { book, remaining } = await group();
      const one = made(await book());
      expect((await make.act(one.id, 'reschedule', { startsAt: START })).status).toBe(200);
      expect(await remaining()).toEqual(withSession(2));
      expect((await make.act(one.id, 'reschedule', { startsAt: at(30) })).status).toBe(200);
      expect(await remaining()).toEqual({ 30: 2, 90: 3, 120: 3, 150: 3 });
      made(await book(30));
      const stuck = await make.act(one.id, 'reschedule', { startsAt: START });
      expect(problemOf(stuck)).toEqual(problem(409, 'slot_taken'));
      expect((await make.act(one.id, 'reschedule', { startsAt: at(30) })).status).toBe(200);
      expect(await remaining()).toEqual({ 30: 1, 90: 3, 120: 3, 150: 3 });
    });

    it('not into a full one, and keep their seat', async () => {
      const { book, seats } = await group({ capacity: 2 });
      const one = made(await book());
      const full = [made(await book(60)), made(await book(60))];
      const before = await contentsOf(sql);
      expect(problemOf(await make.act(one.id, 'reschedule', { startsAt: at(60) }))).toEqual(problem(409, 'slot_taken'));
      expect(await contentsOf(sql)).toEqual(before);
      expect(await seats()).toEqual([one.id, ...full.map((each) => each.id)]);
      // In one's own, though full, there is a seat: one's own.
      expect((await make.act(full[0]!.id, 'reschedule', { startsAt: at(60) })).status).toBe(200);
      expect(await seats()).toHaveLength(3);
    });
  });

  it('end by themselves: completed, or who did not come', async () => {
    const { book, seats, claims } = await group();
    const [one, two] = [made(await book()), made(await book())];
    await make.act(one.id, 'check-in');
    expect((await make.act(one.id, 'complete')).body.status).toBe('completed');
    expect(await seats()).toEqual([two.id]);
    await sql(`UPDATE appointment SET starts_at = now() - interval '1 hour' WHERE id = $1`, [two.id]);
    expect((await make.act(two.id, 'no-show')).body.status).toBe('no_show');
    expect([await seats(), await claims()]).toEqual([[], []]);
  });

  it('are all told when the hours end', async () => {
    const { book, practitioner } = await group();
    const ids = [made(await book()).id, made(await book(0, { hold: true })).id, made(await book(0, { hold: true })).id];
    await lapse(sql, ids[2]);
    const edited = await make.setHours(practitioner.scheduleId, []);
    expect(edited.body.affectedAppointments).toEqual(
      expect.arrayContaining(ids.slice(0, 2).map((id) => ({ id, startsAt: START, endsAt: at(60) }))),
    );
    expect(edited.body.affectedAppointments).toHaveLength(2);
    expect(problemOf(await book())).toEqual(problem(422, 'outside_hours'));
    await make.setHours(practitioner.scheduleId, ALWAYS);
    made(await book());
  });

  it('keep their practitioner and service from being deleted', async () => {
    const { book, practitioner, service } = await group();
    const { id } = made(await book());
    for (const path of [`/v1/practitioners/${practitioner.id}`, `/v1/services/${service.id}`])
      expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
    await make.act(id, 'cancel');
    expect((await call('DELETE', `/v1/practitioners/${practitioner.id}`)).status).toBe(204);
  });

  it('keep their seats when the service is for fewer by now, and for one alone', async () => {
    const { book, service, remaining, seats } = await group();
    for (let index = 0; index < 2; index++) made(await book());
    for (const capacity of [2, 1]) {
      await call('PATCH', `/v1/services/${service.id}`, { body: { capacity } });
      expect(problemOf(await book())).toEqual(problem(409, 'slot_taken'));
      expect((await remaining())[0]).toBeUndefined();
    }
    expect(await seats()).toHaveLength(2);
    await call('PATCH', `/v1/services/${service.id}`, { body: { capacity: 4 } });
    expect((await remaining())[0]).toBe(2);
    made(await book(0, { patient: { phone: newPhone() } }));
  });
});
