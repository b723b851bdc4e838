import { coversWhole, type Interval, meetsAny, overlapsAny } from '../platform';
import type { GridInterval } from './hours.rules';
import { type DayState, spanOf, stretchOf, type Timing } from './ledger.rules';

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
  const { covers, open, taken, published } = stretchOf(days);
  const reserved = published.filter((each) => each.mode !== null && each.mode !== mode);
  const step = (timing.slotIntervalMinutes ?? timing.durationMinutes) * 60_000;
  const starts = new Set<number>();
  for (const day of days) {
    for (const interval of day.grid) {
      if (!accepts(interval)) continue;
      const first = Math.max(interval.start, day.covers.start, window.start);
      const end = Math.min(interval.end, day.covers.end, window.end);
      for (let at = interval.start + Math.ceil((first - interval.start) / step) * step; at < end; at += step) {
        const { core, buffered } = spanOf(timing, at);
        if (!coversWhole(open, core) || meetsAny(taken, buffered) || !coversWhole(covers, buffered)) continue;
        if (!overlapsAny(reserved, core)) starts.add(at);
      }
    }
  }
  return [...starts].sort((a, b) => a - b);
}
