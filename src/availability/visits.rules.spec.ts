import fc from 'fast-check';
import type { Interval } from '../platform';
import type { DayState } from './ledger.rules';
import {
  claimSpans,
  decidePlacements,
  type Placement,
  planVisit,
  reachesOf,
  type ResourceLane,
  type Seen,
  type Visit,
  type VisitSegment,
} from './visits.rules';

const MINUTE = 60_000;
const ORIGIN = Date.parse('2026-12-01T00:00:00Z');
const at = (minute: number): number => ORIGIN + minute * MINUTE;
const minuteOf = (instant: number): number => (instant - ORIGIN) / MINUTE;
const interval = ([start, end]: readonly [number, number]): Interval => ({ start: at(start), end: at(end) });

const lane = (scheduleId: string, practitioner = true): ResourceLane => ({
  scheduleId,
  timeZone: 'Etc/UTC',
  places: 1,
  practitionerId: practitioner ? `practitioner of ${scheduleId}` : null,
  roomId: practitioner ? null : `room of ${scheduleId}`,
  locationId: null,
});
const day = (open: ReadonlyArray<[number, number]>, taken: ReadonlyArray<[number, number]> = []): DayState => ({
  day: '2026-12-01',
  covers: interval([-1440, 2880]),
  open: open.map(interval),
  taken: taken.map(interval),
});
const segment = (durationMinutes: number, lanes: ResourceLane[], more: Partial<VisitSegment> = {}): VisitSegment => ({
  name: 'part',
  durationMinutes,
  gapAfterMinutes: 0,
  maxWaitMinutes: 0,
  startsWithPrevious: false,
  lanes,
  ...more,
});
const visit = (segments: VisitSegment[], more: Partial<Visit> = {}): Visit => ({
  mode: 'in_person',
  capacity: 1,
  bufferBeforeMinutes: 0,
  bufferAfterMinutes: 0,
  segments,
  ...more,
});

/** The segments that begin together, with the index of the first of them. */
function stagesOf(segments: readonly VisitSegment[]): Array<{ first: number; segments: VisitSegment[] }> {
  const stages: Array<{ first: number; segments: VisitSegment[] }> = [];
  segments.forEach((each, first) => {
    if (each.startsWithPrevious) stages.at(-1)!.segments.push(each);
    else stages.push({ first, segments: [each] });
  });
  return stages;
}

/** A part of a visit by the minute. */
interface Piece {
  scheduleId: string;
  start: number;
  end: number;
}

/** What a visit claims, minute by minute, as the rules are told; undefined where two parts overlap on one schedule. */
function minutesOf(pieces: readonly Piece[], before: number, after: number): Map<string, Set<number>> | undefined {
  const claimed = new Map<string, Set<number>>();
  for (const scheduleId of new Set(pieces.map((each) => each.scheduleId))) {
    const own = pieces.filter((each) => each.scheduleId === scheduleId).sort((a, b) => a.start - b.start);
    const minutes = new Set<number>();
    claimed.set(scheduleId, minutes);
    own.forEach((piece, index) => {
      const [previous, next] = [own[index - 1], own[index + 1]];
      const apart = (a: Piece, b: Piece) => pieces.some((each) => each.start >= a.end && each.end <= b.start);
      const from = !previous || apart(previous, piece) ? piece.start - before : piece.start;
      const until = !next || apart(piece, next) ? piece.end + after : piece.end;
      for (let minute = Math.max(from, previous?.end ?? from); minute < Math.min(until, next?.start ?? until); minute++)
        minutes.add(minute);
    });
    for (const [index, piece] of own.entries())
      if (own[index + 1] && own[index + 1]!.start < piece.end) return undefined;
  }
  return claimed;
}

