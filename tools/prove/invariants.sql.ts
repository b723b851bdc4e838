/**
 * What must be true in the database after every storm. Written from the schema alone, so that a mistake of the app is not
 * repeated here.
 */

/** What the checks look at: the test location, and the appointments that this storm was about. */
export interface Scope {
  organizationId: string;
  schedules: string[];
  appointments: string[];
  phones: string[];
  tag: string;
}

interface SqlCheck {
  name: string;
  /** Selects one column of text: one row for each violation. */
  sql: string;
  parameters: (scope: Scope) => unknown[];
}

/** A hold or a pending request past its time does not occupy; until it is swept, its claim may be there or not. */
export const EXPIRED = `(a.status IN ('held', 'pending') AND coalesce(a.expires_at <= clock_timestamp(), false))`;
export const OCCUPYING = `a.status IN ('held', 'pending', 'confirmed', 'checked_in')`;

/**
 * The time that appointments occupy, reckoned from their segments and not from the claims: each run of consecutive segments
 * on one schedule, with the service's buffers around it.
 */
const RUNS = `
  runs AS (
    SELECT a.id, a.expires_at, r.schedule_id, r.starts_at, r.ends_at, ${EXPIRED} AS expired
    FROM appointment a
    JOIN service v ON v.organization_id = a.organization_id AND v.id = a.service_id
    CROSS JOIN LATERAL (
      SELECT s.schedule_id, min(s.starts_at) - make_interval(mins => v.buffer_before_minutes) AS starts_at,
             max(s.ends_at) + make_interval(mins => v.buffer_after_minutes) AS ends_at
      FROM (SELECT *, position - row_number() OVER (PARTITION BY schedule_id ORDER BY position) AS run
            FROM appointment_segment WHERE organization_id = a.organization_id AND appointment_id = a.id) s
      GROUP BY s.schedule_id, s.run
    ) r
    WHERE a.organization_id = $1 AND ${OCCUPYING} AND r.schedule_id = ANY($2::uuid[])
  )`;

