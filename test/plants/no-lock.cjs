/**
 * Preloaded into the app (`node --require`), takes the day row's lock away: the locking form reads its days without a lock,
 * the guarded form checks first and marks the time afterwards.
 */
const rewrite = require('./rewrite.cjs');

const LOCK_OF_DAYS = /^(SELECT [^;]* (?:FROM|JOIN) schedule_day d [^;]*) FOR NO KEY UPDATE OF d$/;
const GUARDED =
  /UPDATE schedule_day\s+SET (taken = taken \+ [^;]*?)\s+WHERE (schedule_id = \$\d+::uuid AND day = \$\d+::date)( [^;]*?)\s+RETURNING schedule_id\s+\)/;

rewrite((sql) => {
  if (LOCK_OF_DAYS.test(sql)) return sql.replace(LOCK_OF_DAYS, '$1');
  if (!sql.includes('AS (') || !sql.includes('UPDATE schedule_day')) return sql;
  return rewrite.exchange(
    sql,
    GUARDED,
    `SELECT schedule_id FROM schedule_day WHERE $2$3
     ), marked AS (UPDATE schedule_day SET $1 WHERE $2 AND EXISTS (SELECT FROM day))`,
  );
});
