import fc from 'fast-check';
import { type Interval, isTimeZone } from '../platform';
import { type ExceptionSpan, localDays, planDay, startOfDay, type WeeklyHours } from './hours.rules';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const LAST_MINUTE = 1440;

/** Zones with the days on which they do something, and ordinary days around these. */
const ZONES: Record<string, string[]> = {
  'Europe/Berlin': ['2026-03-28', '2026-03-29', '2026-03-30', '2026-10-24', '2026-10-25', '2026-10-26', '2026-12-01'],
  'America/New_York': ['2026-03-08', '2026-03-09', '2026-11-01', '2026-11-02', '2026-07-04'],
  // Half an hour, either way.
  'Australia/Lord_Howe': ['2026-04-04', '2026-04-05', '2026-10-03', '2026-10-04', '2026-10-05'],
  'Asia/Kathmandu': ['2026-02-28', '2026-03-01', '2026-12-31'],
  // There was no 30th of December.
  'Pacific/Apia': ['2011-12-29', '2011-12-30', '2011-12-31', '2012-01-01'],
  // The gap began at midnight, the fold ended there.
  'America/Sao_Paulo': ['2018-02-17', '2018-02-18', '2018-11-03', '2018-11-04', '2018-11-05'],
  'Africa/Casablanca': ['2026-02-14', '2026-02-15', '2026-02-16', '2026-03-21', '2026-03-22', '2026-03-23'],
  UTC: ['2026-03-29', '2026-12-31'],
};
const DAYS = Object.entries(ZONES).flatMap(([zone, days]) => days.map((day) => ({ zone, day })));

/** One minute of a zone: when it begins, and what the clock on the wall shows. */
interface WallMinute {
  at: number;
  day: string;
  minute: number;
}

/** The slow model: every minute that may belong to a day, as `Intl.DateTimeFormat` shows it in the zone. */
function walk(zone: string, day: string): WallMinute[] {
  const format = new Intl.DateTimeFormat('en-CA', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
  });
  const midnight = Date.parse(`${day}T00:00:00Z`);
  const minutes: WallMinute[] = [];
  for (let at = midnight - 15 * HOUR; at < midnight + 37 * HOUR; at += MINUTE) {
    const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]));
    minutes.push({
      at,
      day: `${part['year']}-${part['month']}-${part['day']}`,
      minute: Number(part['hour']) * 60 + Number(part['minute']),
    });
  }
  return minutes;
}
const walked = new Map<string, WallMinute[]>();
function wall(zone: string, day: string): WallMinute[] {
  const key = `${zone} ${day}`;
  const known = walked.get(key) ?? walk(zone, day);
  walked.set(key, known);
  return known;
}

/** What the wall shows, as if it were UTC: a number that can be compared and subtracted. */
const shown = ({ day, minute }: WallMinute): number => Date.parse(`${day}T00:00:00Z`) + minute * MINUTE;

function modelCovers(zone: string, day: string): Interval {
  const within = wall(zone, day).filter((each) => each.day === day);
  if (within.length > 0) return { start: within[0]!.at, end: within.at(-1)!.at + MINUTE };
  const next = wall(zone, day).find((each) => each.day > day)!.at;
  return { start: next, end: next };
}

/** RFC 5545, 3.3.5: the first of two; in a gap, the time with the offset before the gap. */
function modelInstant(zone: string, day: string, minute: number): number {
  const covers = modelCovers(zone, day);
  if (minute === LAST_MINUTE) return covers.end;
  const minutes = wall(zone, day);
  const found = minutes.find((each) => each.day === day && each.minute === minute);
  if (found) return found.at;
  const wanted = shown({ at: 0, day, minute });
  const after = minutes.findIndex((each) => shown(each) > wanted);
  const before = minutes[after - 1]!;
  const instant = wanted - (shown(before) - before.at);
  return Math.min(Math.max(instant, covers.start), covers.end);
}

const weekdayOf = (day: string): number => new Date(`${day}T00:00:00Z`).getUTCDay() || 7;
const isValid = (hours: WeeklyHours, day: string): boolean =>
  (hours.validFrom ?? '0000') <= day && day <= (hours.validUntil ?? '9999');

