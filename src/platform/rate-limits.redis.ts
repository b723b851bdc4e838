import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Log } from './logging';
import type { Metrics } from './metrics';
import type { Ask, Verdict } from './rate-limits.windows';

/** What a request waits for Redis at most, in milliseconds, and only the first that finds it slow. */
const COMMAND_TIMEOUT = 250;
/** How long, in milliseconds, until a Redis that failed is asked again. */
const PROBE_EVERY = 500;
const ATTEMPTS = 3;

/**
 * Takes tokens from several sliding windows, or from none of them. Times are Redis's own, in microseconds.
 *
 * KEYS: sorted sets, one window each. ARGV: a name for this take, unique; 1 when it was tried before under that name, else 0;
 * then for each key: window (microseconds), count, tokens.
 * Answers: 1 or 0 (allowed), then for each key: tokens in the window; microseconds until the same could be allowed; until the
 * oldest token leaves.
 */
export const TAKE = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local allowed = 1
local used = {}
for i, key in ipairs(KEYS) do
  local window, count, tokens = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  if ARGV[2] == '1' then
    for token = 1, tokens do redis.call('ZREM', key, ARGV[1] .. ':' .. token) end
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
  used[i] = redis.call('ZCARD', key)
  if used[i] + tokens > count then allowed = 0 end
end
local answer = { allowed }
for i, key in ipairs(KEYS) do
  local window, count, tokens = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local over = used[i] + tokens - count
  local wait = 0
  if over > 0 then
    local blocking = redis.call('ZRANGE', key, over - 1, over - 1, 'WITHSCORES')
    wait = blocking[2] and blocking[2] + window - now or window
  end
  if allowed == 1 then
    for token = 1, tokens do redis.call('ZADD', key, now, ARGV[1] .. ':' .. token) end
    redis.call('PEXPIRE', key, math.ceil(window / 1000) + 1)
    used[i] = used[i] + tokens
  end
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  answer[3 * i - 1], answer[3 * i] = used[i], wait
  answer[3 * i + 1] = oldest[2] and oldest[2] + window - now or 0
