import { GUARDED_CLAIM, type GuardedClaim, guardedClaimValues, KNOWN_LANE, TIME_IS_TAKEN } from '../availability';
import { type IdempotentRequest, KEY_IS_NEW, type Statement, statement } from '../platform';
import type { Appointment } from './appointment.entities';
import type { Term } from './transitions.rules';
import type { NewSegment } from './visits.service';

/** A booking as it is about to be recorded: without what only the database tells, see {@link Recorded}. */
export interface NewAppointment {
  appointment: Omit<Appointment, keyof Recorded | 'status' | 'version' | 'updatedAt'>;
  term: Term;
  segments: NewSegment[];
  actor: string;
  channel: string;
  eventId: string;
}

/** What the database made of a booking. */
export interface Recorded {
  patientId: string;
  createdAt: Date;
  expiresAt: Date | null;
  pendingUntil: Date | null;
}

/** For whom a booking is: a patient who is there, or whoever has this phone, unless something of him is still to be filled in. */
export type Person =
  { patientId: string } | { phone: string; fills: Record<'name' | 'email' | 'locale', string | null> };

/**
 * The time of a booking and, counted from it, of its end. The database's own clock, for pollers rely on it (see
 * `Database.settled`), unless a time of that clock is given.
 */
const MOMENT = `
  moment AS MATERIALIZED (
    SELECT at, CASE :status::text WHEN 'pending' THEN at + lasts END AS pending_until,
           least(at + lasts, :latest::timestamptz) AS expires_at
    FROM (SELECT coalesce(:at::timestamptz, date_trunc('milliseconds', clock_timestamp())) AS at,
                 :lasts::double precision * interval '1 millisecond' AS lasts) clock)`;

/**
 * Records a booking: appointment, segments, first line of history and outbox event, for the row of each of `day`, `person`
 * and `moment`, CTEs that must stand before it. Returns what the database made of it, or nothing.
 */
const record = (parts: string) => `
  booked AS (
    INSERT INTO appointment (organization_id, id, status, version, service_id, patient_id, attendee_name, starts_at, ends_at,
                             expires_at, pending_until, mode, source, notes, metadata, created_at, updated_at)
    SELECT :organizationId::uuid, :id::uuid, :status::text, 1, :serviceId::uuid, person.id, :attendeeName::text,
           :startsAt::timestamptz, :endsAt::timestamptz, moment.expires_at, moment.pending_until, :mode::text, :source::text,
           :notes::text, :metadata::jsonb, moment.at, moment.at
    FROM day, person, moment RETURNING id, patient_id, created_at, expires_at, pending_until
  ), parts AS (
    INSERT INTO appointment_segment (organization_id, appointment_id, position, name, schedule_id, practitioner_id, room_id,
                                     starts_at, ends_at, appointment_starts_at, time_zone, local_starts_at)
    ${parts}
  ), first_line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel, at)
    SELECT :organizationId::uuid, id, 1, 'book', :status::text, :actor::text, :channel::text, created_at FROM booked
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT :eventId::uuid, :organizationId::uuid, :event::text, id, 1 FROM booked
  )
  SELECT patient_id AS "patientId", created_at AS "createdAt", expires_at AS "expiresAt", pending_until AS "pendingUntil"
  FROM booked`;

const ONE_PART = `
  SELECT :organizationId::uuid, booked.id, 0, NULL, :scheduleId::uuid, :practitionerId::uuid, NULL, :startsAt::timestamptz,
         :endsAt::timestamptz, :startsAt::timestamptz, :timeZone::text, :localStartsAt::timestamp
  FROM booked`;

const ALL_PARTS = `
  SELECT :organizationId::uuid, booked.id, part.position, part.name, part."scheduleId", part."practitionerId", part."roomId",
         part."startsAt", part."endsAt", :startsAt::timestamptz, part."timeZone", part."localStartsAt"
  FROM booked, jsonb_to_recordset(:segments::jsonb) AS part (position smallint, name text, "scheduleId" uuid,
    "practitionerId" uuid, "roomId" uuid, "startsAt" timestamptz, "endsAt" timestamptz, "timeZone" text, "localStartsAt" timestamp)`;

const GUARD = `EXISTS (SELECT FROM person) AND ${KEY_IS_NEW}`;

// Service, patient, day: each asks for the one before, and so their locks are taken in that order, as everywhere. The patient
// is locked as the appointment's foreign key will: against being deleted in between.
const guarded = (name: string, who: string) =>
  statement(
    name,
    `WITH ${MOMENT}, ${KNOWN_LANE}, person AS MATERIALIZED (
       SELECT id FROM patient WHERE EXISTS (SELECT FROM known) AND ${who} AND deleted_at IS NULL FOR KEY SHARE),
     ${GUARDED_CLAIM(GUARD)}, ${record(ONE_PART)}
     UNION ALL SELECT NULL, NULL, NULL, NULL WHERE ${TIME_IS_TAKEN(GUARD)}`,
  );
const GUARDED_BY_ID = guarded('guarded-booking-by-id', 'id = :patientId::uuid');
const GUARDED_BY_PHONE = guarded(
  'guarded-booking-by-phone',
  `phone = :phone::text AND (name IS NOT NULL OR :name::text IS NULL) AND (email IS NOT NULL OR :email::text IS NULL)
     AND (locale IS NOT NULL OR :locale::text IS NULL)`,
);

/** What comes back from {@link guardedBooking}: the booking, nothing but nulls where its time is taken, or no row. */
export type Guarded = Recorded | { createdAt: null };

/**
 * Claim and record in one statement: one round trip, one lock, everything or nothing.
 * @param request whose key must not have been used; without one where that is known already
 */
export function guardedBooking(
  claim: GuardedClaim,
  booking: NewAppointment,
  person: Person,
  request?: IdempotentRequest,
): Statement {
  const [{ timeZone, localStartsAt }] = booking.segments as [NewSegment];
  const values = {
    ...recordValues(booking),
    ...guardedClaimValues(claim),
    timeZone,
    localStartsAt,
    at: null,
    principalId: request?.principalId ?? null,
    key: request?.idempotencyKey ?? null,
  };
  return 'phone' in person
    ? GUARDED_BY_PHONE({ ...values, phone: person.phone, ...person.fills })
    : GUARDED_BY_ID({ ...values, patientId: person.patientId });
}

const RECORD_BOOKING = statement(
  'record-booking',
  `WITH ${MOMENT}, day AS (SELECT), person AS (SELECT :patientId::uuid AS id), ${record(ALL_PARTS)}`,
);

/** Record alone, after the ledger has claimed the time in the same transaction, until an end counted from `at`. */
export const recordBooking = (booking: NewAppointment, patientId: string, at: Date): Statement =>
  RECORD_BOOKING({ ...recordValues(booking), segments: JSON.stringify(booking.segments), patientId, at });

const recordValues = ({ appointment, term, actor, channel, eventId }: NewAppointment) => ({
  organizationId: appointment.organizationId,
  id: appointment.id,
  status: term.status,
  lasts: term.lasts,
  latest: term.latest,
  serviceId: appointment.serviceId,
  attendeeName: appointment.attendeeName,
  startsAt: appointment.startsAt,
  endsAt: appointment.endsAt,
  mode: appointment.mode,
  source: appointment.source,
  notes: appointment.notes,
  metadata: JSON.stringify(appointment.metadata),
  actor,
  channel,
  eventId,
  event: `appointment.${term.status}`,
});
