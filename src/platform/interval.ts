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

/** The same of a set in normal form, however long it is. */
export const coversWhole = (set: readonly Interval[], inner: Interval): boolean =>
  (lastFrom(set, inner.start)?.end ?? -Infinity) >= inner.end;

/** Whether an interval overlaps one of a set in normal form, however long it is. */
export const meetsAny = (set: readonly Interval[], interval: Interval): boolean =>
  (lastFrom(set, interval.end - 1)?.end ?? -Infinity) > interval.start;

/** The last interval of a set in normal form that starts at or before an instant. */
function lastFrom(set: readonly Interval[], instant: number): Interval | undefined {
  let [low, high] = [0, set.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (set[middle]!.start <= instant) low = middle + 1;
    else high = middle;
  }
  return set[low - 1];
}

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
  for (let at = text.indexOf('['); at >= 0;) {
    const comma = text.indexOf(',', at);
    const end = text.indexOf(')', comma);
    result.push({ start: readTimestamp(text, at + 1, comma), end: readTimestamp(text, comma + 1, end) });
    at = text.indexOf('[', end);
  }
  return result;
}

/**
 * `2026-12-01 08:00:00+00`, mostly in quotes, with a fraction where there is one. Read digit by digit: searches read tens of
 * thousands of them, and the engine's own parser takes twelve times as long.
 */
function readTimestamp(text: string, from: number, to: number): number {
  const start = text.charCodeAt(from) === QUOTE ? from + 1 : from;
  const end = text.charCodeAt(to - 1) === QUOTE ? to - 1 : to;
  // Of the first thousand years the engine's own functions make others.
  if (text.charCodeAt(start) === ZERO || text.charCodeAt(start + 4) !== DASH || text.charCodeAt(end - 3) !== PLUS)
    return Date.parse(`${text.slice(start, start + 10)}T${text.slice(start + 11, end - 3)}Z`);
  const two = (at: number) => text.charCodeAt(at) * 10 + text.charCodeAt(at + 1) - 11 * ZERO;
  const day = Date.UTC(two(start) * 100 + two(start + 2), two(start + 5) - 1, two(start + 8));
  const time = day + ((two(start + 11) * 60 + two(start + 14)) * 60 + two(start + 17)) * 1000;
  return end - start === WHOLE_SECONDS
    ? time
    : time + Number(text.slice(start + 20, Math.min(start + 23, end - 3)).padEnd(3, '0'));
}

const [QUOTE, DASH, PLUS, ZERO] = ['"', '-', '+', '0'].map((each) => each.charCodeAt(0)) as [
  number,
  number,
  number,
  number,
];
const WHOLE_SECONDS = '2026-12-01 08:00:00+00'.length;
