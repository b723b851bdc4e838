import { type Interval, meetsAny } from '../platform';
import {
  type ClaimDecision,
  type DayState,
  decideClaim,
  type Lane,
  type Manner,
  type SeatedSession,
  type Span,
  stretchOf,
} from './ledger.rules';

const MINUTE = 60_000;

/** A lane with the practitioner or room that it belongs to. */
export interface ResourceLane extends Lane {
  practitionerId: string | null;
  roomId: string | null;
  locationId: string | null;
}

/** One part of a visit, and who can serve it, the preferred ones first. */
export interface VisitSegment {
  name: string | null;
  durationMinutes: number;
  /** The pause after it, at least, and how much longer it may be. */
  gapAfterMinutes: number;
  maxWaitMinutes: number;
  /** Begins together with the segment before it, at its side. */
  startsWithPrevious: boolean;
  lanes: readonly ResourceLane[];
}

/** What has to take place when a service is had: one segment, or several. */
export interface Visit extends Manner {
  segments: readonly VisitSegment[];
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
}

/** A segment with its place and time, and the span that will be claimed for it. */
export interface Part {
  name: string | null;
  lane: ResourceLane;
  span: Span;
  /** The session that it takes a seat in, instead of a claim of its own. */
  session?: SeatedSession;
  /** How many can share it. */
  capacity: number;
}

export type Refusal = Exclude<ClaimDecision, { ok: true }>['reason'];

/** Why a visit cannot be had, and for which of its segments by themselves; null for one that could be. */
export interface VisitRefusal {
  ok: false;
  reason: Refusal;
  segments: Array<{ index: number; name: string | null; reason: Refusal | null }>;
}

export type VisitDecision = { ok: true; parts: Part[] } | VisitRefusal;

/** What the ledger knows of the schedules concerned, by their ids. */
export type Seen = ReadonlyMap<string, readonly DayState[]>;

/** Where a segment is to take place, as somebody names it. */
export interface Placement {
  lane: ResourceLane;
  startsAt: number;
}

/** The segments of a visit that begin together. */
interface Stage {
  segments: readonly VisitSegment[];
}

function stagesOf(segments: readonly VisitSegment[]): Stage[] {
  const stages: Array<{ segments: VisitSegment[] }> = [];
  for (const segment of segments) {
    const last = stages.at(-1);
    if (last && segment.startsWithPrevious) last.segments.push(segment);
    else stages.push({ segments: [segment] });
  }
  return stages;
}

/** From the beginning of a stage to the earliest beginning of the next one. */
const lengthOfStage = (stage: Stage): number =>
  Math.max(...stage.segments.map((each) => (each.durationMinutes + each.gapAfterMinutes) * MINUTE));

/** How much later than that the next stage may begin. */
const waitAfter = (stage: Stage): number => Math.max(...stage.segments.map((each) => each.maxWaitMinutes * MINUTE));

/** The interval in which each segment of a visit that begins then can lie, buffers included. */
export function reachesOf(visit: Visit, startsAt: number): Interval[] {
  const reaches: Interval[] = [];
  let [earliest, slack] = [startsAt, 0];
  for (const stage of stagesOf(visit.segments)) {
    for (const segment of stage.segments) {
      const end = earliest + slack + segment.durationMinutes * MINUTE + visit.bufferAfterMinutes * MINUTE;
      reaches.push({ start: earliest - visit.bufferBeforeMinutes * MINUTE, end });
    }
    earliest += lengthOfStage(stage);
    slack += waitAfter(stage);
  }
  return reaches;
}

/** When each segment of a visit begins that begins then and has no waiting. */
export function segmentStarts(visit: Visit, startsAt: number): number[] {
  let earliest = startsAt;
  return stagesOf(visit.segments).flatMap((stage) => {
    const start = earliest;
    earliest += lengthOfStage(stage);
    return stage.segments.map(() => start);
  });
}

/**
 * What is claimed for segments at their places: each its own time. The buffers surround each schedule's run of consecutive
 * segments, those with nothing else of the visit between them; where two runs of one visit come closer than that, the later
 * one begins where the earlier one ends, for a visit is not in its own way. The time in a pause is claimed by nobody.
 * @returns the spans in the order of the segments, or the indexes of two that overlap on one schedule
 */
