import { Temporal } from 'temporal-polyfill';
import { clip, type Interval, subtract, union } from '../platform';
import type { Published } from './ledger.rules';

/** Weekly hours in local time; see `ScheduleHours`. */
export interface WeeklyHours {
  weekday: number;
  startMinute: number;
  endMinute: number;
  locationId: string | null;
  validFrom: string | null;
  validUntil: string | null;
}

export interface ExceptionSpan extends Interval {
  kind: 'closed' | 'open';
}

/** An interval of open time whose start anchors the slot grid. */
export interface GridInterval extends Interval {
  locationId: string | null;
}

/** What the rules make of one local day. */
export interface DayPlan {
  day: string;
  /** The local day as instants: 23, 24 or 25 hours, whatever the zone does on it. */
  covers: Interval;
  open: Interval[];
  grid: GridInterval[];
  /** Published slots that lie on the day or reach into it. */
  published: Published[];
}

/**
 * Expands the rules of a schedule into one local day.
 *
 * A local time that does not exist (spring) or exists twice (autumn) is read as RFC 5545, 3.3.5 reads it: with the offset
 * before the gap, and as the first of the two. Open is weekly hours, open exceptions and published slots without closed
 * exceptions.
 */
export function planDay(
  timeZone: string,
  day: string,
  hours: readonly WeeklyHours[],
  exceptions: readonly ExceptionSpan[],
  published: readonly Published[] = [],
): DayPlan {
  const date = Temporal.PlainDate.from(day);
  const covers = dayInterval(timeZone, date);
  const weekly = hours
    .filter((each) => each.weekday === date.dayOfWeek && validOn(each, day))
    .map((each) => ({
      start: instantOf(timeZone, date, each.startMinute, covers),
      end: instantOf(timeZone, date, each.endMinute, covers),
      locationId: each.locationId,
    }))
    .filter((each) => each.start < each.end);
  const near = exceptions.filter((each) => each.start < covers.end && covers.start < each.end);
  const slots = published.filter((each) => each.start < covers.end && covers.start < each.end);
  // An open exception keeps its own start as anchor, also on the later ones of the days that it spans.
  const opened = [...near.filter((each) => each.kind === 'open'), ...slots].map(({ start, end }) => ({
    start,
    end,
    locationId: null,
  }));
  const closed = near.filter((each) => each.kind === 'closed');
  const grid = [...weekly, ...opened].sort((a, b) => a.start - b.start || a.end - b.end);
  return { day, covers, open: subtract(clip(union(grid), covers), closed), grid, published: slots };
}

/**
 * The local days that an interval touches, in order: those that cover a part of it. What the clock shows is not asked, for
 * where it is put back over midnight it shows the day before once more, in time that the later day covers.
 */
export function localDays(timeZone: string, interval: Interval): string[] {
  const days: string[] = [];
  // No zone is a whole day ahead of UTC, nor a whole day behind.
  let day = Math.floor(interval.start / DAY) + 1;
  while (startOfNth(timeZone, day) > interval.start) day--;
  for (let start = startOfNth(timeZone, day); start < interval.end; day++) {
    const end = startOfNth(timeZone, day + 1);
    // A zone that changes sides of the date line skips a day: it has no instant, so nothing can be on it.
    if (start < end) days.push(nameOf(day));
    start = end;
  }
  return days;
}

const DAY = 86_400_000;

const nameOf = (day: number): string => new Date(day * DAY).toISOString().replace(/T.*/, '');

const starts = new Map<string, Map<number, number>>();

/**
 * The first instant of a local day, counted from the first of 1970. Kept, for one costs some 20 microseconds to find out and a
 * search asks for the same ones again and again; they stay the same for as long as the process has its zone database.
 */
function startOfNth(timeZone: string, day: number): number {
  const ofZone = starts.get(timeZone) ?? new Map<number, number>();
  if (ofZone.size === 0) starts.set(timeZone, ofZone);
  const known = ofZone.get(day);
  if (known !== undefined) return known;
  // Whoever asks for the days of other centuries gets no memory for it.
  if (ofZone.size >= 4_000) ofZone.clear();
  const start = startOfDay(timeZone, nameOf(day));
  ofZone.set(day, start);
  return start;
}

/** The first instant of a local day, in milliseconds since the epoch. */
export const startOfDay = (timeZone: string, day: string): number =>
  Temporal.PlainDate.from(day).toZonedDateTime(timeZone).epochMilliseconds;

/** What clocks show in a zone at an instant: `YYYY-MM-DDTHH:MM:SS`, with a fraction where there is one. */
export const localTime = (timeZone: string, instant: number): string =>
  Temporal.Instant.fromEpochMilliseconds(instant).toZonedDateTimeISO(timeZone).toPlainDateTime().toString();

/** The instant at which clocks show a local time in a zone, read as `planDay` reads hours. */
export const instantAt = (timeZone: string, local: string): number =>
  Temporal.PlainDateTime.from(local).toZonedDateTime(timeZone, { disambiguation: 'compatible' }).epochMilliseconds;

const startOf = (timeZone: string, date: Temporal.PlainDate): number =>
  date.toZonedDateTime(timeZone).epochMilliseconds;

const dayInterval = (timeZone: string, date: Temporal.PlainDate): Interval => ({
  start: startOf(timeZone, date),
  end: startOf(timeZone, date.add({ days: 1 })),
});

const validOn = (hours: WeeklyHours, day: string): boolean =>
  (hours.validFrom === null || hours.validFrom <= day) && (hours.validUntil === null || day <= hours.validUntil);

function instantOf(timeZone: string, date: Temporal.PlainDate, minute: number, covers: Interval): number {
  if (minute === 0) return covers.start;
  if (minute === 1440) return covers.end;
  const time = new Temporal.PlainTime(Math.floor(minute / 60), minute % 60);
  const zoned = date.toPlainDateTime(time).toZonedDateTime(timeZone, { disambiguation: 'compatible' });
  return Math.min(Math.max(zoned.epochMilliseconds, covers.start), covers.end);
}
