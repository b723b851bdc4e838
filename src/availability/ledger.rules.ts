import { contains, coveredBy, type Interval, overlapsAny, union } from '../platform';

/** What the ledger knows of one local day of a schedule. */
export interface DayState {
  day: string;
  covers: Interval;
  open: Interval[];
  taken: Interval[];
}

/** A time to be occupied: the core must lie in open time, the whole range with buffers must be clear. */
export interface Span {
  core: Interval;
  buffered: Interval;
}

export type ClaimDecision = { ok: true } | { ok: false; reason: 'day_missing' | 'outside_hours' | 'taken' };

/**
 * Decides whether a span can be claimed. The one rule of the ledger: `GET /slots` offers by it, bookings are accepted by
 * it, the guarded statement states it in SQL. Pure; for a decision that counts, the days must be locked.
 */
export function decideClaim(days: readonly DayState[], span: Span): ClaimDecision {
  const covers = union(days.map((day) => day.covers));
  if (!covers.some((each) => contains(each, span.buffered))) return { ok: false, reason: 'day_missing' };
  if (!coveredBy(union(days.flatMap((day) => day.open)), span.core)) return { ok: false, reason: 'outside_hours' };
  if (
    overlapsAny(
      days.flatMap((day) => day.taken),
      span.buffered,
    )
  )
    return { ok: false, reason: 'taken' };
  return { ok: true };
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