export function claimSpans(
  segments: ReadonlyArray<{ scheduleId: string } & Interval>,
  { bufferBeforeMinutes, bufferAfterMinutes }: Pick<Visit, 'bufferBeforeMinutes' | 'bufferAfterMinutes'>,
): { ok: true; spans: Span[] } | { ok: false; overlap: [number, number] } {
  const between = (a: Interval, b: Interval) =>
    segments.some((each) => each.start >= a.end && each.end <= b.start && each !== a && each !== b);
  const spans = new Array<Span>(segments.length);
  for (const own of Map.groupBy(segments.keys(), (index) => segments[index]!.scheduleId).values()) {
    own.sort((a, b) => segments[a]!.start - segments[b]!.start || segments[a]!.end - segments[b]!.end);
    let claimedUntil = -Infinity;
    for (const [position, index] of own.entries()) {
      const { start, end } = segments[index]!;
      const before = own[position - 1];
      const after = own[position + 1];
      if (after !== undefined && segments[after]!.start < end) return { ok: false, overlap: [index, after] };
      const begins = before === undefined || between(segments[before]!, segments[index]!);
      const ends = after === undefined || between(segments[index]!, segments[after]!);
      const next = after === undefined ? Infinity : segments[after]!.start;
      const buffered = {
        start: Math.max(start - (begins ? bufferBeforeMinutes * MINUTE : 0), Math.min(claimedUntil, start)),
        end: Math.min(end + (ends ? bufferAfterMinutes * MINUTE : 0), next),
      };
      claimedUntil = buffered.end;
      spans[index] = { core: { start, end }, buffered };
    }
  }
  return { ok: true, spans };
}

/** Decides whether every segment can be had where it was placed: all of them, or none. */
export function decidePlacements(visit: Visit, placements: readonly Placement[], seen: Seen): VisitDecision {
  const times = placements.map(({ lane, startsAt }, index) => ({
    scheduleId: lane.scheduleId,
    start: startsAt,
    end: startsAt + visit.segments[index]!.durationMinutes * MINUTE,
  }));
  const claimed = claimSpans(times, visit);
  if (!claimed.ok) throw new Error(`segments ${claimed.overlap.join(' and ')} of a visit overlap`);
  const decisions = placements.map(({ lane }, index) =>
    decideClaim(seen.get(lane.scheduleId) ?? [], claimed.spans[index]!, visit),
  );
  // Whoever comes for several things comes alone.
  const alone = visit.segments.length > 1;
  const parts: Part[] = [];
  for (const [index, decision] of decisions.entries()) {
    if (!decision.ok) return refusalOf(visit, decisions.map((each) => (each.ok ? null : each.reason))); // prettier-ignore
    const { lane } = placements[index]!;
    const { name } = visit.segments[index]!;
    parts.push({
      name,
      lane,
      span: claimed.spans[index]!,
      session: alone ? undefined : decision.session,
      capacity: alone ? 1 : decision.capacity,
    });
  }
  return { ok: true, parts };
}

/** What the rules do not allow is told before that somebody else has the time. */
const WORST: readonly Refusal[] = ['day_missing', 'other_mode', 'outside_hours', 'taken'];

function refusalOf(visit: Visit, reasons: ReadonlyArray<Refusal | null>): VisitRefusal {
  const reason = WORST.find((each) => reasons.includes(each)) ?? 'taken';
  return {
    ok: false,
    reason,
    segments: visit.segments.map(({ name }, index) => ({ index, name, reason: reasons[index] ?? null })),
  };
}

/** The beginning of the rest of a visit, as far as it bears on what can follow. */
interface Sofar {
  stage: number;
  /** When the stage begins at the earliest, and how long it may be put off. */
  earliest: number;
  slack: number;
  /** What the stage before occupies, and the last practitioner. */
  before: ReadonlyArray<{ lane: ResourceLane; end: number }>;
  practitioner: string | undefined;
}

/** The best rest of a visit: its placements, how long it makes the patient wait, how often he meets somebody new. */
interface Rest {
  placements: Placement[];
  waiting: number;
  changes: number;
}

const better = (a: Rest, b: Rest | undefined): boolean =>
  b === undefined || a.waiting < b.waiting || (a.waiting === b.waiting && a.changes < b.changes);

/**
 * Plans a visit that begins at an instant: the one with the least waiting, then the fewest changes of practitioner, then
 * those who stand first among the lanes. Searches what is known of the days, never appointments, and every state of the
 * search once: segments times lanes times lanes.
 */
