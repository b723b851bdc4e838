import { type Interval, overlapsAny, union } from '../platform';
import type { GridInterval } from './hours.rules';
import { type DayState, spanOf, type Timing } from './ledger.rules';

/** A day with what is needed to lay the grid over it. */
export interface GridDay extends DayState {
  grid: GridInterval[];
}

/**
 * The starts within `window` that are free on one schedule, in order. The grid steps from the start of each interval of
 * open time, in elapsed time; a start on two grids is one slot. `days` must contain every day that a span starting in the
 * window touches, buffers included: where one is missing, nothing is offered.
 *
 * @param mode what is published for another mode is left out
 * @param window starts are at `window.start` or later, and before `window.end`
 */
export function freeStarts(
  days: readonly GridDay[],
  timing: Timing,
  window: Interval,
  accepts: (interval: GridInterval) => boolean = () => true,
  mode = '',
): number[] {
  const covers = union(days.map((day) => day.covers));
  const open = union(days.flatMap((day) => day.open));
  const taken = union(days.flatMap((day) => day.taken));
  const reserved = days
    .flatMap((day) => day.published ?? [])
    .filter((each) => each.mode !== null && each.mode !== mode);
  const step = (timing.slotIntervalMinutes ?? timing.durationMinutes) * 60_000;
  const starts = new Set<number>();
  for (const day of days) {
    for (const interval of day.grid) {
      if (!accepts(interval)) continue;
      const first = Math.max(interval.start, day.covers.start, window.start);
      const end = Math.min(interval.end, day.covers.end, window.end);
      for (let at = interval.start + Math.ceil((first - interval.start) / step) * step; at < end; at += step) {
        const { core, buffered } = spanOf(timing, at);
        if (!holds(open, core) || !holds(covers, buffered) || touches(taken, buffered)) continue;
        if (!overlapsAny(reserved, core)) starts.add(at);
      }
    }
  }
  return [...starts].sort((a, b) => a - b);
}

/** The last interval of a set that starts at or before an instant. */
function at(set: readonly Interval[], instant: number): Interval | undefined {
  let [low, high] = [0, set.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((set[middle] as Interval).start <= instant) low = middle + 1;
    else high = middle;
  }
  return set[low - 1];
}

const holds = (set: readonly Interval[], inner: Interval): boolean =>
  (at(set, inner.start)?.end ?? -Infinity) >= inner.end;

const touches = (set: readonly Interval[], interval: Interval): boolean =>
  (at(set, interval.end - 1)?.end ?? -Infinity) > interval.start;
