import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Problem } from '../platform';
import type { Timing } from './ledger.rules';
import type { ResourceLane, VisitSegment } from './visits.rules';

/** What booking and searching need to know of a service. */
export interface BookableService extends Timing {
  id: string;
  version: number;
  modes: string[];
  capacity: number;
  requiresConfirmation: boolean;
  pendingMinutes: number | null;
  paymentRequired: boolean;
  holdMinutes: number;
  composite: boolean;
  organizationVersion: number;
  /** The organization's rules about what a patient may have at once. */
  allowPatientOverlap: boolean;
  maxOpenHolds: number | null;
  /** The database's clock when this was read, in milliseconds since the epoch. Holds are counted from here. */
  asOf: number;
}

/** A practitioner's lane, the version of its schedule, and whether he offers the service by himself. */
export type NamedLane = ResourceLane & { scheduleVersion: number; eligible: boolean };

interface ServiceRow {
  id: string;
  version: number;
  duration_minutes: number;
  buffer_before_minutes: number;
  buffer_after_minutes: number;
  slot_interval_minutes: number | null;
  min_notice_minutes: number;
  max_days_ahead: number;
  modes: string[];
  capacity: number;
  requires_confirmation: boolean;
  pending_minutes: number | null;
  payment_required: boolean;
  hold_minutes: number;
  composite: boolean;
  organization_version: number;
  allow_patient_overlap: boolean;
  max_open_holds: number | null;
  as_of: Date;
}

const SERVICE = `
  SELECT s.id, s.version, duration_minutes, buffer_before_minutes, buffer_after_minutes, slot_interval_minutes, min_notice_minutes,
         max_days_ahead, modes, capacity, requires_confirmation, pending_minutes, payment_required, hold_minutes,
         EXISTS (SELECT 1 FROM service_segment g WHERE g.service_id = s.id) AS composite,
         o.version AS organization_version, o.allow_patient_overlap, o.max_open_holds, clock_timestamp() AS as_of
  FROM service s JOIN organization o ON o.id = s.organization_id WHERE s.id = $1 AND s.deleted_at IS NULL`;

/** Reads which lanes can serve a service. One reader for search and booking, so that both mean the same. */
@Injectable()
export class LanesRepository {
  /**
   * The service. Locked for a booking, as its foreign key will: against being deleted in the meantime, nothing else.
   * @throws Problem `not_found`
   */
  async service(tx: EntityManager, id: string, lock: 'for booking' | 'none' = 'none'): Promise<BookableService> {
    const service = await this.findService(tx, id, lock);
    if (!service) throw Problem.notFound('service');
    return service;
  }

  /** The same; undefined for a service that is not there (any more). */
  async findService(
    tx: EntityManager,
    id: string,
    lock: 'for booking' | 'none' = 'none',
  ): Promise<BookableService | undefined> {
    const query =
      lock === 'none'
        ? { name: 'read-service', text: SERVICE }
        : { name: 'lock-service', text: `${SERVICE} FOR KEY SHARE OF s` };
    const [row] = await tx.query<ServiceRow[]>(query as never, [id]);
    return (
      row && {
        id: row.id,
        version: row.version,
        durationMinutes: row.duration_minutes,
        bufferBeforeMinutes: row.buffer_before_minutes,
        bufferAfterMinutes: row.buffer_after_minutes,
        slotIntervalMinutes: row.slot_interval_minutes,
        minNoticeMinutes: row.min_notice_minutes,
        maxDaysAhead: row.max_days_ahead,
        modes: row.modes,
        capacity: row.capacity,
        requiresConfirmation: row.requires_confirmation,
        pendingMinutes: row.pending_minutes,
        paymentRequired: row.payment_required,
        holdMinutes: row.hold_minutes,
        composite: row.composite,
        organizationVersion: row.organization_version,
        allowPatientOverlap: row.allow_patient_overlap,
        maxOpenHolds: row.max_open_holds,
        asOf: row.as_of.getTime(),
      }
    );
  }

