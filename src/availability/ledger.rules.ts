import { coversWhole, type Interval, meetsAny, overlaps, union } from '../platform';

/** A schedule on which time could be claimed, with the zone it was seen in. */
export interface Lane {
  scheduleId: string;
  timeZone: string;
  /** How many can be seen at once. */
  places: number;
}

/** A slot that was published beside the hours: its mode, or any; how many can have it at once, or as many as the service says. */
export interface Published extends Interval {
  mode: string | null;
  capacity: number | null;
}

/** A session that appointments of one service share, and how many of its seats are occupied. */
export interface SeatedSession extends Interval {
  id: string;
  seated: number;
}

/** What the ledger knows of one local day of a schedule. */
export interface DayState {
  day: string;
  covers: Interval;
  open: Interval[];
  /** When no place is left. */
  taken: Interval[];
  /** What of the open time was published; nothing unless told. */
  published?: readonly Published[];
  /** Sessions of the service that is asked for; none unless told. */
  sessions?: readonly SeatedSession[];
}

/** A time to be occupied: the core must lie in open time, the whole range with buffers must be clear. */
export interface Span {
  core: Interval;
  buffered: Interval;
}

/** How a time is wanted. */
export interface Manner {
  mode: string;
  /** How many appointments of the service can share a session. */
  capacity: number;
}

export type ClaimDecision =
  | { ok: true; session?: SeatedSession; capacity: number }
  | { ok: false; reason: 'day_missing' | 'outside_hours' | 'other_mode' | 'taken' };

const ALONE: Manner = { mode: '', capacity: 1 };

/** The days of one schedule as one stretch of time. */
export interface Stretch {
  covers: readonly Interval[];
  open: readonly Interval[];
  taken: readonly Interval[];
  published: readonly Published[];
}

const stretches = new WeakMap<readonly DayState[], Stretch>();

/**
 * Puts days together; once for each list of them, for a search asks hundreds of times. A list must not change once it was asked
 * about: whoever has locked and read days again makes a new one.
 */
export function stretchOf(days: readonly DayState[]): Stretch {
  const known = stretches.get(days);
  if (known) return known;
  const stretch = {
    covers: union(days.map((day) => day.covers)),
    open: union(days.flatMap((day) => day.open)),
    taken: union(days.flatMap((day) => day.taken)),
    published: days.flatMap((day) => day.published ?? []),
  };
  stretches.set(days, stretch);
  return stretch;
}

/**
 * Decides whether a span can be claimed, or a seat be had in the session that claims it already. The one rule of the
 * ledger: `GET /slots` offers by it, bookings are accepted by it, the guarded statement states it in SQL for days without
 * published slots. Pure; for a decision that counts, the days must be locked.
 */
export function decideClaim(days: readonly DayState[], span: Span, manner: Manner = ALONE): ClaimDecision {
  const { covers, open, taken } = stretchOf(days);
  if (!coversWhole(covers, span.buffered)) return { ok: false, reason: 'day_missing' };
  if (!coversWhole(open, span.core)) return { ok: false, reason: 'outside_hours' };
  const published = publishedFor(days, span.core);
  if (published.some((each) => each.mode !== null && each.mode !== manner.mode))
    return { ok: false, reason: 'other_mode' };
  const capacity = capacityOf(published, span.core, manner.capacity);
  const session = sessionWithSeats(days, span.core, capacity);
  if (session) return { ok: true, session, capacity };
  if (meetsAny(taken, span.buffered)) return { ok: false, reason: 'taken' };
  return { ok: true, capacity };
}

/** The published slots that a time lies in or reaches into. */
export const publishedFor = (days: readonly DayState[], core: Interval): Published[] =>
  stretchOf(days).published.filter((each) => overlaps(each, core));

/** How many can share a time: what was published for it, if it starts where the published slot starts and ends within. */
export const capacityOf = (published: readonly Published[], core: Interval, ofService: number): number =>
  published.find((each) => each.start === core.start && core.end <= each.end)?.capacity ?? ofService;

/** The session at exactly this time that has a seat left; the fullest, so that they fill up. */
export function sessionWithSeats(
  days: readonly DayState[],
  core: Interval,
  capacity: number,
): SeatedSession | undefined {
  if (capacity === 1) return undefined;
  return days
    .flatMap((day) => day.sessions ?? [])
    .filter((each) => each.start === core.start && each.end === core.end && each.seated < capacity)
    .sort((a, b) => b.seated - a.seated || (a.id < b.id ? -1 : 1))[0];
}

const MINUTE = 60_000;

/** The rules of a service that bear on time. */
export interface Timing {
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  slotIntervalMinutes: number | null;
  minNoticeMinutes: number;
  maxDaysAhead: number;
}

/** The span of a service that starts at this instant. */
export function spanOf(timing: Timing, startsAt: number): Span {
  const core = { start: startsAt, end: startsAt + timing.durationMinutes * MINUTE };
  return {
    core,
    buffered: {
      start: core.start - timing.bufferBeforeMinutes * MINUTE,
      end: core.end + timing.bufferAfterMinutes * MINUTE,
    },
  };
}

/** The earliest and the latest start that notice and window allow; days ahead are days of 24 hours. */
export const bookingWindow = (timing: Timing, now: number): Interval => ({
  start: now + timing.minNoticeMinutes * MINUTE,
  end: now + timing.maxDaysAhead * 24 * 60 * MINUTE,
});

/** Whether a start keeps to notice and window; the reason why not. */
export function decideWindow(
  timing: Timing,
  startsAt: number,
  now: number,
): { ok: true } | { ok: false; reason: 'in_the_past' | 'notice_too_short' | 'too_far_ahead' } {
  const window = bookingWindow(timing, now);
  if (startsAt < now) return { ok: false, reason: 'in_the_past' };
  if (startsAt < window.start) return { ok: false, reason: 'notice_too_short' };
  if (startsAt > window.end) return { ok: false, reason: 'too_far_ahead' };
  return { ok: true };
}
