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
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

const NOBODY = '01890000-0000-7000-8000-000000000000';

interface Segment {
  name: string;
  scheduleId: string;
  practitionerId?: string;
  roomId?: string;
  startsAt: string;
  endsAt: string;
}

describe('visits of several segments', () => {
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
  const read = async (id: string) => (await call('GET', `/v1/appointments/${id}`)).body;
  const compositeOf = async (segments: object[], fields: object = {}) => {
    const answer = await call('POST', '/v1/services', { body: { name: 'Visit', segments, ...fields } });
    if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
    return answer.body;
  };
  const roomThatIsOpen = async () => {
    const room = await make.room();
    await make.setHours(room.scheduleId, ALWAYS);
    return room;
  };
  const claimsOf = async (id: string) => {
    const rows = await sql(
      `SELECT schedule_id, starts_at, ends_at FROM claim WHERE holder = $1 ORDER BY core_starts_at, schedule_id`,
      [id],
    );
    return rows.map((row) => [row.schedule_id, minutesOf(row.starts_at), minutesOf(row.ends_at)]);
  };
  const minutesOf = (instant: string | Date) => (new Date(instant).getTime() - Date.parse(START)) / 60_000;
  /** Who, from when to when, in minutes after START. */
  const placesOf = ({ segments }: { segments: Segment[] }) =>
    segments.map((each) => [each.scheduleId, minutesOf(each.startsAt), minutesOf(each.endsAt)]);

  /** Talk with Anna (20 minutes), a pause (10), a scan in the room (30), the result by Anna or Ben (10). */
  async function stage(fields: object = {}) {
    const [anna, ben, room] = [await make.practitioner(), await make.practitioner(), await roomThatIsOpen()];
    const service = await compositeOf(
      [
        { name: 'talk', durationMinutes: 20, gapAfterMinutes: 10, practitionerIds: [anna.id] },
        { name: 'scan', durationMinutes: 30, roomIds: [room.id] },
        { name: 'result', durationMinutes: 10, practitionerIds: [ben.id, anna.id] },
      ],
      { slotIntervalMinutes: 10, ...fields },
    );
    const single = await make.service([anna.id, ben.id], { durationMinutes: 5 });
    const book = (startsAt: string, more: object = {}) => make.book({ serviceId: service.id, startsAt, ...more });
    const occupy = async (practitioner: { id: string }, minutes: number) =>
      made(await make.book({ serviceId: single.id, practitionerId: practitioner.id, startsAt: at(minutes) }));
    const tryAt = (practitioner: { id: string }, minutes: number) =>
      make.book({ serviceId: single.id, practitionerId: practitioner.id, startsAt: at(minutes) });
    const named = (minutes: number, result = anna) => [
      { practitionerId: anna.id, startsAt: at(minutes) },
      { roomId: room.id, startsAt: at(minutes + 30) },
      { practitionerId: result.id, startsAt: at(minutes + 60) },
    ];
    const planned = (minutes: number, result = anna) => [
      [anna.scheduleId, minutes, minutes + 20],
      [room.scheduleId, minutes + 30, minutes + 60],
      [result.scheduleId, minutes + 60, minutes + 70],
    ];
    return { anna, ben, room, service, single, book, occupy, tryAt, named, planned };
  }

  describe('are booked', () => {
    it('as they are planned, with the same practitioner where he can', async () => {
      const { anna, room, service, book, planned } = await stage();
      const answer = await book(START);
      expect([answer.status, answer.headers.get('etag')]).toEqual([201, '"1"']);
      const places = (name: string, who: object, from: number, to: number) => ({
        name,
        ...who,
        startsAt: at(from),
        endsAt: at(to),
      });
      expect(answer.body).toMatchObject({
        serviceId: service.id,
        status: 'confirmed',
        startsAt: START,
        endsAt: at(70),
        segments: [
          places('talk', { practitionerId: anna.id, scheduleId: anna.scheduleId }, 0, 20),
          places('scan', { roomId: room.id, scheduleId: room.scheduleId }, 30, 60),
          places('result', { practitionerId: anna.id, scheduleId: anna.scheduleId }, 60, 70),
        ],
      });
      expect(await read(answer.body.id)).toEqual(answer.body);
      expect(await claimsOf(answer.body.id)).toEqual(planned(0));
      expect(service.durationMinutes).toBe(70);
    });

    it('with another one where the same one cannot', async () => {
      const { anna, ben, book, occupy, planned } = await stage();
      await occupy(anna, 65);
      expect(placesOf(made(await book(START)))).toEqual(planned(0, ben));
    });

    it('with the practitioner who is wished for, or not at all', async () => {
      const { anna, ben, book, tryAt } = await stage();
      const wished = made(await book(START, { practitionerId: anna.id }));
      expect(wished.segments[0].practitionerId).toBe(anna.id);
      const byBen = made(await book(at(120), { practitionerId: ben.id }));
      expect(byBen.segments[2].practitionerId).toBe(ben.id);
      made(await tryAt(ben, 300));
      expect(problemOf(await book(at(240), { practitionerId: ben.id }))).toEqual(problem(409, 'slot_taken'));
    });

    it('as they are named, at other times than a plan would have', async () => {
      const { anna, ben, room, book } = await stage();
      const segments = [
        { practitionerId: anna.id, startsAt: at(90) },
        { roomId: room.id, startsAt: at(0) },
        { practitionerId: ben.id, startsAt: at(100) },
      ];
      const booked = made(await book(START, { segments }));
      expect(placesOf(booked)).toEqual([
        [anna.scheduleId, 90, 110],
        [room.scheduleId, 0, 30],
        [ben.scheduleId, 100, 110],
      ]);
      expect([booked.startsAt, booked.endsAt]).toEqual([START, at(110)]);
    });

    it('side by side, the next part after the longest', async () => {
      const [anna, ben, room] = [await make.practitioner(), await make.practitioner(), await roomThatIsOpen()];
      const service = await compositeOf([
        { name: 'nurse', durationMinutes: 20, practitionerIds: [anna.id], gapAfterMinutes: 5 },
        { name: 'room', durationMinutes: 40, roomIds: [room.id], startsWithPrevious: true },
        { name: 'doctor', durationMinutes: 15, practitionerIds: [anna.id, ben.id] },
      ]);
      expect(service.durationMinutes).toBe(55);
      const booked = made(await make.book({ serviceId: service.id, startsAt: START }));
      expect(placesOf(booked)).toEqual([
        [anna.scheduleId, 0, 20],
        [room.scheduleId, 0, 40],
        [anna.scheduleId, 40, 55],
      ]);
      expect(booked.endsAt).toBe(at(55));
    });

    it('with as little waiting as can be, and none longer than may be', async () => {
      const [anna, room] = [await make.practitioner(), await roomThatIsOpen()];
      const service = await compositeOf([
        { name: 'talk', durationMinutes: 10, maxWaitMinutes: 20, practitionerIds: [anna.id] },
        { name: 'scan', durationMinutes: 10, roomIds: [room.id] },
      ]);
      const scan = await compositeOf([{ name: 'scan', durationMinutes: 15, roomIds: [room.id] }]);
      made(await make.book({ serviceId: scan.id, startsAt: at(10) }));
      const booked = made(await make.book({ serviceId: service.id, startsAt: START }));
      expect(placesOf(booked)).toEqual([
        [anna.scheduleId, 0, 10],
        [room.scheduleId, 25, 35],
      ]);
      expect(booked.endsAt).toBe(at(35));
      for (const minutes of [110, 125]) made(await make.book({ serviceId: scan.id, startsAt: at(minutes) }));
      const late = await make.book({ serviceId: service.id, startsAt: at(100) });
      expect(problemOf(late)).toEqual(problem(409, 'slot_taken'));
      expect(placesOf(made(await make.book({ serviceId: service.id, startsAt: at(110) })))[1]).toEqual([
        room.scheduleId,
        140,
        150,
      ]);
    });

    it('and leave what lies in a pause to others', async () => {
      const { anna, book, tryAt } = await stage();
      made(await book(START));
      for (const minutes of [20, 25, 30, 55])
        expect([minutes, (await tryAt(anna, minutes)).status]).toEqual([minutes, 201]);
      for (const minutes of [-1, 15, 59, 60, 69])
        expect([minutes, problemOf(await tryAt(anna, minutes))]).toEqual([minutes, problem(409, 'slot_taken')]);
    });

    it('with buffers around the runs of each schedule', async () => {
      const { anna, room, book, tryAt } = await stage({ bufferBeforeMinutes: 5, bufferAfterMinutes: 10 });
      const booked = made(await book(START));
      expect(await claimsOf(booked.id)).toEqual([
        [anna.scheduleId, -5, 30],
        [room.scheduleId, 25, 70],
        [anna.scheduleId, 55, 80],
      ]);
      expect((await tryAt(anna, 29)).status).toBe(409);
      expect((await tryAt(anna, 30)).status).toBe(201);
      expect((await tryAt(anna, 51)).status).toBe(409);
      expect((await tryAt(anna, 50)).status).toBe(201);
    });

    it('with no buffers between parts of one run, whose pause is free', async () => {
      const anna = await make.practitioner();
      const segments = [1, 2].map((name) => ({ name: `${name}`, durationMinutes: 10, gapAfterMinutes: 20, practitionerIds: [anna.id] })); // prettier-ignore
      const service = await compositeOf(segments, { bufferBeforeMinutes: 5, bufferAfterMinutes: 10 });
      const booked = made(await make.book({ serviceId: service.id, startsAt: START }));
      expect(await claimsOf(booked.id)).toEqual([
        [anna.scheduleId, -5, 10],
        [anna.scheduleId, 30, 50],
      ]);
      const single = await make.service([anna.id], { durationMinutes: 20 });
      made(await make.book({ serviceId: single.id, startsAt: at(10) }));
    });

    it('over midnight', async () => {
      const { book, planned } = await stage();
      for (const night of [inDays(11, '21:30'), inDays(11, '22:45')]) {
        const booked = made(await book(night));
        expect(placesOf(booked)).toEqual(planned(minutesOf(night)));
      }
    });
  });

  describe('are offered where they can be booked, and nowhere else', () => {
    interface Busy {
      scheduleId: string;
      start: number;
      end: number;
    }
    type Wanted = Array<{ offset: number; minutes: number; lanes: string[] }>;

    /** Whether somebody who looks at every set of people finds one. */
    function fits(
      wanted: Wanted,
      start: number,
      busy: Busy[],
      open: [number, number],
      buffers: [number, number],
    ): boolean {
      let sets: string[][] = [[]];
      for (const { lanes } of wanted) sets = sets.flatMap((set) => lanes.map((each) => [...set, each]));
      return sets.some((set) =>
        wanted.every(({ offset, minutes }, index) => {
          const [from, to] = [start + offset, start + offset + minutes];
          const begins = set[index - 1] !== set[index] || wanted[index - 1]!.offset === offset;
          const ends = set[index + 1] !== set[index] || wanted[index + 1]!.offset === offset;
          const [first, last] = [from - (begins ? buffers[0] : 0), to + (ends ? buffers[1] : 0)];
          const twice = wanted.some(
            (other, at) =>
              at !== index &&
              set[at] === set[index] &&
              other.offset < offset + minutes &&
              offset < other.offset + other.minutes,
          );
          return (
            !twice &&
            open[0] <= from &&
            to <= open[1] &&
            busy.every((each) => each.scheduleId !== set[index] || each.end <= first || last <= each.start)
          );
        }),
      );
    }

    it.each<[string, object, boolean]>([
      ['one after the other', {}, false],
      ['with buffers', { bufferBeforeMinutes: 5, bufferAfterMinutes: 10 }, false],
      ['side by side', {}, true],
    ])('%s', async (_, fields, parallel) => {
      const hours = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '08:00', end: '11:00' }));
      const [anna, ben] = [
        await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
        await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
      ];
      const room = await make.room();
      await make.setHours(room.scheduleId, hours, 'Etc/UTC');
      const service = await compositeOf(
        [
          { name: 'talk', durationMinutes: 20, gapAfterMinutes: 10, practitionerIds: [anna.id, ben.id] },
          { name: 'scan', durationMinutes: 30, roomIds: [room.id], startsWithPrevious: parallel },
          { name: 'result', durationMinutes: 10, practitionerIds: [anna.id, ben.id] },
        ],
        { slotIntervalMinutes: 10, ...fields },
      );
      const both = [anna.scheduleId, ben.scheduleId];
      const wantedWith = (leaders: string[]): Wanted => [
        { offset: 0, minutes: 20, lanes: leaders },
        { offset: parallel ? 0 : 30, minutes: 30, lanes: [room.scheduleId] },
        { offset: parallel ? 30 : 60, minutes: 10, lanes: both },
      ];
      const { bufferBeforeMinutes = 0, bufferAfterMinutes = 0 } = fields as { [field: string]: number };
      const day = START.slice(0, 10);
      const opensAt = minutesOf(`${day}T08:00:00Z`);
      const slots = async () =>
        (await call('GET', `/v1/slots?serviceId=${service.id}&from=${day}T00:00:00Z&to=${day}T23:59:59Z&limit=1000`)).body.data as Array<{ startsAt: string; practitionerId: string; segments: Segment[] }>; // prettier-ignore
      let booked = 0;
      for (;;) {
        const offered = await slots();
        const rows = await sql('SELECT schedule_id, starts_at, ends_at FROM claim WHERE schedule_id = ANY($1)', [[...both, room.scheduleId]]); // prettier-ignore
        const busy = rows.map((row) => ({ scheduleId: row.schedule_id, start: minutesOf(row.starts_at), end: minutesOf(row.ends_at) })); // prettier-ignore
        const due: string[] = [];
        for (let start = opensAt; start < opensAt + 180; start += 10)
          for (const leader of [anna, ben].sort((a, b) => (a.id < b.id ? -1 : 1)))
            if (fits(wantedWith([leader.scheduleId]), start, busy, [opensAt, opensAt + 180], [bufferBeforeMinutes, bufferAfterMinutes])) due.push(`${at(start)} ${leader.id}`); // prettier-ignore
        expect(offered.map((each) => `${each.startsAt} ${each.practitionerId}`)).toEqual(due);
        const pick = offered[(booked * 7) % Math.max(1, offered.length)];
        if (!pick) break;
        // As it is offered: by the practitioner, or as its segments say.
        const how =
          booked % 2 === 0
            ? { practitionerId: pick.practitionerId }
            : {
                segments: pick.segments.map(({ practitionerId, roomId, startsAt }) => ({
                  practitionerId,
                  roomId,
                  startsAt,
                })),
              };
        const answer = await make.book({ serviceId: service.id, startsAt: pick.startsAt, ...how });
        expect([answer.status, answer.body.segments?.[0].practitionerId]).toEqual([201, pick.practitionerId]);
        booked += 1;
      }
      expect(booked).toBeGreaterThan(2);
      for (let start = opensAt; start < opensAt + 180; start += 10)
        expect((await make.book({ serviceId: service.id, startsAt: at(start) })).status).not.toBe(201);
    });

    it('a slot tells all segments', async () => {
      const { anna, service, planned } = await stage();
      const answer = await call('GET', `/v1/slots?serviceId=${service.id}&from=${START}&to=${at(1)}`);
      const [slot] = answer.body.data;
      expect(slot).toMatchObject({ startsAt: START, endsAt: at(70), practitionerId: anna.id, scheduleId: anna.scheduleId, remaining: 1 }); // prettier-ignore
      expect(placesOf(slot)).toEqual(planned(0));
      expect(slot.segments.map((each: Segment) => each.name)).toEqual(['talk', 'scan', 'result']);
    });
  });

  describe('are refused, and leave nothing:', () => {
    type Stage = Awaited<ReturnType<typeof stage>>;
    it.each<[string, number, string, string[], (stage: Stage) => Promise<object> | object]>([
      ['a segment too few', 400, 'validation_failed', ['/segments'], ({ named }) => ({ segments: named(0).slice(1) })],
      [
        'a segment too many',
        400,
        'validation_failed',
        ['/segments'],
        ({ named }) => ({ segments: [...named(0), named(0)[0]] }),
      ],
      ['no segment', 400, 'validation_failed', ['/segments'], () => ({ segments: [] })],
      [
        'a start that is not the first',
        400,
        'validation_failed',
        ['/startsAt'],
        ({ named }) => ({ segments: named(5) }),
      ],
      [
        'two at once on one schedule',
        400,
        'validation_failed',
        ['/segments/2'],
        ({ named, anna }) => ({ segments: [...named(0).slice(0, 2), { practitionerId: anna.id, startsAt: at(19) }] }),
      ],
      [
        'a segment with nobody',
        400,
        'validation_failed',
        ['/segments/0'],
        ({ named }) => ({ segments: [{ startsAt: START }, ...named(0).slice(1)] }),
      ],
      [
        'a segment with a practitioner and a room',
        400,
        'validation_failed',
        ['/segments/0'],
        ({ named, room }) => ({ segments: [{ ...named(0)[0], roomId: room.id }, ...named(0).slice(1)] }),
      ],
      [
        'segments, and a practitioner beside them',
        400,
        'validation_failed',
        ['/practitionerId'],
        ({ named, anna }) => ({ segments: named(0), practitionerId: anna.id }),
      ],
      [
        'somebody who does not serve the segment',
        422,
        'practitioner_not_eligible',
        [],
        ({ named, ben }) => ({ segments: [{ practitionerId: ben.id, startsAt: START }, ...named(0).slice(1)] }),
      ],
      [
        'a room for a practitioner',
        422,
        'practitioner_not_eligible',
        [],
        ({ named, room }) => ({ segments: [{ roomId: room.id, startsAt: START }, ...named(0).slice(1)] }),
      ],
      [
        'a practitioner who serves none of the segments',
        422,
        'practitioner_not_eligible',
        [],
        async () => ({ practitionerId: (await make.practitioner()).id }),
      ],
      [
        'somebody whom nobody knows',
        404,
        'not_found',
        [],
        ({ named }) => ({ segments: [...named(0).slice(0, 2), { practitionerId: NOBODY, startsAt: at(60) }] }),
      ],
      [
        "another organization's practitioner",
        404,
        'not_found',
        [],
        async ({ named }) => {
          const foreign = await maker(app.as((await addOrganization(app)).apiKey)).practitioner();
          return { segments: [...named(0).slice(0, 2), { practitionerId: foreign.id, startsAt: at(60) }] };
        },
      ],
      [
        "another organization's room",
        404,
        'not_found',
        [],
        async ({ named }) => {
          const foreign = await maker(app.as((await addOrganization(app)).apiKey)).room();
          return { segments: [named(0)[0], { roomId: foreign.id, startsAt: at(30) }, named(0)[2]] };
        },
      ],
    ])('%s', async (_, status, code, pointers, more) => {
      const it = await stage();
      const body = await more(it);
      const before = await contentsOf(sql);
      expect(problemOf(await it.book(START, body))).toEqual(problem(status, code, ...pointers));
      expect(await contentsOf(sql)).toEqual(before);
    });

    it('segments of a service that has none', async () => {
      const { service, practitioner } = await make.lane();
      const segments = [{ practitionerId: practitioner.id, startsAt: START }];
      const before = await contentsOf(sql);
      const answer = await make.book({ serviceId: service.id, startsAt: START, segments });
      expect(problemOf(answer)).toEqual(problem(400, 'validation_failed', '/segments'));
      expect(await contentsOf(sql)).toEqual(before);
    });

    it.each([
      ['planned', false],
      ['named', true],
    ])('one part that somebody has, and tells which (%s)', async (_, isNamed) => {
      const { anna, ben, named, book, occupy, service } = await stage();
      await occupy(anna, 60);
      await occupy(ben, 60);
      const before = await contentsOf(sql);
      const answer = await book(START, isNamed ? { segments: named(0) } : {});
      expect(problemOf(answer)).toEqual(problem(409, 'slot_taken'));
      expect(answer.body.segments).toMatchObject([
        { index: 0, name: 'talk', code: null },
        { index: 1, name: 'scan', code: null },
        { index: 2, name: 'result', code: 'slot_taken' },
      ]);
      expect(await contentsOf(sql)).toEqual(before);
      expect(answer.body.alternatives).toHaveLength(3);
      for (const { startsAt, segments } of answer.body.alternatives) {
        const wanted = segments.map(({ practitionerId, roomId, startsAt: at }: Segment) => ({ practitionerId, roomId, startsAt: at })); // prettier-ignore
        const taken = await make.book({ serviceId: service.id, startsAt, segments: wanted });
        expect(taken.status).toBe(201);
        await make.act(taken.body.id, 'cancel');
      }
    });

    it.each([
      ['planned', false],
      ['named', true],
    ])('one part outside the hours, and tells which, before that another one is taken (%s)', async (_, isNamed) => {
      const { anna, room, named, book, occupy } = await stage();
      await occupy(anna, 0);
      await make.setHours(room.scheduleId, []);
      const before = await contentsOf(sql);
      const answer = await book(START, isNamed ? { segments: named(0) } : {});
      expect(problemOf(answer)).toEqual(problem(422, 'outside_hours'));
      expect(answer.body.segments).toMatchObject([
        { index: 0, code: 'slot_taken' },
        { index: 1, code: 'outside_hours' },
        { index: 2, code: null },
      ]);
      expect(await contentsOf(sql)).toEqual(before);
    });

    it('a part that nobody serves any more', async () => {
      const { room, book } = await stage();
      expect((await call('DELETE', `/v1/rooms/${room.id}`)).status).toBe(204);
      expect(problemOf(await book(START))).toEqual(problem(422, 'practitioner_not_eligible'));
    });
  });

  describe('in all their states', () => {
    const slotsLeft = async (serviceId: string) =>
      (await call('GET', `/v1/slots?serviceId=${serviceId}&from=${START}&to=${at(1)}`)).body.data.length;

    it('held, confirmed, cancelled: all of it or nothing', async () => {
      const { service, book, planned } = await stage();
      const held = made(await book(START, { hold: true }));
      expect(held.status).toBe('held');
      expect(await claimsOf(held.id)).toEqual(planned(0));
      expect(await slotsLeft(service.id)).toBe(0);
      const confirmed = await make.act(held.id, 'confirm');
      expect([confirmed.status, confirmed.body.status]).toEqual([200, 'confirmed']);
      expect(await sql('SELECT expires_at FROM claim WHERE holder = $1 AND expires_at IS NOT NULL', [held.id])).toEqual(
        [],
      );
      expect((await make.act(held.id, 'cancel')).body.status).toBe('cancelled');
      expect(await claimsOf(held.id)).toEqual([]);
      expect(await slotsLeft(service.id)).toBe(1);
      made(await book(START));
    });

    it('a hold that is over frees all of it, and is confirmed late while nobody has any of it', async () => {
      const { service, book, planned } = await stage();
      const held = made(await book(START, { hold: true }));
      await lapse(sql, held.id);
      expect(await slotsLeft(service.id)).toBe(1);
      expect((await read(held.id)).status).toBe('expired');
      const confirmed = await make.act(held.id, 'confirm');
      expect([confirmed.status, confirmed.body.status]).toEqual([200, 'confirmed']);
      expect(placesOf(confirmed.body)).toEqual(planned(0));
      expect(await claimsOf(held.id)).toEqual(planned(0));
    });

    it('a hold that is over and lost one part is not confirmed any more', async () => {
      const { ben, anna, book, occupy, tryAt } = await stage();
      const held = made(await book(START, { hold: true }));
      await lapse(sql, held.id);
      await occupy(anna, 60);
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
      // What is left of it is in nobody's way.
      made(await tryAt(anna, 0));
      made(await tryAt(ben, 60));
    });

    it('the sweeper frees all of it', async () => {
      const { book } = await stage();
      const held = made(await book(START, { hold: true }));
      await lapse(sql, held.id);
      await app.app.get(ExpiryService, { strict: false }).sweep();
      expect(await claimsOf(held.id)).toEqual([]);
      expect(await sql('SELECT status FROM appointment WHERE id = $1', [held.id])).toEqual([{ status: 'expired' }]);
    });

    it.each(['complete', 'no-show'])('%s frees all of it', async (action) => {
      const { book } = await stage();
      const { id } = made(await book(START));
      if (action === 'complete') await make.act(id, 'check-in');
      else await sql(`UPDATE appointment SET starts_at = now() - interval '1 hour' WHERE id = $1`, [id]);
      expect((await make.act(id, action)).status).toBe(200);
      expect(await claimsOf(id)).toEqual([]);
    });

    it('a request keeps all of it until it is decided on', async () => {
      const { book, planned } = await stage({ requiresConfirmation: true });
      const asked = made(await book(START));
      expect(asked.status).toBe('pending');
      expect((await make.act(asked.id, 'confirm')).body.status).toBe('confirmed');
      expect(await claimsOf(asked.id)).toEqual(planned(0));
    });
  });

  describe('are moved', () => {
    it('planned anew, with the same people as far as they can', async () => {
      const [anna, ben, room] = [await make.practitioner(), await make.practitioner(), await roomThatIsOpen()];
      const service = await compositeOf([
        { name: 'talk', durationMinutes: 20, practitionerIds: [anna.id, ben.id] },
        { name: 'scan', durationMinutes: 10, roomIds: [room.id] },
      ]);
      for (const [one, other] of [
        [anna, ben],
        [ben, anna],
      ] as const) {
        // prettier-ignore
        const booked = made(await make.book({ serviceId: service.id, startsAt: START, practitionerId: one.id }));
        const moved = await make.act(booked.id, 'reschedule', { startsAt: at(200) });
        expect([moved.status, moved.headers.get('etag')]).toEqual([200, '"2"']);
        expect(placesOf(moved.body)).toEqual([[one.scheduleId, 200, 220], [room.scheduleId, 220, 230]]); // prettier-ignore
        expect(await claimsOf(booked.id)).toEqual(placesOf(moved.body));
        expect([moved.body.startsAt, moved.body.endsAt]).toEqual([at(200), at(230)]);
        made(await make.book({ serviceId: service.id, startsAt: at(300), segments: [{ practitionerId: one.id, startsAt: at(300) }, { roomId: room.id, startsAt: at(320) }] })); // prettier-ignore
        const again = await make.act(booked.id, 'reschedule', { startsAt: at(310) });
        expect(placesOf(again.body)).toEqual([[other.scheduleId, 310, 330], [room.scheduleId, 330, 340]]); // prettier-ignore
        for (const { id } of (await call('GET', `/v1/appointments?practitionerId=${one.id}`)).body.data)
          await make.act(id, 'cancel');
        await make.act(booked.id, 'cancel');
      }
    });

    it.each([10, -10, 30, 60, 0])('into its own time, by %d minutes', async (minutes) => {
      const { book, planned } = await stage({ bufferBeforeMinutes: 5, bufferAfterMinutes: 5 });
      const { id } = made(await book(START));
      const moved = await make.act(id, 'reschedule', { startsAt: at(minutes) });
      expect([moved.status, placesOf(moved.body)]).toEqual([200, planned(minutes)]);
      expect(await claimsOf(id)).toHaveLength(3);
    });

    it('as named, one part alone', async () => {
      const { ben, book, named } = await stage();
      const { id } = made(await book(START));
      const segments = [...named(0).slice(0, 2), { practitionerId: ben.id, startsAt: at(90) }];
      const moved = await make.act(id, 'reschedule', { startsAt: START, segments });
      expect([moved.status, moved.body.endsAt]).toEqual([200, at(100)]);
      expect(placesOf(moved.body)[2]).toEqual([ben.scheduleId, 90, 100]);
      const wrong = await make.act(id, 'reschedule', { startsAt: at(1), segments });
      expect(problemOf(wrong)).toEqual(problem(400, 'validation_failed', '/startsAt'));
    });

    it('to a practitioner who is named, for what he can do', async () => {
      const { ben, anna, book } = await stage();
      const { id } = made(await book(START));
      const moved = await make.act(id, 'reschedule', { startsAt: at(100), practitionerId: ben.id });
      expect(moved.status).toBe(200);
      expect(moved.body.segments.map((each: Segment) => each.practitionerId)).toEqual([anna.id, undefined, ben.id]);
    });

    it('not to where one part is taken: it stays as it was', async () => {
      const { anna, ben, book, occupy } = await stage();
      const booked = made(await book(START));
      await occupy(anna, 260);
      await occupy(ben, 260);
      const before = await contentsOf(sql);
      const refused = await make.act(booked.id, 'reschedule', { startsAt: at(200) });
      expect(problemOf(refused)).toEqual(problem(409, 'slot_taken'));
      expect(refused.body.segments).toMatchObject([{ code: null }, { code: null }, { code: 'slot_taken' }]);
      expect(await contentsOf(sql)).toEqual(before);
      expect(await read(booked.id)).toEqual(booked);
    });

    it('not with a version that is stale', async () => {
      const { book } = await stage();
      const { id } = made(await book(START));
      expect((await make.act(id, 'reschedule', { startsAt: at(100) }, { 'If-Match': '"1"' })).status).toBe(200);
      const stale = await make.act(id, 'reschedule', { startsAt: at(200) }, { 'If-Match': '"1"' });
      expect(problemOf(stale)).toEqual(problem(412, 'version_stale'));
      expect((await read(id)).startsAt).toBe(at(100));
    });

    it('and their history tells all places', async () => {
      const { anna, room, ben, book, named } = await stage();
      const { id } = made(await book(START));
      await make.act(id, 'reschedule', { startsAt: at(100), segments: named(100, ben), reason: 'Bus' });
      const { data } = (await call('GET', `/v1/appointments/${id}/history`)).body;
      const place = (minutes: number, result: { id: string }) => ({
        startsAt: at(minutes),
        endsAt: at(minutes + 70),
        practitionerId: anna.id,
        segments: [
          { name: 'talk', practitionerId: anna.id, startsAt: at(minutes), endsAt: at(minutes + 20) },
          { name: 'scan', roomId: room.id, startsAt: at(minutes + 30), endsAt: at(minutes + 60) },
          { name: 'result', practitionerId: result.id, startsAt: at(minutes + 60), endsAt: at(minutes + 70) },
        ],
      });
      expect(data[1]).toMatchObject({
        action: 'reschedule',
        reason: 'Bus',
        details: { from: place(0, anna), to: place(100, ben) },
      });
    });
  });

  it('under one Idempotency-Key are booked once', async () => {
    const { service } = await stage();
    const body = { serviceId: service.id, startsAt: START, patient: { phone: newPhone() } };
    const send = () => call('POST', '/v1/appointments', { body, headers: { 'Idempotency-Key': newPhone() + START } });
    const key = { 'Idempotency-Key': `visit ${newPhone()}` };
    const first = await call('POST', '/v1/appointments', { body, headers: key });
    const again = await call('POST', '/v1/appointments', { body, headers: key });
    expect([first.status, again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 201, 'true']);
    expect(again.body).toEqual(first.body);
    expect(problemOf(await send())).toEqual(problem(409, 'slot_taken'));
  });

  it('are held against what a patient may have at once, to the end of the last part', async () => {
    const other = app.as((await addOrganization(app)).apiKey);
    await other('PATCH', '/v1/organization', { body: { patientRules: { allowOverlap: false } } });
    const theirs = maker(other);
    const [one, two] = [await theirs.practitioner(), await theirs.practitioner()];
    const segments = [
      { name: 'a', durationMinutes: 10, gapAfterMinutes: 40, practitionerIds: [one.id] },
      { name: 'b', durationMinutes: 10, practitionerIds: [one.id] },
    ];
    const visit = await other('POST', '/v1/services', { body: { name: 'Visit', segments } });
    const single = await theirs.service([two.id], { durationMinutes: 10 });
    const patient = await theirs.patient();
    const booked = await theirs.book({ serviceId: visit.body.id, startsAt: START, patientId: patient.id });
    expect(booked.status).toBe(201);
    const beside = (minutes: number) =>
      theirs.book({ serviceId: single.id, startsAt: at(minutes), patientId: patient.id });
    for (const minutes of [0, 20, 59]) expect([minutes, (await beside(minutes)).status]).toEqual([minutes, 409]);
    expect((await beside(60)).status).toBe(201);
    const moved = await theirs.act(booked.body.id, 'reschedule', { startsAt: at(5) });
    expect(moved.status).toBe(409);
    expect((await theirs.act(booked.body.id, 'reschedule', { startsAt: at(-5) })).status).toBe(200);
  });

  it('are held against it to the end of the last part as it is planned under the locks', async () => {
    const other = app.as((await addOrganization(app)).apiKey);
    await other('PATCH', '/v1/organization', { body: { patientRules: { allowOverlap: false } } });
    const theirs = maker(other);
    const [one, two, three] = [await theirs.practitioner(), await theirs.practitioner(), await theirs.practitioner()];
    const segments = [
      { name: 'a', durationMinutes: 10, maxWaitMinutes: 30, practitionerIds: [one.id] },
      { name: 'b', durationMinutes: 10, practitionerIds: [two.id] },
    ];
    const visit = (await other('POST', '/v1/services', { body: { name: 'Visit', segments } })).body;
    const single = await theirs.service([two.id, three.id], { durationMinutes: 20 });
    const patient = { patientId: (await theirs.patient()).id };
    made(await theirs.book({ serviceId: single.id, practitionerId: two.id, startsAt: at(10) }));
    made(await theirs.book({ serviceId: single.id, practitionerId: three.id, startsAt: at(35), ...patient }));
    const far = made(await theirs.book({ serviceId: visit.id, startsAt: at(200), ...patient }));
    // Without waiting it would end before; the second practitioner is free only when the patient is not.
    expect((await theirs.book({ serviceId: visit.id, startsAt: START, ...patient })).status).toBe(409);
    expect((await theirs.act(far.id, 'reschedule', { startsAt: START })).status).toBe(409);
    made(await theirs.book({ serviceId: visit.id, startsAt: START }));
  });

  it('two at once, their segments in opposite orders, never wait for each other', async () => {
    const [anna, ben] = [await make.practitioner(), await make.practitioner()];
    const both = [anna.id, ben.id];
    const service = await compositeOf([
      { name: 'first', durationMinutes: 10, practitionerIds: both },
      { name: 'second', durationMinutes: 10, practitionerIds: both },
    ]);
    const order = (start: number, one: { id: string }, other: { id: string }) => ({
      startsAt: at(start),
      segments: [
        { practitionerId: one.id, startsAt: at(start) },
        { practitionerId: other.id, startsAt: at(start + 10) },
      ],
    });
    for (let round = 0; round < 8; round++) {
      const start = round * 60;
      // The same two, at the same times, the other way round: nobody has what the other one wants.
      const apart = await Promise.all([
        make.book({ serviceId: service.id, ...order(start, anna, ben) }),
        make.book({ serviceId: service.id, ...order(start, ben, anna) }),
      ]);
      expect(apart.map((each) => each.status)).toEqual([201, 201]);
      // Half an hour on, five minutes apart: they meet on both.
      const meeting = await Promise.all([
        make.book({ serviceId: service.id, ...order(start + 30, anna, ben) }),
        make.book({ serviceId: service.id, ...order(start + 35, ben, anna) }),
        make.book({ serviceId: service.id, startsAt: at(start + 30) }),
      ]);
      const statuses = meeting.map((each) => each.status);
      expect(statuses.every((status) => status === 201 || status === 409)).toBe(true);
      expect(statuses.filter((status) => status === 201).length).toBeGreaterThan(0);
    }
    const [row] = await sql(`SELECT count(*)::integer AS segments, (SELECT count(*)::integer FROM claim WHERE schedule_id = ANY($1)) AS claims
                             FROM appointment_segment WHERE schedule_id = ANY($1)`, [[anna.scheduleId, ben.scheduleId]]); // prettier-ignore
    expect(row.segments).toBe(row.claims);
    const [{ overlaps }] = await sql(
      `SELECT count(*)::integer AS overlaps FROM appointment_segment a JOIN appointment_segment b USING (schedule_id)
       WHERE (a.appointment_id, a.position) < (b.appointment_id, b.position) AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at
         AND schedule_id = ANY($1)`,
      [[anna.scheduleId, ben.scheduleId]],
    );
    expect(overlaps).toBe(0);
  });
});