  /**
   * The segments of a service, each with the lanes that can serve it, in the order in which they were named. With a
   * practitioner, he serves the only segment, or the first one that he can.
   * @param seen what {@link findLane} has found of him in this transaction
   * @throws Problem `not_found` for an unknown practitioner, `practitioner_not_eligible` for one who does not offer it
   */
  async segments(
    tx: EntityManager,
    service: BookableService,
    practitionerId?: string,
    seen?: NamedLane,
  ): Promise<VisitSegment[]> {
    if (practitionerId === undefined) return this.allSegments(tx, service);
    const lane = seen ?? (await this.findLane(tx, service.id, practitionerId));
    if (!lane) throw Problem.notFound('practitioner');
    if (!service.composite && !lane.eligible) throw new Problem('practitioner_not_eligible');
    if (!service.composite) return [only(service, [lane])];
    const segments = await this.allSegments(tx, service);
    const first = segments.findIndex((segment) => segment.lanes.some((each) => each.practitionerId === practitionerId));
    if (first < 0) throw new Problem('practitioner_not_eligible');
    return segments.map((segment, index) => (index === first ? { ...segment, lanes: [lane] } : segment));
  }

  /** A service and its {@link segments}, in one round trip for most of them. */
  async serviceWithSegments(
    tx: EntityManager,
    serviceId: string,
    practitionerId?: string,
  ): Promise<{ service: BookableService; segments: VisitSegment[] }> {
    if (practitionerId !== undefined) {
      const [service, lane] = await Promise.all([
        this.service(tx, serviceId),
        this.findLane(tx, serviceId, practitionerId),
      ]);
      return { service, segments: await this.segments(tx, service, practitionerId, lane) };
    }
    const [service, lanes] = await Promise.all([this.service(tx, serviceId), this.lanesOf(tx, serviceId)]);
    return { service, segments: service.composite ? await this.segments(tx, service) : [only(service, lanes)] };
  }

  /** The same; of a living practitioner, whether or not he offers the service by himself. */
  async findLane(tx: EntityManager, serviceId: string, practitionerId: string): Promise<NamedLane | undefined> {
    const [row] = await tx.query<NamedLaneRow[]>(NAMED_LANE as never, [serviceId, practitionerId]);
    return row && { ...toLane(row), scheduleVersion: row.schedule_version, eligible: row.eligible };
  }

  /** Which of these are living practitioners, and which are living rooms. */
  async living(tx: EntityManager, ids: readonly string[]): Promise<Record<'practitioners' | 'rooms', Set<string>>> {
    const rows = await tx.query<Array<{ id: string; is_room: boolean }>>(
      `SELECT id, false AS is_room FROM practitioner WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL
       UNION ALL SELECT id, true FROM room WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL`,
      [ids],
    );
    const of = (isRoom: boolean) => new Set(rows.filter((row) => row.is_room === isRoom).map((row) => row.id));
    return { practitioners: of(false), rooms: of(true) };
  }

  private async allSegments(tx: EntityManager, service: BookableService): Promise<VisitSegment[]> {
    if (!service.composite) {
      return [only(service, await this.lanesOf(tx, service.id))];
    }
    const rows = await tx.query<SegmentRow[]>(SEGMENTS as never, [service.id]);
    return [...Map.groupBy(rows, (row) => row.position).values()].map((lanes) => ({
      name: lanes[0]!.name,
      durationMinutes: lanes[0]!.duration_minutes,
      gapAfterMinutes: lanes[0]!.gap_after_minutes,
      maxWaitMinutes: lanes[0]!.max_wait_minutes,
      startsWithPrevious: lanes[0]!.starts_with_previous,
      // A segment whose people have all left is there all the same, and nobody can serve it.
      lanes: lanes.filter((row) => row.schedule_id !== null).map(toLane),
    }));
  }

  private async lanesOf(tx: EntityManager, serviceId: string): Promise<ResourceLane[]> {
    return (await tx.query<LaneRow[]>(ALL_LANES as never, [serviceId])).map(toLane);
  }

  /** Those of the practitioners with these schedules who offer a service, in the order of practitioners. */
  async lanesAmong(tx: EntityManager, serviceId: string, scheduleIds: readonly string[]): Promise<ResourceLane[]> {
    return (await tx.query<LaneRow[]>(SOME_LANES as never, [serviceId, scheduleIds])).map(toLane);
  }

