import type { Place, SegmentPlace } from './history';

/** A practitioner or a room of the test location. */
export interface Resource {
  kind: 'practitioner' | 'room';
  id: string;
  scheduleId: string;
  name: string;
  /** How many bookings its schedule takes at once. */
  places: number;
}

export type Practitioner = Resource;

/** What the rules of a service say, as far as the storms reckon with it. */
export interface Service {
  id: string;
  name: string;
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  slotIntervalMinutes: number;
  requiresConfirmation: boolean;
  /** How long a time is held where a hold does not say it. */
  holdMinutes: number;
  /** How many share one session. */
  capacity: number;
  /** How many share a published slot that it is booked in; all its bookings are in such slots then. */
  publishedSeats?: number;
  /** Of a composite: those that any of its segments lists. */
  practitioners: Practitioner[];
  /** Of a composite, in their order. */
  segments?: SegmentRule[];
}

export interface SegmentRule {
  name: string;
  durationMinutes: number;
  /** The least pause after it. */
  gapAfterMinutes: number;
  /** How much longer the pause may be. */
  maxWaitMinutes: number;
  /** Begins together with the segment before it. */
  startsWithPrevious: boolean;
  resources: Resource[];
}

export const MINUTE = 60_000;
export const DAY = 24 * 60 * MINUTE;

/** All who may serve a service. */
export const resourcesOf = (service: Service): Resource[] => [
  ...new Set([...service.practitioners, ...(service.segments ?? []).flatMap(({ resources }) => resources)]),
];

/** [from, until) of the calendar, in milliseconds since the epoch. */
interface Time {
  from: number;
  until: number;
}

/** Time that one booking occupies on one schedule. */
export interface Run {
  resourceId: string;
  time: Time;
}

/** What a booking of a simple service occupies, buffers included. */
export const timeOf = (service: Service, startsAt: number): Time => ({
  from: startsAt - service.bufferBeforeMinutes * MINUTE,
  until: startsAt + (service.durationMinutes + service.bufferAfterMinutes) * MINUTE,
});

/**
 * What a composite occupies: the time of each segment, with the buffers around each schedule's run of segments that have
 * nothing else of the appointment between them.
 */
export function runsOf(service: Service, segments: readonly SegmentPlace[]): Run[] {
  const cores = segments.map(({ resourceId, startsAt }, index) => ({
    resourceId,
    time: { from: startsAt, until: startsAt + service.segments![index]!.durationMinutes * MINUTE },
  }));
  const between = (a: Run, b: Run) =>
    cores.some((one) => one !== a && one !== b && one.time.from >= a.time.until && one.time.until <= b.time.from);
  return cores.map((core) => {
    const own = cores.filter((one) => one.resourceId === core.resourceId);
    const before = own.findLast((one) => one.time.until <= core.time.from);
    const after = own.find((one) => one.time.from >= core.time.until);
    return {
      resourceId: core.resourceId,
      time: {
        from: core.time.from - (before && !between(before, core) ? 0 : service.bufferBeforeMinutes * MINUTE),
        until: core.time.until + (after && !between(core, after) ? 0 : service.bufferAfterMinutes * MINUTE),
      },
    };
  });
}

/** What a booking is about, without buffers: what has to be open. */
export function coresOf(service: Service, place: Place): Array<Partial<Run> & Pick<Run, 'time'>> {
  const { practitionerId, startsAt, segments } = place;
  if (!service.segments || !segments) {
    const until = startsAt + service.durationMinutes * MINUTE;
    return [{ resourceId: service.segments ? undefined : practitionerId, time: { from: startsAt, until } }];
  }
  return segments.map((segment, index) => ({
    resourceId: segment.resourceId,
    time: {
      from: segment.startsAt,
      until: segment.startsAt + service.segments![index]!.durationMinutes * MINUTE,
    },
  }));
}

/** The starts of a composite's segments where nobody waits longer than the gaps demand. */
export function plainStarts({ segments = [] }: Service, startsAt: number): number[] {
  let stage = startsAt;
  let next = startsAt;
  return segments.map((segment, index) => {
    if (index > 0 && !segment.startsWithPrevious) stage = next;
    next = Math.max(next, stage + (segment.durationMinutes + segment.gapAfterMinutes) * MINUTE);
    return stage;
  });
}

/** From the start of the first to the end of the last, where nobody waits. */
export function shortestLength(segments: readonly SegmentRule[]): number {
  let [stage, next, end] = [0, 0, 0];
  for (const [index, segment] of segments.entries()) {
    if (index > 0 && !segment.startsWithPrevious) stage = next;
    next = Math.max(next, stage + segment.durationMinutes + segment.gapAfterMinutes);
    end = Math.max(end, stage + segment.durationMinutes);
  }
  return end;
}
