import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { Client } from './client';

/** Where the storms run: one or several processes of Holdfast on one database. */
export interface Install {
  kind: 'fresh' | 'given';
  /** Base URLs of its processes. */
  urls: string[];
  apiKey: string;
  /** Undefined where the database is out of reach; then the checks over the API have to do. */
  databaseUrl?: string;
  /** The codes that were sent to a phone so far, where they go to a log that is read here. */
  codesTo?: (phone: string) => string[];
  /** Whether it is known to limit how often codes can be asked for. */
  limitsCodes: boolean;
  version: string;
  /** What went wrong at the end, one line each. */
  close(): Promise<string[]>;
}

/** Nothing was proved or disproved: the install cannot be reached or started. One line. */
export class InstallError extends Error {}

/** Settings of a fresh install. */
export interface Planting {
  /** How many processes of the app; two if nothing is said. */
  processes?: number;
  /** For tests of prove itself: modules that the app's processes load first (`node --require`). */
  preload: string[];
  /** Run as the owner of the database once the app is ready. */
  sqlAfterStart?: string;
}

const READY_WITHIN_MS = 180_000;
/** Holdfast promises 10 s; the embedded PostgreSQL is stopped within them. */
const GONE_WITHIN_MS = 20_000;
const MAIN = path.resolve(__dirname, '../../src/main.js');

/** @throws InstallError where a process does not answer, refuses the key, or belongs to another organization */
export async function openGiven(urls: string[], apiKey: string): Promise<Install> {
  const organizations = new Set<string>();
  let version = 'of unknown version';
  for (const url of urls) {
    const client = new Client(0, url, apiKey);
    try {
      const ready = await client.request('GET', '/health/ready');
      if (ready.status !== 200)
        throw new InstallError(`${url} is not ready: ${ready.error ?? `status ${ready.status}`}`);
      organizations.add(((await client.must('GET', '/v1/organization')).body as { id: string }).id);
      const document = await client.request('GET', '/openapi.json');
      version = (document.body as { info?: { version?: string } } | undefined)?.info?.version ?? version;
    } catch (error) {
      throw error instanceof InstallError ? error : new InstallError(`${url}: ${(error as Error).message}`);
    } finally {
      client.close();
    }
  }
  if (organizations.size > 1)
    throw new InstallError('The URLs answer for different organizations: give processes of one install.');
  return {
    kind: 'given',
    urls,
    apiKey,
    databaseUrl: process.env['DATABASE_URL'],
    limitsCodes: false,
    version,
    close: async () => [],
  };
}

/**
 * Starts processes of this build on an empty database: the embedded one in a temporary folder, or, with DATABASE_URL
 * set, a new database beside that one. All of it is gone after `close`.
 */
export async function startFresh(planting: Planting, signal: AbortSignal): Promise<Install> {
  const folder = mkdtempSync(path.join(tmpdir(), 'holdfast-prove-'));
  // Root's PostgreSQL runs as somebody else, who has to pass through here; what lies inside has modes of its own.
  chmodSync(folder, 0o711);
  const dataDir = path.join(folder, 'data');
  const processes: AppProcess[] = [];
  let database: OwnDatabase | undefined;
  const close = async () => {
    const complaints = (await Promise.all(processes.map((one) => one.stop()))).flat();
    await database?.drop().catch((error: Error) => complaints.push(`the database was not dropped: ${error.message}`));
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    return complaints;
  };
  try {
    database = await OwnDatabase.beside(process.env['DATABASE_URL'], process.env['MIGRATION_DATABASE_URL']);
    const environment = {
      ...surroundings(dataDir),
      HOLDFAST_DEMO: 'true',
      LOG_CODES: 'true',
      ...LIMITED,
      ...(database ? { ...database.environment, SECRET_KEY: randomBytes(32).toString('hex') } : { DATABASE_URL: '' }),
    };
    for (let count = 1; count <= (planting.processes ?? 2) && !signal.aborted; count++) {
      const one = new AppProcess(environment, planting.preload);
      processes.push(one);
      await one.ready();
    }
    const demo = readDemo(dataDir);
    const databaseUrl = database?.url ?? embeddedUrl(dataDir);
    if (planting.sqlAfterStart !== undefined) await runSql(database?.ownerUrl ?? databaseUrl, planting.sqlAfterStart);
    return {
      kind: 'fresh',
      urls: processes.map((one) => one.url),
      apiKey: demo.apiKey,
      databaseUrl,
      codesTo: (phone) => processes.flatMap((one) => one.codes.get(phone) ?? []),
      limitsCodes: LIMITED.RATE_LIMITS === 'on',
      version: ownVersion(),
      close,
    };
  } catch (error) {
    await close();
    throw error instanceof InstallError
      ? error
      : new InstallError(`A fresh install could not be started: ${(error as Error).message}`);
  }
}