  /** The living owner of a schedule. */
  async owner(tx: EntityManager, scheduleId: string): Promise<{ practitionerId: string } | { roomId: string }> {
    const [row] = await tx.query<Array<{ practitioner_id: string | null; room_id: string | null }>>(
      `SELECT (SELECT id FROM practitioner WHERE schedule_id = $1) AS practitioner_id,
              (SELECT id FROM room WHERE schedule_id = $1) AS room_id`,
      [scheduleId],
    );
    if (row?.practitioner_id) return { practitionerId: row.practitioner_id };
    if (row?.room_id) return { roomId: row.room_id };
    throw Problem.notFound('schedule');
  }
}

interface LaneRow {
  practitioner_id: string | null;
  room_id: string | null;
  schedule_id: string;
  time_zone: string;
  places: number;
  location_id: string | null;
}

interface NamedLaneRow extends LaneRow {
  schedule_version: number;
  eligible: boolean;
}

interface SegmentRow extends LaneRow {
  position: number;
  name: string;
  duration_minutes: number;
  gap_after_minutes: number;
  max_wait_minutes: number;
  starts_with_previous: boolean;
}

const toLane = (row: LaneRow): ResourceLane => ({
  practitionerId: row.practitioner_id,
  roomId: row.room_id,
  scheduleId: row.schedule_id,
  timeZone: row.time_zone,
  places: row.places,
  locationId: row.location_id,
});

/** A simple service is a visit of one segment. */
export const only = ({ durationMinutes }: Timing, lanes: readonly ResourceLane[]): VisitSegment => ({
  name: null,
  durationMinutes,
  gapAfterMinutes: 0,
  maxWaitMinutes: 0,
  startsWithPrevious: false,
  lanes,
});

const LANE = 'p.id AS practitioner_id, NULL::uuid AS room_id, p.schedule_id, s.time_zone, s.places, p.location_id';
const NAMED_LANE = {
  name: 'named-lane',
  text: `SELECT ${LANE}, s.version AS schedule_version, o.practitioner_id IS NOT NULL AS eligible
         FROM practitioner p JOIN schedule s ON s.id = p.schedule_id
         LEFT JOIN service_practitioner o ON o.service_id = $1 AND o.practitioner_id = p.id
         WHERE p.id = $2 AND p.deleted_at IS NULL`,
};
const ALL_LANES = {
  name: 'all-lanes',
  text: `SELECT ${LANE}
         FROM service_practitioner o JOIN practitioner p ON p.id = o.practitioner_id JOIN schedule s ON s.id = p.schedule_id
         WHERE o.service_id = $1 AND p.deleted_at IS NULL ORDER BY p.id`,
};
const SOME_LANES = {
  name: 'some-lanes',
  text: `SELECT ${LANE}
         FROM practitioner p JOIN schedule s ON s.id = p.schedule_id
         JOIN service_practitioner o ON o.service_id = $1 AND o.practitioner_id = p.id
         WHERE p.schedule_id = ANY($2::uuid[]) AND p.deleted_at IS NULL ORDER BY p.id`,
};
const SEGMENTS = {
  name: 'segments',
  text: `SELECT g.position, g.name, g.duration_minutes, g.gap_after_minutes, g.max_wait_minutes, g.starts_with_previous,
                p.id AS practitioner_id, m.id AS room_id, s.id AS schedule_id, s.time_zone, s.places,
                coalesce(p.location_id, m.location_id) AS location_id
         FROM service_segment g
         LEFT JOIN service_segment_resource r ON r.service_id = g.service_id AND r.position = g.position
         LEFT JOIN practitioner p ON p.id = r.practitioner_id AND p.deleted_at IS NULL
         LEFT JOIN room m ON m.id = r.room_id AND m.deleted_at IS NULL
         LEFT JOIN schedule s ON s.id = coalesce(p.schedule_id, m.schedule_id)
         WHERE g.service_id = $1 ORDER BY g.position, r.id`,
};
