import type { Span } from './ledger.rules';

/** A claim about to be made on one day of one schedule. */
export interface GuardedClaim {
  organizationId: string;
  scheduleId: string;
  day: string;
  span: Span;
  holder: string;
  expiresAt: Date | null;
}

/**
 * The guarded form of a claim: two CTEs, to stand first in one statement with whatever else the claim brings about
 * (`SELECT ... FROM day` yields a row when the time was taken, none when it was not). The UPDATE is check and lock in one:
 * a competing transaction on the same day waits at it, and PostgreSQL evaluates the guards again on the row as it then is.
 * The guards read only the day row, and state `decideClaim` in SQL, for a schedule of one place
 * and a day on which nothing is published. Plain INSERTs, so that the exclusion constraint aborts
 * everything should the day row ever be wrong.
 *
 * Parameters: $1 schedule, $2 day, $3 and $4 core, $5 and $6 buffered range, $7 organization, $8 holder, $9 expiry.
 */
export const GUARDED_CLAIM = `
  day AS (
    UPDATE schedule_day
    SET taken = taken + tstzmultirange(tstzrange($5::timestamptz, $6::timestamptz)), version = version + 1
    WHERE schedule_id = $1::uuid AND day = $2::date
      AND covers @> tstzrange($5::timestamptz, $6::timestamptz)
      AND open @> tstzrange($3::timestamptz, $4::timestamptz)
      AND NOT taken && tstzrange($5::timestamptz, $6::timestamptz)
      AND places = 1 AND published = '[]'
    RETURNING schedule_id
  ), claimed AS (
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
    SELECT $7::uuid, schedule_id, $5::timestamptz, $6::timestamptz, $3::timestamptz, $4::timestamptz, $8::uuid, $9::timestamptz
    FROM day
  )`;

/** The values of {@link GUARDED_CLAIM}'s parameters, in their order. */
export const guardedClaimValues = ({
  organizationId,
  scheduleId,
  day,
  span,
  holder,
  expiresAt,
}: GuardedClaim): unknown[] => [
  scheduleId,
  day,
  new Date(span.core.start),
  new Date(span.core.end),
  new Date(span.buffered.start),
  new Date(span.buffered.end),
  organizationId,
  holder,
  expiresAt,
];

/** How many parameters {@link GUARDED_CLAIM} has; what stands beside it numbers its own from the next. */
export const GUARDED_CLAIM_PARAMETERS = 9;
