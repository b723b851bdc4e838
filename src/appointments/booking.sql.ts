import { GUARDED_CLAIM, GUARDED_CLAIM_PARAMETERS } from '../availability';
import type { Appointment } from './appointment.entities';
import type { NewSegment } from './visits.service';

/** A booking as it is about to be recorded. */
export interface NewAppointment {
  appointment: Appointment;
  segments: NewSegment[];
  actor: string;
  channel: string;
  eventId: string;
}

/**
 * Records a booking: appointment, segments, first line of history and outbox event, for each row of `day`, the CTE that
 * must stand before it (one row when the time was taken, none when it was not). Returns as many rows.
 */
const record = (first: number) => {
  const p = (offset: number) => `$${first + offset}`;
  return `
  booked AS (
    INSERT INTO appointment (organization_id, id, status, version, service_id, patient_id, attendee_name, starts_at, ends_at,
                             expires_at, pending_until, mode, source, notes, metadata, created_at, updated_at)
    SELECT ${p(0)}::uuid, ${p(1)}::uuid, ${p(2)}::text, 1, ${p(3)}::uuid, ${p(4)}::uuid, ${p(5)}::text, ${p(6)}::timestamptz,
           ${p(7)}::timestamptz, ${p(8)}::timestamptz, ${p(19)}::timestamptz, ${p(9)}::text, ${p(10)}::text, ${p(11)}::text, ${p(12)}::jsonb,
           ${p(13)}::timestamptz, ${p(13)}::timestamptz
    FROM day RETURNING id
  ), parts AS (
    INSERT INTO appointment_segment (organization_id, appointment_id, position, name, schedule_id, practitioner_id, room_id,
                                     starts_at, ends_at, appointment_starts_at, time_zone, local_starts_at)
    SELECT ${p(0)}::uuid, booked.id, part.position, part.name, part."scheduleId", part."practitionerId", part."roomId",
           part."startsAt", part."endsAt", ${p(6)}::timestamptz, part."timeZone", part."localStartsAt"
    FROM booked, jsonb_to_recordset(${p(14)}::jsonb) AS part (position smallint, name text, "scheduleId" uuid,
      "practitionerId" uuid, "roomId" uuid, "startsAt" timestamptz, "endsAt" timestamptz, "timeZone" text,
      "localStartsAt" timestamp)
  ), first_line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel, at)
    SELECT ${p(0)}::uuid, booked.id, 1, 'book', ${p(2)}::text, ${p(15)}::text, ${p(16)}::text, ${p(13)}::timestamptz FROM booked
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT ${p(17)}::uuid, ${p(0)}::uuid, ${p(18)}::text, booked.id, 1 FROM booked
  )
  SELECT id FROM booked`;
};

/** Claim and record in one statement: one round trip, one lock, everything or nothing. */
export const GUARDED_BOOKING = {
  name: 'guarded-booking',
  text: `WITH ${GUARDED_CLAIM}, ${record(GUARDED_CLAIM_PARAMETERS + 1)}`,
};

/** Record alone, after the ledger has claimed the time in the same transaction. */
export const RECORD_BOOKING = {
  name: 'record-booking',
  text: `WITH day AS (SELECT 1), ${record(1)}`,
};

/** The values of the recording half, in the order of its parameters. */
export const recordValues = ({ appointment, segments, actor, channel, eventId }: NewAppointment): unknown[] => [
  appointment.organizationId,
  appointment.id,
  appointment.status,
  appointment.serviceId,
  appointment.patientId,
  appointment.attendeeName,
  appointment.startsAt,
  appointment.endsAt,
  appointment.expiresAt,
  appointment.mode,
  appointment.source,
  appointment.notes,
  JSON.stringify(appointment.metadata),
  appointment.createdAt,
  JSON.stringify(segments),
  actor,
  channel,
  eventId,
  `appointment.${appointment.status}`,
  appointment.pendingUntil,
];