describe('what is claimed for the parts of a visit', () => {
  const piece = fc.record({
    scheduleId: fc.constantFrom('a', 'b', 'c'),
    start: fc.integer({ min: 0, max: 40 }),
    length: fc.integer({ min: 1, max: 12 }),
  });
  const pieces = fc
    .array(piece, { minLength: 1, maxLength: 5 })
    .map((all) => all.map(({ scheduleId, start, length }) => ({ scheduleId, start, end: start + length })));
  const buffer = fc.integer({ min: 0, max: 15 });

  it('is each core with the buffers around runs, and never twice the same time', () => {
    const seen = { accepted: 0, overlaps: 0 };
    fc.assert(
      fc.property(pieces, buffer, buffer, (all, before, after) => {
        const times = all.map(({ scheduleId, start, end }) => ({ scheduleId, ...interval([start, end]) }));
        const claimed = claimSpans(times, { bufferBeforeMinutes: before, bufferAfterMinutes: after });
        const due = minutesOf(all, before, after);
        expect(claimed.ok).toBe(due !== undefined);
        if (!claimed.ok) {
          seen.overlaps += 1;
          const [one, other] = claimed.overlap.map((index) => all[index]!) as [Piece, Piece];
          expect(claimed.overlap[0]).not.toBe(claimed.overlap[1]);
          expect([one.scheduleId, one.start < other.end, other.start < one.end]).toEqual([
            other.scheduleId,
            true,
            true,
          ]);
          return;
        }
        seen.accepted += 1;
        const found = new Map<string, number[]>();
        claimed.spans.forEach(({ core, buffered }, index) => {
          expect(core).toEqual({ start: times[index]!.start, end: times[index]!.end });
          expect([buffered.start <= core.start, core.end <= buffered.end]).toEqual([true, true]);
          const own = found.get(all[index]!.scheduleId) ?? [];
          for (let minute = minuteOf(buffered.start); minute < minuteOf(buffered.end); minute++) own.push(minute);
          found.set(all[index]!.scheduleId, own);
        });
        // A list, so that a minute that is claimed twice tells.
        for (const [scheduleId, minutes] of due!)
          expect(found.get(scheduleId)!.sort((a, b) => a - b)).toEqual([...minutes].sort((a, b) => a - b));
      }),
      { numRuns: 500, seed: 11 },
    );
    expect([seen.accepted > 50, seen.overlaps > 50]).toEqual([true, true]);
  });

  const BUFFERS = { bufferBeforeMinutes: 5, bufferAfterMinutes: 10 };
  const on = (scheduleId: string, start: number, end: number) => ({ scheduleId, ...interval([start, end]) });
  it.each<[string, Array<ReturnType<typeof on>>, Array<[number, number]>]>([
    ['buffers around one part', [on('a', 100, 110)], [[95, 120]]],
    ['none between parts that follow each other', [on('a', 100, 110), on('a', 110, 120)], [[95, 110], [110, 130]]], // prettier-ignore
    ['none within a run with a pause, which stays free', [on('a', 100, 110), on('a', 130, 140)], [[95, 110], [130, 150]]], // prettier-ignore
    [
      'buffers on both sides of a part that lies between',
      [on('a', 100, 110), on('b', 130, 140), on('a', 160, 170)],
      [[95, 120], [125, 150], [155, 180]], // prettier-ignore
    ],
    [
      'less where two runs come closer than that',
      [on('a', 100, 110), on('b', 110, 112), on('a', 112, 120)],
      [[95, 112], [105, 122], [112, 130]], // prettier-ignore
    ],
    ['one that runs beside it does not interrupt', [on('a', 100, 110), on('b', 100, 130), on('a', 130, 140)], [[95, 110], [95, 140], [130, 150]]], // prettier-ignore
  ])('%s', (_, times, due) => {
    const claimed = claimSpans(times, BUFFERS);
    const spans = claimed.ok ? claimed.spans.map(({ buffered }) => [buffered.start, buffered.end].map(minuteOf)) : [];
    expect(spans).toEqual(due);
  });
});

/** A visit on three schedules; every time is a multiple of five minutes, so the best plan is one, too. */
const STEP = 5;
const five = (max: number) => fc.integer({ min: 0, max }).map((count) => count * STEP);
const spans = fc
  .array(fc.tuple(five(30), fc.integer({ min: 1, max: 6 })), { maxLength: 3 })
  .map((all) => all.map(([start, length]): [number, number] => [start, start + length * STEP]));
const closings = fc
  .array(fc.tuple(five(30), fc.integer({ min: 1, max: 4 })), { maxLength: 1 })
  .map((all) => all.map(([start, length]): [number, number] => [start, start + length * STEP]));
