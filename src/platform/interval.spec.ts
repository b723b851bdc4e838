import fc from 'fast-check';
import {
  clip,
  contains,
  coveredBy,
  coversWhole,
  fromRanges,
  type Interval,
  meetsAny,
  overlaps,
  overlapsAny,
  subtract,
  toMultirange,
  toRange,
  union,
} from './interval';

// The slow model: one bit for each minute of a stretch long enough for anything to happen in.
const MINUTES = 60;
const MINUTE = 60_000;
const ORIGIN = Date.parse('2026-12-01T00:00:00Z');
type Bits = boolean[];

const at = (minute: number): number => ORIGIN + minute * MINUTE;
const interval = (start: number, end: number): Interval => ({ start: at(start), end: at(end) });
const bitsOf = (intervals: readonly Interval[]): Bits =>
  Array.from({ length: MINUTES }, (_, minute) =>
    intervals.some((each) => each.start <= at(minute) && at(minute) < each.end),
  );

/** The normal form of what the bits say: maximal runs, in order. */
function runsOf(bits: Bits): Interval[] {
  const runs: Interval[] = [];
  for (let minute = 0; minute < MINUTES; minute++) {
    if (!bits[minute]) continue;
    const start = minute;
    while (minute < MINUTES && bits[minute]) minute++;
    runs.push(interval(start, minute));
  }
  return runs;
}

const anInterval = fc
  .tuple(fc.integer({ min: 0, max: MINUTES }), fc.integer({ min: 0, max: MINUTES }))
  .map(([a, b]) => interval(Math.min(a, b), Math.max(a, b)));
const aLongInterval = anInterval.filter((each) => each.start < each.end);
const anyIntervals = fc.array(anInterval, { maxLength: 8 });
const aSet = anyIntervals.map(union);

const RUNS = { numRuns: 1_000 };

describe('sets of intervals, against a bit for each minute', () => {
  it('union is what either has, in normal form', () => {
    fc.assert(
      fc.property(anyIntervals, (intervals) => expect(union(intervals)).toEqual(runsOf(bitsOf(intervals)))),
      RUNS,
    );
  });

  it('union leaves its input as it was', () => {
    fc.assert(
      fc.property(anyIntervals, (intervals) => {
        const before = structuredClone(intervals);
        union(intervals);
        expect(intervals).toEqual(before);
      }),
      RUNS,
    );
  });

  it('subtract is what the first has and the second has not', () => {
    fc.assert(
      fc.property(anyIntervals, anyIntervals, (from, without) => {
        const [has, hasNot] = [bitsOf(from), bitsOf(without)];
        expect(subtract(from, without)).toEqual(runsOf(has.map((bit, minute) => bit && !hasNot[minute])));
      }),
      RUNS,
    );
  });

  it('clip is what lies within the bounds', () => {
    fc.assert(
      fc.property(anyIntervals, anInterval, (intervals, bounds) => {
        const inside = bitsOf([bounds]);
        expect(clip(intervals, bounds)).toEqual(runsOf(bitsOf(intervals).map((bit, minute) => bit && inside[minute]!)));
      }),
      RUNS,
    );
  });

  it('coveredBy and coversWhole say whether a set has every minute of an interval', () => {
    fc.assert(
      fc.property(aSet, aLongInterval, (set, inner) => {
        const [has, wanted] = [bitsOf(set), bitsOf([inner])];
        const isCovered = wanted.every((bit, minute) => !bit || has[minute]);
        expect([coveredBy(set, inner), coversWhole(set, inner)]).toEqual([isCovered, isCovered]);
      }),
      RUNS,
    );
  });

  it('overlapsAny and meetsAny say whether a set has any minute of an interval', () => {
    fc.assert(
      fc.property(aSet, aLongInterval, (set, other) => {
        const [has, wanted] = [bitsOf(set), bitsOf([other])];
        const meets = wanted.some((bit, minute) => bit && has[minute]);
        expect([overlapsAny(set, other), meetsAny(set, other)]).toEqual([meets, meets]);
      }),
      RUNS,
    );
  });
});

describe('two intervals', () => {
  it('that only touch do not overlap', () => {
    expect(overlaps(interval(0, 10), interval(10, 20))).toBe(false);
    expect(overlaps(interval(10, 20), interval(0, 10))).toBe(false);
    expect(overlaps(interval(0, 11), interval(10, 20))).toBe(true);
  });

  it('contain each other when they are equal', () => {
    expect(contains(interval(0, 10), interval(0, 10))).toBe(true);
    expect(contains(interval(0, 10), interval(0, 11))).toBe(false);
    expect(contains(interval(1, 10), interval(0, 10))).toBe(false);
  });
});

describe('the text of ranges', () => {
  /** As PostgreSQL prints an instant with DateStyle ISO and TimeZone UTC: no fraction of zero, no trailing zeros. */
  const printed = (time: number): string =>
    new Date(time)
      .toISOString()
      .replace('T', ' ')
      .replace(/\.?0*Z$/, (fraction) => (fraction.startsWith('.') ? '' : fraction))
      .replace(/Z$/, '')
      .concat('+00');
  const printedRange = ({ start, end }: Interval): string => `["${printed(start)}","${printed(end)}")`;

  const anInstant = fc.integer({
    min: Date.parse('0001-01-01T00:00:00Z'),
    max: Date.parse('9999-12-31T23:59:59.999Z'),
  });
  const someRanges = fc
    .uniqueArray(anInstant, { maxLength: 12 })
    .map((instants) => instants.sort((a, b) => a - b))
    .map((sorted) =>
      Array.from({ length: sorted.length >> 1 }, (_, n) => ({ start: sorted[2 * n]!, end: sorted[2 * n + 1]! })),
    );

  it('is written as PostgreSQL reads it', () => {
    const [first, second] = [interval(0, 30), interval(45, 50)];
    expect(toRange(first)).toBe('["2026-12-01T00:00:00.000Z","2026-12-01T00:30:00.000Z")');
    expect(toMultirange([])).toBe('{}');
    expect(toMultirange([first, second])).toBe(`{${toRange(first)},${toRange(second)}}`);
  });

  it.each([
    ['{}', []],
    ['["2026-12-01 00:00:00+00","2026-12-01 00:30:00+00")', [interval(0, 30)]],
    ['{["2026-12-01 00:00:00.5+00","2026-12-01 00:30:00+00")}', [{ start: ORIGIN + 500, end: at(30) }]],
    [
      '{["2026-12-01 00:00:00+00","2026-12-01 00:30:00+00"),["2026-12-01 00:45:00+00","2026-12-01 00:50:00+00")}',
      [interval(0, 30), interval(45, 50)],
    ],
  ])('is read as PostgreSQL prints it: %s', (text, ranges) => {
    expect(fromRanges(text)).toEqual(ranges);
  });

  it('comes back to the millisecond', () => {
    fc.assert(
      fc.property(someRanges, (ranges) => {
        expect(fromRanges(`{${ranges.map(printedRange).join(',')}}`)).toEqual(ranges);
        for (const range of ranges) expect(fromRanges(printedRange(range))).toEqual([range]);
      }),
      RUNS,
    );
  });

  it('is written to the millisecond', () => {
    fc.assert(
      fc.property(someRanges, (ranges) => {
        const written = [...toMultirange(ranges).matchAll(/\["([^"]+)","([^"]+)"\)/g)];
        expect(written.map(([, start, end]) => ({ start: Date.parse(start!), end: Date.parse(end!) }))).toEqual(ranges);
      }),
      RUNS,
    );
  });
});
