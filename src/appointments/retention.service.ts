import { Inject, Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { CONFIG, type Config, Database, Idempotency, Log } from '../platform';

/** Rows of one transaction. */
const BATCH = 1_000;

const DAY = 86_400_000;

/**
 * Ends what has outlived its use, by the settings: answers stored for Idempotency-Keys, holds that expired, the history of
 * appointments long over. In batches, as a role that can do nothing else.
 */
@Injectable()
export class RetentionService {
  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly log: Log,
  ) {}

  /** Safe to run twice, at once and late. @returns how many rows of each kind are gone */
  async prune(): Promise<{ answers: number; holds: number; histories: number }> {
    const { retention } = this.config;
    // The database judges what may go, so its clock says what is old.
    const now = await this.database.prune('what time it is', async (tx) => {
      const [row] = await tx.query<[{ now: Date }]>('SELECT now()');
      return row.now.getTime();
    });
    const pruned = {
      answers: await inBatches((take) =>
        this.idempotency.prune(new Date(now - retention.idempotencyHours * 3_600_000), take),
      ),
      holds: await inBatches((take) => this.pruneHolds(new Date(now - retention.expiredHoldDays * DAY), take)),
      histories: await inBatches((take) => this.pruneHistories(new Date(now - retention.historyDays * DAY), take)),
    };
    this.log.event('retention_pruned', pruned);
    return pruned;
  }

  /** Holds that nobody confirmed, with all that belongs to them. A confirm that comes at last takes the lock, or finds none. */
  private pruneHolds(before: Date, take: number): Promise<number> {
    return this.database.prune('holds that expired', async (tx) => {
      const rows = await tx.query<Array<{ organization_id: string; id: string }>>(
        `SELECT a.organization_id, a.id FROM appointment a
         WHERE a.status = 'expired' AND a.pending_until IS NULL AND a.updated_at < $1
         LIMIT $2 FOR UPDATE SKIP LOCKED`,
        [before, take],
      );
      for (const table of ['appointment_history', 'appointment_segment'])
        await removeOf(tx, table, 'appointment_id', rows);
      await removeOf(tx, 'appointment', 'id', rows);
      return rows.length;
    });
  }

  /**
   * Histories of appointments that are over and were not changed since; the appointments themselves stay. Whoever acts on one
   * afterwards adds to a history that begins later.
   */
  private pruneHistories(before: Date, take: number): Promise<number> {
    return this.database.prune('histories of appointments long over', async (tx) => {
      const rows = await tx.query<Array<{ organization_id: string; id: string }>>(
        `SELECT DISTINCT organization_id, id FROM (
           SELECT a.organization_id, a.id FROM appointment_history h
           JOIN appointment a ON a.organization_id = h.organization_id AND a.id = h.appointment_id
           WHERE h.at < $1 AND a.updated_at < $1 AND a.ends_at < $1 LIMIT $2) old`,
        [before, take],
      );
      await removeOf(tx, 'appointment_history', 'appointment_id', rows);
      return rows.length;
    });
  }
}

async function inBatches(prune: (take: number) => Promise<number>): Promise<number> {
  for (let total = 0; ;) {
    const pruned = await prune(BATCH);
    total += pruned;
    if (pruned === 0) return total;
  }
}

async function removeOf(
  tx: EntityManager,
  table: string,
  column: string,
  rows: ReadonlyArray<{ organization_id: string; id: string }>,
): Promise<void> {
  await tx.query(
    `DELETE FROM ${table} t USING unnest($1::uuid[], $2::uuid[]) AS gone (organization_id, id)
     WHERE t.organization_id = gone.organization_id AND t.${column} = gone.id`,
    [rows.map((row) => row.organization_id), rows.map((row) => row.id)],
  );
}
