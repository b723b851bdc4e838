import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import {
  type BookableService,
  claimSpans,
  decidePlacements,
  hasModes,
  LanesRepository,
  localTime,
  type NamedLane,
  type Part,
  type Placement,
  planVisit,
  type Reach,
  type ReadDay,
  reachesOf,
  type ResourceLane,
  type Seen,
  type SeenDay,
  SlotsService,
  type Visit,
  type VisitDecision,
  visitOf,
  type VisitRefusal,
  type VisitSegment,
} from '../availability';
import { type FieldError, type Interval, parseInstant, Problem } from '../platform';
import type { AppointmentSegment } from './appointment.entities';

/** Where and when one segment of a visit is to take place. */
export interface SegmentRequest {
  practitionerId?: string | null;
  roomId?: string | null;
  startsAt: string;
}

/** What somebody asks for: a service at a time, by whom he likes. */
export interface VisitRequest {
  startsAt: number;
  mode: string;
  practitionerId?: string;
  /** Every segment named; else a fitting set is chosen. */
  segments?: readonly SegmentRequest[];
  /** The named practitioner's lane, where it was read already. */
  lane?: NamedLane;
}

/** A visit that was asked for: with the places that were named, or to be planned. */
export interface Asked {
  visit: Visit;
  startsAt: number;
  placements?: Placement[];
}

const DAY = 86_400_000;

/** Plans what a service takes: one segment or several, as they were named or as they fit best. */
@Injectable()
export class VisitsService {
  constructor(
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
  ) {}

  /**
   * The visit that a request means.
   * @throws Problem `validation_failed` for segments that are not the service's, or that overlap; `not_found` and
   *   `practitioner_not_eligible` for who is named
   */
  async ask(tx: EntityManager, service: BookableService, request: VisitRequest): Promise<Asked> {
    const { startsAt, mode, practitionerId, segments: named, lane } = request;
    if (!named) {
      const segments = await this.lanes.segments(tx, service, practitionerId, lane);
      return { visit: visitOf(service, segments, mode), startsAt };
    }
    if (!service.composite) throw Problem.invalid({ pointer: '/segments', detail: 'this service has no segments' });
    const visit = visitOf(service, await this.lanes.segments(tx, service), mode);
    checkNamed(visit, request, named);
    const lanes = named.map((each, index) => laneOf(visit.segments[index]!, each));
    if (lanes.includes(undefined)) {
      const ids = named.map((each) => each.practitionerId ?? each.roomId!);
      const living = await this.lanes.living(tx, ids);
      const missing = named.findIndex(
        ({ roomId }, index) => !living[roomId ? 'rooms' : 'practitioners'].has(ids[index]!),
      );
      if (missing >= 0) throw Problem.notFound(named[missing]!.roomId ? 'room' : 'practitioner');
      const index = lanes.indexOf(undefined);
      throw new Problem(
        'practitioner_not_eligible',
        `Segment ${index + 1} (${visit.segments[index]!.name}) is not served by whom it was asked of.`,
      );
    }
    const placements = named.map((each, index) => ({ lane: lanes[index]!, startsAt: parseInstant(each.startsAt)! }));
    return { visit, startsAt, placements };
  }

  /** The days within reach of a visit as they are now, not locked; `day` in place of one that was read already. */
  look(
    tx: EntityManager,
    service: BookableService,
    asked: Asked,
    day?: ReadDay,
  ): Promise<ReadonlyMap<string, SeenDay[]>> {
    const reaches = reachOf(asked);
    const during = {
      start: Math.min(...reaches.map((each) => each.during.start)),
      end: Math.max(...reaches.map((each) => each.during.end)),
    };
    const lanes = new Map(reaches.map(({ lane }) => [lane.scheduleId, lane]));
    return this.slots.look(tx, service, [...lanes.values()], during, { seen: day });
  }
}

/** Decides on a visit by what is known of the days. */
export const decide = ({ visit, startsAt, placements }: Asked, seen: Seen): VisitDecision =>
  placements ? decidePlacements(visit, placements, seen) : planVisit(visit, startsAt, seen);

/**
 * The same in the mode that was asked for, or without a wish in the first of the service's modes that fits: the time may be
 * published for one of the others.
 */
export function inMode(asked: Asked, wish: string | undefined, modes: readonly string[], seen: Seen): Asked {
  if (wish !== undefined || !hasModes(seen)) return asked;
  const each = modes.map((mode) => ({ ...asked, visit: { ...asked.visit, mode } }));
  return each.find((one) => decide(one, seen).ok) ?? asked;
}