function modelPlan(zone: string, day: string, hours: WeeklyHours[], exceptions: ExceptionSpan[]) {
  const covers = modelCovers(zone, day);
  const weekly = hours
    .filter((each) => each.weekday === weekdayOf(day) && isValid(each, day))
    .map((each) => ({
      start: modelInstant(zone, day, each.startMinute),
      end: modelInstant(zone, day, each.endMinute),
      locationId: each.locationId,
    }))
    .filter((each) => each.start < each.end);
  const has = (intervals: Interval[], at: number) => intervals.some((each) => each.start <= at && at < each.end);
  const opened = exceptions.filter((each) => each.kind === 'open');
  const closed = exceptions.filter((each) => each.kind === 'closed');
  const open: Interval[] = [];
  for (let at = covers.start; at < covers.end; at += MINUTE) {
    if (has(closed, at) || !(has(weekly, at) || has(opened, at))) continue;
    const last = open.at(-1);
    if (last?.end === at) last.end = at + MINUTE;
    else open.push({ start: at, end: at + MINUTE });
  }
  const today = opened.filter((each) => each.start < covers.end && covers.start < each.end);
  const grid = [...weekly, ...today.map(({ start, end }) => ({ start, end, locationId: null }))];
  return { day, covers, open, grid, published: [] };
}

const inOrder = <T>(list: T[]): T[] => [...list].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

const aDay = fc.constantFrom(...DAYS);
/** Often at the times around which clocks are changed. */
const aMinute = fc.oneof(
  fc.integer({ min: 0, max: LAST_MINUTE }),
  fc.integer({ min: 0, max: 16 }).map((n) => n * 15),
);
const aValidity = fc.option(
  fc.integer({ min: -2, max: 2 }).map((days) => ({ days })),
  { nil: null },
);
const someHours = (day: string): fc.Arbitrary<WeeklyHours[]> => {
  const shifted = (validity: { days: number } | null) =>
    validity && new Date(Date.parse(`${day}T00:00:00Z`) + validity.days * 24 * HOUR).toISOString().slice(0, 10);
  return fc.array(
    fc
      .record({
        weekday: fc.oneof(fc.constant(weekdayOf(day)), fc.integer({ min: 1, max: 7 })),
        minutes: fc.tuple(aMinute, aMinute).filter(([a, b]) => a !== b),
        locationId: fc.constantFrom(null, 'one', 'other'),
        validFrom: aValidity,
        validUntil: aValidity,
      })
      .map(({ minutes, validFrom, validUntil, ...rest }) => ({
        ...rest,
        startMinute: Math.min(...minutes),
        endMinute: Math.max(...minutes),
        validFrom: shifted(validFrom),
        validUntil: shifted(validUntil),
      })),
    { maxLength: 5 },
  );
};
const someExceptions = (day: string): fc.Arbitrary<ExceptionSpan[]> => {
  const origin = Date.parse(`${day}T00:00:00Z`);
  return fc.array(
    fc
      .record({
        start: fc.integer({ min: -40 * 60, max: 60 * 60 }),
        minutes: fc.integer({ min: 1, max: 40 * 60 }),
        kind: fc.constantFrom<ExceptionSpan['kind']>('closed', 'open'),
      })
      .map(({ start, minutes, kind }) => ({
        start: origin + start * MINUTE,
        end: origin + (start + minutes) * MINUTE,
        kind,
      })),
    { maxLength: 4 },
  );
};

