import { Redis } from 'ioredis';
import type { Client } from 'pg';
import { CleanUp, Log, type RateLimit } from '../../src/platform';
import { openClient } from '../support/database';
import { OtherProgram, type Program, Programs } from '../support/protections';
import { hasRedis, TestRedis } from '../support/redis';
import { until } from '../support/sessions';

let names = 0;
/** A limit that no other test takes from. */
const limitOf = (changes: Partial<RateLimit> = {}): RateLimit => ({
  name: `test-${names++}`,
  count: 20,
  windowSeconds: 60,
  onStoreGone: 'postgres',
  ...changes,
});
const of = (limit: RateLimit, tokens?: number) => ({ limit, organizationId: null, subject: 'somebody', tokens });
const times = <T>(count: number, work: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => work(at));
const allowed = (answers: Array<{ allowed: boolean }>) => answers.filter((each) => each.allowed).length;

/** What was had of a limit: when it was asked for, and when the answer was there. */
type Had = Array<[sent: number, received: number]>;

/** Whether somebody had more than `count` within less than one window, beyond all doubt about when each was counted. */
function overrun(had: Had, { count, windowSeconds }: Pick<RateLimit, 'count' | 'windowSeconds'>): boolean {
  const inOrder = [...had].sort((a, b) => a[1] - b[1]);
  return inOrder.some(([, received], at) => {
    if (at < count) return false;
    const first = Math.min(...inOrder.slice(at - count, at + 1).map(([sent]) => sent));
    return received - first < windowSeconds * 1_000;
  });
}

describe('the check of windows', () => {
  const limit = { count: 5, windowSeconds: 1 };
  /** What a limiter admits that begins to count anew each second, to somebody who asks every 10 ms. */
  const fixed = (from: number): Had => {
    const counts = new Map<number, number>();
    return times(200, (at): [number, number] => [from + at * 10, from + at * 10 + 1]).filter(([sent]) => {
      const window = Math.floor(sent / 1_000);
      counts.set(window, (counts.get(window) ?? 0) + 1);
      return counts.get(window)! <= limit.count;
    });
  };

  it('finds the double burst of a fixed window at its boundary', () => {
    expect(overrun(fixed(960), limit)).toBe(true);
    expect(overrun(fixed(0).slice(0, 5), limit)).toBe(false);
  });
});

const redisIsHere = hasRedis();
const stores: Array<[string, boolean]> = [
  ['PostgreSQL', false],
  ...(redisIsHere ? [['Redis', true] as [string, boolean]] : []),
];

let other: Promise<OtherProgram>;
beforeAll(() => {
  other = OtherProgram.start();
});
afterAll(async () => (await other).kill());

