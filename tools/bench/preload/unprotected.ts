import pg from 'pg';

/**
 * Loaded into the app before it starts, on a database whose exclusion constraint was dropped: nothing protects a time any
 * more. The guarded statement neither locks nor looks at the day row and claims whatever it is asked for; the locking form
 * reads days without their locks and marks nothing as taken. What the same API does then is what it would do without safety.
 */
type Statement = string | { text: string };

const GUARDED =
  /UPDATE schedule_day\s+SET[\s\S]*?WHERE schedule_id = (\$\d+::uuid) AND day = (\$\d+::date)[\s\S]*?published = '\[\]' AND NOT taken && tstzrange\([^)]*\)([\s\S]*?)RETURNING schedule_id/;
const MARKED = /UPDATE schedule_day SET version = version \+ 1, taken = taken \+[\s\S]*/;

function unprotected(sql: string): string {
  if (!/schedule_day/.test(sql)) return sql;
  if (/INSERT INTO claim/.test(sql) && GUARDED.test(sql)) {
    // What guards key, patient and service stays, and so do all parameters, for the app goes on to send them.
    return sql.replace(
      GUARDED,
      (_, schedule: string, day: string, others: string) =>
        `SELECT ${schedule} AS schedule_id WHERE ${day} IS NOT NULL ${others}`,
    );
  }
  if (MARKED.test(sql)) return sql.replace(MARKED, 'SELECT $1::uuid, $2::date, $3::tstzrange');
  return sql.replace(/ FOR NO KEY UPDATE(?= *$)/, '');
}

type Send = (this: unknown, statement: Statement, ...rest: unknown[]) => unknown;
const client = pg.Client.prototype as unknown as { query: Send };
const send = client.query;
client.query = function (statement, ...rest) {
  if (typeof statement === 'string') return send.call(this, unprotected(statement), ...rest);
  if (typeof statement?.text !== 'string') return send.call(this, statement, ...rest);
  // A copy: the app sends the same object again and again.
  return send.call(this, { ...statement, text: unprotected(statement.text) }, ...rest);
};
