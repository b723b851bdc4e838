/**
 * Half-open intervals `[start, end)` of instants in milliseconds since the epoch, and sets of them.
 * A set is sorted, without overlaps and without touching neighbours: the normal form of PostgreSQL's multiranges.
 */
export interface Interval {
  start: number;
  end: number;
}

export const overlaps = (a: Interval, b: Interval): boolean => a.start < b.end && b.start < a.end;

export const contains = (outer: Interval, inner: Interval): boolean =>
  outer.start <= inner.start && inner.end <= outer.end;

/** Whether one interval of the set contains `inner` whole. */
export const coveredBy = (set: readonly Interval[], inner: Interval): boolean =>
  set.some((each) => contains(each, inner));

export const overlapsAny = (set: readonly Interval[], interval: Interval): boolean =>
  set.some((each) => overlaps(each, interval));

/** The union of any intervals, in normal form. */
export function union(intervals: readonly Interval[]): Interval[] {
  const sorted = intervals.filter((each) => each.start < each.end).sort((a, b) => a.start - b.start);
  const result: Interval[] = [];
  for (const next of sorted) {
    const last = result.at(-1);
    if (last && next.start <= last.end) last.end = Math.max(last.end, next.end);
    else result.push({ ...next });
  }
  return result;
}

/** `from` without everything in `without`, in normal form. */
export function subtract(from: readonly Interval[], without: readonly Interval[]): Interval[] {
  let rest = union(from);
  for (const hole of union(without)) {
    rest = rest.flatMap((each) =>
      overlaps(each, hole)
        ? [
            { start: each.start, end: Math.min(each.end, hole.start) },
            { start: Math.max(each.start, hole.end), end: each.end },
          ].filter((piece) => piece.start < piece.end)
        : [each],
    );
  }
  return rest;
}

/** The parts of the intervals that lie within `bounds`, in normal form. */
export const clip = (intervals: readonly Interval[], bounds: Interval): Interval[] =>
  union(intervals.map((each) => ({ start: Math.max(each.start, bounds.start), end: Math.min(each.end, bounds.end) })));

/** Writes a set as PostgreSQL's tstzmultirange. */
export const toMultirange = (set: readonly Interval[]): string => `{${set.map(toRange).join(',')}}`;

/** Writes an interval as PostgreSQL's tstzrange. */
export const toRange = ({ start, end }: Interval): string =>
  `["${new Date(start).toISOString()}","${new Date(end).toISOString()}")`;

/**
 * Reads PostgreSQL's tstzrange or tstzmultirange as it prints them with DateStyle ISO and TimeZone UTC. Unbounded and
 * empty ranges do not occur in the ledger.
 */
export function fromRanges(text: string): Interval[] {
  const result: Interval[] = [];
  for (const match of text.matchAll(/\["?([^",]+)"?,"?([^",)]+)"?\)/g)) {
    result.push({ start: readTimestamp(match[1] as string), end: readTimestamp(match[2] as string) });
  }
  return result;
}

// `2026-12-01 08:00:00+00`, with a fraction where there is one. The engine's own parser takes this form, but by a path
// that is an order of magnitude slower than its ISO one.
const readTimestamp = (text: string): number => Date.parse(`${text.slice(0, 10)}T${text.slice(11, -3)}Z`);
