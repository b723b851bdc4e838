/**
 * Local time the slow way, for the properties of this module. It asks `Intl.DateTimeFormat` what the clock on the wall
 * shows, goes from minute to minute, and shares no code with the rules that are held against it. Instants are in
 * milliseconds since the epoch and on whole minutes: every offset since 1972 is one.
 */

const MINUTE = 60_000;
const MINUTES_A_DAY = 1440;

interface SlowInterval {
  start: number;
  end: number;
}

/** One minute of a zone. `shown` counts minutes as if the wall were in UTC: it can be compared, and divided into days. */
export interface WallMinute {
  at: number;
  shown: number;
}

const formats = new Map<string, Intl.DateTimeFormat>();
function formatOf(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known) return known;
  // Swedes write `2026-03-29 09:00`.
  const made = new Intl.DateTimeFormat('sv-SE', {
    timeZone: zone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
  });
  formats.set(zone, made);
  return made;
}

/** What the wall shows at an instant. */
export function shownAt(zone: string, at: number): number {
  const text = formatOf(zone).format(at);
  if (!/^\d{4}-\d\d-\d\d \d\d:\d\d$/.test(text)) throw new Error(`The wall shows ${text}.`);
  return Date.parse(`${text.replace(' ', 'T')}Z`) / MINUTE;
}

/**
 * Every minute from `from` on and before `to`. Only hours in which the clock is changed are asked minute by minute, unless
 * `thorough`: no zone has changed its clocks forth and back within one hour.
 */
export function wallMinutes(zone: string, from: number, to: number, thorough = false): WallMinute[] {
  const minutes: WallMinute[] = [];
  let first = shownAt(zone, from);
  for (let hour = from; hour < to; hour += 60 * MINUTE) {
    const next = shownAt(zone, hour + 60 * MINUTE);
    const isEven = !thorough && next - first === 60;
    for (let minute = 0; minute < 60; minute++) {
      const at = hour + minute * MINUTE;
      minutes.push({ at, shown: isEven ? first + minute : shownAt(zone, at) });
    }
    first = next;
  }
  return minutes;
}

/** Days are numbered from 1970-01-01. */
export const dayNumber = (day: string): number => Date.parse(`${day}T00:00:00Z`) / (MINUTES_A_DAY * MINUTE);
export const dayName = (number: number): string => new Date(number * MINUTES_A_DAY * MINUTE).toISOString().slice(0, 10);
/** 1 is Monday, 7 is Sunday. */
export const weekdayOf = (day: number): number => ((((day + 3) % 7) + 7) % 7) + 1;

/** All minutes that may belong to the days from `first` to `last` wherever on earth, and those next to them. */
export const minutesAround = (zone: string, first: number, last = first, thorough = false): WallMinute[] =>
  wallMinutes(zone, (first * 24 - 17) * 60 * MINUTE, (last * 24 + 41) * 60 * MINUTE, thorough);

/**
 * A local day begins when the wall first shows it, or a later one, and ends when the next begins. So a day that a zone left
 * out is empty; and where a clock is put back over midnight, what is shown twice belongs to the later day.
 */
export function slowDay(minutes: readonly WallMinute[], day: number): SlowInterval {
  const first = (number: number) => minutes.find((each) => each.shown >= number * MINUTES_A_DAY)!.at;
  return { start: first(day), end: first(day + 1) };
}

/** RFC 5545, 3.3.5: the first of two; in a gap, the time with the offset before the gap. No day is left by it. */
export function slowInstant(minutes: readonly WallMinute[], day: number, minute: number): number {
  const covers = slowDay(minutes, day);
  if (minute === MINUTES_A_DAY) return covers.end;
  const wanted = day * MINUTES_A_DAY + minute;
  const found = minutes.find((each) => each.shown === wanted);
  const after = minutes.findIndex((each) => each.shown > wanted);
  const before = minutes[after - 1]!;
  const at = found ? found.at : before.at + (wanted - before.shown) * MINUTE;
  return Math.min(Math.max(at, covers.start), covers.end);
}

export interface SlowHours {
  weekday: number;
  startMinute: number;
  endMinute: number;
  locationId: string | null;
  validFrom: string | null;
  validUntil: string | null;
}

export interface SlowPlan {
  covers: SlowInterval;
  /** The instants of the minutes that are open. */
  open: Set<number>;
  grid: Array<SlowInterval & { locationId: string | null }>;
}

