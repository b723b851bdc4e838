import fc from 'fast-check';
import { type ExceptionSpan, localDays, planDay, startOfDay, type WeeklyHours } from './hours.rules';
import { decideClaim, spanOf, type Timing } from './ledger.rules';
import {
  clockChanges,
  dayName,
  dayNumber,
  minutesAround,
  shownAt,
  slowDay,
  slowDecision,
  slowPlan,
  slowStarts,
  weekdayOf,
} from './slow-time.model';
import { freeStarts } from './slots.rules';

/**
 * How often each property is tried, and from which seed; fast-check prints the seed of a failure.
 * HOLDFAST_PROPERTY_RUNS=100000 HOLDFAST_PROPERTY_SEED=1 npm test -- hours.properties
 */
declare const PROPERTIES: { runs?: number; seed?: number };
const runs = (usual: number): fc.Parameters<unknown> => ({
  numRuns: PROPERTIES.runs ?? usual,
  ...(PROPERTIES.seed !== undefined && { seed: PROPERTIES.seed }),
});

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const ZONES = Intl.supportedValuesOf('timeZone');

/** Days on which a zone did what few zones do. All of them have happened; a zone database does not take them back. */
const ODD_DAYS: Array<[zone: string, day: string]> = [
  // Left out.
  ['Pacific/Apia', '2011-12-30'],
  ['Pacific/Fakaofo', '2011-12-30'],
  ['Pacific/Kwajalein', '1993-08-21'],
  ['Pacific/Kiritimati', '1994-12-31'],
  // Half an hour; two hours; three hours back over midnight.
  ['Australia/Lord_Howe', '2026-04-05'],
  ['Australia/Lord_Howe', '2026-10-04'],
  ['Antarctica/Troll', '2026-03-29'],
  ['Antarctica/Troll', '2026-10-25'],
  ['Antarctica/Casey', '2010-03-04'],
  ['Antarctica/Casey', '2010-03-05'],
  // For Ramadan.
  ['Africa/Casablanca', '2026-02-15'],
  ['Africa/Casablanca', '2026-03-22'],
  ['Africa/El_Aaiun', '2030-01-06'],
  // Midnight does not exist, or comes twice.
  ['Asia/Beirut', '2026-03-29'],
  ['Asia/Beirut', '2026-10-24'],
  ['Africa/Cairo', '2026-04-24'],
  ['Africa/Cairo', '2026-10-29'],
  ['America/Havana', '2026-03-08'],
  ['America/Havana', '2026-11-01'],
  ['America/Asuncion', '2023-10-01'],
  ['America/Sao_Paulo', '2018-02-17'],
  ['America/Sao_Paulo', '2018-11-04'],
  // One minute past midnight, and back into the day before.
  ['America/St_Johns', '2010-03-14'],
  ['America/St_Johns', '2010-11-06'],
  ['America/St_Johns', '2010-11-07'],
  // Without an end of its summer: the offset itself was changed.
  ['Europe/Istanbul', '2016-09-07'],
  ['Asia/Pyongyang', '2015-08-15'],
  ['Asia/Pyongyang', '2018-05-05'],
  ['America/Caracas', '2007-12-09'],
  ['Asia/Almaty', '2024-02-29'],
];

const known = new Map<string, number[]>();
/** In the five years from one on. */
function changesFrom(year: number, zone: string): number[] {
  const key = `${zone} ${year}`;
  const found = known.get(key) ?? clockChanges(zone, year, year + 5);
  known.set(key, found);
  return found;
}

const aLustrum = fc.integer({ min: 0, max: 13 }).map((index) => 1990 + index * 5);
/** A zone and a day of it: mostly one on which its clock was changed, or one beside it. */
const aDay = fc
  .oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constantFrom(...ZONES), aLustrum, fc.nat(1_825), fc.boolean()) },
    { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...ODD_DAYS)) },
  )
  .map((drawn) => {
    if (drawn.length === 1) return { zone: drawn[0][0], day: dayNumber(drawn[0][1]) };
    const [zone, year, days, isOrdinary] = drawn;
    const changes = isOrdinary && days % 2 === 0 ? [] : changesFrom(year, zone);
    if (changes.length === 0) return { zone, day: dayNumber(`${year}-01-02`) + days };
    return { zone, day: Math.floor(shownAt(zone, changes[days % changes.length]!) / 1440) };
  })
  .chain(({ zone, day }) => fc.constantFrom(0, 0, -1, 1, 2).map((beside) => ({ zone, day: day + beside })));