const LANES = [lane('a'), lane('b'), lane('c', false)];
const segmentOf = fc.record({
  name: fc.constant(null),
  durationMinutes: fc.constantFrom(5, 10, 15),
  gapAfterMinutes: fc.constantFrom(0, 0, 5, 15),
  maxWaitMinutes: fc.constantFrom(0, 0, 10, 25),
  startsWithPrevious: fc.integer({ min: 0, max: 3 }).map((chance) => chance === 0),
  lanes: fc
    .constantFrom([0], [1], [0, 1], [1, 0], [2], [0, 2], [0, 1, 2])
    .map((all) => all.map((index) => LANES[index]!)),
});
const scene = fc.record({
  visit: fc.record({
    mode: fc.constant('in_person'),
    capacity: fc.constant(1),
    bufferBeforeMinutes: fc.constantFrom(0, 0, 5, 10),
    bufferAfterMinutes: fc.constantFrom(0, 0, 5, 15),
    segments: fc
      .array(segmentOf, { minLength: 1, maxLength: 4 })
      .map(([first, ...others]) => [{ ...first!, startsWithPrevious: false }, ...others]),
  }),
  closed: fc.tuple(closings, closings, closings),
  taken: fc.tuple(spans, spans, spans),
  startsAt: five(8),
});
type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;

const HORIZON = 400;
const minutesIn = (ranges: ReadonlyArray<[number, number]>): Set<number> =>
  new Set(ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, index) => start + index)));

/** The same world twice: as the ledger tells it, and by the minute. */
function worldOf({ closed, taken }: Scene) {
  const seen: Seen = new Map(
    LANES.map(({ scheduleId }, index) => {
      const shut = minutesIn(closed[index]!);
      const open: Array<[number, number]> = [];
      for (let minute = 0; minute < HORIZON; minute++) {
        if (shut.has(minute)) continue;
        const last = open.at(-1);
        if (last?.[1] === minute) last[1] = minute + 1;
        else open.push([minute, minute + 1]);
      }
      return [scheduleId, [day(open, taken[index])]];
    }),
  );
  const busy = new Map(LANES.map(({ scheduleId }, index) => [scheduleId, minutesIn(taken[index]!)]));
  const shut = new Map(LANES.map(({ scheduleId }, index) => [scheduleId, minutesIn(closed[index]!)]));
  return { seen, busy, shut };
}

interface Option {
  pieces: Piece[];
  waiting: number;
  changes: number;
}

/** Every way there is to have a visit, by trying all. */
function* allWays({ visit: wanted, startsAt }: Scene, { busy, shut }: ReturnType<typeof worldOf>): Generator<Option> {
  const stages = stagesOf(wanted.segments);
  const fits = (scheduleId: string, start: number, end: number) => {
    for (let minute = start; minute < end; minute++)
      if (busy.get(scheduleId)!.has(minute) || shut.get(scheduleId)!.has(minute)) return false;
    return true;
  };
  function* place(stage: number, start: number, sofar: Option, last: string | undefined): Generator<Option> {
    const now = stages[stage];
    if (!now) {
      const claimed = minutesOf(sofar.pieces, wanted.bufferBeforeMinutes, wanted.bufferAfterMinutes);
      if (!claimed) return;
      for (const [scheduleId, minutes] of claimed)
        for (const minute of minutes) if (busy.get(scheduleId)!.has(minute)) return;
      yield sofar;
      return;
    }
    let sets: ResourceLane[][] = [[]];
    for (const { lanes, durationMinutes } of now.segments)
      sets = sets.flatMap((set) =>
        lanes.filter((each) => fits(each.scheduleId, start, start + durationMinutes)).map((each) => [...set, each]),
      );
    const length = Math.max(...now.segments.map((each) => each.durationMinutes + each.gapAfterMinutes));
    const wait = Math.max(...now.segments.map((each) => each.maxWaitMinutes));
    for (const set of sets) {
      const practitioners = set.flatMap((each) => each.practitionerId ?? []);
      const changes = last === undefined || practitioners.length === 0 || practitioners.includes(last) ? 0 : 1;
      const next = changes === 1 || last === undefined ? practitioners[0] : last;
      const own = set.map((each, index) => ({
        scheduleId: each.scheduleId,
        start,
        end: start + now.segments[index]!.durationMinutes,
      }));
      for (let waited = 0; waited <= (stages[stage + 1] ? wait : 0); waited += STEP) {
        const option = {
          pieces: [...sofar.pieces, ...own],
          waiting: sofar.waiting + waited,
          changes: sofar.changes + changes,
        };
        yield* place(stage + 1, start + length + waited, option, next);
      }
    }
  }
  yield* place(0, startsAt, { pieces: [], waiting: 0, changes: 0 }, undefined);
}

