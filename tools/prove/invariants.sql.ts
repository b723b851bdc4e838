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
  /** How many share a session on such schedules, where it is not what the service says. */
  seats: Record<string, number>;
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
 * The time that appointments occupy, reckoned from their segments and not from the claims: each segment's own, with the
 * service's buffers around every run of segments of one schedule that have nothing else of the appointment between them.
 */
const OCCUPIED = `
  segment AS (
    SELECT a.id, a.service_id, a.expires_at, ${EXPIRED} AS expired, s.schedule_id, s.starts_at, s.ends_at,
           v.buffer_before_minutes AS before, v.buffer_after_minutes AS after,
           lag(s.ends_at) OVER lane AS previous_end, lead(s.starts_at) OVER lane AS next_start
    FROM appointment a
    JOIN service v ON v.organization_id = a.organization_id AND v.id = a.service_id
    JOIN appointment_segment s ON s.organization_id = a.organization_id AND s.appointment_id = a.id
    WHERE a.organization_id = $1 AND ${OCCUPYING}
    WINDOW lane AS (PARTITION BY a.id, s.schedule_id ORDER BY s.starts_at, s.ends_at)
  ), part AS (
    SELECT id, service_id, schedule_id, expires_at, expired, starts_at AS begins_at,
           starts_at - CASE WHEN joined_before THEN interval '0' ELSE make_interval(mins => before) END AS starts_at,
           least(ends_at + CASE WHEN joined_after THEN interval '0' ELSE make_interval(mins => after) END,
                 next_start) AS ends_at
    FROM (SELECT m.*,
            previous_end IS NOT NULL AND NOT EXISTS (SELECT FROM segment o WHERE o.id = m.id
              AND o.starts_at >= m.previous_end AND o.ends_at <= m.starts_at) AS joined_before,
            next_start IS NOT NULL AND NOT EXISTS (SELECT FROM segment o WHERE o.id = m.id
              AND o.starts_at >= m.ends_at AND o.ends_at <= m.next_start) AS joined_after
          FROM segment m WHERE m.schedule_id = ANY($2::uuid[])) m
  )`;

/** Who has time and until when, by the claims: a session's claim is had by all who have a seat in it. */
const CLAIMED = `
  claimed AS (
    SELECT c.schedule_id, coalesce(t.holder, c.holder) AS id, c.starts_at, c.ends_at, t.session_id,
           CASE WHEN c.shared THEN t.expires_at ELSE c.expires_at END AS expires_at,
           coalesce(CASE WHEN c.shared THEN t.expires_at ELSE c.expires_at END <= clock_timestamp(), false) AS expired
    FROM claim c
    LEFT JOIN attendance t ON c.shared AND t.organization_id = c.organization_id AND t.session_id = c.holder
    WHERE c.schedule_id = ANY($2::uuid[])
  )`;