describe.each(stores)('limits on %s', (_, onRedis) => {
  let programs: Programs;
  let redis: TestRedis | undefined;
  let here: Program;
  let client: Client;
  /** On Redis what Redis alone counts; the other kind is asked of PostgreSQL too, below. */
  const kind: Partial<RateLimit> = { onStoreGone: onRedis ? 'closed' : 'postgres' };
  beforeAll(async () => {
    programs = await Programs.start();
    redis = onRedis ? await TestRedis.start() : undefined;
    here = await programs.here(redis?.url);
    client = await openClient(programs.databaseUrl);
  });
  afterAll(async () => {
    await client.end();
    await programs.stop();
    await redis?.kill();
  });

  it('admit exactly their count of those who ask at once', async () => {
    const limit = limitOf(kind);
    const answers = await Promise.all(times(60, () => here.limits.take(of(limit))));
    expect(allowed(answers)).toBe(20);
    for (const { allowed, retryAfterSeconds, remaining } of answers) {
      expect(remaining).toBeGreaterThanOrEqual(0);
      if (!allowed) expect(retryAfterSeconds).toBeGreaterThan(50);
    }
  });

  it('take several tokens or none, and what is refused consumes nothing', async () => {
    const limit = limitOf(kind);
    expect(await here.limits.take(of(limit, 15))).toMatchObject({ allowed: true, remaining: 5 });
    for (let again = 0; again < 3; again++)
      expect(await here.limits.take(of(limit, 6))).toMatchObject({ allowed: false, remaining: 5 });
    expect(await here.limits.take(of(limit, 5))).toMatchObject({ allowed: true, remaining: 0 });
    expect(await here.limits.take(of(limit, 1))).toMatchObject({ allowed: false, remaining: 0 });
    expect(await here.limits.take(of(limit, 21))).toMatchObject({ allowed: false, retryAfterSeconds: 60 });
  });

  it('are taken from together: where one refuses, the others give nothing away', async () => {
    const [wide, narrow] = [limitOf(kind), limitOf({ ...kind, count: 2 })];
    const answers = await Promise.all(times(10, () => here.limits.takeAll([of(wide), of(narrow)])));
    expect(allowed(answers)).toBe(2);
    expect(answers.find((answer) => !answer.allowed)!.each.map((each) => each.allowed)).toEqual([true, false]);
    expect(await here.limits.take(of(wide))).toMatchObject({ allowed: true, remaining: 17 });
  });

  it('are apart by organization and subject, and personal subjects are kept nowhere', async () => {
    const limit = limitOf({ ...kind, count: 1, personal: true });
    const phone = '+4915112345678';
    for (const organizationId of ['one', 'two', null])
      expect((await here.limits.take({ limit, organizationId, subject: phone })).allowed).toBe(true);
    expect((await here.limits.take({ limit, organizationId: 'one', subject: phone })).allowed).toBe(false);
    expect((await here.limits.take({ limit, organizationId: 'one', subject: '+4915112345679' })).allowed).toBe(true);
    const { rows } = await client.query<{ key: string }>('SELECT key FROM rate_limit');
    const inRedis = redis ? await withRedis(redis, (commands) => commands.keys('*')) : [];
    const keys = [...rows.map((row) => row.key), ...inRedis].filter((key) => key.includes(limit.name));
    expect(keys).toHaveLength(4);
    expect(keys.join()).not.toContain('4915112345');
  });

  it('are gone once they are over', async () => {
    const limit = limitOf({ ...kind, windowSeconds: 0.2 });
    expect((await here.limits.take(of(limit, 3))).allowed).toBe(true);
    if (redis) {
      const left = () => withRedis(redis!, (commands) => commands.keys(`*${limit.name}*`));
      await until('Redis has dropped the key by itself', async () => (await left()).length === 0);
      return;
    }
    const left = async () => {
      const counts = ['rate_limit', 'rate_limit_hit'].map(async (table) => {
        const { rows } = await client.query(`SELECT 1 FROM ${table} WHERE key LIKE $1`, [`%:${limit.name}:%`]);
        return rows.length;
      });
      return Promise.all(counts);
    };
    const kept = limitOf(kind);
    await here.limits.take(of(kept));
    expect(await left()).toEqual([1, 3]);
    const cleanUp = new CleanUp(here.limits, here.locks, Log.create('silent'));
    await until('the clean-up has found it', async () => {
      await cleanUp.run();
      return (await left()).join() === '0,0';
    });
    expect((await here.limits.take(of(kept))).remaining).toBe(18);
  });

  it('slide: two programs in two processes never have more than the count in any window, and always that many', async () => {
    const limit = limitOf({ ...kind, windowSeconds: 0.5 });
    const answer = (await other).says<Had>('done');
    (await other).tell('hammer', here, { take: of(limit), abreast: 6, milliseconds: 1_600 });
    const had: Had = [];
    const moment = () => Number(process.hrtime.bigint()) / 1e6;
    const until = moment() + 1_600;
    const hammer = async () => {
      while (moment() < until) {
        const sent = moment();
        const { allowed } = await here.limits.take(of(limit));
        if (allowed) had.push([sent, moment()]);
      }
    };
    await Promise.all(times(6, hammer));
    const elsewhere = await answer;
    const all = [...had, ...elsewhere];
    expect(overrun(all, limit)).toBe(false);
    expect(Math.min(had.length, elsewhere.length)).toBeGreaterThan(0);
    // Three windows and a beginning of a fourth; the machine may have been busy elsewhere for one of them.
    expect(all.length).toBeGreaterThanOrEqual(3 * limit.count);
  });

  it('are others by configuration, and none at all when switched off', async () => {
    const limit = limitOf(kind);
    const changed = await programs.here(redis?.url, {
      rateLimitOverrides: { [limit.name]: { count: 1, windowSeconds: 5 } },
    });
    expect(allowed(await Promise.all(times(3, () => changed.limits.take(of(limit)))))).toBe(1);
    const off = await programs.here(redis?.url, { rateLimits: false });
    expect(allowed(await Promise.all(times(50, () => off.limits.take(of(limit)))))).toBe(50);
  });
});

async function withRedis<T>(redis: TestRedis, work: (commands: Redis) => Promise<T>): Promise<T> {
  const commands = new Redis(redis.url);
  try {
    return await work(commands);
  } finally {
    commands.disconnect();
  }
}

describe('limits without a Redis', () => {
  it('that shield the service are counted in the memory of the process, and write no row', async () => {
    const programs = await Programs.start();
    const here = await programs.here();
    const [open, exact] = [limitOf({ onStoreGone: 'open' }), limitOf({ count: 5 })];
    const answers = await Promise.all(times(40, () => here.limits.takeAll([of(open), of(exact)])));
    expect(allowed(answers)).toBe(5);
    // What PostgreSQL refused was given back to the memory.
    expect(allowed(await Promise.all(times(40, () => here.limits.take(of(open)))))).toBe(15);
    const client = await openClient(programs.databaseUrl);
    expect((await client.query<{ key: string }>('SELECT key FROM rate_limit')).rows).toEqual([
      { key: expect.stringContaining(`:${exact.name}:`) },
    ]);
    await client.end();
    await programs.stop();
  });
});

