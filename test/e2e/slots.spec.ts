import { inDays, maker, problem, problemOf } from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp, workday } from '../support/app';

interface Slot {
  startsAt: string;
  endsAt: string;
  practitionerId: string;
  scheduleId: string;
  mode: string;
}

const MINUTE = 60_000;

describe('slots and bookings agree', () => {
  let app: TestApp;
  let call: Caller;
  let clinic: Awaited<ReturnType<typeof seedClinic>>;
  let make: ReturnType<typeof maker>;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    make = maker(call);
  });
  afterAll(() => app.stop());

  const DAY = workday(20);
  const at = (time: string, day = DAY) => `${day}T${time}:00Z`;
  const nextDay = (day = DAY) => new Date(Date.parse(at('00:00', day)) + 1_440 * MINUTE).toISOString().slice(0, 10);
  const search = (serviceId: string, query = '', from = at('00:00'), to = at('00:00', nextDay())) =>
    call('GET', `/v1/slots?serviceId=${serviceId}&from=${from}&to=${to}${query}`);
  const slotsOf = async (...args: Parameters<typeof search>): Promise<Slot[]> => {
    const answer = await search(...args);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body.data;
  };
  const startsOf = async (...args: Parameters<typeof search>) => (await slotsOf(...args)).map((slot) => slot.startsAt);
  const everyDay = (...spans: Array<[string, string]>) =>
    [1, 2, 3, 4, 5, 6, 7].flatMap((weekday) => spans.map(([start, end]) => ({ weekday, start, end })));
  /** Open at these hours of UTC. */
  const lane = async (fields: object, ...spans: Array<[string, string]>) => {
    const practitioner = await make.practitioner({ hours: everyDay(...spans), timeZone: 'Etc/UTC' });
    const service = await make.service([practitioner.id], fields);
    return { practitioner, service };
  };

  it('shows a slot as the contract does', async () => {
    const { practitioner, service } = await lane({ modes: ['in_person', 'video'] }, ['08:00', '09:00']);
    const answer = await search(service.id);
    const slot = (startsAt: string, endsAt: string) => ({
      startsAt,
      endsAt,
      practitionerId: practitioner.id,
      scheduleId: practitioner.scheduleId,
      mode: 'in_person',
      remaining: 1,
      segments: [
        { name: null, scheduleId: practitioner.scheduleId, practitionerId: practitioner.id, startsAt, endsAt },
      ],
    });
    expect(answer.body).toEqual({
      data: [slot(at('08:00'), at('08:30')), slot(at('08:30'), at('09:00'))],
      asOf: expect.stringMatching(/Z$/),
    });
    expect(Math.abs(Date.parse(answer.body.asOf) - Date.now())).toBeLessThan(60_000);
    const video = await slotsOf(service.id, '&mode=video');
    expect(video.map((each) => [each.startsAt, each.mode])).toEqual([
      [at('08:00'), 'video'],
      [at('08:30'), 'video'],
    ]);
  });

  /** Who books every slot that is offered, as it is offered then, finds each accepted, until none is left. */
  describe.each<[string, { durationMinutes: number; [field: string]: number }, Array<[string, string]>]>([
    ['half an hour', { durationMinutes: 30 }, [['08:00', '12:00']]],
    [
      'buffers on both sides',
      { durationMinutes: 30, bufferBeforeMinutes: 10, bufferAfterMinutes: 5 },
      [['08:00', '12:00']],
    ],
    [
      'a buffer before, and an interval smaller than the duration',
      { durationMinutes: 40, bufferBeforeMinutes: 15, slotIntervalMinutes: 10 },
      [['08:00', '11:00']],
    ],
    [
      'a buffer after, and an interval larger than the duration',
      { durationMinutes: 20, bufferAfterMinutes: 30, slotIntervalMinutes: 45 },
      [['08:00', '13:00']],
    ],
    [
      'odd hours',
      { durationMinutes: 25, slotIntervalMinutes: 7 },
      [
        ['08:07', '09:53'],
        ['10:01', '10:26'],
        ['11:00', '11:24'],
      ],
    ],
    [
      'hours that touch',
      { durationMinutes: 50 },
      [
        ['08:00', '09:00'],
        ['09:00', '11:00'],
      ],
    ],
    ['the whole day', { durationMinutes: 120, bufferBeforeMinutes: 30, slotIntervalMinutes: 60 }, [['00:00', '24:00']]],
    [
      'long buffers over midnight',
      { durationMinutes: 60, bufferBeforeMinutes: 300, bufferAfterMinutes: 400 },
      [['00:00', '24:00']],
    ],
    ['a single minute', { durationMinutes: 1, slotIntervalMinutes: 5 }, [['23:50', '24:00']]],
  ])('%s', (_, fields, spans) => {
    const open = spans.map(
      ([start, end]) =>
        [Date.parse(at(start)), end === '24:00' ? Date.parse(at('00:00', nextDay())) : Date.parse(at(end))] as const,
    );
    const {
      durationMinutes,
      bufferBeforeMinutes = 0,
      bufferAfterMinutes = 0,
      slotIntervalMinutes = durationMinutes,
    } = fields;
    const isInside = (start: number) => {
      const merged: Array<[number, number]> = [];
      for (const [from, to] of open) {
        const last = merged.at(-1);
        if (last && last[1] === from) last[1] = to;
        else merged.push([from, to]);
      }
      // What is open round the clock is open tomorrow, too.
      const endless = spans[0]![0] === '00:00' && spans[0]![1] === '24:00';
      return merged.some(
        ([from, to]) => from <= start && (endless ? start < to : start + durationMinutes * MINUTE <= to),
      );
    };
    const grid = open.flatMap(([from, to]) =>
      Array.from(
        { length: Math.ceil((to - from) / (slotIntervalMinutes * MINUTE)) },
        (_unused, n) => from + n * slotIntervalMinutes * MINUTE,
      ),
    );
    const isClear = (start: number, booked: number[]) =>
      booked.every(
        (other) =>
          start - bufferBeforeMinutes * MINUTE >= other + (durationMinutes + bufferAfterMinutes) * MINUTE ||
          other - bufferBeforeMinutes * MINUTE >= start + (durationMinutes + bufferAfterMinutes) * MINUTE,
      );
    const offeredBy = (booked: number[]) =>
      [...new Set(grid)].filter((start) => isInside(start) && isClear(start, booked)).sort((a, b) => a - b);

    it('every slot offered can be booked, in whatever order', async () => {
      for (const pick of ['first', 'last', 'middle'] as const) {
        const { service } = await lane(fields, ...spans);
        const booked: number[] = [];
        for (;;) {
          const starts = (await startsOf(service.id, '&limit=1000')).map((text) => Date.parse(text));
          expect(starts).toEqual(offeredBy(booked));
          if (starts.length === 0) break;
          const index = { first: 0, last: starts.length - 1, middle: starts.length >> 1 }[pick];
          const startsAt = starts[index]!;
          const answer = await make.book({ serviceId: service.id, startsAt: new Date(startsAt).toISOString() });
          expect([new Date(startsAt).toISOString(), answer.status, answer.body.code]).toEqual([
            new Date(startsAt).toISOString(),
            201,
            undefined,
          ]);
          booked.push(startsAt);
        }
        expect(booked.length).toBeGreaterThan(0);
      }
    });

    it('what is not offered is accepted or refused by the same rules', async () => {
      const { service } = await lane(fields, ...spans);
      const booked: number[] = [];
      const first = grid[grid.length >> 1]!;
      const probes = [first, ...grid].flatMap((start) => [0, 3, -4, 11].map((minutes) => start + minutes * MINUTE));
      for (const start of probes.slice(0, 60)) {
        if (start < Date.parse(at('00:00')) || start >= Date.parse(at('00:00', nextDay()))) continue;
        const answer = await make.book({ serviceId: service.id, startsAt: new Date(start).toISOString() });
        const expected = !isInside(start) ? 'outside_hours' : isClear(start, booked) ? undefined : 'slot_taken';
        expect([new Date(start).toISOString(), answer.body.code]).toEqual([new Date(start).toISOString(), expected]);
        expect(answer.status).toBe(expected === undefined ? 201 : expected === 'slot_taken' ? 409 : 422);
        if (answer.status === 201) booked.push(start);
      }
    });
  });

  it('a time that is lost comes with others that can be booked', async () => {
    const { service, practitioner } = await lane({ bufferAfterMinutes: 5, slotIntervalMinutes: 15 }, [
      '08:00',
      '12:00',
    ]);
    const startsAt = at('09:00');
    expect((await make.book({ serviceId: service.id, startsAt })).status).toBe(201);
    for (const lost of [startsAt, at('09:10'), at('08:50')]) {
      const answer = await make.book({ serviceId: service.id, practitionerId: practitioner.id, startsAt: lost });
      expect(problemOf(answer)).toEqual(problem(409, 'slot_taken'));
      expect(answer.body.alternatives).toHaveLength(3);
      const offered = await slotsOf(service.id, '&limit=1000', at('00:00'), at('23:00', nextDay()));
      for (const slot of answer.body.alternatives as Slot[]) expect(offered).toContainEqual(slot);
      const [slot] = answer.body.alternatives as [Slot];
      const { practitionerId, startsAt: instead, mode } = slot;
      const second = await make.book({ serviceId: service.id, practitionerId, startsAt: instead, mode });
      expect(second.status).toBe(201);
      expect((await call('POST', `/v1/appointments/${second.body.id}/cancel`, { body: {} })).status).toBe(200);
    }
  });

  it('all three alternatives can be booked when they do not overlap', async () => {
    const { service } = await lane({}, ['08:00', '12:00']);
    expect((await make.book({ serviceId: service.id, startsAt: at('10:00') })).status).toBe(201);
    const lost = await make.book({ serviceId: service.id, startsAt: at('10:00') });
    for (const { startsAt, practitionerId } of lost.body.alternatives as Slot[]) {
      expect((await make.book({ serviceId: service.id, practitionerId, startsAt })).status).toBe(201);
    }
  });

  it('a full practitioner is replaced by a colleague', async () => {
    const hours = everyDay(['08:00', '08:30']);
    const [one, two] = [
      await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
      await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
    ];
    const service = await make.service([one.id, two.id], { maxDaysAhead: 21 });
    const want = { serviceId: service.id, practitionerId: one.id };
    const days = await slotsOf(service.id, `&practitionerId=${one.id}`, inDays(0), inDays(30));
    for (const { startsAt } of days) expect((await make.book({ ...want, startsAt })).status).toBe(201);
    const lost = await make.book({ ...want, startsAt: days[5]!.startsAt });
    expect(problemOf(lost)).toEqual(problem(409, 'slot_taken'));
    expect(lost.body.alternatives.map((slot: Slot) => slot.practitionerId)).toEqual([two.id, two.id, two.id]);
  });

  it('two services of one practitioner take time from each other', async () => {
    const { practitioner, service } = await lane({ durationMinutes: 60 }, ['08:00', '12:00']);
    const other = await make.service([practitioner.id], { durationMinutes: 20, bufferBeforeMinutes: 10 });
    expect((await make.book({ serviceId: service.id, startsAt: at('09:00') })).status).toBe(201);
    expect(await startsOf(other.id)).toEqual(
      ['08:00', '08:20', '08:40', '10:20', '10:40', '11:00', '11:20', '11:40'].map((time) => at(time)),
    );
    expect((await make.book({ serviceId: other.id, startsAt: at('10:09') })).status).toBe(409);
    expect((await make.book({ serviceId: other.id, startsAt: at('10:10') })).status).toBe(201);
  });

  it('buffers of neighbours add up, and may reach into closed time', async () => {
    const { service } = await lane({ bufferBeforeMinutes: 10, bufferAfterMinutes: 20, slotIntervalMinutes: 5 }, [
      '08:00',
      '10:00',
    ]);
    expect((await make.book({ serviceId: service.id, startsAt: at('08:00') })).status).toBe(201);
    expect((await make.book({ serviceId: service.id, startsAt: at('08:59') })).status).toBe(409);
    expect((await make.book({ serviceId: service.id, startsAt: at('09:00') })).status).toBe(201);
    expect(await startsOf(service.id)).toEqual([]);
  });

  describe('the rules of a service', () => {
    it('notice', async () => {
      const { service } = await lane({ minNoticeMinutes: 2880, slotIntervalMinutes: 60 }, ['00:00', '24:00']);
      const now = Date.now();
      const starts = await startsOf(service.id, '&limit=1000', inDays(0), inDays(5));
      expect(Date.parse(starts[0]!)).toBeGreaterThanOrEqual(now + 2880 * MINUTE);
      expect(Date.parse(starts[0]!)).toBeLessThan(now + (2880 + 61) * MINUTE);
      const soon = new Date(now + 2870 * MINUTE).toISOString();
      expect(problemOf(await make.book({ serviceId: service.id, startsAt: soon }))).toEqual(
        problem(422, 'notice_too_short'),
      );
      expect((await make.book({ serviceId: service.id, startsAt: starts[0]! })).status).toBe(201);
    });

    it('window', async () => {
      const { service } = await lane({ maxDaysAhead: 10, slotIntervalMinutes: 60 }, ['00:00', '24:00']);
      const now = Date.now();
      const starts = await startsOf(service.id, '&limit=1000', inDays(9), inDays(20));
      const last = starts.at(-1)!;
      expect(Date.parse(last)).toBeLessThanOrEqual(Date.now() + 10 * 1440 * MINUTE);
      expect(Date.parse(last)).toBeGreaterThan(now + (10 * 1440 - 61) * MINUTE);
      const late = new Date(now + (10 * 1440 + 10) * MINUTE).toISOString();
      expect(problemOf(await make.book({ serviceId: service.id, startsAt: late }))).toEqual(
        problem(422, 'too_far_ahead'),
      );
      expect((await make.book({ serviceId: service.id, startsAt: last })).status).toBe(201);
    });

    it('the past', async () => {
      const { service } = await lane({}, ['00:00', '24:00']);
      expect(await startsOf(service.id, '', inDays(-3), inDays(0))).toEqual([]);
      const startsAt = new Date(Date.now() - 5 * MINUTE).toISOString();
      expect(problemOf(await make.book({ serviceId: service.id, startsAt }))).toEqual(problem(422, 'in_the_past'));
    });

    it('mode', async () => {
      const { service } = await lane({ modes: ['video'] }, ['08:00', '09:00']);
      expect(await startsOf(service.id, '&mode=in_person')).toEqual([]);
      expect(await startsOf(service.id, '&mode=video')).toHaveLength(2);
      expect((await slotsOf(service.id))[0]!.mode).toBe('video');
      const refused = await make.book({ serviceId: service.id, startsAt: at('08:00'), mode: 'in_person' });
      expect(problemOf(refused)).toEqual(problem(400, 'validation_failed', '/mode'));
      expect((await make.book({ serviceId: service.id, startsAt: at('08:00') })).body.mode).toBe('video');
    });
  });

  describe('who and where', () => {
    it('a named practitioner, or any', async () => {
      const hours = everyDay(['08:00', '09:00']);
      const [one, two] = [
        await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
        await make.practitioner({ hours, timeZone: 'Etc/UTC' }),
      ];
      const service = await make.service([one.id, two.id]);
      const both = await slotsOf(service.id);
      const ordered = [String(one.id), String(two.id)].sort();
      expect(both.map((slot) => [slot.startsAt, slot.practitionerId])).toEqual([
        [at('08:00'), ordered[0]],
        [at('08:00'), ordered[1]],
        [at('08:30'), ordered[0]],
        [at('08:30'), ordered[1]],
      ]);
      const named = await slotsOf(service.id, `&practitionerId=${two.id}`);
      expect(named.map((slot) => slot.practitionerId)).toEqual([two.id, two.id]);
      const first = await make.book({ serviceId: service.id, startsAt: at('08:00') });
      const second = await make.book({ serviceId: service.id, startsAt: at('08:00') });
      expect([first, second].map((each) => String(each.body.segments[0].practitionerId)).sort()).toEqual(ordered);
      expect(await startsOf(service.id)).toEqual([at('08:30'), at('08:30')]);
      const stranger = await make.practitioner();
      expect(problemOf(await search(service.id, `&practitionerId=${stranger.id}`))).toEqual(
        problem(422, 'practitioner_not_eligible'),
      );
    });

    it('a location: of the hours, else of the practitioner', async () => {
      const [north, south] = [await make.location(), await make.location()];
      const hours = [
        ...everyDay(['08:00', '09:00']),
        ...everyDay(['10:00', '11:00']).map((each) => ({ ...each, locationId: south.id })),
      ];
      const practitioner = await make.practitioner({ hours, timeZone: 'Etc/UTC', locationId: north.id });
      const service = await make.service([practitioner.id]);
      expect(await startsOf(service.id, `&locationId=${north.id}`)).toEqual([at('08:00'), at('08:30')]);
      expect(await startsOf(service.id, `&locationId=${south.id}`)).toEqual([at('10:00'), at('10:30')]);
      const elsewhere = await make.location();
      expect(await startsOf(service.id, `&locationId=${elsewhere.id}`)).toEqual([]);
    });

    it('a practitioner who was deleted is offered no more', async () => {
      const { practitioner, service } = await lane({}, ['08:00', '09:00']);
      expect((await call('DELETE', `/v1/practitioners/${practitioner.id}`)).status).toBe(204);
      expect(await startsOf(service.id)).toEqual([]);
      const any = await make.book({ serviceId: service.id, startsAt: at('08:00') });
      expect(problemOf(any)).toEqual(problem(422, 'practitioner_not_eligible'));
      const named = await make.book({ serviceId: service.id, startsAt: at('08:00'), practitionerId: practitioner.id });
      expect(problemOf(named)).toEqual(problem(404, 'not_found'));
    });

    it('a service that was deleted is offered no more', async () => {
      const { service } = await lane({}, ['08:00', '09:00']);
      expect((await call('DELETE', `/v1/services/${service.id}`)).status).toBe(204);
      expect(problemOf(await search(service.id))).toEqual(problem(404, 'not_found'));
      expect(problemOf(await make.book({ serviceId: service.id, startsAt: at('08:00') }))).toEqual(
        problem(404, 'not_found'),
      );
    });
  });

  describe('the window of a search', () => {
    it('begins with from, ends before to, whatever the offset', async () => {
      const { service } = await lane({}, ['08:00', '10:00']);
      expect(await startsOf(service.id, '', at('08:30'), at('09:30'))).toEqual([at('08:30'), at('09:00')]);
      expect(await startsOf(service.id, '', at('08:31'), at('09:31'))).toEqual([at('09:00'), at('09:30')]);
      const offset = (time: string) => encodeURIComponent(at(time).replace('Z', '+05:30'));
      expect(await startsOf(service.id, '', offset('14:00'), offset('15:00'))).toEqual([at('08:30'), at('09:00')]);
      expect(await startsOf(service.id, '', at('14:00').replace('Z', '+05:30'), offset('15:00'))).toHaveLength(2);
    });

    it('the grid does not depend on it', async () => {
      const { service } = await lane({ durationMinutes: 25, slotIntervalMinutes: 35 }, ['08:05', '12:00']);
      const all = await startsOf(service.id);
      const pieces: string[] = [];
      for (let minute = 480; minute < 720; minute += 17) {
        const time = (value: number) => new Date(Date.parse(at('00:00')) + value * MINUTE).toISOString();
        pieces.push(...(await startsOf(service.id, '', time(minute), time(Math.min(minute + 17, 720)))));
      }
      expect(pieces).toEqual(all);
    });

    it('62 days at most, and never backwards', async () => {
      const { service } = await lane({}, ['08:00', '08:30']);
      const exact = await search(service.id, '&limit=1000', inDays(1), inDays(63));
      expect([exact.status, exact.body.data.length]).toEqual([200, 62]);
      const more = await search(service.id, '', inDays(1), inDays(63, '00:00').replace(':00Z', ':01Z'));
      expect(problemOf(more)).toEqual(problem(400, 'validation_failed', 'to'));
      for (const to of [inDays(1), inDays(0)]) {
        expect(problemOf(await search(service.id, '', inDays(1), to))).toEqual(problem(400, 'validation_failed', 'to'));
      }
    });

    it('limit: 100 unless told, 1,000 at most, and the first ones', async () => {
      const { service } = await lane({ durationMinutes: 5 }, ['00:00', '24:00']);
      const range = [at('00:00'), at('00:00', nextDay(nextDay(nextDay(nextDay(nextDay())))))] as const;
      const all = await startsOf(service.id, '&limit=1000', ...range);
      expect(all).toHaveLength(1000);
      expect(await startsOf(service.id, '', ...range)).toEqual(all.slice(0, 100));
      expect(await startsOf(service.id, '&limit=7', ...range)).toEqual(all.slice(0, 7));
      expect(problemOf(await search(service.id, '&limit=1001', ...range))).toEqual(problem(400, 'validation_failed'));
    });

    it('is ordered by start, then practitioner, over many days', async () => {
      const practitioners = await Promise.all(
        ['Etc/UTC', 'Asia/Tokyo', 'America/New_York', 'Pacific/Auckland'].map((timeZone) =>
          make.practitioner({ hours: everyDay(['09:00', '17:00']), timeZone }),
        ),
      );
      const service = await make.service(practitioners.map((each) => each.id));
      const slots = await slotsOf(service.id, '&limit=1000', inDays(2), inDays(9));
      const keys = slots.map((slot) => `${slot.startsAt} ${slot.practitionerId}`);
      expect(keys).toEqual([...keys].sort());
      expect(new Set(keys).size).toBe(keys.length);
      expect(slots.length).toBe(4 * 7 * 16);
    });
  });

  it('an open exception to the millisecond is offered and booked as it is', async () => {
    const practitioner = await make.practitioner({ hours: [], timeZone: 'Etc/UTC' });
    const service = await make.service([practitioner.id], { durationMinutes: 10 });
    const span = { startsAt: `${DAY}T08:00:00.123Z`, endsAt: `${DAY}T08:45:00.999Z`, kind: 'open' };
    expect((await make.exception(practitioner.scheduleId, span)).status).toBe(201);
    const expected = ['00', '10', '20', '30'].map((minute) => `${DAY}T08:${minute}:00.123Z`);
    const booked: Answer[] = [];
    expect(await startsOf(service.id)).toEqual(expected);
    for (const startsAt of expected) {
      booked.push(await make.book({ serviceId: service.id, startsAt }));
      expect(await startsOf(service.id)).toEqual(expected.slice(booked.length));
    }
    expect(booked.map((answer) => [answer.status, answer.body.startsAt])).toEqual(
      expected.map((start) => [201, start]),
    );
  });
});
