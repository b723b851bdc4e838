import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Problem } from '../platform';
import type { Lane } from './ledger.service';
import type { Timing } from './ledger.rules';

/** A practitioner who offers a service, with his schedule. */
export interface PractitionerLane extends Lane {
  practitionerId: string;
  locationId: string | null;
}

/** What booking and searching need to know of a service. */
export interface BookableService extends Timing {
  id: string;
  modes: string[];
  capacity: number;
  requiresConfirmation: boolean;
  pendingMinutes: number | null;
  paymentRequired: boolean;
  holdMinutes: number;
  composite: boolean;
  /** The organization's rules about what a patient may have at once. */
  allowPatientOverlap: boolean;
  maxOpenHolds: number | null;
  /** The database's clock when this was read, in milliseconds since the epoch. Holds are counted from here. */
  asOf: number;
}

interface ServiceRow {
  id: string;
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
  allow_patient_overlap: boolean;
  max_open_holds: number | null;
  as_of: Date;
}

const SERVICE = `
  SELECT s.id, duration_minutes, buffer_before_minutes, buffer_after_minutes, slot_interval_minutes, min_notice_minutes,
         max_days_ahead, modes, capacity, requires_confirmation, pending_minutes, payment_required, hold_minutes,
         EXISTS (SELECT 1 FROM service_segment g WHERE g.service_id = s.id) AS composite,
         o.allow_patient_overlap, o.max_open_holds, clock_timestamp() AS as_of
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
        allowPatientOverlap: row.allow_patient_overlap,
        maxOpenHolds: row.max_open_holds,
        asOf: row.as_of.getTime(),
      }
    );
  }

  /**
   * The lanes of a service: of one practitioner, or of all who offer it.
   * @throws Problem `not_found` for an unknown practitioner, `practitioner_not_eligible` for one who does not offer it
   */
  async lanes(tx: EntityManager, serviceId: string, practitionerId?: string): Promise<PractitionerLane[]> {
    if (practitionerId === undefined) return (await tx.query<LaneRow[]>(ALL_LANES as never, [serviceId])).map(toLane);
    const lane = await this.findLane(tx, serviceId, practitionerId);
    if (!lane) throw Problem.notFound('practitioner');
    if (!lane.eligible) throw new Problem('practitioner_not_eligible');
    return [lane];
  }

  /** The lane of a living practitioner, and whether he offers the service. */
  async findLane(
    tx: EntityManager,
    serviceId: string,
    practitionerId: string,
  ): Promise<(PractitionerLane & { eligible: boolean }) | undefined> {
    const [row] = await tx.query<LaneRow[]>(NAMED_LANE as never, [serviceId, practitionerId]);
    return row && { ...toLane(row), eligible: row.eligible };
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
  practitioner_id: string;
  schedule_id: string;
  time_zone: string;
  location_id: string | null;
  eligible: boolean;
}

const toLane = (row: LaneRow): PractitionerLane => ({
  practitionerId: row.practitioner_id,
  scheduleId: row.schedule_id,
  timeZone: row.time_zone,
  locationId: row.location_id,
});

const LANE = 'p.id AS practitioner_id, p.schedule_id, s.time_zone, p.location_id';
const NAMED_LANE = {
  name: 'named-lane',
  text: `SELECT ${LANE}, o.practitioner_id IS NOT NULL AS eligible
         FROM practitioner p JOIN schedule s ON s.id = p.schedule_id
         LEFT JOIN service_practitioner o ON o.service_id = $1 AND o.practitioner_id = p.id
         WHERE p.id = $2 AND p.deleted_at IS NULL`,
};
const ALL_LANES = {
  name: 'all-lanes',
  text: `SELECT ${LANE}, true AS eligible
         FROM service_practitioner o JOIN practitioner p ON p.id = o.practitioner_id JOIN schedule s ON s.id = p.schedule_id
         WHERE o.service_id = $1 AND p.deleted_at IS NULL ORDER BY p.id`,
};