describe('a local day, against the clock on the wall', () => {
  it('uses zones that exist here', () => {
    expect(Object.keys(ZONES).filter((zone) => !isTimeZone(zone))).toEqual([]);
  });

  it('is planned minute by minute as the wall shows it', () => {
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
        const plan = planDay(zone, day, hours, exceptions);
        const model = modelPlan(zone, day, hours, exceptions);
        expect(plan).toEqual({ ...model, grid: expect.any(Array) });
        expect(inOrder(plan.grid)).toEqual(inOrder(model.grid));
        expect(plan.grid.map((each) => each.start)).toEqual(plan.grid.map((each) => each.start).sort((a, b) => a - b));
      }),
      { numRuns: 1_500 },
    );
  });

  it.each(DAYS)('begins where the day before ended: $zone $day', ({ zone, day }) => {
    const covers = modelCovers(zone, day);
    const yesterday = new Date(Date.parse(`${day}T00:00:00Z`) - 24 * HOUR).toISOString().slice(0, 10);
    expect(planDay(zone, day, [], [])).toEqual({ day, covers, open: [], grid: [], published: [] });
    expect(startOfDay(zone, day)).toBe(covers.start);
    expect(planDay(zone, yesterday, [], []).covers.end).toBe(covers.start);
  });

  it('is among the days that an interval touches when a minute of it lies in the interval', () => {
    fc.assert(
      fc.property(
        aDay,
        fc.integer({ min: -14 * 60, max: 35 * 60 }),
        fc.integer({ min: 1, max: 30 * 60 }),
        ({ zone, day }, from, length) => {
          const start = Date.parse(`${day}T00:00:00Z`) + from * MINUTE;
          const interval = {
            start,
            end: Math.min(start + length * MINUTE, Date.parse(`${day}T00:00:00Z`) + 36 * HOUR),
          };
          const touched = wall(zone, day).filter((each) => interval.start <= each.at && each.at < interval.end);
          // A day that a zone left out is on the calendar all the same; it covers nothing.
          const days = localDays(zone, interval).filter((each) => {
            const { covers } = planDay(zone, each, [], []);
            return covers.start < covers.end;
          });
          expect(days).toEqual([...new Set(touched.map((each) => each.day))]);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('is not touched by what ends as it begins', () => {
    const start = startOfDay('Europe/Berlin', '2026-12-02');
    expect(localDays('Europe/Berlin', { start: start - MINUTE, end: start })).toEqual(['2026-12-01']);
    expect(localDays('Europe/Berlin', { start: start - MINUTE, end: start + 1 })).toEqual(['2026-12-01', '2026-12-02']);
  });
});

const time = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
const weekly = (day: string, start: string, end: string, more: Partial<WeeklyHours> = {}): WeeklyHours => ({
  weekday: weekdayOf(day),
  startMinute: time(start),
  endMinute: time(end),
  locationId: null,
  validFrom: null,
  validUntil: null,
  ...more,
});
const showAll = (intervals: readonly Interval[]): string[] =>
  intervals.map(({ start, end }) => `${new Date(start).toISOString()}/${new Date(end).toISOString()}`);
const spanOf = (text: string): Interval => {
  const [start, end] = text.split('/').map((each) => Date.parse(each));
  return { start: start!, end: end! };
};

describe('the length of a local day', () => {
  it.each([
    ['Europe/Berlin', '2026-03-29', 23],
    ['Europe/Berlin', '2026-10-25', 25],
    ['Europe/Berlin', '2026-12-01', 24],
    ['America/New_York', '2026-03-08', 23],
    ['America/New_York', '2026-11-01', 25],
    ['Australia/Lord_Howe', '2026-04-05', 24.5],
    ['Australia/Lord_Howe', '2026-10-04', 23.5],
    ['Asia/Kathmandu', '2026-03-29', 24],
    ['America/Sao_Paulo', '2018-11-04', 23],
    ['America/Sao_Paulo', '2018-02-17', 25],
    ['Pacific/Apia', '2011-12-29', 24],
    ['Pacific/Apia', '2011-12-30', 0],
    ['Pacific/Apia', '2011-12-31', 24],
  ])('in %s on %s is %d hours', (zone, day, hours) => {
    const { covers } = planDay(zone, day, [], []);
    expect((covers.end - covers.start) / HOUR).toBe(hours);
  });
});

describe('hours in local time on days when clocks are changed', () => {
  it.each([
    // Spring: 02:00 to 03:00 is missing.
    ['Europe/Berlin', '2026-03-29', '01:00', '04:00', '2026-03-29T00:00:00Z/2026-03-29T02:00:00Z'],
    ['Europe/Berlin', '2026-03-29', '02:30', '04:00', '2026-03-29T01:30:00Z/2026-03-29T02:00:00Z'],
    ['Europe/Berlin', '2026-03-29', '01:30', '02:30', '2026-03-29T00:30:00Z/2026-03-29T01:30:00Z'],
    ['Europe/Berlin', '2026-03-29', '02:15', '02:45', '2026-03-29T01:15:00Z/2026-03-29T01:45:00Z'],
    ['Europe/Berlin', '2026-03-29', '02:30', '03:15', ''],
    ['Europe/Berlin', '2026-03-29', '00:00', '24:00', '2026-03-28T23:00:00Z/2026-03-29T22:00:00Z'],
    // Autumn: 02:00 to 03:00 comes twice; the first counts.
    ['Europe/Berlin', '2026-10-25', '02:30', '03:30', '2026-10-25T00:30:00Z/2026-10-25T02:30:00Z'],
    ['Europe/Berlin', '2026-10-25', '01:30', '02:30', '2026-10-24T23:30:00Z/2026-10-25T00:30:00Z'],
    ['Europe/Berlin', '2026-10-25', '02:15', '02:45', '2026-10-25T00:15:00Z/2026-10-25T00:45:00Z'],
    ['Europe/Berlin', '2026-10-25', '09:00', '17:00', '2026-10-25T08:00:00Z/2026-10-25T16:00:00Z'],
    ['America/New_York', '2026-03-08', '02:30', '09:00', '2026-03-08T07:30:00Z/2026-03-08T13:00:00Z'],
    ['America/New_York', '2026-11-01', '01:30', '09:00', '2026-11-01T05:30:00Z/2026-11-01T14:00:00Z'],
    // Half an hour.
    ['Australia/Lord_Howe', '2026-10-04', '02:15', '09:00', '2026-10-03T15:45:00Z/2026-10-03T22:00:00Z'],
    ['Australia/Lord_Howe', '2026-04-05', '01:45', '09:00', '2026-04-04T14:45:00Z/2026-04-04T22:30:00Z'],
    // The day begins at 01:00.
    ['America/Sao_Paulo', '2018-11-04', '00:00', '02:00', '2018-11-04T03:00:00Z/2018-11-04T04:00:00Z'],
    ['America/Sao_Paulo', '2018-11-04', '00:30', '02:00', '2018-11-04T03:30:00Z/2018-11-04T04:00:00Z'],
    ['Asia/Kathmandu', '2026-03-29', '09:00', '17:00', '2026-03-29T03:15:00Z/2026-03-29T11:15:00Z'],
    ['Pacific/Apia', '2011-12-30', '09:00', '17:00', ''],
    ['Pacific/Apia', '2011-12-31', '09:00', '17:00', '2011-12-30T19:00:00Z/2011-12-31T03:00:00Z'],
  ])('%s %s from %s to %s', (zone, day, start, end, expected) => {
    const { open, grid } = planDay(zone, day, [weekly(day, start, end)], []);
    const due = expected === '' ? [] : [spanOf(expected)];
    expect(showAll(open)).toEqual(showAll(due));
    expect(showAll(grid)).toEqual(showAll(due));
  });
});

describe('the rules of a day', () => {
  const day = '2026-12-01';
  const plan = (hours: WeeklyHours[], exceptions: ExceptionSpan[] = []) => planDay('UTC', day, hours, exceptions);
  const exception = (kind: ExceptionSpan['kind'], start: string, end: string): ExceptionSpan => ({
    kind,
    ...spanOf(`${start}/${end}`),
  });

  it('closed wins over open, whichever was said first', () => {
    const open = exception('open', '2026-12-01T10:00:00Z', '2026-12-01T20:00:00Z');
    const closed = exception('closed', '2026-12-01T12:00:00Z', '2026-12-01T13:00:00Z');
    const due = [
      spanOf('2026-12-01T09:00:00Z/2026-12-01T12:00:00Z'),
      spanOf('2026-12-01T13:00:00Z/2026-12-01T20:00:00Z'),
    ];
    expect(plan([weekly(day, '09:00', '17:00')], [open, closed]).open).toEqual(due);
    expect(plan([weekly(day, '09:00', '17:00')], [closed, open]).open).toEqual(due);
  });

  it('an open exception opens a day without hours, and anchors the grid where it began', () => {
    const open = exception('open', '2026-11-30T22:10:00Z', '2026-12-02T01:00:00Z');
    const planned = plan([], [open]);
    expect(planned.open).toEqual([planned.covers]);
    expect(planned.grid).toEqual([{ start: open.start, end: open.end, locationId: null }]);
  });

  it('a closed exception shortens open time, and leaves the grid its anchors', () => {
    const planned = plan(
      [weekly(day, '09:00', '12:00')],
      [exception('closed', '2026-12-01T09:10:00Z', '2026-12-01T09:20:00Z')],
    );
    expect(planned.open).toHaveLength(2);
    expect(showAll(planned.grid)).toEqual(showAll([spanOf('2026-12-01T09:00:00Z/2026-12-01T12:00:00Z')]));
  });

  it('exceptions that only touch the day leave it alone', () => {
    const touching = [
      exception('open', '2026-11-30T20:00:00Z', '2026-12-01T00:00:00Z'),
      exception('open', '2026-12-02T00:00:00Z', '2026-12-02T01:00:00Z'),
    ];
    expect(plan([], touching)).toMatchObject({ open: [], grid: [] });
  });

  it('hours that overlap or touch are one open time with a grid of each', () => {
    const planned = plan([weekly(day, '12:00', '17:00'), weekly(day, '09:00', '12:00'), weekly(day, '10:30', '13:00')]);
    expect(planned.open).toEqual([spanOf('2026-12-01T09:00:00Z/2026-12-01T17:00:00Z')]);
    expect(planned.grid.map((each) => new Date(each.start).toISOString().slice(11, 16))).toEqual([
      '09:00',
      '10:30',
      '12:00',
    ]);
  });

  it.each([
    [null, null, true],
    ['2026-12-01', null, true],
    ['2026-12-02', null, false],
    [null, '2026-12-01', true],
    [null, '2026-11-30', false],
    ['2026-12-01', '2026-12-01', true],
    ['2026-11-01', '2026-11-30', false],
  ])('hours valid from %s until %s, both days included', (validFrom, validUntil, valid) => {
    expect(plan([weekly(day, '09:00', '17:00', { validFrom, validUntil })]).open).toHaveLength(valid ? 1 : 0);
  });

  it('hours hold on their weekday alone, and keep their location', () => {
    for (let weekday = 1; weekday <= 7; weekday++) {
      const { grid } = plan([weekly(day, '09:00', '17:00', { weekday, locationId: 'one' })]);
      expect(grid.map((each) => each.locationId)).toEqual(weekday === 2 ? ['one'] : []);
    }
  });
});
