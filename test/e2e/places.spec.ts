import { ExpiryService } from '../../src/appointments';
import { audit } from '../../src/operations';
import { Database } from '../../src/platform';
import { after, ALWAYS, inDays, lapse, maker, openSql, problem, problemOf, type Sql } from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('a schedule with several places', () => {
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

  const setPlaces = (scheduleId: string, places: number | undefined, hours: object[] = ALWAYS) =>
    call('PUT', `/v1/schedules/${scheduleId}/hours`, {
      body: { timeZone: 'Europe/Berlin', hours, ...(places !== undefined && { places }) },
      headers: { 'If-Match': '*' },
    });

  /** Services of some lengths on one schedule of so many places. */
  async function chairs(places: number, fields: object = {}) {
    const practitioner = await make.practitioner();
    expect((await setPlaces(practitioner.scheduleId, places)).body.places).toBe(places);
    const services = new Map<number, string>();
    for (const minutes of [10, 20, 30, 50])
      services.set(minutes, (await make.service([practitioner.id], { durationMinutes: minutes, slotIntervalMinutes: 10, ...fields })).id); // prettier-ignore
    const book = (minutes: number, length = 30, more: object = {}) =>
      make.book({ serviceId: services.get(length), startsAt: at(minutes), ...more });
    const offered = async (length = 30, from = -60, to = 240): Promise<number[]> => {
      const { data } = (await call('GET', `/v1/slots?serviceId=${services.get(length)}&from=${at(from)}&to=${at(to)}&limit=1000`)).body; // prettier-ignore
      for (const slot of data) expect(slot.remaining).toBe(1);
      return data.map((slot: { startsAt: string }) => (Date.parse(slot.startsAt) - Date.parse(START)) / 60_000);
    };
    return { practitioner, services, book, offered };
  }

  it('is told, kept where it is not told, and between one and a hundred', async () => {
    const { practitioner } = await chairs(3);
    const { scheduleId } = practitioner;
    expect((await call('GET', `/v1/schedules/${scheduleId}`)).body.places).toBe(3);
    expect((await setPlaces(scheduleId, undefined)).body.places).toBe(3);
    expect((await make.setHours(scheduleId, [])).body.places).toBe(3);
    for (const places of [0, 101, -1, 1.5, '2', null])
      expect(problemOf(await setPlaces(scheduleId, places as number))).toEqual(
        problem(400, 'validation_failed', '/places'),
      );
    for (const places of [100, 1]) expect((await setPlaces(scheduleId, places)).body.places).toBe(places);
    const other = await make.practitioner();
    expect((await call('GET', `/v1/schedules/${other.scheduleId}`)).body.places).toBe(1);
  });

  it('takes so many at once and no more', async () => {
    const { book, offered } = await chairs(3);
    for (const start of [0, 10, 20]) made(await book(start));
    expect(problemOf(await book(0))).toEqual(problem(409, 'slot_taken'));
    // From 20 to 30 all three are taken.
    expect(await offered(30, -60, 60)).toEqual([-60, -50, -40, -30, -20, -10, 30, 40, 50]);
    made(await book(30));
    made(await book(-10));
    expect((await book(-5)).status).toBe(409);
  });

  it('lets exactly as many of twenty at once win as there are places', async () => {
    const { book } = await chairs(4);
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => book(index % 2 === 0 ? 0 : 10)));
    const statuses = answers.map((answer) => answer.status).sort((a, b) => a - b);
    expect(statuses).toEqual([...Array<number>(4).fill(201), ...Array<number>(16).fill(409)]);
    for (const { body } of answers.filter((answer) => answer.status === 409)) expect(body.alternatives).toHaveLength(3);
  });

  it('counts buffers as occupied', async () => {
    const { book, offered } = await chairs(2, { bufferBeforeMinutes: 10, bufferAfterMinutes: 10 });
    made(await book(0));
    made(await book(40));
    // -10 to 40 and 30 to 80 with their buffers: from 30 to 40 both places are taken.
    expect(await offered(30, -30, 100)).toEqual([-30, -20, -10, 50, 60, 70, 80, 90]);
    expect((await book(49)).status).toBe(409);
    expect((await book(-9)).status).toBe(409);
  });

  it.each([1, 2, 3])(
    'takes whatever fits by counting, in any order of bookings and cancellations (%d)',
    async (seed) => {
      const places = 1 + seed;
      const { book, offered } = await chairs(places);
      let state = seed * 7919;
      const random = (below: number) => {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        return Math.floor((state / 2_147_483_648) * below);
      };
      let booked: Array<{ id: string; start: number; end: number }> = [];
      const fits = (start: number, end: number) => {
        for (let minute = start; minute < end; minute += 10)
          if (booked.filter((each) => each.start <= minute && minute < each.end).length >= places) return false;
        return true;
      };
      const count = { booked: 0, refused: 0 };
      for (let step = 0; step < 60; step++) {
        if (booked.length > 0 && random(4) === 0) {
          const leaver = booked[random(booked.length)]!;
          expect((await make.act(leaver.id, 'cancel')).status).toBe(200);
          booked = booked.filter((each) => each !== leaver);
          continue;
        }
        const length = [10, 20, 30, 50][random(4)]!;
        const start = random(16) * 10;
        const answer = await book(start, length);
        expect([step, start, length, answer.status]).toEqual([
          step,
          start,
          length,
          fits(start, start + length) ? 201 : 409,
        ]);
        count[answer.status === 201 ? 'booked' : 'refused'] += 1;
        if (answer.status === 201) booked.push({ id: answer.body.id, start, end: start + length });
        if (step % 15 === 0) {
          const due = [];
          for (let minute = -60; minute < 240; minute += 10) if (fits(minute, minute + 30)) due.push(minute);
          expect(await offered()).toEqual(due);
        }
      }
      expect([count.booked > 15, count.refused > 3]).toEqual([true, true]);
    },
  );

  it('is taken although no place is free for so long, for places mean nothing', async () => {
    const { book, practitioner } = await chairs(2);
    // Two places: 0-10 on the first, 10-40 must not make 0-30 and 20-50 impossible beside each other.
    const first = made(await book(0, 10));
    const long = made(await book(0, 30));
    made(await book(30, 30));
    await make.act(first.id, 'cancel');
    const between = made(await book(10, 50));
    expect(between.startsAt).toBe(at(10));
    const rows = await sql('SELECT seat, during, holder FROM claim WHERE schedule_id = $1', [practitioner.scheduleId]);
    expect(rows).toHaveLength(3);
    expect(new Set(rows.map((row) => row.seat)).size).toBe(2);
    expect(rows.map((row) => row.holder)).toContain(long.id);
  });

  it('over midnight', async () => {
    const { book } = await chairs(2);
    for (const night of [inDays(11, '22:00'), inDays(13, '23:00')]) {
      const minutes = (Date.parse(night) - Date.parse(START)) / 60_000;
      made(await book(minutes - 20, 50));
      made(await book(minutes + 20, 30));
      made(await book(minutes - 20, 30));
      made(await book(minutes + 10, 10));
      expect((await book(minutes, 20)).status).toBe(409);
      expect((await book(minutes + 20, 10)).status).toBe(409);
      made(await book(minutes + 30, 20));
    }
  });

  it('gives back the place of a hold that is over', async () => {
    const { book, offered } = await chairs(2);
    made(await book(0));
    const held = made(await book(10, 30, { hold: true }));
    expect((await book(20, 10)).status).toBe(409);
    expect(await offered(10, 10, 40)).toEqual([30]);
    await lapse(sql, held.id);
    expect(await offered(10, 10, 40)).toEqual([10, 20, 30]);
    const other = made(await book(20, 10, { hold: true }));
    expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
    await lapse(sql, other.id);
    expect((await make.act(held.id, 'confirm')).body.status).toBe('confirmed');
    expect((await book(20, 10)).status).toBe(409);
    const last = made(await book(50, 30, { hold: true }));
    await lapse(sql, last.id);
    await app.app.get(ExpiryService, { strict: false }).sweep();
    expect(await sql('SELECT 1 FROM claim WHERE holder = ANY($1)', [[other.id, last.id]])).toEqual([]);
  });

  it('moves within itself, and not to where all are taken', async () => {
    const { book } = await chairs(2);
    const [one, two] = [made(await book(0)), made(await book(10))];
    for (const minutes of [10, 20, 0])
      expect((await make.act(one.id, 'reschedule', { startsAt: at(minutes) })).status).toBe(200);
    made(await book(60));
    made(await book(60));
    expect(problemOf(await make.act(two.id, 'reschedule', { startsAt: at(50) }))).toEqual(problem(409, 'slot_taken'));
    expect((await make.act(two.id, 'reschedule', { startsAt: at(30) })).status).toBe(200);
  });

  it('gets more and fewer of them while it is booked, and cancels nobody', async () => {
    const { book, practitioner, offered } = await chairs(1);
    const ids = [made(await book(0)).id];
    expect((await book(0)).status).toBe(409);
    expect((await setPlaces(practitioner.scheduleId, 3)).body.affectedAppointments).toEqual([]);
    for (const start of [0, 20]) ids.push(made(await book(start)).id);
    expect((await book(20)).status).toBe(409);
    await setPlaces(practitioner.scheduleId, 2);
    // 20 to 30 has three, 0 to 20 and 30 to 50 two and one.
    expect((await book(20, 10)).status).toBe(409);
    expect((await book(0, 10)).status).toBe(409);
    expect(await offered(10, 0, 60)).toEqual([30, 40, 50]);
    made(await book(30));
    expect((await book(30, 10)).status).toBe(409);
    await setPlaces(practitioner.scheduleId, 1);
    expect((await book(40, 20)).status).toBe(409);
    expect(await offered(10, 0, 80)).toEqual([60, 70]);
    made(await book(60));
    for (const id of ids) expect((await make.act(id, 'cancel')).status).toBe(200);
    expect(await offered(10, 0, 110)).toEqual([0, 10, 20, 90, 100]);
    made(await book(0));
    expect((await book(0)).status).toBe(409);
  });

  it('takes sessions side by side', async () => {
    const { practitioner } = await chairs(2);
    const service = await make.service([practitioner.id], { capacity: 2, durationMinutes: 30 });
    const book = (minutes: number) => make.book({ serviceId: service.id, startsAt: at(minutes) });
    const remaining = async () =>
      (await call('GET', `/v1/slots?serviceId=${service.id}&from=${START}&to=${at(1)}`)).body.data.map(
        (slot: { remaining: number }) => slot.remaining,
      );
    for (const left of [[1], [2], [1], []]) {
      made(await book(0));
      expect(await remaining()).toEqual(left);
    }
    expect((await book(0)).status).toBe(409);
    expect((await book(10)).status).toBe(409);
    expect(await sql('SELECT 1 FROM claim WHERE schedule_id = $1', [practitioner.scheduleId])).toHaveLength(2);
  });

  it('serves several segments, one after the other', async () => {
    const { practitioner } = await chairs(2);
    const answer = await call('POST', '/v1/services', {
      body: {
        name: 'Visit',
        bufferAfterMinutes: 10,
        segments: [
          { name: 'one', durationMinutes: 10, gapAfterMinutes: 10, practitionerIds: [practitioner.id] },
          { name: 'two', durationMinutes: 10, practitionerIds: [practitioner.id] },
        ],
      },
    });
    const book = (minutes: number) => make.book({ serviceId: answer.body.id, startsAt: at(minutes) });
    const ids = [made(await book(0)).id, made(await book(0)).id];
    for (const minutes of [0, 10]) expect((await book(minutes)).status).toBe(409);
    expect((await make.act(ids[0], 'reschedule', { startsAt: at(10) })).status).toBe(200);
    for (const minutes of [0, 10]) expect((await book(minutes)).status).toBe(409);
    await make.act(ids[1], 'cancel');
    made(await book(0));
  });
});