// Left out, and said so, where no Redis server can be had; under CI its absence fails the run instead.
(redisIsHere ? describe : describe.skip)('limits whose Redis fails', () => {
  let programs: Programs;
  let redis: TestRedis;
  let here: Program;
  beforeEach(async () => {
    programs = await Programs.start();
    redis = await TestRedis.start();
    here = await programs.here(redis.url);
    // It has found its Redis before something happens to that.
    await here.limits.take(of(limitOf({ onStoreGone: 'open' })));
  });
  afterEach(async () => {
    await programs.stop();
    await redis.kill();
  });

  const inRedis = (limit: RateLimit) =>
    withRedis(redis, (commands) => commands.zcard(`holdfast:limit:${limit.name}:/somebody`));

  /** Everybody asks; in the middle of it something happens to Redis. Then more ask, until nothing is left. */
  async function underLoad(limit: RateLimit, fault: () => unknown): Promise<number> {
    let had = 0;
    const ask = async (attempts: number) => {
      for (let attempt = 0; attempt < attempts; attempt++) {
        const { allowed } = await here.limits.take(of(limit));
        if (allowed) had++;
      }
    };
    const before = Promise.all(times(5, () => ask(6)));
    await until('some of it is had', () => had >= 5);
    await fault();
    await before;
    await Promise.all(times(10, () => ask(4)));
    return had;
  }

  it.each<[string, () => unknown]>([
    ['is killed', () => redis.kill()],
    ['is emptied', () => withRedis(redis, (commands) => commands.flushall())],
    ['stands still', () => redis.freeze()],
    ['is slow', () => withRedis(redis, (commands) => commands.call('CLIENT', 'PAUSE', '800', 'ALL'))],
    ['is killed and comes back', () => redis.kill().then(() => redis.up())],
  ])('and %s: what guards money and identity stays exact', async (_, fault) => {
    expect(await underLoad(limitOf({ count: 40 }), fault)).toBe(40);
  });

  it('and is gone: `open` passes, `closed` is told busy, and both are counted again once it is back', async () => {
    const [open, closed] = [limitOf({ onStoreGone: 'open' }), limitOf({ onStoreGone: 'closed' })];
    expect(allowed(await Promise.all(times(30, () => here.limits.take(of(open)))))).toBe(20);
    await redis.kill();
    expect(allowed(await Promise.all(times(30, () => here.limits.take(of(open)))))).toBe(30);
    await expect(here.limits.take(of(closed))).rejects.toMatchObject({ status: 503, code: 'busy' });
    await redis.up();
    await until('Redis counts again', async () => {
      await here.limits.take(of(open));
      return (await inRedis(open)) > 0;
    });
    expect(await here.limits.take(of(closed))).toMatchObject({ allowed: true, remaining: 19 });
  });

  it('and stands still: nobody waits for it but those who found out', async () => {
    const open = limitOf({ onStoreGone: 'open' });
    redis.freeze();
    await here.limits.take(of(open));
    const commands = here.limits as unknown as { redis: { send(): unknown } };
    const sent = jest.spyOn(commands.redis, 'send');
    const answers = times(50, () => here.limits.take(of(open)));
    // Nothing was sent, so there is nothing to wait for.
    expect(sent).not.toHaveBeenCalled();
    expect(allowed(await Promise.all(answers))).toBe(50);
    redis.thaw();
    await until('Redis counts again', async () => {
      await here.limits.take(of(open));
      return (await inRedis(open)) > 0;
    });
  });

  it('for a moment: work in the background tries again, a request does not, and no token is taken twice', async () => {
    const open = limitOf({ onStoreGone: 'open' });
    const inside = here.limits as unknown as { redis: { send(...all: unknown[]): Promise<number[]> } };
    const send = inside.redis.send.bind(inside.redis);
    const sent = jest.spyOn(inside.redis, 'send');
    // Redis has done it, and the answer is lost.
    const lost = async (...all: unknown[]) => {
      await send(...all);
      throw new Error('Command timed out');
    };
    sent.mockImplementationOnce(lost).mockImplementationOnce(lost);
    expect(await here.limits.take(of(open), { patient: true })).toMatchObject({ allowed: true, remaining: 19 });
    expect(await inRedis(open)).toBe(1);
  });

  it('with an error that does not pass is not tried again', async () => {
    const open = limitOf({ onStoreGone: 'open' });
    await withRedis(redis, (commands) => commands.set(`holdfast:limit:${open.name}:/somebody`, 'no sorted set'));
    const inside = here.limits as unknown as { redis: { send(...all: unknown[]): Promise<number[]> } };
    const sent = jest.spyOn(inside.redis, 'send');
    expect(await here.limits.take(of(open), { patient: true })).toMatchObject({ allowed: true, remaining: 20 });
    expect(sent).toHaveBeenCalledTimes(1);
  });
});