/** Any minute, but often one around which clocks are changed, and the ends of the day. */
const aMinute = fc.oneof(
  fc.integer({ min: 0, max: 1440 }),
  fc.integer({ min: 0, max: 16 }).map((quarters) => quarters * 15),
  fc.constantFrom(0, 1, 1380, 1410, 1439, 1440),
);
const aValidity = fc.option(fc.integer({ min: -2, max: 2 }), { freq: 2, nil: null });
const someHours = (day: number): fc.Arbitrary<WeeklyHours[]> =>
  fc.array(
    fc
      .record({
        weekday: fc.integer({ min: -1, max: 2 }).map((days) => weekdayOf(day + days)),
        minutes: fc.tuple(aMinute, aMinute).filter(([a, b]) => a !== b),
        locationId: fc.constantFrom(null, 'one'),
        validFrom: aValidity,
        validUntil: aValidity,
      })
      .map(({ minutes, validFrom, validUntil, ...rest }) => ({
        ...rest,
        startMinute: Math.min(...minutes),
        endMinute: Math.max(...minutes),
        validFrom: validFrom === null ? null : dayName(day + validFrom),
        validUntil: validUntil === null ? null : dayName(day + validUntil),
      })),
    { maxLength: 6 },
  );
/** Spans around a day, in whole minutes; some lie beside it, some span it. */
const spansAround = (day: number, longest: number) =>
  fc
    .tuple(fc.integer({ min: -20 * 60, max: 60 * 60 }), fc.integer({ min: 1, max: longest }))
    .map(([start, length]) => ({
      start: day * 24 * HOUR + start * MINUTE,
      end: day * 24 * HOUR + (start + length) * MINUTE,
    }));
const someExceptions = (day: number): fc.Arbitrary<ExceptionSpan[]> =>
  fc.array(
    fc
      .tuple(spansAround(day, 40 * 60), fc.constantFrom<ExceptionSpan['kind']>('closed', 'open'))
      .map(([span, kind]) => ({ ...span, kind })),
    { maxLength: 3 },
  );

const byStart = (a: { start: number; end: number }, b: { start: number; end: number }) =>
  a.start - b.start || a.end - b.end;
const sorted = (grid: Array<{ start: number; end: number; locationId: string | null }>) =>
  [...grid].sort((a, b) => byStart(a, b) || String(a.locationId).localeCompare(String(b.locationId)));
/** The minutes of a set, which must be in normal form: in order, without empty, overlapping or touching neighbours. */
function minutesOf(set: ReadonlyArray<{ start: number; end: number }>): number[] {
  const minutes: number[] = [];
  for (const [index, { start, end }] of set.entries()) {
    expect(start).toBeLessThan(end);
    if (index > 0) expect(set[index - 1]!.end).toBeLessThan(start);
    for (let at = start; at < end; at += MINUTE) minutes.push(at);
  }
  return minutes;
}

describe('the slow model', () => {
  it('is as slow as it says: an hour that it counts shows what every minute of it shows', () => {
    const look = fc.property(aDay, ({ zone, day }) => {
      expect(minutesAround(zone, day)).toEqual(minutesAround(zone, day, day, true));
    });
    fc.assert(look, { numRuns: 15 });
  });

  it('knows the days that zones left out', () => {
    for (const [zone, day] of ODD_DAYS.slice(0, 4)) {
      const { start, end } = slowDay(minutesAround(zone, dayNumber(day)), dayNumber(day));
      expect([zone, end - start]).toEqual([zone, 0]);
    }
  });

  it('finds the changes of clocks that were announced', () => {
    const year = (zone: string, from: number) =>
      clockChanges(zone, from, from + 1).map((at) => new Date(at).toISOString().slice(0, 16));
    expect(year('Europe/Berlin', 2026)).toEqual(['2026-03-29T01:00', '2026-10-25T01:00']);
    expect(year('Pacific/Apia', 2011)).toEqual(['2011-04-02T14:00', '2011-09-24T14:00', '2011-12-30T10:00']);
    expect(year('America/St_Johns', 2010)).toEqual(['2010-03-14T03:31', '2010-11-07T02:31']);
    expect(clockChanges('UTC', 1990, 2061)).toEqual([]);
  });
});

