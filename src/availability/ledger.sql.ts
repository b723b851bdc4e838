import type { Span } from './ledger.rules';
import type { NamedLane, BookableService } from './lanes.repository';

/** A claim about to be made on one day of one schedule, by what is known of service and practitioner. */
export interface GuardedClaim {
  organizationId: string;
  service: Pick<BookableService, 'id' | 'version' | 'organizationVersion'>;
  lane: Pick<NamedLane, 'practitionerId' | 'scheduleId' | 'scheduleVersion'>;
  day: string;
  span: Span;
  holder: string;
}

/**
 * A CTE that holds what a caller knows of service, practitioner and schedule against their rows, so that it may have been
 * read long ago: one row when all is as it was known. Takes the lock on the service that the appointment's foreign key takes
 * anyway: against its deletion in between.
 */
export const KNOWN_LANE = `
  known AS MATERIALIZED (
    SELECT s.id FROM service s JOIN organization o ON o.id = s.organization_id, practitioner p JOIN schedule c ON c.id = p.schedule_id
    WHERE s.id = :serviceId::uuid AND s.version = :serviceVersion::integer AND s.deleted_at IS NULL
      AND o.version = :organizationVersion::integer
      AND p.id = :practitionerId::uuid AND p.deleted_at IS NULL
      AND c.id = :scheduleId::uuid AND c.version = :scheduleVersion::integer
    FOR KEY SHARE OF s
  )`;

const BUFFERED = 'tstzrange(:bufferedStart::timestamptz, :bufferedEnd::timestamptz)';

const OPEN_DAY = `schedule_id = :scheduleId::uuid AND day = :day::date AND covers @> ${BUFFERED}
      AND open @> tstzrange(:coreStart::timestamptz, :coreEnd::timestamptz) AND places = 1 AND published = '[]'`;

/**
 * The guarded form of a claim: CTEs to stand first in one statement with whatever else the claim brings about
 * (`SELECT ... FROM day` yields a row when the time was taken, none when it was not). The UPDATE is check and lock in one:
 * a competing transaction on the same day waits at it, and PostgreSQL evaluates the guards again on the row as it then is.
 * Its guards on the row state `decideClaim` in SQL, for a schedule of one place and a day on which nothing is published.
 * Plain INSERTs, so that the exclusion constraint aborts everything should the day row ever be wrong.
 *
 * Before it must stand a CTE `moment (at, expires_at)`. The UPDATE comes after whatever `guard` asks for, and does nothing
 * without it.
 */
export const GUARDED_CLAIM = (guard: string) => `
  day AS (
    UPDATE schedule_day
    SET taken = taken + tstzmultirange(${BUFFERED}), version = version + 1
    WHERE ${OPEN_DAY} AND NOT taken && ${BUFFERED} AND ${guard}
    RETURNING schedule_id
  ), claimed AS (
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
    SELECT :organizationId::uuid, schedule_id, :bufferedStart::timestamptz, :bufferedEnd::timestamptz, :coreStart::timestamptz,
           :coreEnd::timestamptz, :id::uuid, moment.expires_at
    FROM day, moment
  )`;

/**
 * A condition for the same statement: that the claim was refused for the time alone, which is occupied by what has not ended.
 * By the statement's own snapshot: where that is older than what the UPDATE has waited for, this is false.
 */
export const TIME_IS_TAKEN = (guard: string) => `
  NOT EXISTS (SELECT FROM day) AND ${guard}
  AND EXISTS (SELECT FROM schedule_day WHERE ${OPEN_DAY} AND taken && ${BUFFERED})
  AND NOT EXISTS (
    SELECT FROM claim
    WHERE schedule_id = :scheduleId::uuid AND starts_at < :bufferedEnd::timestamptz AND ends_at > :bufferedStart::timestamptz
      AND starts_at > :bufferedStart::timestamptz - interval '72 hours' AND expires_at <= clock_timestamp())`;

/** The values of the parameters of {@link KNOWN_LANE} and {@link GUARDED_CLAIM}. */
export const guardedClaimValues = ({ organizationId, service, lane, day, span, holder }: GuardedClaim) => ({
  organizationId,
  serviceId: service.id,
  serviceVersion: service.version,
  organizationVersion: service.organizationVersion,
  practitionerId: lane.practitionerId,
  scheduleId: lane.scheduleId,
  scheduleVersion: lane.scheduleVersion,
  day,
  coreStart: new Date(span.core.start),
  coreEnd: new Date(span.core.end),
  bufferedStart: new Date(span.buffered.start),
  bufferedEnd: new Date(span.buffered.end),
  id: holder,
});
