import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { type Config, openProtections, type Protections, readSettings } from '../../src/platform';
import { createTestDatabase } from './database';

/** The settings that programs share who share an install's limits and locks. */
export const configOf = (databaseUrl: string, redisUrl?: string, changes: Partial<Config> = {}): Config => ({
  ...readSettings({ LOG_LEVEL: 'silent' }),
  databaseUrl,
  redisUrl,
  publicUrl: 'http://127.0.0.1',
  secretKey: 'a secret for tests only, 32 characters or more',
  databasePoolSize: 8,
  ...changes,
});

/** A program that uses the limits and locks of a database. */
export type Program = Protections & { config: Config };

/** Opens programs on one database, and closes all of them with it. */
export class Programs {
  private readonly open: Array<() => Promise<unknown>> = [];

  private constructor(
    readonly databaseUrl: string,
    private readonly drop: () => Promise<void>,
  ) {}

  static async start(): Promise<Programs> {
    const { url, drop } = await createTestDatabase();
    return new Programs(url, drop);
  }

  /** One in this process. */
  async here(
    redisUrl?: string,
    changes?: Partial<Config>,
    log?: Parameters<typeof openProtections>[1],
  ): Promise<Program> {
    const config = configOf(this.databaseUrl, redisUrl, changes);
    const protections = await openProtections(config, log);
    this.open.push(() => protections.close());
    return { ...protections, config };
  }

  async stop(): Promise<void> {
    for (const close of this.open) await close();
    await this.drop();
  }
}

/** A process of its own that joins the limits and locks of whatever install it is told of. */
export class OtherProgram {
  private constructor(private readonly child: ChildProcess) {}

  /** Takes a few seconds, for it compiles what it loads: start it early. */
  static async start(): Promise<OtherProgram> {
    const file = path.join(__dirname, 'protections.process.cjs');
    const other = new OtherProgram(fork(file, { stdio: 'inherit', serialization: 'advanced' }));
    await other.says('ready');
    return other;
  }

  /** Gives it something to do; see test/support/protections.process.cjs. */
  tell(task: string, { config }: Program, parameters: Record<string, unknown> = {}): void {
    this.child.send({ task, config, ...parameters });
  }

  /** What it says next under this name. */
  async says<T>(name: string): Promise<T> {
    for (;;) {
      const [message] = (await once(this.child, 'message')) as [Record<string, unknown>];
      if (name in message) return message[name] as T;
    }
  }

  freeze(): void {
    this.child.kill('SIGSTOP');
  }

  thaw(): void {
    this.child.kill('SIGCONT');
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }
}
