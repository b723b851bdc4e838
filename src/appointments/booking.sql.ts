import { GUARDED_CLAIM, type GuardedClaim, guardedClaimValues, KNOWN_LANE, TIME_IS_TAKEN } from '../availability';
import { asking, type IdempotentRequest, KEEP_ANSWER, KEY_IS_NEW, type Statement, statement } from '../platform';
import type { Appointment } from './appointment.entities';
import { APPOINTMENTS, showAppointment } from './appointment.representation';
import type { Term } from './transitions.rules';
import type { NewSegment } from './visits.service';

/** A booking as it is about to be recorded: without what only the database tells. */
export interface NewAppointment {
  appointment: Omit<
    Appointment,
    'patientId' | 'createdAt' | 'updatedAt' | 'expiresAt' | 'pendingUntil' | 'status' | 'version'
  >;
  term: Term;
  segments: NewSegment[];
  actor: string;
  channel: string;
  eventId: string;
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
 * What stands in an answer for what only the database tells, until it is filled in there. No caller can have written any of it
 * into a request, for the appointment's id is new.
 */
const BLANKS = ['patient', 'recorded', 'end'] as const;
const blank = (id: string, of: (typeof BLANKS)[number]) => `${id}:${of}`;
// As `showInstant` shows it; the session's zone is UTC.
const instant = (column: string) => `replace(to_char(${column}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), '.000Z', 'Z')`;
const FILLED = BLANKS.reduce(
  (text, of) =>
    `replace(${text}, :id::text || ':${of}', ${{ patient: 'patient_id::text', recorded: instant('created_at'), end: `coalesce(${instant('expires_at')}, '')` }[of]})`,
  ':reply::text',
);

/**
 * Records a booking: appointment, segments, first line of history and outbox event, for the row of each of `day`, `person`
 * and `moment`, CTEs that must stand before it. `answer (reply)` is what the caller is told, as text, or nothing: it is made
 * here, so that it can be kept under the caller's key in the same statement.
 */
const record = (parts: string) => `
  booked AS (
    INSERT INTO appointment (organization_id, id, status, version, service_id, patient_id, attendee_name, starts_at, ends_at,
                             expires_at, pending_until, mode, source, notes, metadata, created_at, updated_at)
    SELECT :organizationId::uuid, :id::uuid, :status::text, 1, :serviceId::uuid, person.id, :attendeeName::text,
           :startsAt::timestamptz, :endsAt::timestamptz, moment.expires_at, moment.pending_until, :mode::text, :source::text,
           :notes::text, :metadata::jsonb, moment.at, moment.at
    FROM day, person, moment RETURNING id, patient_id, created_at, expires_at
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
  ), answer AS MATERIALIZED (
    SELECT ${FILLED} AS reply FROM booked
  )`;

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
     ${GUARDED_CLAIM(GUARD)}, ${record(ONE_PART)}, ${KEEP_ANSWER}
     SELECT reply FROM answer UNION ALL SELECT NULL WHERE ${TIME_IS_TAKEN(GUARD)}`,
  );
const GUARDED_BY_ID = guarded('guarded-booking-by-id', 'id = :patientId::uuid');
const GUARDED_BY_PHONE = guarded(
  'guarded-booking-by-phone',
  `phone = :phone::text AND (name IS NOT NULL OR :name::text IS NULL) AND (email IS NOT NULL OR :email::text IS NULL)
     AND (locale IS NOT NULL OR :locale::text IS NULL)`,
);

/** What comes back from {@link guardedBooking}: the answer's text, null where the time is taken, or no row. */
export interface Guarded {
  reply: string | null;
}

/**
 * Claim and record in one statement: one round trip, one lock, everything or nothing.
 * @param request whose key must not have been used, and will be; without one where somebody else sees to that
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
    location: `${APPOINTMENTS}/${booking.appointment.id}`,
    ...asking(request),
  };
  return 'phone' in person
    ? GUARDED_BY_PHONE({ ...values, phone: person.phone, ...person.fills })
    : GUARDED_BY_ID({ ...values, patientId: person.patientId });
}

const RECORD_BOOKING = statement(
  'record-booking',
  `WITH ${MOMENT}, day AS (SELECT), person AS (SELECT :patientId::uuid AS id), ${record(ALL_PARTS)} SELECT reply FROM answer`,
);

/** Record alone, after the ledger has claimed the time in the same transaction, until an end counted from `at`. */
export const recordBooking = (booking: NewAppointment, patientId: string, at: Date): Statement =>
  RECORD_BOOKING({ ...recordValues(booking), segments: JSON.stringify(booking.segments), patientId, at });

const recordValues = ({ appointment, term, segments, actor, channel, eventId }: NewAppointment) => ({
  reply: JSON.stringify(answerOf({ appointment, term, segments })),
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

function answerOf({ appointment, term, segments }: Pick<NewAppointment, 'appointment' | 'term' | 'segments'>) {
  const { id } = appointment;
  const { status } = term;
  // Any instants: those of the answer are filled in where they are told.
  const [recorded, never] = [new Date(0), new Date(8.64e15)];
  const times = { createdAt: recorded, updatedAt: recorded, expiresAt: never, pendingUntil: never, asOf: 0 };
  const shown = showAppointment({ ...appointment, ...times, status, version: 1, patientId: '', segments });
  const at = blank(id, 'recorded');
  const end = blank(id, 'end');
  return {
    ...shown,
    patientId: blank(id, 'patient'),
    holdExpiresAt: shown.holdExpiresAt && end,
    pendingUntil: shown.pendingUntil && end,
    createdAt: at,
    updatedAt: at,
  };
}