export const SQL_CHECKS: SqlCheck[] = [
  {
    // Without a look at the constraint: it may be the thing that is missing.
    name: 'no two claims on one seat overlap',
    parameters: ({ schedules }) => [schedules],
    sql: `
      SELECT format('%s and %s on schedule %s', before, holder, schedule_id)
      FROM (SELECT schedule_id, holder, starts_at, lag(holder) OVER seat AS before,
                   max(ends_at) OVER (seat ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
            FROM claim WHERE schedule_id = ANY($1::uuid[])
            WINDOW seat AS (PARTITION BY schedule_id, seat ORDER BY starts_at, ends_at, holder)) c
      WHERE starts_at < taken_until`,
  },
  {
    name: 'no two occupying appointments overlap, buffers included',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${RUNS}
      SELECT format('%s and %s on schedule %s', before, id, schedule_id)
      FROM (SELECT schedule_id, id, starts_at, lag(id) OVER lane AS before,
                   max(ends_at) OVER (lane ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
            FROM runs WHERE NOT expired
            WINDOW lane AS (PARTITION BY schedule_id ORDER BY starts_at, ends_at, id)) r
      WHERE starts_at < taken_until`,
  },
  {
    name: 'every occupying appointment has exactly its claims, and every claim its appointment',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${RUNS},
      expected AS (SELECT id AS holder, schedule_id, starts_at, ends_at, expires_at, expired FROM runs),
      actual AS (SELECT holder, schedule_id, starts_at, ends_at, expires_at,
                        coalesce(expires_at <= clock_timestamp(), false) AS expired
                 FROM claim WHERE schedule_id = ANY($2::uuid[]))
      SELECT format('%s on schedule %s: by its segments %s until %s, claimed %s until %s', holder, schedule_id,
                    CASE WHEN e.expired IS NULL THEN 'nothing' ELSE tstzrange(e.starts_at, e.ends_at)::text END, coalesce(e.expires_at, 'infinity'),
                    CASE WHEN c.expired IS NULL THEN 'nothing' ELSE tstzrange(c.starts_at, c.ends_at)::text END, coalesce(c.expires_at, 'infinity'))
      FROM expected e FULL JOIN actual c USING (holder, schedule_id, starts_at, ends_at)
      WHERE ((e.expired IS NULL OR c.expired IS NULL) AND NOT coalesce(e.expired, c.expired))
         -- A claim that ends before its appointment does would be given to somebody else.
         OR (e.expired IS NOT NULL AND c.expired IS NOT NULL AND e.expires_at IS DISTINCT FROM c.expires_at)`,
  },
  {
    // Reckoned here from the rules themselves, in UTC, in which the test location's schedules are.
    name: 'every day row covers its day, is open by its rules and taken by its claims',
    parameters: ({ schedules }) => [schedules],
    sql: `
      WITH sources AS (
        SELECT d.schedule_id, d.day, d.covers, d.open, d.taken, s.active,
          tstzrange(d.day::timestamp AT TIME ZONE 'UTC', (d.day + 1)::timestamp AT TIME ZONE 'UTC') AS whole,
          (SELECT coalesce(range_agg(tstzrange((d.day + make_interval(mins => h.start_minute)) AT TIME ZONE 'UTC',
                                               (d.day + make_interval(mins => h.end_minute)) AT TIME ZONE 'UTC')), '{}')
           FROM schedule_hours h
           WHERE h.schedule_id = d.schedule_id AND h.weekday = extract(isodow FROM d.day)
             AND d.day >= coalesce(h.valid_from, d.day) AND d.day <= coalesce(h.valid_until, d.day)) AS weekly,
          (SELECT coalesce(range_agg(tstzrange(e.starts_at, e.ends_at)) FILTER (WHERE e.kind = 'open'), '{}')
           FROM schedule_exception e WHERE e.schedule_id = d.schedule_id) AS opened,
          (SELECT coalesce(range_agg(tstzrange(e.starts_at, e.ends_at)) FILTER (WHERE e.kind = 'closed'), '{}')
           FROM schedule_exception e WHERE e.schedule_id = d.schedule_id) AS closed,
          -- A claim that is over stays in the row until somebody needs its time, or it is swept.
          (SELECT coalesce(range_agg(c.during * d.covers), '{}')
           FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during && d.covers) AS claimed
        FROM schedule_day d JOIN schedule s ON s.organization_id = d.organization_id AND s.id = d.schedule_id
        WHERE d.schedule_id = ANY($1::uuid[])
      ), reckoned AS (
        SELECT *, CASE WHEN active THEN ((weekly + opened) - closed) * whole::tstzmultirange ELSE '{}' END AS openable
        FROM sources
      )
      SELECT format('schedule %s on %s:', schedule_id, day)
          || CASE WHEN covers <> whole THEN format(' covers %s instead of %s', covers, whole) ELSE '' END
          || CASE WHEN open <> openable THEN format(' open %s instead of %s', open, openable) ELSE '' END
          || CASE WHEN NOT taken @> claimed THEN format(' lacks %s, which is claimed', claimed - taken) ELSE '' END
          || CASE WHEN NOT taken <@ claimed THEN format(' has %s as taken, which nobody claims', taken - claimed) ELSE '' END
      FROM reckoned
      WHERE covers <> whole OR open <> openable OR taken <> claimed`,
  },
  {
    name: 'the history leads from version 1 to the present version and status without a hole',
    parameters: ({ organizationId, appointments }) => [organizationId, appointments],
    sql: `
      SELECT format('%s is %s, version %s; its history is %s', a.id, a.status, a.version, h.shown)
      FROM appointment a
      CROSS JOIN LATERAL (
        SELECT count(*) AS entries, min(version) AS first, max(version) AS last, bool_and(joined) AS joined,
               (array_agg(to_status ORDER BY version DESC))[1] AS final,
               string_agg(format('%s: %s -> %s', version, from_status, to_status), ', ' ORDER BY version) AS shown
        FROM (SELECT *, from_status IS NOT DISTINCT FROM lag(to_status) OVER (ORDER BY version)
                     -- That a hold was over when it was confirmed need not have been written down before.
                     OR (action = 'confirm' AND from_status = 'expired' AND lag(to_status) OVER (ORDER BY version) = 'held') AS joined
              FROM appointment_history WHERE organization_id = a.organization_id AND appointment_id = a.id) e
      ) h
      WHERE a.organization_id = $1 AND a.id = ANY($2::uuid[])
        AND NOT coalesce(h.entries = a.version AND h.first = 1 AND h.last = a.version AND h.joined AND h.final = a.status, false)`,
  },
  {
    name: 'exactly one outbox event for each version',
    parameters: ({ organizationId, appointments }) => [organizationId, appointments],
    sql: `
      SELECT format('%s, version %s: %s events', a.id, v.version, count(o.id))
      FROM appointment a
      CROSS JOIN LATERAL generate_series(1, a.version) AS v (version)
      LEFT JOIN outbox_event o ON o.organization_id = a.organization_id AND o.subject_id = a.id AND o.version = v.version
      WHERE a.organization_id = $1 AND a.id = ANY($2::uuid[])
      GROUP BY a.id, v.version HAVING count(o.id) <> 1
      UNION ALL
      SELECT format('%s: an event for version %s, which it never had', o.subject_id, o.version)
      FROM outbox_event o JOIN appointment a ON a.organization_id = o.organization_id AND a.id = o.subject_id
      WHERE o.organization_id = $1 AND o.subject_id = ANY($2::uuid[]) AND o.version NOT BETWEEN 1 AND a.version`,
  },
  {
    name: 'one living patient for each phone',
    parameters: ({ organizationId, phones }) => [organizationId, phones],
    sql: `
      SELECT format('%s: %s patients', phone, count(*)) FROM patient
      WHERE organization_id = $1 AND phone = ANY($2::text[]) AND deleted_at IS NULL
      GROUP BY phone HAVING count(*) > 1`,
  },
  {
    name: 'one appointment at most for each request and Idempotency-Key',
    parameters: ({ organizationId, tag }) => [organizationId, tag],
    sql: `
      SELECT format('%s: %s appointments', metadata ->> 'request', count(*)) FROM appointment
      WHERE organization_id = $1 AND metadata ->> 'prove' = $2
      GROUP BY metadata ->> 'request' HAVING count(*) > 1`,
  },
  {
    name: 'every stored answer has its effect',
    parameters: ({ organizationId, tag }) => [organizationId, tag],
    sql: `
      SELECT format('the answer stored under %s names appointment %s, which is not there', k.key, k.body::jsonb ->> 'id')
      FROM idempotency_key k
      WHERE k.organization_id = $1 AND starts_with(k.key, $2) AND NOT EXISTS (
        SELECT FROM appointment a WHERE a.organization_id = k.organization_id AND a.id = (k.body::jsonb ->> 'id')::uuid)`,
  },
];

/** Checks that need more than one statement; see `ledger-reader.ts`. */
export const ACKNOWLEDGED = 'every acknowledged booking is in the database, as it was acknowledged';
export const UNEXPLAINED = 'every occupying row was acknowledged, or its outcome is unknown';
export const AUDITED =
  "the app's own auditor finds nothing: every day row is equal to its sources, the constraint is there";

export const DATABASE_CHECKS = [...SQL_CHECKS.map(({ name }) => name), ACKNOWLEDGED, UNEXPLAINED, AUDITED];
