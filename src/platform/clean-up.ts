import { Injectable } from '@nestjs/common';
import { hostname } from 'node:os';
import { LockRefused, Locks } from './locks';
import { Log } from './logging';
import { RateLimits } from './rate-limits';

/** Rows of one transaction. */
const BATCH = 1_000;

/** Deletes what is over of limits and locks. Nothing depends on it but the size of their tables. */
@Injectable()
export class CleanUp {
  constructor(
    private readonly limits: RateLimits,
    private readonly locks: Locks,
    private readonly log: Log,
  ) {}

  /**
   * One process at a time: two would do no harm, and the same work.
   * @returns how many windows and leases are gone; undefined when somebody else is at it
   */
  async run(): Promise<{ limits: number; locks: number } | undefined> {
    try {
      return await this.locks.withLock(
        'cron_run:clean-up-limits-and-locks',
        async ({ signal }) => {
          const limits = await inBatches(signal, (take) => this.limits.cleanUp(take));
          const locks = await inBatches(signal, (take) => this.locks.cleanUp(take));
          this.log.event('limits_and_locks_cleaned_up', { limits, locks });
          return { limits, locks };
        },
        { maxRetries: 0 },
      );
    } catch (error) {
      if (error instanceof LockRefused) {
        const cronInstance = `clean-up-limits-and-locks@${hostname()}:${process.pid}`;
        this.log.warning('cron_lock_refused', { cronInstance });
        return undefined;
      }
      this.log.failure('lock_cleanup_failed', error);
      throw error;
    }
  }
}

async function inBatches(signal: AbortSignal, cleanUp: (take: number) => Promise<number>): Promise<number> {
  for (let total = 0; ;) {
    signal.throwIfAborted();
    const deleted = await cleanUp(BATCH);
    total += deleted;
    if (deleted < BATCH) return total;
  }
}
