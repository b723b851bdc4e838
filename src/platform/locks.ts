import { Inject, Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { CONFIG, type Config } from './config';
import { Database } from './database';
import { Problem } from './errors';
import { ACQUIRE, CLEAN_UP, ENSURE, FENCE, RELEASE, RENEW } from './locks.sql';
import { Log } from './logging';
import { Metrics } from './metrics';
import type { Statement } from './statement';

/** A lease as the work under it sees it. */
export interface Lock {
  readonly key: string;
  /** Higher than that of every earlier holder of this key, for ever. Hand it to outside systems that can compare it. */
  readonly fencingToken: number;
  /** Aborted, with a {@link LockLost}, as soon as this process must assume that somebody else may hold the lock. */
  readonly signal: AbortSignal;
}

/** Somebody else held the lock until the last attempt. */
export class LockRefused extends Problem {
  constructor(readonly key: string) {
    super('busy', 'Somebody else is working on the same; please try again.', {}, { 'Retry-After': '1' });
  }
}

/** The lease ran out while its work was still going on. */
export class LockLost extends Problem {
  constructor(readonly key: string) {
    super('busy', 'The work took longer than it may be alone with it; please try again.', {}, { 'Retry-After': '1' });
  }
}

/** The token of work that runs without a lock, because locks are switched off. */
const UNLOCKED = 0;

/**
 * Locks over all processes, as leases in PostgreSQL by its clock. For work whose parts lie outside of one transaction; what
 * one transaction can do takes row locks instead.
 *
 * A lease alone protects no write: its holder may be stopped, wake up after it, and not know. So a write under a lock begins
 * with {@link requireFence}.
 */
@Injectable()
export class Locks {
  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {}

  /**
   * Runs `work` while nobody else works under the same key. The lease is renewed as long as it runs and given back after it.
   * Not within a transaction: it opens its own.
   * @param key names the resource, such as `reminder_processing:<id>`: no time in it, for a key of its own excludes nobody,
   *   and no phone number or name
   * @param options.ttl milliseconds after which the lease of a holder that died is free
   * @param options.maxRetries further attempts, 0.1 s to 2 s apart, doubling, with jitter
   * @throws LockRefused when it was not to be had; LockLost when it was lost while `work` ran, whatever became of that;
   *   what `work` throws
   */
  async withLock<T>(
    key: string,
    work: (lock: Lock) => Promise<T>,
    { ttl = this.config.lockTtlSeconds * 1_000, maxRetries = 3 }: { ttl?: number; maxRetries?: number } = {},
  ): Promise<T> {
    if (!this.config.distributedLocks)
      return work({ key, fencingToken: UNLOCKED, signal: new AbortController().signal });
    const lease = await this.acquire(key, ttl, maxRetries);
    const renewal = setInterval(() => void lease.renew(), ttl / 3);
    let held: boolean | undefined;
    try {
      const result = await work(lease);
      held = await this.release(lease);
      // What was done meanwhile may have met another's work; what was not fenced of it, nobody can know.
      if (!held) throw new LockLost(key);
      return result;
    } finally {
      clearInterval(renewal);
      if (held === undefined) await this.release(lease);
    }
  }

  /**
   * Makes the writes of a transaction depend on a lease. First of all in the transaction: the row of the lease comes before
   * all others in the order of locks. Until COMMIT nobody else can have the lock.
   * @throws LockLost when the lease is over or another's; nothing of the transaction happens then
   */
  async requireFence(tx: EntityManager, { key, fencingToken }: Pick<Lock, 'key' | 'fencingToken'>): Promise<void> {
    if (fencingToken === UNLOCKED && !this.config.distributedLocks) return;
    const rows = await query<unknown[]>(tx, FENCE({ key, token: fencingToken }));
    if (rows.length === 0) throw new LockLost(key);
  }

  /** Deletes some of the leases that are over and were not given back. @returns how many */
  cleanUp(take: number): Promise<number> {
    return this.database.system('leases that are over', async (tx) => {
      const [, deleted] = await query<[unknown[], number]>(tx, CLEAN_UP({ take }));
      return deleted;
    });
  }

  private async acquire(key: string, ttl: number, maxRetries: number): Promise<Lease> {
    const owner = uuidv7();
    const started = performance.now();
    for (let attempt = 1; ; attempt++) {
      // Counted from before the question: the database's lease cannot end before this process thinks that it does.
      const asked = performance.now();
      const token = await this.database.system('acquire a lock', async (tx) => {
        const values = { key, owner, ttl: ttl / 1_000 };
        const [, [[row]]] = await Promise.all([
          query(tx, ENSURE({ key })),
          query<[Array<{ fencing_token: number }>, number]>(tx, ACQUIRE(values)),
        ]);
        return row?.fencing_token;
      });
      if (token !== undefined) {
        this.metrics.lockAcquisitions.inc({ outcome: 'acquired' });
        this.metrics.lockWaitSeconds.observe((performance.now() - started) / 1_000);
        this.log.event('lock_acquired', { resourceKey: key, lockKey: `${key}#${token}`, attempt, ttl });
        return new Lease(key, token, owner, ttl, asked, (lease) => this.renew(lease), this.lost);
      }
      if (attempt > maxRetries) {
        this.metrics.lockAcquisitions.inc({ outcome: 'refused' });
        this.metrics.lockWaitSeconds.observe((performance.now() - started) / 1_000);
        this.log.event('lock_refused', { resourceKey: key, attempt });
        throw new LockRefused(key);
      }
      const longest = Math.min(100 * 2 ** attempt, 2_000);
      await new Promise((resolve) => setTimeout(resolve, longest / 2 + (Math.random() * longest) / 2));
    }
  }

  /** Whether the lease could be renewed; undefined when nobody knows. */
  private async renew({ key, owner, fencingToken: token, ttl }: Lease): Promise<boolean | undefined> {
    try {
      return await this.database.system('renew a lock', async (tx) => {
        const [, renewed] = await query<[unknown[], number]>(tx, RENEW({ key, owner, token, ttl: ttl / 1_000 }));
        return renewed === 1;
      });
    } catch (error) {
      this.log.failure('lock_renewal_failed', error, { resourceKey: key });
      return undefined;
    }
  }

  /** Whether the lease had been held until now. */
  private async release(lease: Lease): Promise<boolean> {
    const { key, owner, fencingToken: token } = lease;
    const heldHere = lease.end();
    try {
      return await this.database.system('release a lock', async (tx) => {
        const [[row]] = await query<[Array<{ held: boolean }>, number]>(tx, RELEASE({ key, owner, token }));
        if (!row?.held && heldHere) this.lost(key);
        return row?.held === true && heldHere;
      });
    } catch (error) {
      // The lease ends by itself.
      this.log.failure('lock_release_failed', error, { resourceKey: key });
      return heldHere;
    }
  }

  private readonly lost = (key: string): void => {
    this.metrics.lockAcquisitions.inc({ outcome: 'lost' });
    this.log.warning('lock_lost', { resourceKey: key });
  };
}

/** A lease while it is held. Judged by the monotonic clock of the process, which is never later than the database's end of it. */
class Lease implements Lock {
  private readonly controller = new AbortController();
  private deadline?: NodeJS.Timeout;
  private ended = false;

  constructor(
    readonly key: string,
    readonly fencingToken: number,
    readonly owner: string,
    readonly ttl: number,
    asked: number,
    private readonly ask: (lease: Lease) => Promise<boolean | undefined>,
    private readonly tellLost: (key: string) => void,
  ) {
    this.holdUntil(asked + ttl);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  async renew(): Promise<void> {
    const asked = performance.now();
    const renewed = await this.ask(this);
    if (this.ended || this.signal.aborted) return;
    if (renewed === true) this.holdUntil(asked + this.ttl);
    // Without an answer the lease is held until its time is over; another renewal may succeed before.
    if (renewed === false) this.lose();
  }

  /** @returns whether it was held to the end, as far as this process knows */
  end(): boolean {
    this.ended = true;
    clearTimeout(this.deadline);
    return !this.signal.aborted;
  }

  private holdUntil(moment: number): void {
    clearTimeout(this.deadline);
    this.deadline = setTimeout(() => this.lose(), Math.max(0, moment - performance.now()));
  }

  private lose(): void {
    clearTimeout(this.deadline);
    this.tellLost(this.key);
    this.controller.abort(new LockLost(this.key));
  }
}

const query = <T>(tx: EntityManager, what: Statement) => tx.query<T>(what as never);