describe('in every zone', () => {
  it('a day is planned as the wall shows it, minute by minute', () => {
    const aPlan = aDay.chain(({ zone, day }) =>
      fc.record({
        zone: fc.constant(zone),
        day: fc.constant(day),
        hours: someHours(day),
        exceptions: someExceptions(day),
      }),
    );
    fc.assert(
      fc.property(aPlan, ({ zone, day, hours, exceptions }) => {
        const plan = planDay(zone, dayName(day), hours, exceptions);
        const slow = slowPlan(minutesAround(zone, day), day, hours, exceptions);
        expect(plan.day).toBe(dayName(day));
        expect(plan.covers).toEqual(slow.covers);
        expect(minutesOf(plan.open)).toEqual([...slow.open]);
        expect(sorted(plan.grid)).toEqual(sorted(slow.grid));
        expect([...plan.grid].sort(byStart)).toEqual(plan.grid);
      }),
      runs(500),
    );
  });

  it('days follow each other without hole or overlap', () => {
    fc.assert(
      fc.property(aDay, ({ zone, day }) => {
        const days = [day - 1, day, day + 1].map((each) => planDay(zone, dayName(each), [], []).covers);
        expect(days.slice(1).map((each) => each.start)).toEqual(days.slice(0, -1).map((each) => each.end));
        for (const { start, end } of days) expect(start).toBeLessThanOrEqual(end);
        expect(startOfDay(zone, dayName(day))).toBe(days[1]!.start);
      }),
      runs(500),
    );
  });

  it('an interval touches the days that have a minute of it, and no other', () => {
    const anInterval = aDay.chain(({ zone, day }) =>
      fc.record({ zone: fc.constant(zone), day: fc.constant(day), interval: spansAround(day, 30 * 60) }),
    );
    fc.assert(
      fc.property(anInterval, ({ zone, day, interval }) => {
        const minutes = minutesAround(zone, day - 2, day + 5);
        const touched = [-2, -1, 0, 1, 2, 3, 4, 5].filter((each) => {
          const { start, end } = slowDay(minutes, day + each);
          return Math.max(start, interval.start) < Math.min(end, interval.end);
        });
        expect(localDays(zone, interval)).toEqual(touched.map((each) => dayName(day + each)));
      }),
      runs(250),
    );
  });

  it('free starts and claims are those that every minute was asked for', () => {
    let offered = 0;
    let acrossMidnight = 0;
    const decided: Record<string, number> = {};
    const aLedger = aDay.chain(({ zone, day }) =>
      fc.record({
        zone: fc.constant(zone),
        day: fc.constant(day),
        length: fc.integer({ min: 1, max: 3 }),
        hours: fc.oneof(
          { weight: 3, arbitrary: someHours(day) },
          { weight: 1, arbitrary: fc.constant(ROUND_THE_CLOCK) },
        ),
        exceptions: someExceptions(day),
        taken: fc.array(spansAround(day, 4 * 60), { maxLength: 6 }),
        service: aService,
        window: fc.tuple(
          fc.integer({ min: -30 * HOUR, max: 60 * HOUR }),
          fc.oneof(fc.constant(200 * HOUR), fc.integer({ min: 0, max: 60 * HOUR })),
        ),
        claims: fc.array(fc.integer({ min: -18 * 60, max: 90 * 60 }), { minLength: 5, maxLength: 10 }),
      }),
    );
    fc.assert(
      fc.property(aLedger, ({ zone, day, length, hours, exceptions, taken, service, ...drawn }) => {
        const numbers = Array.from({ length }, (_, index) => day + index);
        const days = numbers.map((each) => {
          const plan = planDay(zone, dayName(each), hours, exceptions);
          const within = taken
            .map(({ start, end }) => ({
              start: Math.max(start, plan.covers.start),
              end: Math.min(end, plan.covers.end),
            }))
            .filter(({ start, end }) => start < end);
          return { ...plan, taken: within };
        });
        const minutes = minutesAround(zone, day, day + length);
        const plans = numbers.map((each) => slowPlan(minutes, each, hours, exceptions));
        const ledger = { plans, taken };
        const start = day * 24 * HOUR + drawn.window[0];
        const window = { start, end: start + drawn.window[1] };

        const starts = freeStarts(days, service, window);
        expect(starts).toEqual(slowStarts(ledger, service, window));

        const asked = [...starts.slice(0, 3), ...drawn.claims.map((minute) => day * 24 * HOUR + minute * MINUTE)];
        for (const at of asked) {
          const decision = decideClaim(days, spanOf(service, at));
          const reason = decision.ok ? 'ok' : decision.reason;
          expect(reason).toBe(slowDecision(ledger, service, at));
          decided[reason] = (decided[reason] ?? 0) + 1;
        }
        offered += starts.length;
        acrossMidnight += starts.filter((at) =>
          days.some(({ covers }) => at < covers.end && covers.end < at + service.durationMinutes * MINUTE),
        ).length;
      }),
      runs(300),
    );
    // Else the property would have looked at nothing.
    expect(offered).toBeGreaterThan(1_000);
    expect(acrossMidnight).toBeGreaterThan(20);
    expect(Object.keys(decided).sort()).toEqual(['day_missing', 'ok', 'outside_hours', 'taken']);
    for (const count of Object.values(decided)) expect(count).toBeGreaterThan(20);
  });
});