export const SQL_CHECKS: SqlCheck[] = [
  {
    // Without a look at the constraint: it may be the thing that is missing.
    name: 'no two claims on one seat overlap, and every seat is one of its schedule',
    parameters: ({ schedules }) => [schedules],
    sql: `
      SELECT format('%s and %s on schedule %s', before, holder, schedule_id)
      FROM (SELECT schedule_id, holder, starts_at, lag(holder) OVER seat AS before,
                   max(ends_at) OVER (seat ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
            FROM claim WHERE schedule_id = ANY($1::uuid[])
            WINDOW seat AS (PARTITION BY schedule_id, seat ORDER BY starts_at, ends_at, holder)) c
      WHERE starts_at < taken_until
      UNION ALL
      SELECT format('%s has place %s of %s on schedule %s', c.holder, c.seat, s.places, c.schedule_id)
      FROM claim c JOIN schedule s ON s.organization_id = c.organization_id AND s.id = c.schedule_id
      WHERE c.schedule_id = ANY($1::uuid[]) AND c.seat NOT BETWEEN 1 AND s.places`,
  },
  {
    // Who sits in one session comes at one time, and counts once.
    name: 'no more occupying appointments overlap than there are places, buffers included',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${OCCUPIED},
      unit AS (
        SELECT DISTINCT p.schedule_id, p.starts_at, p.ends_at, coalesce(t.session_id, p.id) AS id
        FROM part p LEFT JOIN attendance t ON t.organization_id = $1 AND t.holder = p.id
        WHERE NOT p.expired
      )
      SELECT format('%s on schedule %s', string_agg(DISTINCT o.id::text, ' and '), u.schedule_id)
      FROM unit u
      JOIN unit o ON o.schedule_id = u.schedule_id AND o.starts_at <= u.starts_at AND u.starts_at < o.ends_at
      JOIN schedule s ON s.organization_id = $1 AND s.id = u.schedule_id
      GROUP BY u.schedule_id, u.starts_at, s.places HAVING count(DISTINCT o.id) > s.places`,
  },
  {
    name: 'no session has more in it than seats, or than one claim',
    parameters: ({ organizationId, schedules, seats }) => [organizationId, schedules, JSON.stringify(seats)],
    sql: `
      SELECT format('session %s: %s in %s seats, %s claims', g.id, n.seated, n.seats, n.claims)
      FROM group_session g
      JOIN service v ON v.organization_id = g.organization_id AND v.id = g.service_id
      CROSS JOIN LATERAL (
        SELECT (SELECT count(*) FROM attendance t
                WHERE t.session_id = g.id AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())) AS seated,
               (SELECT count(*) FROM claim c WHERE c.holder = g.id AND c.shared AND c.schedule_id = g.schedule_id
                  AND c.core_starts_at = g.starts_at AND c.core_ends_at = g.ends_at) AS claims,
               coalesce(($3::jsonb ->> g.schedule_id::text)::integer, v.capacity) AS seats
      ) n
      WHERE g.organization_id = $1 AND g.schedule_id = ANY($2::uuid[]) AND (n.seated > n.seats OR n.claims <> 1)
      UNION ALL
      SELECT format('%s sessions of one service at %s on schedule %s', count(*), starts_at, schedule_id)
      FROM group_session WHERE organization_id = $1 AND schedule_id = ANY($2::uuid[])
      GROUP BY schedule_id, service_id, starts_at HAVING count(*) > 1`,
  },
  {
    name: 'every occupying appointment has exactly its claims, and every claim its appointment',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${OCCUPIED}, ${CLAIMED},
      expected AS (SELECT id, schedule_id, starts_at, ends_at, expires_at, expired FROM part),
      actual AS (SELECT id, schedule_id, starts_at, ends_at, expires_at, expired FROM claimed)
      SELECT format('%s on schedule %s: by its segments %s until %s, claimed %s until %s', id, schedule_id,
                    CASE WHEN e.expired IS NULL THEN 'nothing' ELSE tstzrange(e.starts_at, e.ends_at)::text END, coalesce(e.expires_at, 'infinity'),
                    CASE WHEN c.expired IS NULL THEN 'nothing' ELSE tstzrange(c.starts_at, c.ends_at)::text END, coalesce(c.expires_at, 'infinity'))
      FROM expected e FULL JOIN actual c USING (id, schedule_id, starts_at, ends_at)
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
          (SELECT coalesce(range_agg(tstzrange(p.starts_at, p.ends_at)), '{}')
           FROM published_slot p WHERE p.schedule_id = d.schedule_id) AS published,
          -- When no place is left. A claim that is over stays in the row until somebody needs its time, or it is swept.
          (SELECT coalesce(range_agg(e.during) FILTER (WHERE (
               SELECT count(*) FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during @> e.during) >= s.places), '{}')
           FROM (SELECT tstzrange(at, lead(at) OVER (ORDER BY at)) * d.covers AS during
                 FROM (SELECT starts_at AS at FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during && d.covers
                       UNION SELECT ends_at FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during && d.covers
                       UNION SELECT unnest(ARRAY[lower(d.covers), upper(d.covers)])) edge) e
           WHERE NOT isempty(e.during) AND upper(e.during) IS NOT NULL) AS claimed
        FROM schedule_day d JOIN schedule s ON s.organization_id = d.organization_id AND s.id = d.schedule_id
        WHERE d.schedule_id = ANY($1::uuid[])
      ), reckoned AS (
        SELECT *, CASE WHEN active THEN ((weekly + opened + published) - closed) * whole::tstzmultirange ELSE '{}' END AS openable
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