const better = (a: Option, b: Option | undefined): boolean =>
  b === undefined || a.waiting < b.waiting || (a.waiting === b.waiting && a.changes < b.changes);

describe('planning a visit', () => {
  /** How long a plan makes the patient wait, and how often he meets somebody new. */
  function costOf({ visit: wanted, startsAt }: Scene, placements: Placement[]): { waiting: number; changes: number } {
    let [earliest, waiting, changes] = [startsAt, 0, 0];
    let last: string | undefined;
    for (const { first, segments } of stagesOf(wanted.segments)) {
      const own = placements.slice(first, first + segments.length);
      const start = minuteOf(own[0]!.startsAt);
      expect(own.map((each) => minuteOf(each.startsAt))).toEqual(own.map(() => start));
      waiting += start - earliest;
      earliest = start + Math.max(...segments.map((each) => each.durationMinutes + each.gapAfterMinutes));
      const practitioners = own.flatMap(({ lane: { practitionerId } }) => practitionerId ?? []);
      if (practitioners.length === 0 || practitioners.includes(last!)) continue;
      if (last !== undefined) changes += 1;
      last = practitioners[0];
    }
    return { waiting, changes };
  }

  it('finds one where there is one, the least waiting first, then the fewest changes', () => {
    const count = { found: 0, refused: 0, waited: 0, changed: 0 };
    fc.assert(
      fc.property(scene, (it) => {
        const world = worldOf(it);
        let best: Option | undefined;
        for (const way of allWays(it, world)) if (better(way, best)) best = way;
        const plan = planVisit(it.visit, at(it.startsAt), world.seen);
        expect(plan.ok).toBe(best !== undefined);
        if (!plan.ok) {
          count.refused += 1;
          expect(plan.segments.map((each) => each.index)).toEqual(it.visit.segments.map((_, index) => index));
          return;
        }
        count.found += 1;
        const placements = plan.parts.map((part) => ({ lane: part.lane, startsAt: part.span.core.start }));
        it.visit.segments.forEach(({ lanes }, index) => expect(lanes).toContain(placements[index]!.lane));
        expect(placements[0]!.startsAt).toBe(at(it.startsAt));
        const cost = costOf(it, placements);
        expect(cost).toEqual({ waiting: best!.waiting, changes: best!.changes });
        // Those who decide on named places take it as it is, and it lies within what was locked for it.
        expect(decidePlacements(it.visit, placements, world.seen)).toEqual(plan);
        const reaches = reachesOf(it.visit, at(it.startsAt));
        plan.parts.forEach(({ span: { buffered } }, index) => {
          expect([reaches[index]!.start <= buffered.start, buffered.end <= reaches[index]!.end]).toEqual([true, true]);
        });
        if (cost.waiting > 0) count.waited += 1;
        if (cost.changes > 0) count.changed += 1;
      }),
      { numRuns: 800, seed: 7 },
    );
    expect(Object.entries(count).filter(([, times]) => times < 20)).toEqual([]);
  });

  it('what is named is taken exactly where every minute of it is free', () => {
    const count = { taken: 0, refused: 0 };
    fc.assert(
      fc.property(scene, fc.array(five(20), { minLength: 4, maxLength: 4 }), fc.integer(), (it, starts, pick) => {
        const world = worldOf(it);
        const placements = it.visit.segments.map(({ lanes }, index) => ({
          lane: lanes[Math.abs(pick + index) % lanes.length]!,
          startsAt: at(starts[index]!),
        }));
        const pieces = placements.map(({ lane: { scheduleId } }, index) => ({
          scheduleId,
          start: starts[index]!,
          end: starts[index]! + it.visit.segments[index]!.durationMinutes,
        }));
        const claimed = minutesOf(pieces, it.visit.bufferBeforeMinutes, it.visit.bufferAfterMinutes);
        if (!claimed) {
          expect(() => decidePlacements(it.visit, placements, world.seen)).toThrow('overlap');
          return;
        }
        const isOpen = pieces.every(({ scheduleId, start, end }) =>
          Array.from({ length: end - start }, (_, index) => start + index).every(
            (minute) => !world.shut.get(scheduleId)!.has(minute),
          ),
        );
        const isFree = [...claimed].every(([id, minutes]) =>
          [...minutes].every((each) => !world.busy.get(id)!.has(each)),
        );
        const decision = decidePlacements(it.visit, placements, world.seen);
        expect(decision.ok).toBe(isOpen && isFree);
        count[decision.ok ? 'taken' : 'refused'] += 1;
        if (!decision.ok) {
          expect(decision.reason).toBe(isOpen ? 'taken' : 'outside_hours');
          expect(decision.segments.some((each) => each.reason === decision.reason)).toBe(true);
        }
      }),
      { numRuns: 400, seed: 3 },
    );
    expect([count.taken > 20, count.refused > 20]).toEqual([true, true]);
  });

  const [anna, ben, room] = LANES as [ResourceLane, ResourceLane, ResourceLane];
  const open: Seen = new Map(LANES.map(({ scheduleId }) => [scheduleId, [day([[0, 600]])]]));
  const placesOf = (wanted: Visit, seen: Seen = open, start = 60) => {
    const plan = planVisit(wanted, at(start), seen);
    if (!plan.ok) return plan.segments.map((each) => each.reason);
    return plan.parts.map((part) => [part.lane.scheduleId, minuteOf(part.span.core.start)]);
  };

  it.each<[string, Visit, Seen | undefined, unknown]>([
    [
      'one after the other, with pauses',
      visit([segment(20, [anna], { gapAfterMinutes: 30 }), segment(10, [room]), segment(5, [anna])]),
      undefined,
      [['a', 60], ['c', 110], ['a', 120]], // prettier-ignore
    ],
    [
      'side by side, the next one after the longest and its pause',
      visit([
        segment(20, [anna], { gapAfterMinutes: 15 }),
        segment(30, [room], { startsWithPrevious: true }),
        segment(5, [ben]),
      ]),
      undefined,
      [['a', 60], ['c', 60], ['b', 95]], // prettier-ignore
    ],
    [
      'with the same practitioner, though another one is named first',
      visit([segment(20, [ben]), segment(10, [anna, ben])]),
      undefined,
      [['b', 60], ['b', 80]], // prettier-ignore
    ],
    [
      'with another one rather than waiting',
      visit([segment(20, [anna], { maxWaitMinutes: 60 }), segment(10, [anna, ben])]),
      new Map([...open, ['a', [day([[0, 600]], [[80, 100]])]]]),
      [['a', 60], ['b', 80]], // prettier-ignore
    ],
    [
      'waiting rather than not at all',
      visit([segment(20, [anna], { maxWaitMinutes: 20 }), segment(10, [anna])]),
      new Map([...open, ['a', [day([[0, 600]], [[80, 100]])]]]),
      [['a', 60], ['a', 100]], // prettier-ignore
    ],
    [
      'waiting before one part so that the next one can begin at once',
      visit([segment(20, [anna], { maxWaitMinutes: 60 }), segment(10, [ben]), segment(10, [room])]),
      new Map([...open, ['c', [day([[120, 600]])]]]),
      [['a', 60], ['b', 110], ['c', 120]], // prettier-ignore
    ],
    [
      'not by waiting longer than may be, and tells whose time it is',
      visit([segment(20, [anna], { maxWaitMinutes: 19 }), segment(10, [anna])]),
      new Map([...open, ['a', [day([[0, 600]], [[80, 100]])]]]),
      [null, 'taken'],
    ],
    [
      'not two at once by one practitioner',
      visit([segment(20, [anna]), segment(20, [anna], { startsWithPrevious: true })]),
      undefined,
      [null, null],
    ],
    [
      'not where one is closed, and tells so',
      visit([segment(20, [anna]), segment(10, [room])]),
      new Map([...open, ['c', [day([[0, 80]])]]]),
      [null, 'outside_hours'],
    ],
  ])('%s', (_, wanted, seen, due) => {
    expect(placesOf(wanted, seen)).toEqual(due);
  });

  it('sees the buffers of others, and none between its own', () => {
    const wanted = visit([segment(20, [anna]), segment(20, [anna])], {
      bufferBeforeMinutes: 10,
      bufferAfterMinutes: 10,
    });
    const beside = (taken: Array<[number, number]>): Seen => new Map([['a', [day([[0, 600]], taken)]]]);
    expect(placesOf(wanted, beside([[0, 50], [110, 200]]))).toEqual([['a', 60], ['a', 80]]); // prettier-ignore
    expect(placesOf(wanted, beside([[0, 51]]))).toEqual(['taken', null]);
    expect(placesOf(wanted, beside([[109, 200]]))).toEqual([null, 'taken']);
  });
});