end
return answer`;

type TakeScript = (keys: number, ...rest: Array<string | number>) => Promise<number[]>;

/**
 * Sliding windows in Redis, shared by all processes, behind a breaker of this process: after the first failure or time-out
 * nobody waits for Redis any more until it has done what is wanted of it, which is tried every half second.
 */
export class RedisWindows {
  private readonly client: Redis;
  private readonly script: TakeScript;
  private readonly name = randomBytes(9).toString('base64url');
  private takes = 0;
  private up = false;
  private wasUp = true;
  private probe?: NodeJS.Timeout;
  private stopped = false;
  private starting?: Promise<void>;

  constructor(
    url: string,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {
    this.client = new Redis(url, {
      // Whoever cannot be served at once is not queued: the next store answers.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      commandTimeout: COMMAND_TIMEOUT,
      connectTimeout: 1_000,
      retryStrategy: pauseBefore,
      // A replica that was the master: connect again, to whoever is it now.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.client.on('error', (error) => {
      this.log.debugEvent('rate_limit_store_error', { message: error.message });
      this.failed(error);
    });
    this.client.on('ready', () => void this.tryAgain());
    this.client.defineCommand('takeTokens', { lua: TAKE });
    const commands = this.client as unknown as { takeTokens: TakeScript };
    this.script = (keys, ...rest) => commands.takeTokens(keys, ...rest);
    this.metrics.rateLimitStoreUp.set(0);
    this.starting = this.firstContact();
  }

  /** Resolves when Redis was reached for the first time, or is known to be gone, or after a second. */
  private async firstContact(): Promise<void> {
    const beginning = performance.now();
    while (!this.up && this.wasUp && performance.now() - beginning < 1_000) await pause(10);
    if (!this.up) this.failed(new Error('Redis does not answer'));
    this.starting = undefined;
  }

  /**
   * @param patient whether the caller has time for three attempts; a request has not
   * @returns undefined when Redis is gone, which is no answer
   */
  async take(asks: readonly Ask[], patient: boolean): Promise<Verdict | undefined> {
    // At the very beginning nobody knows yet whether it is there.
    if (!this.up && this.starting) await this.starting;
    if (!this.up) return undefined;
    const name = `${this.name}${(this.takes++).toString(36)}`;
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.send(asks, name, attempt);
        this.metrics.rateLimitStoreOperations.inc({ outcome: 'done' });
        return this.verdict(asks, name, answer);
      } catch (error) {
        const transient = isTransient(error);
        this.metrics.rateLimitStoreOperations.inc({ outcome: transient ? 'gone' : 'refused' });
        this.failed(error);
        if (!patient || !transient || attempt === ATTEMPTS) return undefined;
        await pause(pauseBefore(attempt));
      }
    }
  }

  /** Ends the connection. Without it a process does not end. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.probe);
    this.client.disconnect();
  }

  private send(asks: readonly Ask[], name: string, attempt: number): Promise<number[]> {
    const keys = asks.map((ask) => ask.key);
    const rest = asks.flatMap((ask) => [Math.round(ask.windowSeconds * 1_000_000), ask.count, ask.tokens]);
    return this.script(keys.length, ...keys, name, attempt > 1 ? 1 : 0, ...rest);
  }

  private verdict(asks: readonly Ask[], name: string, answer: readonly number[]): Verdict {
    return {
      allowed: answer[0] === 1,
      windows: asks.map((_, at) => ({
        used: answer[3 * at + 1]!,
        waitSeconds: answer[3 * at + 2]! / 1_000_000,
        resetSeconds: answer[3 * at + 3]! / 1_000_000,
      })),
      giveBack: () => {
        for (const { key, tokens } of asks) {
          const members = Array.from({ length: tokens }, (_, token) => `${name}:${token + 1}`);
          // Nobody waits for it: tokens that stay are gone with their window.
          this.client.zrem(key, ...members).catch(() => undefined);
        }
      },
    };
  }

  private failed(error: unknown): void {
    if (this.stopped) return;
    if (this.up || this.wasUp) {
      this.log.failure('rate_limit_store_gone', error);
      this.metrics.rateLimitStoreUp.set(0);
    }
    this.up = this.wasUp = false;
    this.probe ??= setTimeout(() => void this.tryAgain(), PROBE_EVERY).unref();
  }

  /** Asks for what is wanted of it, a write by the script: a replica and a server that loads answer a PING. */
  private async tryAgain(): Promise<void> {
    clearTimeout(this.probe);
    this.probe = undefined;
    try {
      await this.send([{ key: `${KEYS}probe`, count: 1_000_000, windowSeconds: 1, tokens: 1 }], this.name, 1);
      if (!this.up) this.log.event('rate_limit_store_back');
      this.up = this.wasUp = true;
      this.metrics.rateLimitStoreUp.set(1);
    } catch (error) {
      this.failed(error);
      // What does not answer may be a connection to a machine that is no more: the next try has a new one.
      if (!this.stopped && this.client.status === 'ready') this.client.disconnect(true);
    }
  }
}

/** What the names of all keys in Redis begin with. */
export const KEYS = 'holdfast:limit:';

/** Milliseconds before the next attempt: 0.1 s doubling to 1 s, of which up to a half is left to chance. */
export function pauseBefore(attempt: number): number {
  const longest = Math.min(100 * 2 ** attempt, 1_000);
  return longest / 2 + (Math.random() * longest) / 2;
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Failures that pass: no connection, no answer in time, and the replies of a server that is not ready. */
export function isTransient(error: unknown): boolean {
  const { message = '', code = '', name = '' } = (error ?? {}) as { message?: string; code?: string; name?: string };
  return (
    /^(LOADING|READONLY|TRYAGAIN|CLUSTERDOWN)\b/.test(message) ||
    /Command timed out|Connection is closed|Stream isn't writeable/.test(message) ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH'].includes(code) ||
    name === 'MaxRetriesPerRequestError'
  );
}