export function planVisit(visit: Visit, startsAt: number, seen: Seen): VisitDecision {
  const stages = stagesOf(visit.segments);
  const [only] = visit.segments;
  if (visit.segments.length === 1) {
    const decisions = only!.lanes.map((lane) => decidePlacements(visit, [{ lane, startsAt }], seen));
    // Who was asked for and cannot be looked at is not passed over.
    const moved = decisions.find((each) => !each.ok && each.reason === 'day_missing');
    if (moved) return moved;
    const found = decisions.filter((each) => each.ok);
    // Sessions that have begun to fill come first.
    return found.find((each) => each.parts[0]!.session) ?? found[0] ?? singleRefusal(visit, decisions);
  }
  const known = new Map<string, Rest | null>();

  /** Whether a lane can serve, the buffers before and after aside that what lies beside it on the same lane makes needless. */
  const serves = (lane: ResourceLane, core: Interval, buffers: { before: boolean; after: boolean }): boolean => {
    const buffered = {
      start: core.start - (buffers.before ? visit.bufferBeforeMinutes * MINUTE : 0),
      end: core.end + (buffers.after ? visit.bufferAfterMinutes * MINUTE : 0),
    };
    return decideClaim(seen.get(lane.scheduleId) ?? [], { core, buffered }, visit).ok;
  };

  const best = (sofar: Sofar): Rest | null => {
    const stage = stages[sofar.stage];
    if (!stage) {
      const done = sofar.before.every(({ lane, end }) => clearAfter(lane, end));
      return done ? { placements: [], waiting: 0, changes: 0 } : null;
    }
    const key = [
      sofar.stage,
      sofar.earliest,
      sofar.practitioner,
      ...sofar.before.map(({ lane, end }) => `${lane.scheduleId}@${end}`),
    ].join('/');
    const before = known.get(key);
    if (before !== undefined) return before;
    let found: Rest | undefined;
    for (const start of startsWithin(sofar)) {
      const waiting = start - sofar.earliest;
      // A later start only makes the patient wait longer.
      if (found && waiting > found.waiting) break;
      for (const lanes of choices(stage, start, sofar)) {
        const placements = lanes.map((lane) => ({ lane, startsAt: start }));
        const ends = placements.map(({ lane }, index) => ({
          lane,
          end: start + stage.segments[index]!.durationMinutes * MINUTE,
        }));
        const seenPractitioners = lanes.flatMap(({ practitionerId }) => practitionerId ?? []);
        const same = sofar.practitioner === undefined || seenPractitioners.includes(sofar.practitioner);
        const rest = best({
          stage: sofar.stage + 1,
          earliest: start + lengthOfStage(stage),
          slack: waitAfter(stage),
          before: ends,
          practitioner: same
            ? (sofar.practitioner ?? seenPractitioners[0])
            : (seenPractitioners[0] ?? sofar.practitioner),
        });
        if (!rest) continue;
        const candidate = {
          placements: [...placements, ...rest.placements],
          waiting: waiting + rest.waiting,
          changes: rest.changes + (same || seenPractitioners.length === 0 ? 0 : 1),
        };
        if (better(candidate, found)) found = candidate;
        if (found!.waiting === 0 && found!.changes === 0) break;
      }
      if (found?.waiting === 0) break;
    }
    known.set(key, found ?? null);
    return found ?? null;
  };

  const clearAfter = (lane: ResourceLane, end: number): boolean =>
    !meetsAny(stretchOf(seen.get(lane.scheduleId) ?? []).taken, {
      start: end,
      end: end + visit.bufferAfterMinutes * MINUTE,
    });

  /**
   * When a stage can begin: as early as may be, or where something ends that is in its way, or in the way of a later one
   * that cannot be put off for longer than the pauses between them allow.
   */
  function startsWithin({ stage, earliest, slack }: Sofar): number[] {
    if (slack === 0) return [earliest];
    const edges = new Set([earliest]);
    let ahead = 0;
    for (const later of stages.slice(stage)) {
      const within = { start: earliest + ahead, end: earliest + slack + ahead };
      for (const { lanes } of later.segments)
        for (const { scheduleId } of lanes) {
          const own = seen.get(scheduleId) ?? [];
          for (const edge of edgesWithin(own, within, visit.bufferBeforeMinutes * MINUTE)) edges.add(edge - ahead);
        }
      ahead += lengthOfStage(later) + waitAfter(later);
    }
    return [...edges].sort((a, b) => a - b);
  }

  /** Who can serve the segments of a stage together, one lane each: whoever served before him first. */
  function* choices(stage: Stage, start: number, { before, practitioner }: Sofar): Generator<ResourceLane[]> {
    const lanesOf = (segment: VisitSegment) => {
      const core = { start, end: start + segment.durationMinutes * MINUTE };
      const goesOn = (lane: ResourceLane) => before.some((each) => each.lane.scheduleId === lane.scheduleId);
      const able = segment.lanes.filter((lane) => serves(lane, core, { before: !goesOn(lane), after: false }));
      const familiar = (lane: ResourceLane) =>
        lane.practitionerId !== null && (goesOn(lane) || lane.practitionerId === practitioner);
      return [...able.filter(familiar), ...able.filter((lane) => !familiar(lane))];
    };
    const options = stage.segments.map(lanesOf);
    function* choose(index: number, chosen: ResourceLane[]): Generator<ResourceLane[]> {
      if (index === options.length) {
        // Who does not go on needs his buffer after what he has done.
        const left = before.filter(({ lane }) => chosen.every((each) => each.scheduleId !== lane.scheduleId));
        if (left.every(({ lane, end }) => clearAfter(lane, end))) yield chosen;
        return;
      }
      for (const lane of options[index]!) {
        if (chosen.some((each) => each.scheduleId === lane.scheduleId)) continue;
        yield* choose(index + 1, [...chosen, lane]);
      }
    }
    yield* choose(0, []);
  }

  const rest = best({ stage: 0, earliest: startsAt, slack: 0, before: [], practitioner: undefined });
  if (rest) return decidePlacements(visit, rest.placements, seen);
  return refusalOf(visit, segmentReasons(visit, startsAt, seen));
}