const ROUND_THE_CLOCK: WeeklyHours[] = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({
  weekday,
  startMinute: 0,
  endMinute: 1440,
  locationId: null,
  validFrom: null,
  validUntil: null,
}));

/** From minutes to a night; steps that divide no hour, buffers that reach into the day next to it. */
const aService: fc.Arbitrary<Timing> = fc.record({
  durationMinutes: fc.oneof(fc.integer({ min: 1, max: 120 }), fc.constantFrom(15, 30, 45, 60, 480)),
  bufferBeforeMinutes: fc.constantFrom(0, 0, 1, 10, 90),
  bufferAfterMinutes: fc.constantFrom(0, 0, 1, 15, 120),
  slotIntervalMinutes: fc.option(fc.oneof(fc.constantFrom(7, 25, 40, 50, 90), fc.integer({ min: 5, max: 120 })), {
    nil: null,
  }),
  minNoticeMinutes: fc.constant(0),
  maxDaysAhead: fc.constant(90),
});

const hoursBetween = ({ start, end }: { start: number; end: number }) => (end - start) / HOUR;

describe('a week', () => {
  it.each([
    ['Europe/Berlin', '2026-03-23', 167],
    ['Europe/Berlin', '2026-10-19', 169],
    ['Europe/Berlin', '2026-06-01', 168],
    ['America/New_York', '2026-03-02', 167],
    ['America/New_York', '2026-10-26', 169],
    ['Australia/Lord_Howe', '2026-03-30', 168.5],
    ['Australia/Lord_Howe', '2026-09-28', 167.5],
    ['Antarctica/Troll', '2026-03-23', 166],
    ['Antarctica/Troll', '2026-10-19', 170],
    ['Pacific/Apia', '2011-12-26', 144],
    ['Asia/Kathmandu', '2026-03-23', 168],
  ])('%s from Monday %s has %d hours, all of them open round the clock', (zone, monday, hours) => {
    const first = dayNumber(monday);
    const plans = [0, 1, 2, 3, 4, 5, 6].map((each) => planDay(zone, dayName(first + each), ROUND_THE_CLOCK, []));
    expect(hoursBetween({ start: plans[0]!.covers.start, end: plans[6]!.covers.end })).toBe(hours);
    expect(plans.flatMap((plan) => plan.open).reduce((sum, each) => sum + hoursBetween(each), 0)).toBe(hours);
    const days = plans.map((plan) => ({ ...plan, taken: [] }));
    const halfHours = { durationMinutes: 30, bufferBeforeMinutes: 0, bufferAfterMinutes: 0, slotIntervalMinutes: null };
    const service = { ...halfHours, minNoticeMinutes: 0, maxDaysAhead: 90 };
    const whole = { start: plans[0]!.covers.start, end: plans[6]!.covers.end };
    expect(freeStarts(days, service, whole)).toHaveLength(hours * 2);
    expect(localDays(zone, whole)).toHaveLength(zone === 'Pacific/Apia' ? 6 : 7);
  });
});

describe('a clock that is put back over midnight', () => {
  // 00:01 became 23:01 of the day before: what was shown twice lies in the row of the later day.
  const again = Date.parse('2010-11-07T03:00:00Z');

  it('shows the day before once more, and leaves its minutes in the day that had begun', () => {
    expect(shownAt('America/St_Johns', again)).toBe(dayNumber('2010-11-06') * 1440 + 23 * 60 + 30);
    const [before, after] = ['2010-11-06', '2010-11-07'].map((day) => planDay('America/St_Johns', day, [], []).covers);
    expect(new Date(before!.end).toISOString()).toBe('2010-11-07T02:30:00.000Z');
    expect(after!.start).toBe(before!.end);
    expect(localDays('America/St_Johns', { start: again, end: again + MINUTE })).toEqual(['2010-11-07']);
  });

  it('leaves no time that cannot be claimed', () => {
    const service = { durationMinutes: 30, bufferBeforeMinutes: 0, bufferAfterMinutes: 0, slotIntervalMinutes: null };
    const span = spanOf({ ...service, minNoticeMinutes: 0, maxDaysAhead: 90 }, again);
    const days = localDays('America/St_Johns', span.buffered).map((day) => ({
      ...planDay('America/St_Johns', day, ROUND_THE_CLOCK, []),
      taken: [],
    }));
    expect(decideClaim(days, span)).toMatchObject({ ok: true });
  });
});
