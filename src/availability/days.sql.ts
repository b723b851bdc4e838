// The statements on day rows and claims, each prepared under its name.

/**
 * What is taken of day row `d` by those of its claims `c` for which a condition holds, or null for nothing: what they occupy
 * together, and where there are more places than one, what so many of them occupy at once.
 */
const TAKEN_BY = (condition: string) => {
  const claims = `claim c WHERE c.schedule_id = d.schedule_id AND c.starts_at < upper(d.covers) AND c.ends_at > lower(d.covers)
    AND c.starts_at > lower(d.covers) - interval '72 hours' AND ${condition}`;
  const [start, end] = ['greatest(c.starts_at, lower(d.covers))', 'least(c.ends_at, upper(d.covers))'];
  return `CASE WHEN d.places = 1 THEN (SELECT range_agg(tstzrange(${start}, ${end})) FROM ${claims})
    ELSE (SELECT range_agg(tstzrange(at, until)) FILTER (WHERE at < until AND occupied >= d.places) FROM (
            SELECT at, lead(at) OVER (ORDER BY at) AS until, sum(change) OVER (ORDER BY at) AS occupied
            FROM (SELECT ${start} AS at, 1 AS change FROM ${claims} UNION ALL SELECT ${end}, -1 FROM ${claims}) edge) piece)
    END`;
};

const KEYS = 'unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)';
export const EXISTING_DAY = {
  name: 'existing-day',
  text: 'SELECT schedule_id AS "scheduleId", day FROM schedule_day WHERE schedule_id = $1 AND day = $2',
};
export const EXISTING_DAYS = {
  name: 'existing-days',
  text: `SELECT d.schedule_id AS "scheduleId", d.day
         FROM ${KEYS} JOIN schedule_day d ON d.schedule_id = key.schedule_id AND d.day = key.day`,
};
const LOCKED_DAY = `d.schedule_id AS "scheduleId", d.day, d.organization_id AS "organizationId", d.covers, d.open, d.taken, d.grid,
                d.places, d.published, d.version`;
export const LOCK_DAY = {
  name: 'lock-day',
  text: `SELECT ${LOCKED_DAY} FROM schedule_day d WHERE d.schedule_id = $1 AND d.day = $2 FOR NO KEY UPDATE OF d`,
};
// The order is that of the locks: rows are locked as they come out of the sort. Keys may be named twice.
export const LOCK_DAYS = {
  name: 'lock-days',
  text: `SELECT ${LOCKED_DAY}
         FROM (SELECT DISTINCT schedule_id, day FROM ${KEYS}) key
         JOIN schedule_day d ON d.schedule_id = key.schedule_id AND d.day = key.day
         ORDER BY d.schedule_id, d.day FOR NO KEY UPDATE OF d`,
};
const RECOMPUTED = `
  UPDATE schedule_day d SET version = version + 1, taken = coalesce(${TAKEN_BY('true')}, '{}')`;
const RETURNED = 'RETURNING d.schedule_id AS "scheduleId", d.day, d.taken';
export const RECOMPUTE_DAY = {
  name: 'recompute-day',
  text: `${RECOMPUTED} WHERE d.schedule_id = $1 AND d.day = $2 ${RETURNED}`,
};
export const RECOMPUTE_DAYS = {
  name: 'recompute-days',
  text: `${RECOMPUTED} FROM ${KEYS} WHERE d.schedule_id = key.schedule_id AND d.day = key.day ${RETURNED}`,
};
export const ADD_TAKEN = {
  name: 'add-taken',
  text: `UPDATE schedule_day SET version = version + 1, taken = taken + tstzmultirange(covers * $3::tstzrange)
         WHERE schedule_id = $1 AND day = $2`,
};
const CLAIM = `
  c.schedule_id AS "scheduleId", c.starts_at AS "startsAt", c.seat, c.ends_at AS "endsAt", c.core_starts_at AS "coreStartsAt",
  c.core_ends_at AS "coreEndsAt", c.organization_id AS "organizationId", c.holder, c.shared, c.expires_at AS "expiresAt"`;