const has = (intervals: readonly SlowInterval[], at: number): boolean =>
  intervals.some((each) => each.start <= at && at < each.end);

/** One local day, minute by minute. */
export function slowPlan(
  minutes: readonly WallMinute[],
  day: number,
  hours: readonly SlowHours[],
  exceptions: ReadonlyArray<SlowInterval & { kind: 'closed' | 'open' }>,
): SlowPlan {
  const covers = slowDay(minutes, day);
  const weekly = hours
    .filter((each) => each.weekday === weekdayOf(day))
    .filter((each) => each.validFrom === null || dayNumber(each.validFrom) <= day)
    .filter((each) => each.validUntil === null || day <= dayNumber(each.validUntil))
    .map((each) => ({
      start: slowInstant(minutes, day, each.startMinute),
      end: slowInstant(minutes, day, each.endMinute),
      locationId: each.locationId,
    }))
    .filter((each) => each.start < each.end);
  const opened = exceptions
    .filter((each) => each.kind === 'open')
    .map(({ start, end }) => ({ start, end, locationId: null }));
  const closed = exceptions.filter((each) => each.kind === 'closed');
  const open = new Set<number>();
  for (let at = covers.start; at < covers.end; at += MINUTE) {
    if ((has(weekly, at) || has(opened, at)) && !has(closed, at)) open.add(at);
  }
  const touchesDay = (each: SlowInterval) => covers.start < each.end && each.start < covers.end;
  return { covers, open, grid: [...weekly, ...opened.filter(touchesDay)] };
}

export interface SlowService {
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  slotIntervalMinutes: number | null;
}

/** Days in a row as the ledger sees them: the minutes that are known, open and taken. */
export interface SlowLedger {
  plans: readonly SlowPlan[];
  taken: readonly SlowInterval[];
}

/** Whether a service can begin at this minute: all of it open, nobody within it or its buffers. */
export function slowDecision(
  { plans, taken }: SlowLedger,
  service: SlowService,
  startsAt: number,
): 'ok' | 'day_missing' | 'outside_hours' | 'taken' {
  const end = startsAt + service.durationMinutes * MINUTE;
  const buffered: number[] = [];
  const [from, to] = [startsAt - service.bufferBeforeMinutes * MINUTE, end + service.bufferAfterMinutes * MINUTE];
  for (let at = from; at < to; at += MINUTE) buffered.push(at);
  const days = plans.map((plan) => plan.covers);
  if (!buffered.every((at) => has(days, at))) return 'day_missing';
  const core = buffered.filter((at) => startsAt <= at && at < end);
  if (!core.every((at) => plans.some((plan) => plan.open.has(at)))) return 'outside_hours';
  return buffered.some((at) => has(taken, at)) ? 'taken' : 'ok';
}

/** Every minute of the window that lies on a grid of its own day and can be claimed. */
export function slowStarts(ledger: SlowLedger, service: SlowService, window: SlowInterval): number[] {
  const step = (service.slotIntervalMinutes ?? service.durationMinutes) * MINUTE;
  const starts: number[] = [];
  for (const { covers, grid } of ledger.plans) {
    for (let at = covers.start; at < covers.end; at += MINUTE) {
      const isOnGrid = grid.some((each) => has([each], at) && (at - each.start) % step === 0);
      if (!isOnGrid || at < window.start || at >= window.end) continue;
      if (slowDecision(ledger, service, at) === 'ok') starts.push(at);
    }
  }
  return starts.sort((a, b) => a - b);
}

/** The minutes from the beginning of a year until that of another at which a zone changed its offset, as every week shows. */
export function clockChanges(zone: string, fromYear: number, untilYear: number): number[] {
  const WEEK = 7 * MINUTES_A_DAY * MINUTE;
  const offset = (at: number) => shownAt(zone, at) - at / MINUTE;
  const changes: number[] = [];
  let before = offset(Date.UTC(fromYear, 0, 1));
  for (let at = Date.UTC(fromYear, 0, 1); at < Date.UTC(untilYear, 0, 1); at += WEEK) {
    const after = offset(at + WEEK);
    if (after !== before) {
      let [low, high] = [at, at + WEEK];
      while (high - low > MINUTE) {
        const middle = low + Math.floor((high - low) / 2 / MINUTE) * MINUTE;
        if (offset(middle) === before) low = middle;
        else high = middle;
      }
      changes.push(high);
    }
    before = after;
  }
  return changes;
}
