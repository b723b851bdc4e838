import fc from 'fast-check';
import { clip, type Interval, subtract, union } from '../platform';
import { type GridInterval, localDays, planDay, type WeeklyHours } from './hours.rules';
import { decideClaim, spanOf, type Timing } from './ledger.rules';
import { freeStarts, type GridDay } from './slots.rules';

const MINUTE = 60_000;
const ORIGIN = Date.parse('2026-12-01T00:00:00Z');
const at = (minute: number): number => ORIGIN + minute * MINUTE;
const interval = (start: number, end: number): Interval => ({ start: at(start), end: at(end) });

const timing = (more: Partial<Timing> = {}): Timing => ({
  durationMinutes: 30,
  bufferBeforeMinutes: 0,
  bufferAfterMinutes: 0,
  slotIntervalMinutes: null,
  minNoticeMinutes: 0,
  maxDaysAhead: 90,
  ...more,
});

/** Slow and obviously right: every minute of the window that lies on a grid and that the ledger would accept. */
function everyStart(
  days: readonly GridDay[],
  service: Timing,
  window: Interval,
  accepts: (each: GridInterval) => boolean = () => true,
): number[] {
  const step = (service.slotIntervalMinutes ?? service.durationMinutes) * MINUTE;
  const isOnGrid = (minute: number) =>
    days.some(
      (day) =>
        day.covers.start <= minute &&
        minute < day.covers.end &&
        day.grid.some(
          (each) => accepts(each) && each.start <= minute && minute < each.end && (minute - each.start) % step === 0,
        ),
    );
  const starts: number[] = [];
  for (let minute = Math.ceil(window.start / MINUTE) * MINUTE; minute < window.end; minute += MINUTE) {
    if (isOnGrid(minute) && decideClaim(days, spanOf(service, minute)).ok) starts.push(minute);
  }
  return starts;
}

// Days of two hours: short enough to look at every minute, long enough for buffers to reach over midnight.
const DAY = 120;
const aPart = (longest: number) =>
  fc
    .tuple(fc.integer({ min: -20, max: 3 * DAY }), fc.integer({ min: 1, max: longest }))
    .map(([start, length]) => interval(start, start + length));
const aGridInterval = fc
  .tuple(aPart(2 * DAY), fc.constantFrom(null, 'one', 'other'))
  .map(([part, locationId]): GridInterval => ({ ...part, locationId }));
const someDays = fc
  .record({
    indices: fc.constantFrom([0, 1, 2], [0, 1, 2], [0, 1], [1, 2], [0, 2], [1], []),
    grid: fc.array(aGridInterval, { minLength: 1, maxLength: 4 }),
    closed: fc.array(aPart(40), { maxLength: 2 }),
    taken: fc.array(aPart(40), { maxLength: 4 }),
  })
  .map(({ indices, grid, closed, taken }) =>
    indices.map((index): GridDay => {
      const covers = interval(index * DAY, (index + 1) * DAY);
      return {
        day: String(index),
        covers,
        grid: grid.filter((each) => each.start < covers.end && covers.start < each.end),
        open: subtract(clip(union(grid), covers), closed),
        taken: clip(taken, covers),
      };
    }),
  );
const aTiming = fc
  .record({
    durationMinutes: fc.integer({ min: 1, max: 60 }),
    bufferBeforeMinutes: fc.constantFrom(0, 0, 1, 5, 20),
    bufferAfterMinutes: fc.constantFrom(0, 0, 1, 10, 30),
    slotIntervalMinutes: fc.option(fc.integer({ min: 1, max: 40 })),
  })
  .map((more) => timing(more));
/** From and to fall between minutes, too. */
const aWindow = fc
  .tuple(fc.integer({ min: -20 * 60, max: 3 * DAY * 60 }), fc.integer({ min: 0, max: 4 * DAY * 60 }))
  .map(([from, length]) => ({ start: ORIGIN + from * 1_000, end: ORIGIN + (from + length) * 1_000 }));

