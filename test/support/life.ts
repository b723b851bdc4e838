import type { Stage } from './sessions';

/**
 * Lets holds and requests end so many seconds from now by the database's clock (a negative number: that long ago), their
 * claims with them. What waiting would lead to, and nothing else: no version, no `updatedAt`.
 */
export async function endIn(stage: Stage, seconds: number, ...ids: string[]): Promise<void> {
  const ended = await stage.look(
    `WITH moment AS (SELECT date_trunc('milliseconds', clock_timestamp() + make_interval(secs => $2)) AS at),
          claims AS (UPDATE claim SET expires_at = moment.at FROM moment WHERE holder = ANY($1::uuid[]))
     UPDATE appointment SET expires_at = moment.at FROM moment
     WHERE id = ANY($1::uuid[]) AND status IN ('held', 'pending') RETURNING id`,
    [ids, seconds],
  );
  if (ended.length !== ids.length) throw new Error(`${ended.length} of ${ids.length} are held or pending.`);
}

/** The backend of the application that stands still within a transaction. */
export async function standingBackend(stage: Stage): Promise<number> {
  const rows = await stage.look<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'holdfast' AND state = 'idle in transaction'`,
  );
  if (rows.length !== 1) throw new Error(`${rows.length} backends stand still within a transaction.`);
  return rows[0]!.pid;
}