// The days whose rows cover a claim; whatever the zone, they are at most one beside those of UTC.
export const CLAIMS_OF = {
  name: 'claims-of',
  text: `SELECT ${CLAIM}, s.time_zone AS "timeZone", s.places, known.days, known.covered
         FROM claim c CROSS JOIN LATERAL (
           -- One by one: a plan that takes claims to be many reads all schedules.
           SELECT time_zone, places FROM schedule WHERE id = c.schedule_id OFFSET 0) s CROSS JOIN LATERAL (
           SELECT coalesce(array_agg(d.day::text) FILTER (WHERE lower(d.covers) < c.ends_at AND upper(d.covers) > c.starts_at), '{}') AS days,
                  coalesce(range_agg(d.covers) @> c.during, false) AS covered
           FROM schedule_day d
           WHERE d.schedule_id = c.schedule_id AND d.day BETWEEN c.starts_at::date - 1 AND c.ends_at::date + 1) known
         WHERE c.holder = ANY($1::uuid[] || ARRAY(SELECT session_id FROM attendance WHERE holder = ANY($1::uuid[])))`,
};
export const EXTEND_CLAIMS = {
  name: 'extend-claims',
  text: 'UPDATE claim SET expires_at = $2 WHERE holder = $1',
};
const FREED = 'RETURNING schedule_id AS "scheduleId", starts_at AS "startsAt", ends_at AS "endsAt"';
export const DELETE_CLAIMS_OF_ONE = {
  name: 'delete-claims-of-one',
  text: `DELETE FROM claim WHERE holder = $1 ${FREED}`,
};
export const DELETE_CLAIMS_OF = {
  name: 'delete-claims-of',
  text: `DELETE FROM claim WHERE holder = ANY($1::uuid[]) ${FREED}`,
};
export const DELETE_CLAIMS = {
  name: 'delete-claims',
  text: `DELETE FROM claim c USING unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::uuid[]) AS seen (schedule_id, starts_at, seat, holder)
         WHERE c.schedule_id = seen.schedule_id AND c.starts_at = seen.starts_at AND c.seat = seen.seat AND c.holder = seen.holder`,
};
export const EXPIRED_CLAIMS = {
  name: 'expired-claims',
  text: `SELECT ${CLAIM} FROM claim c
         WHERE c.schedule_id = ANY($1::uuid[]) AND c.expires_at <= clock_timestamp()
           AND c.starts_at < $3 AND c.ends_at > $2 AND c.starts_at > $4`,
};
export const INSERT_CLAIMS = {
  name: 'insert-claims',
  text: `INSERT INTO claim (organization_id, schedule_id, seat, starts_at, ends_at, core_starts_at, core_ends_at, holder, shared, expires_at)
         SELECT "organizationId", "scheduleId", seat, "startsAt", "endsAt", "coreStartsAt", "coreEndsAt", holder, shared, "expiresAt"
         FROM jsonb_to_recordset($1::jsonb) AS c ("organizationId" uuid, "scheduleId" uuid, seat smallint, "startsAt" timestamptz,
           "endsAt" timestamptz, "coreStartsAt" timestamptz, "coreEndsAt" timestamptz, holder uuid, shared boolean, "expiresAt" timestamptz)`,
};

// Claims that are over are few, for the sweeper removes them: one look at them is all that most searches pay.
const daysWhere = (condition: string, grid: string) => `
  WITH lapsed AS MATERIALIZED (SELECT schedule_id, during FROM claim WHERE expires_at <= statement_timestamp())
  SELECT schedule_id, day, covers, open, places, published, version, reopened,
         CASE WHEN reopened THEN coalesce(${TAKEN_BY('(c.expires_at IS NULL OR c.expires_at > statement_timestamp())')}, '{}')
              ELSE taken END AS taken,
         ${grid} AS grid
  FROM (SELECT *, schedule_id IN (SELECT schedule_id FROM lapsed)
                  AND EXISTS (SELECT 1 FROM lapsed l WHERE l.schedule_id = stored.schedule_id AND l.during && stored.covers) AS reopened
        FROM schedule_day stored WHERE ${condition}) d
  ORDER BY schedule_id, day`;
export const READ_DAYS = {
  name: 'read-days',
  text: daysWhere(
    'schedule_id = ANY($1::uuid[]) AND day BETWEEN $2::date AND $3::date',
    `CASE WHEN bookable OR reopened THEN grid ELSE '[]' END`,
  ),
};
export const READ_SOME_DAYS = {
  name: 'read-some-days',
  text: daysWhere(
    '(schedule_id, day) IN (SELECT DISTINCT schedule_id, day FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day))',
    'grid',
  ),
};
// Whatever the zone, the local day is at most one beside that of UTC.
export const READ_DAY_AT = {
  name: 'read-day-at',
  text: daysWhere(
    `schedule_id = (SELECT p.schedule_id FROM practitioner p WHERE p.id = $1::uuid)
     AND day BETWEEN $2::date - 1 AND $2::date + 1 AND covers @> $3::timestamptz`,
    `'[]'::jsonb`,
  ),
};