describe('the free starts, against every minute', () => {
  it('are all that lie on a grid and can be claimed, and no others', () => {
    let offered = 0;
    let acrossMidnight = 0;
    fc.assert(
      fc.property(someDays, aTiming, aWindow, (days, service, window) => {
        const starts = freeStarts(days, service, window);
        expect(starts).toEqual(everyStart(days, service, window));
        for (const start of starts) {
          const { buffered } = spanOf(service, start);
          expect(decideClaim(days, { ...spanOf(service, start) })).toEqual({ ok: true, capacity: 1 });
          if (!days.some((day) => day.covers.start <= buffered.start && buffered.end <= day.covers.end))
            acrossMidnight++;
        }
        offered += starts.length;
      }),
      { numRuns: 1_500 },
    );
    // Else the property would have looked at nothing.
    expect(offered).toBeGreaterThan(1_000);
    expect(acrossMidnight).toBeGreaterThan(100);
  });

  it('come from the grids that are accepted', () => {
    fc.assert(
      fc.property(someDays, aTiming, aWindow, (days, service, window) => {
        const here = (each: GridInterval) => each.locationId === 'one';
        expect(freeStarts(days, service, window, here)).toEqual(everyStart(days, service, window, here));
      }),
    );
  });

  it('are those of real days, with clocks changed between them', () => {
    const zone = 'Europe/Berlin';
    const night: WeeklyHours[] = [6, 7].flatMap((weekday) =>
      [
        [0, 8 * 60],
        [20 * 60, 1440],
      ].map(([startMinute, endMinute]) => ({
        weekday,
        startMinute: startMinute!,
        endMinute: endMinute!,
        locationId: null,
        validFrom: null,
        validUntil: null,
      })),
    );
    for (const weekend of ['2026-03-28T00:00:00Z', '2026-10-24T00:00:00Z']) {
      const start = Date.parse(weekend);
      const window = { start, end: start + 48 * 60 * MINUTE };
      const days = localDays(zone, window).map((day) => ({ ...planDay(zone, day, night, []), taken: [] }));
      for (const service of [
        timing(),
        timing({ durationMinutes: 45, bufferBeforeMinutes: 20, slotIntervalMinutes: 15 }),
      ]) {
        const starts = freeStarts(days, service, window);
        expect(starts).toEqual(everyStart(days, service, window));
        expect(starts.length).toBeGreaterThan(30);
      }
    }
  });
});

describe('the grid', () => {
  const open = (start: number, end: number, locationId: string | null = null): GridDay => ({
    day: '2026-12-01',
    covers: interval(0, 1440),
    open: [interval(start, end)],
    taken: [],
    grid: [{ ...interval(start, end), locationId }],
  });
  const minutes = (starts: number[]) => starts.map((start) => (start - ORIGIN) / MINUTE);
  const whole = interval(0, 1440);

  it('steps by the duration unless told otherwise', () => {
    expect(minutes(freeStarts([open(540, 660)], timing(), whole))).toEqual([540, 570, 600, 630]);
    expect(minutes(freeStarts([open(540, 660)], timing({ slotIntervalMinutes: 45 }), whole))).toEqual([540, 585, 630]);
  });

  it('begins with the interval, not with the window', () => {
    expect(minutes(freeStarts([open(545, 660)], timing(), interval(550, 640)))).toEqual([575, 605]);
  });

  it('has its window’s start and not its end', () => {
    expect(minutes(freeStarts([open(540, 660)], timing(), interval(570, 600)))).toEqual([570]);
    expect(freeStarts([open(540, 660)], timing(), interval(570, 570))).toEqual([]);
  });

  it('shows one slot where two grids meet', () => {
    const day = open(540, 660);
    day.grid.push({ ...interval(570, 660), locationId: 'other' });
    expect(minutes(freeStarts([day], timing(), whole))).toEqual([540, 570, 600, 630]);
  });

  it('is not moved by what is taken', () => {
    const day = { ...open(540, 660), taken: [interval(545, 550)] };
    expect(minutes(freeStarts([day], timing(), whole))).toEqual([570, 600, 630]);
  });

  it('offers nothing at an edge whose neighbouring day is not known', () => {
    expect(minutes(freeStarts([open(1380, 1440)], timing({ bufferAfterMinutes: 5 }), whole))).toEqual([1380]);
    expect(freeStarts([], timing(), whole)).toEqual([]);
  });
});
