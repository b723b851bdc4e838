import { statement } from './statement';

/**
 * The windows that are asked of, as they are at one moment of the database's clock. Hits are numbered in order of time, so
 * how many lie in a window is the number of the next one less that of the oldest in it: one look into the index.
 */
const WINDOWS = `
  moment AS MATERIALIZED (SELECT clock_timestamp() AS now),
  asked AS (
    SELECT place, key, make_interval(secs => seconds) AS length, count, tokens
    FROM unnest(:keys::text[], :seconds::float8[], :counts::int[], :tokens::int[])
      WITH ORDINALITY AS asked (key, seconds, count, tokens, place)),
  looked AS MATERIALIZED (
    SELECT asked.*, now, coalesce(w.next, 1) AS next, coalesce(w.last_hit_at, '-infinity') AS last_hit_at,
           oldest.at AS oldest_at, coalesce(w.next - oldest.number, 0) AS used
    FROM asked CROSS JOIN moment LEFT JOIN rate_limit w USING (key)
    LEFT JOIN LATERAL (
      SELECT h.at, h.number FROM rate_limit_hit h WHERE h.key = asked.key AND h.at > now - length
      ORDER BY h.at, h.number LIMIT 1) oldest ON true),
  verdict AS MATERIALIZED (SELECT bool_and(used + tokens <= count) AS allowed FROM looked)`;

const SEEN = `
  SELECT allowed, used + CASE WHEN allowed THEN tokens ELSE 0 END AS used,
         extract(epoch FROM coalesce(oldest_at, now) + length - now)::float8 AS reset_seconds,
         CASE WHEN used + tokens <= count THEN 0 ELSE coalesce(extract(epoch FROM (
           SELECT h.at FROM rate_limit_hit h WHERE h.key = looked.key AND h.at >= oldest_at
           ORDER BY h.at, h.number OFFSET greatest(used + tokens - count - 1, 0) LIMIT 1) + length - now),
           extract(epoch FROM length))::float8 END AS wait_seconds
  FROM looked CROSS JOIN verdict ORDER BY place`;

/** A look without a lock: what is over its limit now is refused by it, and nobody had to wait or write. */
export const LOOK = statement('rate-limit-look', `WITH ${WINDOWS} ${SEEN}`);

/** Locks the windows in the order of their keys; those that are not there yet are made, so that there is a row to lock. */
export const LOCK = statement(
  'rate-limit-lock',
  `INSERT INTO rate_limit AS w (key, expires_at)
   SELECT key, clock_timestamp() + make_interval(secs => seconds)
   FROM unnest(:keys::text[], :seconds::float8[]) AS asked (key, seconds) ORDER BY key
   ON CONFLICT (key) DO UPDATE SET expires_at = greatest(w.expires_at, excluded.expires_at)`,
);

/**
 * Decides and takes. A statement of its own behind {@link LOCK}: what is read after a lock needs a fresh snapshot. A clock that
 * was put back does not put hits out of order. Hits that have left the window go with the first that comes after.
 */
export const TAKE = statement(
  'rate-limit-take',
  `WITH ${WINDOWS},
     taken AS (
       INSERT INTO rate_limit_hit (key, at, number)
       SELECT key, greatest(now, last_hit_at), next + token
       FROM looked CROSS JOIN verdict CROSS JOIN LATERAL generate_series(0, tokens - 1) AS token WHERE allowed),
     counted AS (
       UPDATE rate_limit w SET next = w.next + tokens, last_hit_at = greatest(now, looked.last_hit_at),
                               expires_at = greatest(now, looked.last_hit_at) + length
       FROM looked CROSS JOIN verdict WHERE w.key = looked.key AND allowed),
     left_behind AS (
       DELETE FROM rate_limit_hit h USING looked CROSS JOIN verdict
       WHERE h.key = looked.key AND h.at <= now - length AND allowed)
   ${SEEN}`,
);

/** Windows that nothing lies in any more, with their hits. */
export const CLEAN_UP = statement(
  'rate-limit-clean-up',
  `DELETE FROM rate_limit WHERE key IN (
     SELECT key FROM rate_limit WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT :take
     FOR UPDATE SKIP LOCKED)`,
);
