import { Client, type QueryResultRow } from 'pg';
import { openClient } from './database';

/** How long to watch for what a test says will happen, before the test fails. Nothing is decided by this time. */
const PATIENCE = 10_000;

/**
 * Sessions with PostgreSQL that a test steps by hand, one statement at a time. An interleaving is a script: a statement is
 * started, the catalog says that it waits for a lock, another session goes on, the first one's answer is awaited. No test
 * hopes that two things happen at the same time.
 */
export class Stage {
  private readonly sessions: Session[] = [];

  private constructor(
    private readonly url: string,
    private readonly watcher: Client,
  ) {}

  /** Watches one database; closing the stage ends its sessions. */
  static async open(url: string): Promise<Stage> {
    return new Stage(url, await openClient(url));
  }

  async session(): Promise<Session> {
    const client = await openClient(this.url);
    // A test may end a session from outside.
    client.on('error', () => undefined);
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const session = new Session(client, rows[0]!.pid, this.watcher);
    this.sessions.push(session);
    return session;
  }

  /** Looks at the database from aside: autocommit, outside of every transaction of the script. */
  async look<R extends QueryResultRow>(sql: string, values: unknown[] = []): Promise<R[]> {
    return (await this.watcher.query<R>(sql, values)).rows;
  }

  /** Resolves when so many backends of this database wait for a lock, those of the application included. */
  async waiting(count: number): Promise<void> {
    await until(`${count} backends wait for a lock`, async () => (await this.waiters()).length >= count);
  }

  /** Who waits for whose lock, right now. */
  waiters(): Promise<Array<{ pid: number; blockers: number[]; query: string }>> {
    return this.look(
      `SELECT pid, pg_blocking_pids(pid) AS blockers, query FROM pg_stat_activity
       WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`,
    );
  }

  /** Also lets go of what stands still, so that a failed test does not keep the application from stopping. */
  async close(): Promise<void> {
    for (const resume of standing) resume();
    for (const session of this.sessions) await session.close();
    await this.watcher.end();
  }
}

export class Session {
  private running: Promise<unknown> = Promise.resolve();
  private idle = true;

  constructor(
    private readonly client: Client,
    readonly pid: number,
    private readonly watcher: Client,
  ) {}

  /** Starts a statement. Its rows may be awaited at once, or after other sessions have gone on. */
  run<R extends QueryResultRow>(sql: string, values: unknown[] = []): Promise<R[]> {
    this.idle = false;
    const rows = this.client.query<R>(sql, values).then((result) => result.rows);
    this.running = rows.catch(() => undefined).finally(() => (this.idle = true));
    return rows;
  }

  /** Resolves when the statement that was started waits for a lock of another session; fails when it ends without. */
  async blocked(): Promise<void> {
    await until(`session ${this.pid} waits for a lock`, async () => {
      if (this.idle) throw new Error('The statement ended without waiting for anybody.');
      const { rows } = await this.watcher.query<{ blocked: boolean }>(
        'SELECT cardinality(pg_blocking_pids($1)) > 0 AS blocked',
        [this.pid],
      );
      return rows[0]!.blocked;
    });
  }

  /** Ends the session as a lost machine would: the server drops what it had not committed. */
  async kill(): Promise<void> {
    await this.watcher.query('SELECT pg_terminate_backend($1)', [this.pid]);
    await until(`session ${this.pid} is gone`, async () => {
      const { rowCount } = await this.watcher.query('SELECT 1 FROM pg_stat_activity WHERE pid = $1', [this.pid]);
      return rowCount === 0;
    });
  }

  async close(): Promise<void> {
    await this.watcher.query('SELECT pg_terminate_backend($1)', [this.pid]);
    await this.running;
    await this.client.end().catch(() => undefined);
  }
}

/** Polls a condition that is known to come. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`It did not happen that ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What {@link pauseBefore} and {@link pauseAfter} have stopped and nobody has resumed. */
const standing = new Set<() => void>();

/** A call of a method that stands still. */
export interface Pause {
  /** Resolves when it does. */
  reached: Promise<void>;
  resume(): void;
}

/**
 * Stops the next call of a service's method until it is resumed: so a test can hold real code between two of its steps,
 * with whatever it has locked by then. Later calls are not affected.
 */
export const pauseBefore = <T extends object>(target: T, method: string): Pause => pause(target, method, 'before');

/** The same, when the method has done its work and nobody knows of it yet. */
export const pauseAfter = <T extends object>(target: T, method: string): Pause => pause(target, method, 'after');

function pause<T extends object>(target: T, method: string, when: 'before' | 'after'): Pause {
  let arrive!: () => void;
  let resume!: () => void;
  const arrival = new Promise<void>((resolve) => (arrive = resolve));
  const turn = new Promise<void>((resolve) => {
    resume = () => {
      standing.delete(resume);
      resolve();
    };
    standing.add(resume);
  });
  const methods = target as Record<string, (...values: unknown[]) => Promise<unknown>>;
  const original = methods[method]!;
  methods[method] = async (...values) => {
    methods[method] = original;
    const done = when === 'after' ? await original.apply(target, values) : undefined;
    arrive();
    await turn;
    return when === 'after' ? done : original.apply(target, values);
  };
  let timer: NodeJS.Timeout;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${method} was not called.`)), PATIENCE);
  });
  return { reached: Promise.race([arrival, tooLate]).finally(() => clearTimeout(timer)), resume };
}
