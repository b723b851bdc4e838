import type { Client } from 'pg';
import { CleanUp, type Lock, LockLost, LockRefused, Locks, Log, RATE_LIMITS, RateLimits } from '../../src/platform';
import { startApp } from '../support/app';
import { openClient } from '../support/database';
import { OtherProgram, type Program, Programs } from '../support/protections';
import { Stage, until } from '../support/sessions';

/** A lease so short that tests see it end; renewals come three times as often. */
const SHORT = 300;

describe('distributed locks', () => {
  let other: Promise<OtherProgram>;
  let programs: Programs;
  let here: Program;
  let client: Client;
  let stage: Stage;
  beforeAll(async () => {
    other = OtherProgram.start();
    programs = await Programs.start();
    here = await programs.here();
    client = await openClient(programs.databaseUrl);
    stage = await Stage.open(programs.databaseUrl);
    await client.query(`CREATE TABLE counter (n integer); INSERT INTO counter VALUES (0); CREATE TABLE written (token bigint);
      GRANT SELECT, INSERT, UPDATE ON counter, written TO PUBLIC`);
  });
  afterAll(async () => {
    await (await other).kill();
    await stage.close();
    await client.end();
    await programs.stop();
  });

  let keys = 0;
  const key = () => `test:${keys++}`;
  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const rows = async (of: string) =>
    (await client.query<{ owner: string; expires_at: Date }>('SELECT * FROM distributed_locks WHERE key = $1', [of]))
      .rows;
  /** As a holder whose process is gone leaves it. */
  const abandon = (of: string, milliseconds: number) =>
    client.query(
      `INSERT INTO distributed_locks VALUES ($1, 'gone', nextval('distributed_locks_fence'),
                                             clock_timestamp() + make_interval(secs => $2))`,
      [of, milliseconds / 1_000],
    );

  it('have tokens that rise for ever, through releases, ends and clean-ups', async () => {
    const again = key();
    const tokens: number[] = [];
    const take = () => here.locks.withLock(again, async ({ fencingToken }) => void tokens.push(fencingToken));
    await take();
    await take();
    await abandon(again, -1);
    expect(await new CleanUp(here.limits, here.locks, Log.create('silent')).run()).toMatchObject({ locks: 1 });
    await take();
    expect([...tokens].sort((a, b) => a - b)).toEqual(tokens);
    expect(new Set(tokens).size).toBe(3);
  });

  it('are refused after so many attempts, and given again when the holder is gone for the length of its lease', async () => {
    const taken = key();
    await abandon(taken, 60_000);
    const work = jest.fn();
    await expect(here.locks.withLock(taken, work, { maxRetries: 1 })).rejects.toThrow(LockRefused);
    expect(work).not.toHaveBeenCalled();
    const left = key();
    await abandon(left, SHORT);
    await here.locks.withLock(left, work, { maxRetries: 20 });
    expect(work).toHaveBeenCalledTimes(1);
  });

  it('are renewed while work runs, longer than one lease', async () => {
    const held = key();
    await here.locks.withLock(
      held,
      async ({ signal }) => {
        await pause(3 * SHORT);
        expect(signal.aborted).toBe(false);
        await expect(here.locks.withLock(held, async () => 'stolen', { maxRetries: 0 })).rejects.toThrow(LockRefused);
      },
      { ttl: SHORT },
    );
  });

  it('are lost when another has them: work is aborted, and only its own lease is released', async () => {
    const stolen = key();
    const outcome = here.locks.withLock(
      stolen,
      async ({ signal }) => {
        await client.query('DELETE FROM distributed_locks WHERE key = $1', [stolen]);
        await abandon(stolen, 60_000);
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        expect(signal.reason).toBeInstanceOf(LockLost);
      },
      { ttl: SHORT },
    );
    await expect(outcome).rejects.toThrow(LockLost);
    expect(await rows(stolen)).toMatchObject([{ owner: 'gone' }]);
  });

  it('are lost when nobody can renew them, by the time of the process', async () => {
    const renewal = jest
      .spyOn(here.locks as unknown as { renew(): Promise<unknown> }, 'renew')
      .mockReturnValue(Promise.resolve());
    const outcome = here.locks.withLock(
      key(),
      ({ signal }) => new Promise((resolve) => signal.addEventListener('abort', resolve)),
      { ttl: SHORT },
    );
    await expect(outcome).rejects.toThrow(LockLost);
    expect(renewal).toHaveBeenCalled();
    renewal.mockRestore();
  });

  it('fence: between the check and COMMIT nobody gets the lock, though the lease ends, and renewals go on', async () => {
    const contested = key();
    await here.locks
      .withLock(
        contested,
        async (lock) => {
          const before = (await rows(contested))[0]!.expires_at.getTime();
          await here.database.system('a slow write under a fence', async (tx) => {
            await here.locks.requireFence(tx, lock);
            await until('the lease was renewed', async () => (await rows(contested))[0]!.expires_at.getTime() > before);
            // As if the holder had stood still for as long: the lease is over, the transaction is not.
            await client.query(`UPDATE distributed_locks SET expires_at = '-infinity' WHERE key = $1`, [contested]);
            const thief = here.locks.withLock(contested, async () => 'stolen', { maxRetries: 2 });
            await expect(thief).rejects.toThrow(LockRefused);
            const remover = await stage.session();
            const removed = remover.run('DELETE FROM distributed_locks WHERE key = $1', [contested]);
            await remover.blocked();
            await remover.kill();
            await removed.catch(() => undefined);
          });
        },
        { ttl: SHORT },
      )
      .catch((error: unknown) => expect(error).toBeInstanceOf(LockLost));
    await here.locks.withLock(contested, async () => undefined);
  });

  it('fence: a token that is over, or was another key’s, is refused', async () => {
    const mine = key();
    const old = await here.locks.withLock(mine, async ({ fencingToken }) => fencingToken);
    await here.locks.withLock(mine, async (lock) => {
      const write = (of: Pick<Lock, 'key' | 'fencingToken'>) =>
        here.database.system('write under a fence', (tx) => here.locks.requireFence(tx, of));
      await write(lock);
      await expect(write({ key: mine, fencingToken: old })).rejects.toThrow(LockLost);
      await expect(write({ key: 'test:other', fencingToken: lock.fencingToken })).rejects.toThrow(LockLost);
      await expect(write({ key: mine, fencingToken: 0 })).rejects.toThrow(LockLost);
    });
  });

  it('let what the work throws through, and are released', async () => {
    const failing = key();
    const failure = new Error('of the work');
    await expect(here.locks.withLock(failing, () => Promise.reject(failure))).rejects.toBe(failure);
    expect(await rows(failing)).toEqual([]);
  });

  it('clean up one at a time, and only what is over', async () => {
    const cleanUp = new CleanUp(here.limits, here.locks, Log.create('silent'));
    await client.query(`DELETE FROM distributed_locks`);
    await abandon('test:over', -1_000);
    await abandon('test:held', 60_000);
    await abandon('cron_run:clean-up-limits-and-locks', 60_000);
    expect(await cleanUp.run()).toBeUndefined();
    await client.query(`DELETE FROM distributed_locks WHERE key LIKE 'cron_run:%'`);
    expect(await cleanUp.run()).toEqual({ limits: 0, locks: 1 });
    expect((await client.query('SELECT key FROM distributed_locks')).rows).toEqual([{ key: 'test:held' }]);
  });

  it('are held by one of fifty at a time, in two processes', async () => {
    const contested = key();
    const task = { key: contested, contenders: 25, table: 'counter' };
    const done = (await other).says('done');
    (await other).tell('count', here, task);
    let inside = 0;
    let most = 0;
    const one = () =>
      here.locks.withLock(
        contested,
        async () => {
          most = Math.max(most, ++inside);
          const { rows } = await client.query<{ n: number }>('SELECT n FROM counter');
          await pause(1);
          await client.query('UPDATE counter SET n = $1', [rows[0]!.n + 1]);
          inside--;
        },
        { maxRetries: 1_000 },
      );
    await Promise.all(Array.from({ length: 25 }, one));
    await done;
    expect(most).toBe(1);
    expect((await client.query('SELECT n FROM counter')).rows).toEqual([{ n: 50 }]);
    expect(await rows(contested)).toEqual([]);
  });

  it('fence: a holder that was stopped beyond its lease wakes up, and its write is refused', async () => {
    const contested = key();
    const holder = await other;
    const holding = holder.says<number>('holding');
    holder.tell('hold', here, { key: contested, ttl: SHORT, table: 'written' });
    const theirs = await holding;
    holder.freeze();
    const ours = await here.locks.withLock(contested, async (lock) => lock.fencingToken, { maxRetries: 50 });
    expect(ours).toBeGreaterThan(theirs);
    const report = holder.says<{ aborted: boolean; outcome: string; lost?: string }>('done');
    holder.thaw();
    holder.tell('go on', here);
    expect(await report).toMatchObject({ outcome: 'LockLost', lost: 'LockLost' });
    expect((await client.query('SELECT token FROM written')).rows).toEqual([]);
  });

  it('and limits are shared by the application and another program', async () => {
    const app = await startApp({ databaseUrl: programs.databaseUrl });
    const program = await other;
    const [limits, locks] = [app.app.get(RateLimits, { strict: false }), app.app.get(Locks, { strict: false })];
    const shared = key();

    const holding = program.says('holding');
    program.tell('hold', here, { key: shared, ttl: 5_000, table: 'written' });
    await holding;
    await expect(locks.withLock(shared, async () => 'stolen', { maxRetries: 0 })).rejects.toThrow(LockRefused);
    const written = program.says('done');
    program.tell('go on', here);
    expect(await written).toMatchObject({ outcome: 'written', aborted: false });
    expect(await locks.withLock(shared, async () => 'had')).toBe('had');

    const take = { limit: RATE_LIMITS.repliesPerPatient, organizationId: 'an organization', subject: 'a patient' };
    for (let reply = 0; reply < 3; reply++) expect((await limits.take(take)).allowed).toBe(true);
    const had = program.says<unknown[]>('done');
    program.tell('hammer', here, { take, abreast: 2, milliseconds: 200 });
    expect(await had).toHaveLength(2);
    expect(await limits.take(take)).toMatchObject({ allowed: false, remaining: 0 });
    await app.stop();
  });

  it('tell what they do by stable names, with ids and hashes alone, and count it', async () => {
    const lines: Array<[string, string, object]> = [];
    const record =
      (level: string) =>
      (event: string, ...fields: object[]) =>
        void lines.push([level, event, fields.at(-1) ?? {}]);
    const log = {
      event: record('info'),
      warning: record('warn'),
      failure: record('error'),
      debugEvent: record('debug'),
    };
    const told = await programs.here(undefined, {}, log as unknown as Log);
    const resource = key();
    await told.locks.withLock(resource, async () => undefined);
    const limit = { ...RATE_LIMITS.messagesPerPhone, count: 1 };
    const take = { limit, organizationId: 'an organization', subject: '+4915112345678' };
    await told.limits.take(take);
    await told.limits.take(take);
    const cleanUp = new CleanUp(told.limits, told.locks, log as unknown as Log);
    await told.locks.withLock('cron_run:clean-up-limits-and-locks', () => cleanUp.run());
    jest.spyOn(told.limits, 'cleanUp').mockRejectedValueOnce(new Error('of the database'));
    await expect(cleanUp.run()).rejects.toThrow('of the database');

    const of = (event: string) => lines.filter((line) => line[1] === event);
    const lockKey = expect.stringMatching(new RegExp(`^${resource}#\\d+$`));
    expect(of('lock_acquired')[0]).toEqual([
      'info',
      'lock_acquired',
      { resourceKey: resource, lockKey, attempt: 1, ttl: 30_000 },
    ]);
    const identifier = expect.stringMatching(/^messages-phone:[\w-]{27}$/);
    expect(of('limit_check')).toEqual([
      ['debug', 'limit_check', { identifier, allowed: true, remaining: 0 }],
      ['info', 'limit_check', { identifier, allowed: false, remaining: 0 }],
    ]);
    const cronInstance = expect.stringMatching(/^clean-up-limits-and-locks@.+:\d+$/);
    expect(of('cron_lock_refused')).toEqual([['warn', 'cron_lock_refused', { cronInstance }]]);
    expect(of('lock_cleanup_failed')).toMatchObject([['error', 'lock_cleanup_failed', { message: 'of the database' }]]);
    const figures = await told.metrics.registry.metrics();
    expect(figures).toContain('holdfast_rate_limit_checks_total{limit="messages-phone",outcome="refused"} 1');
    expect(figures).toContain('holdfast_lock_acquisitions_total{outcome="acquired"} 3');
    expect(figures).toContain('holdfast_lock_acquisitions_total{outcome="refused"} 1');
  });

  it('can be switched off: everybody works, and fences hold nobody back', async () => {
    const off = await programs.here(undefined, { distributedLocks: false });
    const busy = key();
    await abandon(busy, 60_000);
    const done = await off.locks.withLock(busy, (lock) =>
      off.database.system('write', async (tx) => {
        await off.locks.requireFence(tx, lock);
        return 'done';
      }),
    );
    expect(done).toBe('done');
  });
});