/**
 * Callers on this machine have no limits, but phones do, and storms are about those. What codes may cost in a day is no matter
 * of a run, which sends none.
 */
const LIMITED = {
  RATE_LIMITS: process.env['RATE_LIMITS'] || 'on',
  RATE_LIMITS_EXEMPT: 'loopback',
  RATE_LIMIT_OVERRIDES: 'otp-organization=999999/86400,otp-installation=999999/86400',
};

/** What every process that is started here is told, whatever the shell says: a process of its own choice. */
const surroundings = (dataDir: string): NodeJS.ProcessEnv => ({
  ...process.env,
  DATA_DIR: dataDir,
  HOST: '127.0.0.1',
  PORT: '0',
  PUBLIC_URL: '',
  HOLDFAST_ROLE: 'all',
  LOG_LEVEL: process.env['LOG_LEVEL'] ?? 'warn',
  // One API key sends as much as hundreds of callers; and the ledger must hold without these in front of it.
  RATE_LIMITS: 'off',
});

/**
 * Starts one process on a database that is ready, which it neither seeds nor removes.
 * @param preload modules that it loads first
 * @param settings what it is told otherwise than by default
 * @throws InstallError when it does not become ready
 */
export async function startOn(
  databaseUrl: string,
  dataDir: string,
  preload: string[],
  settings: NodeJS.ProcessEnv = {},
): Promise<AppProcess> {
  const environment = {
    ...surroundings(dataDir),
    HOLDFAST_DEMO: 'false',
    DATABASE_URL: databaseUrl,
    MIGRATION_DATABASE_URL: '',
    SECRET_KEY: randomBytes(32).toString('hex'),
    ...settings,
  };
  const one = new AppProcess(environment, preload);
  try {
    await one.ready();
  } catch (error) {
    await one.stop();
    throw error;
  }
  return one;
}

/** What `npm start` gives the program: a young generation of megabytes, not of tens of them. */
const AS_STARTED = ['--max-semi-space-size=4'];

/** One process of the app, in a process group of its own: Ctrl-C in the terminal is for prove, which then stops it in order. */
export class AppProcess {
  url = '';
  private readonly child: ChildProcess;
  private readonly lines: string[] = [];
  /** By phone. A channel is never connected here, so codes are in the log. */
  readonly codes = new Map<string, string[]>();
  private readonly gone: Promise<string>;

