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

/** What a composite occupies: each run of consecutive segments on one schedule, with the buffers around the run. */
export function runsOf(service: Service, segments: readonly SegmentPlace[]): Run[] {
  const runs: Run[] = [];
  let last: Run | undefined;
  for (const [index, { resourceId, startsAt }] of segments.entries()) {
    const until = startsAt + (service.segments?.[index]?.durationMinutes ?? service.durationMinutes) * MINUTE;
    if (last?.resourceId === resourceId) {
      last.time.from = Math.min(last.time.from, startsAt);
      last.time.until = Math.max(last.time.until, until);
    } else {
      last = { resourceId, time: { from: startsAt, until } };
      runs.push(last);
    }
  }
  return runs.map(({ resourceId, time }) => ({
    resourceId,
    time: {
      from: time.from - service.bufferBeforeMinutes * MINUTE,
      until: time.until + service.bufferAfterMinutes * MINUTE,
    },
  }));
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