/** Everything that a visit may take: which lanes, and within which time. */
export function reachOf({ visit, startsAt, placements }: Asked): Reach[] {
  const buffers = (core: Interval): Interval => ({
    start: core.start - visit.bufferBeforeMinutes * 60_000,
    end: core.end + visit.bufferAfterMinutes * 60_000,
  });
  if (placements) {
    return placements.map(({ lane, startsAt: start }, index) => ({
      lane,
      during: buffers({ start, end: start + visit.segments[index]!.durationMinutes * 60_000 }),
    }));
  }
  const during = reachesOf(visit, startsAt);
  return visit.segments.flatMap(({ lanes }, index) => lanes.map((lane) => ({ lane, during: during[index]! })));
}

/** The refusal as callers are told it; of a visit of several segments, with the reason of each. */
export function problemOf({ visit, placements }: Asked, { reason, segments }: VisitRefusal): Problem {
  const code = reason === 'taken' ? 'slot_taken' : 'outside_hours';
  const detail = reason === 'other_mode' ? 'The time is published for another way of meeting.' : undefined;
  if (visit.segments.length === 1) return new Problem(code, detail);
  return new Problem(code, detail, {
    segments: segments.map(({ index, name, reason: own }) => ({
      index,
      name,
      ...(placements && whoOf(placements[index]!.lane)),
      code: own === null ? null : own === 'taken' ? 'slot_taken' : 'outside_hours',
    })),
  });
}

const whoOf = ({ practitionerId, roomId }: ResourceLane) => (roomId === null ? { practitionerId } : { roomId });

/** A segment as it is recorded, with what the clocks of its schedule will show. */
export type NewSegment = AppointmentSegment & { timeZone: string; localStartsAt: string };

export function segmentsOf(parts: readonly Part[], appointmentId: string, organizationId: string): NewSegment[] {
  const appointmentStartsAt = new Date(timeOf(parts).start);
  return parts.map(({ name, lane, span }, position) => ({
    appointmentId,
    position,
    organizationId,
    name,
    scheduleId: lane.scheduleId,
    practitionerId: lane.practitionerId,
    roomId: lane.roomId,
    startsAt: new Date(span.core.start),
    endsAt: new Date(span.core.end),
    appointmentStartsAt,
    timeZone: lane.timeZone,
    localStartsAt: localTime(lane.timeZone, span.core.start),
  }));
}

/** When a visit takes place: as it was named, else without any waiting. */
export function expectedTime({ visit, startsAt, placements }: Asked): Interval {
  const own = { ...visit, bufferBeforeMinutes: 0, bufferAfterMinutes: 0 };
  const without = own.segments.map((segment) => ({ ...segment, maxWaitMinutes: 0 }));
  const ends = placements
    ? reachOf({ visit: own, startsAt, placements }).map(({ during }) => during.end)
    : reachesOf({ ...own, segments: without }, startsAt).map((each) => each.end);
  return { start: startsAt, end: Math.max(...ends) };
}

/** From the beginning of the first part to the end of the last. */
export const timeOf = (parts: readonly Part[]): Interval => ({
  start: Math.min(...parts.map(({ span }) => span.core.start)),
  end: Math.max(...parts.map(({ span }) => span.core.end)),
});

const laneOf = (segment: VisitSegment, { practitionerId, roomId }: SegmentRequest): ResourceLane | undefined =>
  segment.lanes.find((lane) => (roomId ? lane.roomId === roomId : lane.practitionerId === practitionerId));

/** What can be said of named segments without knowing whom they name. */
function checkNamed(visit: Visit, { startsAt, practitionerId }: VisitRequest, named: readonly SegmentRequest[]): void {
  const errors: FieldError[] = [];
  if (practitionerId !== undefined) {
    errors.push({ pointer: '/practitionerId', detail: 'is said by the segments; send either' });
  }
  if (named.length !== visit.segments.length) {
    errors.push({ pointer: '/segments', detail: `this service has ${visit.segments.length} segments` });
    throw Problem.invalid(...errors);
  }
  named.forEach((each, index) => {
    if (Boolean(each.practitionerId) === Boolean(each.roomId))
      errors.push({ pointer: `/segments/${index}`, detail: 'needs either practitionerId or roomId' });
  });
  const times = named.map((each, index) => {
    const start = parseInstant(each.startsAt)!;
    const end = start + visit.segments[index]!.durationMinutes * 60_000;
    return { scheduleId: `${each.roomId ?? each.practitionerId}`, start, end };
  });
  const [first, last] = [Math.min(...times.map((each) => each.start)), Math.max(...times.map((each) => each.end))];
  if (first !== startsAt)
    errors.push({ pointer: '/startsAt', detail: 'must be when the first of the segments starts' });
  if (last - first > DAY) errors.push({ pointer: '/segments', detail: 'must end within 24 hours' });
  const claimed = claimSpans(times, visit);
  if (!claimed.ok) {
    const [one, other] = claimed.overlap;
    errors.push({ pointer: `/segments/${other}`, detail: `overlaps /segments/${one} on one schedule` });
  }
  if (errors.length > 0) throw Problem.invalid(...errors);
}