  constructor(environment: NodeJS.ProcessEnv, preload: string[]) {
    const flags = preload.flatMap((file) => ['--require', path.resolve(file)]);
    this.child = spawn(process.execPath, [...AS_STARTED, ...flags, MAIN], {
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.gone = new Promise((resolve) => {
      this.child.once('error', (error) => resolve(error.message));
      this.child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    const abandon = () => this.child.kill('SIGKILL');
    process.once('exit', abandon);
    void this.gone.then(() => process.removeListener('exit', abandon));
  }

  get pid(): number {
    return this.child.pid!;
  }

  async ready(): Promise<void> {
    const line = new Promise<string>((resolve) => {
      for (const stream of [this.child.stdout, this.child.stderr]) {
        if (!stream) continue;
        createInterface({ input: stream }).on('line', (text) => {
          this.lines.push(text);
          if (this.lines.length > 200) this.lines.shift();
          this.noteCode(text);
          const url = /Holdfast is ready on (http:\/\/\S+)/.exec(text)?.[1];
          if (url !== undefined) resolve(url);
        });
      }
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), READY_WITHIN_MS);
    });
    const outcome = await Promise.race([line, late, this.gone.then((why) => ({ why }))]);
    clearTimeout(timer);
    if (typeof outcome === 'string') this.url = outcome;
    else {
      const why = outcome?.why ?? `not ready within ${READY_WITHIN_MS / 1000} s`;
      throw new InstallError(`Holdfast did not start (${why}):\n  ${this.lines.slice(-15).join('\n  ')}`);
    }
  }

  private noteCode(line: string): void {
    if (!line.includes('"development_code"')) return;
    const { to, secret } = JSON.parse(line) as { to: string; secret: string };
    this.codes.set(to, [...(this.codes.get(to) ?? []), secret]);
  }

  async stop(): Promise<string[]> {
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), GONE_WITHIN_MS);
    const how = await this.gone;
    clearTimeout(timer);
    return how === 'exit code 0'
      ? []
      : [`a process of the install ended with ${how} on SIGTERM: ${this.lines.slice(-3).join(' ')}`];
  }
}

/** A database of this run's own on the server that the environment names. */
class OwnDatabase {
  private constructor(
    readonly url: string,
    readonly ownerUrl: string,
    private readonly given: { url: string; ownerUrl: string },
    private readonly name: string,
  ) {}

  /** Undefined without DATABASE_URL. Where no database may be created, the given one is used as it is. */
  static async beside(url: string | undefined, ownerUrl = url): Promise<OwnDatabase | undefined> {
    if (!url || !ownerUrl) return undefined;
    const name = `holdfast_prove_${process.pid}`;
    const named = (from: string) => Object.assign(new URL(from), { pathname: `/${name}` }).href;
    try {
      await runSql(ownerUrl, `CREATE DATABASE ${name}`);
      return new OwnDatabase(named(url), named(ownerUrl), { url, ownerUrl }, name);
    } catch (error) {
      // 42501: insufficient privilege.
      if ((error as { code?: string }).code !== '42501') throw error;
      return new OwnDatabase(url, ownerUrl, { url, ownerUrl }, '');
    }
  }

  get environment(): NodeJS.ProcessEnv {
    return { DATABASE_URL: this.url, ...(this.ownerUrl === this.url ? {} : { MIGRATION_DATABASE_URL: this.ownerUrl }) };
  }

  async drop(): Promise<void> {
    if (this.name === '') return;
    await runSql(this.given.ownerUrl, `DROP DATABASE IF EXISTS ${this.name} WITH (FORCE)`);
    // Roles belong to the whole cluster, so those that the migrations made for this database outlive it.
    for (const kind of ['app', 'system']) {
      await runSql(this.given.ownerUrl, `DROP ROLE IF EXISTS holdfast_${kind}_${this.name}`);
    }
  }
}

async function runSql(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, application_name: 'holdfast prove' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

function readDemo(dataDir: string): { apiKey: string } {
  const file = path.join(dataDir, 'demo.json');
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as { apiKey: string };
  // Only where no database could be made beside DATABASE_URL.
  throw new InstallError('The database at DATABASE_URL is in use: give --url and --api-key of its install.');
}

/** The embedded server as its folder describes it; see `src/platform/embedded`. */
function embeddedUrl(dataDir: string): string {
  const { port } = JSON.parse(readFileSync(path.join(dataDir, 'postgres.json'), 'utf8')) as { port: number };
  const password = readFileSync(path.join(dataDir, 'postgres.password'), 'utf8').trim();
  return `postgresql://holdfast:${password}@127.0.0.1:${port}/holdfast`;
}

function ownVersion(): string {
  const file = path.resolve(__dirname, '../../../package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