/**
 * Where, from the start of an interval to its very end, something ends on these days that can be in the way, or the buffer
 * after it.
 */
function edgesWithin(days: readonly DayState[], within: Interval, buffer: number): number[] {
  const { open, taken, published } = stretchOf(days);
  const edges: number[] = [];
  const add = (edge: number) => {
    if (edge >= within.start && edge <= within.end) edges.push(edge);
  };
  for (let index = firstEndingAt(taken, within.start - buffer); index < taken.length; index++) {
    const { end } = taken[index]!;
    if (end > within.end) break;
    add(end);
    add(end + buffer);
  }
  for (let index = firstEndingAt(open, within.start); index < open.length; index++) {
    const { start } = open[index]!;
    if (start > within.end) break;
    add(start);
  }
  for (const each of published) add(each.end);
  return edges;
}

/** Where in a set in normal form the first interval is that ends at or after an instant. */
function firstEndingAt(set: readonly Interval[], instant: number): number {
  let [low, high] = [0, set.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (set[middle]!.end < instant) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Why each segment by itself could not be had where it would begin without any waiting. */
function segmentReasons(visit: Visit, startsAt: number, seen: Seen): Array<Refusal | null> {
  const starts = segmentStarts(visit, startsAt);
  return visit.segments.map((segment, index) => {
    const core = { start: starts[index]!, end: starts[index]! + segment.durationMinutes * MINUTE };
    const buffered = {
      start: core.start - visit.bufferBeforeMinutes * MINUTE,
      end: core.end + visit.bufferAfterMinutes * MINUTE,
    };
    const decisions = segment.lanes.map((lane) =>
      decideClaim(seen.get(lane.scheduleId) ?? [], { core, buffered }, visit),
    );
    if (decisions.some((each) => each.ok)) return null;
    return bestReason(decisions.map((each) => (each.ok ? 'taken' : each.reason)));
  });
}

const singleRefusal = (visit: Visit, decisions: VisitDecision[]): VisitRefusal =>
  refusalOf(visit, [bestReason(decisions.map((each) => (each.ok ? 'taken' : each.reason)))]);

/** Of several who cannot, the one who comes closest tells why; that the days have moved is told at once. */
const bestReason = (reasons: readonly Refusal[]): Refusal =>
  (['day_missing', 'taken', 'other_mode', 'outside_hours'] as const).find((each) => reasons.includes(each)) ??
  'outside_hours';
