import { Inject, Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { createHmac } from 'node:crypto';
import { Addresses, networkOf } from './addresses';
import { CONFIG, type Config } from './config';
import { Database } from './database';
import { Problem } from './errors';
import { Log } from './logging';
import { Metrics } from './metrics';
import type { RateLimit } from './rate-limit.declarations';
import { MemoryWindows } from './rate-limits.memory';
import { PostgresWindows } from './rate-limits.postgres';
import { KEYS, RedisWindows } from './rate-limits.redis';
import type { Ask, Verdict, Window } from './rate-limits.windows';

/** Tokens that somebody wants of a limit. */
export interface Take {
  limit: RateLimit;
  /** Whose limit it is; null for those of the whole install. */
  organizationId: string | null;
  /** Who or what is limited: a phone, an address, the id of a patient. Hashed where the limit is `personal`. */
  subject: string;
  /** How many; 1 when left out. */
  tokens?: number;
}

/** What one limit says. */
export interface Taken {
  limit: RateLimit;
  /** Whether this limit alone would allow it. */
  allowed: boolean;
  /** What may still be taken at once. */
  remaining: number;
  /** Whole seconds until the same could be allowed; 0 when it is. */
  retryAfterSeconds: number;
  /** Whole seconds until the oldest of what was taken counts no more. */
  resetSeconds: number;
}

/** What several limits say together. */
export interface TakenAll {
  /** Whether all of them allow it. If not, none of them has given anything away. */
  allowed: boolean;
  each: Taken[];
}

/**
 * Limits as sliding windows: no window of a limit's length, wherever it begins, sees more than its count. Soft protections:
 * they keep abuse and cost away, and no invariant of the ledger depends on them.
 *
 * Call it before a transaction is opened, never within one: it may wait for a connection and for Redis.
 */
@Injectable()
export class RateLimits implements OnModuleInit, OnModuleDestroy {
  private redis?: RedisWindows;
  private readonly memory = new MemoryWindows();
  private readonly postgres: PostgresWindows;
  private readonly exempt: Addresses;

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    database: Database,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {
    this.postgres = new PostgresWindows(database);
    this.exempt = new Addresses(config.rateLimitsExempt);
  }

  onModuleInit(): void {
    const { redisUrl, rateLimits } = this.config;
    if (redisUrl !== undefined && rateLimits) this.redis = new RedisWindows(redisUrl, this.log, this.metrics);
  }

  onModuleDestroy(): void {
    this.redis?.stop();
  }

  /**
   * Takes tokens of one limit. @see takeAll
   */
  async take(take: Take, options?: { patient?: boolean }): Promise<Taken> {
    return (await this.takeAll([take], options)).each[0]!;
  }

  /**
   * Takes tokens of several limits, or of none. Redis (or the memory of this process) is asked for all that it counts in one
   * step; PostgreSQL then, in one transaction, for those that fall back to it; when that refuses, the first are given back.
   * @param options.patient for work in the background: three attempts, 0.1 to 1 s apart, before Redis counts as gone
   * @throws Problem `busy` when a `closed` limit cannot be counted, or PostgreSQL cannot say
   */
  async takeAll(takes: readonly Take[], { patient = false } = {}): Promise<TakenAll> {
    const limits = takes.map(({ limit }) => ({ ...limit, ...this.config.rateLimitOverrides[limit.name] }));
    if (!this.config.rateLimits || takes.length === 0) return { allowed: true, each: limits.map(passed) };
    const asks = takes.map((take, at) => this.ask(take, limits[at]!));
    const inFront = asks.map((_, at) => this.redis !== undefined || limits[at]!.onStoreGone === 'open');
    const inPostgres = limits.map((limit) =>
      this.redis ? limit.onStoreGone === 'postgres' : limit.onStoreGone !== 'open',
    );
    const windows = new Array<Window | undefined>(asks.length);
    const front = await this.askFront(pick(asks, inFront), patient);
    if (front) spread(windows, inFront, front.windows);
    else this.withoutStore(limits);
    let allowed = front?.allowed ?? true;
    if (allowed && inPostgres.includes(true)) {
      allowed = await this.askPostgres(pick(asks, inPostgres), front, (seen) => spread(windows, inPostgres, seen));
    }
    const each = limits.map((limit, at) => {
      const window = windows[at];
      return window ? taken(limit, window) : passed(limit);
    });
    this.tell(asks, each, allowed);
    return { allowed, each };
  }

  /**
   * As {@link takeAll}, for those who answer requests.
   * @throws Problem `rate_limited` with the headers that say when to come back
   */
  async require(takes: readonly Take[]): Promise<TakenAll> {
    const answer = await this.takeAll(takes);
    if (!answer.allowed) throw refusal(answer);
    return answer;
  }

  /**
   * What a request takes of a limit by its address: nothing where the address is exempt. That is about addresses alone;
   * limits by phone, e-mail address or organization hold for whoever asks from there, too.
   */
  ofAddress(limit: RateLimit, address: string): Take[] {
    return this.exempt.has(address) ? [] : [{ limit, organizationId: null, subject: networkOf(address) }];
  }

  /** Deletes some of the windows in PostgreSQL that are over. @returns how many */
  cleanUp(take: number): Promise<number> {
    return this.postgres.cleanUp(take);
  }

  private ask({ organizationId, subject, tokens = 1 }: Take, limit: RateLimit): Ask {
    const { name, count, windowSeconds } = limit;
    const who = `${organizationId ?? ''}/${subject}`;
    // Phones and addresses are few enough to be guessed from a plain hash; the secret is what keeps them.
    const shown = limit.personal
      ? createHmac('sha256', this.config.secretKey).update(`${name}\n${who}`).digest('base64url').slice(0, 27)
      : who;
    return { key: `${KEYS}${name}:${shown}`, count, windowSeconds, tokens };
  }

  private askFront(asks: readonly Ask[], patient: boolean): Promise<Verdict | undefined> | Verdict {
    return this.redis ? this.redis.take(asks, patient) : this.memory.take(asks);
  }

  private async askPostgres(
    asks: readonly Ask[],
    front: Verdict | undefined,
    show: (windows: Window[]) => void,
  ): Promise<boolean> {
    try {
      const { allowed, windows } = await this.postgres.take(asks);
      show(windows);
      if (!allowed) front?.giveBack();
      return allowed;
    } catch (error) {
      front?.giveBack();
      throw error;
    }
  }

  private withoutStore(limits: readonly RateLimit[]): void {
    const closed = limits.find((limit) => limit.onStoreGone === 'closed');
    for (const limit of limits) {
      if (limit.onStoreGone === 'postgres' || (closed && limit !== closed)) continue;
      this.metrics.rateLimitChecks.inc({ limit: limit.name, outcome: limit === closed ? 'closed' : 'open' });
    }
    if (closed) throw Problem.busy('A limit cannot be counted at the moment. Nothing was changed; please try again.');
  }

  private tell(asks: readonly Ask[], each: readonly Taken[], allowed: boolean): void {
    asks.forEach(({ key }, at) => {
      const { limit, remaining, allowed: alone } = each[at]!;
      if (allowed || !alone)
        this.metrics.rateLimitChecks.inc({ limit: limit.name, outcome: alone ? 'allowed' : 'refused' });
      const fields = { identifier: key.slice(KEYS.length), allowed: alone, remaining };
      if (alone) this.log.debugEvent('limit_check', fields);
      else this.log.event('limit_check', fields);
    });
  }
}

/** 429 with `Retry-After`, `RateLimit` and `RateLimit-Policy`. */
export function refusal(answer: TakenAll): Problem {
  const seconds = Math.max(1, ...answer.each.map((each) => each.retryAfterSeconds));
  const names = answer.each.filter((each) => !each.allowed).map((each) => each.limit.name);
  return new Problem(
    'rate_limited',
    `Too many requests (${names.join(', ')}); please come back in ${seconds} s.`,
    {},
    { 'Retry-After': String(seconds), ...limitHeaders(answer.each) },
  );
}

/** The header fields of draft-ietf-httpapi-ratelimit-headers: quotas and windows, then what is left and until when. */
export function limitHeaders(each: readonly Taken[]): Record<string, string> {
  let policy = '';
  let state = '';
  for (const { limit, remaining, resetSeconds } of each) {
    const comma = policy && ', ';
    policy += `${comma}"${limit.name}";q=${limit.count};w=${limit.windowSeconds}`;
    state += `${comma}"${limit.name}";r=${remaining};t=${resetSeconds}`;
  }
  return { 'RateLimit-Policy': policy, RateLimit: state };
}

const passed = (limit: RateLimit): Taken => ({
  limit,
  allowed: true,
  remaining: limit.count,
  retryAfterSeconds: 0,
  resetSeconds: 0,
});

const taken = (limit: RateLimit, window: Window): Taken => ({
  limit,
  allowed: window.waitSeconds <= 0,
  remaining: Math.max(0, limit.count - window.used),
  retryAfterSeconds: Math.ceil(window.waitSeconds),
  resetSeconds: Math.max(0, Math.ceil(window.resetSeconds)),
});

const pick = <T>(all: readonly T[], which: readonly boolean[]): T[] => all.filter((_, at) => which[at]);

function spread<T>(into: Array<T | undefined>, which: readonly boolean[], values: readonly T[]): void {
  let next = 0;
  which.forEach((wanted, at) => {
    if (wanted) into[at] = values[next++];
  });
}
