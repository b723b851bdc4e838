import type { EntityManager } from 'typeorm';
import type { Database } from './database';
import { CLEAN_UP, LOCK, LOOK, TAKE } from './rate-limits.sql';
import type { Ask, Verdict } from './rate-limits.windows';
import type { Statement } from './statement';

interface Row {
  allowed: boolean;
  used: number;
  reset_seconds: number;
  wait_seconds: number;
}

/**
 * Sliding windows in PostgreSQL: exact over all processes, by the database's clock, in short transactions of their own. A
 * connection that waits here is one that a business transaction does not hold.
 */
export class PostgresWindows {
  constructor(private readonly database: Database) {}

  /** @throws Problem `busy` when the database cannot say */
  take(asks: readonly Ask[]): Promise<Omit<Verdict, 'giveBack'>> {
    const values = {
      keys: asks.map((ask) => ask.key),
      seconds: asks.map((ask) => ask.windowSeconds),
      counts: asks.map((ask) => ask.count),
      tokens: asks.map((ask) => ask.tokens),
    };
    return this.database.system('take from limits', async (tx) => {
      const seen = await query<Row[]>(tx, LOOK(values));
      if (!seen[0]!.allowed) return verdict(seen);
      // Sent together; the second is begun, and so looks, when the first has its locks.
      const [, taken] = await Promise.all([query(tx, LOCK(values)), query<Row[]>(tx, TAKE(values))]);
      return verdict(taken);
    });
  }

  /** Deletes some of the windows that are over. @returns how many */
  cleanUp(take: number): Promise<number> {
    return this.database.system('limits that are over', async (tx) => {
      const [, deleted] = await query<[unknown[], number]>(tx, CLEAN_UP({ take }));
      return deleted;
    });
  }
}

const query = <T>(tx: EntityManager, what: Statement) => tx.query<T>(what as never);

const verdict = (rows: readonly Row[]): Omit<Verdict, 'giveBack'> => ({
  allowed: rows[0]!.allowed,
  windows: rows.map((row) => ({
    used: row.used,
    waitSeconds: row.wait_seconds,
    resetSeconds: row.reset_seconds,
  })),
});
