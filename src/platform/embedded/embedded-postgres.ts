import { execFile } from 'node:child_process';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  appendFile,
  chmod,
  chown,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Client, DatabaseError } from 'pg';
import {
  type Account,
  findServerBinaries,
  SERVER_ENVIRONMENT,
  serverAccount,
  type ServerBinaries,
} from './server-binaries';
import { withStartLock } from './start-lock';

const run = promisify(execFile);

export interface EmbeddedPostgresOptions {
  /** Identifies the cluster; made when missing. */
  dataDir: string;
  /** Server settings beside or over the defaults below. They count when this call starts the server, not when it joins. */
  settings?: Record<string, string>;
  /** Told, in one line each, what a person at the terminal should know. */
  say: (line: string) => void;
}

export interface EmbeddedPostgres {
  /** Of the database `holdfast`, with the superuser's password: a secret. */
  url: string;
  /** False when the server was running already. */
  startedHere: boolean;
  /**
   * Stops the server if nobody else uses it, and only then. Close your own connections first: they cannot be told from
   * other people's, so it waits up to two seconds for the last of them and then leaves the server running.
   */
  release(): Promise<void>;
}

const SUPERUSER = 'holdfast';
const DATABASE = 'holdfast';
/** The application name of the connection that tells others that this process uses the server. */
const PRESENCE = 'holdfast presence';

/** Durable by default: fsync and synchronous_commit stay as PostgreSQL ships them, on. */
const DEFAULT_SETTINGS: Record<string, string> = {
  max_connections: '200',
  shared_buffers: '128MB',
  log_lock_waits: 'on',
  deadlock_timeout: '500ms',
};

/** Where root keeps what a server under another uid has to reach. Not below /tmp: it is data, and survives a restart. */
const SYSTEM_FOLDER = '/var/lib/holdfast';

/** Longer than recovery takes after a crash with the default max_wal_size, on a slow disk. */
const READY_WITHIN_MS = 120_000;
const LARGEST_LOG = 10 * 1024 * 1024;

/** pid_max is far below this on every system, so that no process ever has it. */
const NOBODYS_PID = 2_147_483_647;

/**
 * Starts PostgreSQL from the binaries in node_modules, or joins the server that another process started on the same
 * `dataDir`. It listens on 127.0.0.1 alone, wants a password (on a shared machine any local user can reach loopback), and
 * outlives this process when that is killed: the next start joins it. It runs in a session of its own, so that Ctrl-C in the
 * terminal reaches only Holdfast, which then stops it in order.
 *
 * What lies in `dataDir`:
 *  - `postgres/`: the cluster with its `server.log`;
 *  - `postgres.json`: where the cluster is and the port it had last, which is used again while it is free;
 *  - `postgres.password`: the superuser's password, made once, readable by the owner alone;
 *  - `postgres.lock/`: held while the server is started or stopped;
 *  - `postgres-binaries/`: a copy of the programs, only where those in node_modules cannot be run in place.
 *
 * **As root** the server runs as `postgres` or `nobody`. If that user can enter `dataDir`, everything is as above. If not
 * (`dataDir` lies below root's home), the cluster lies in `/var/lib/holdfast/<hash of the path of dataDir>/postgres` and
 * `postgres.json` points there: to back up or move such an install, take both. Starting with a pointer to a cluster that is
 * gone is an error, never a new, empty database. With `dataDir` deleted a start begins anew, and sets the old cluster aside
 * rather than deleting it. Once a cluster exists, its server runs as the owner of its files.
 *
 * Throws an Error with a one-line message: no binaries for this platform, data of another major version of PostgreSQL,
 * somebody else's `dataDir`, or what the server logged last when it did not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = await makeDataDir(options.dataDir);
  const lock = path.join(dataDir, 'postgres.lock');
  return withStartLock(lock, READY_WITHIN_MS, async () => {
    const cluster = await openCluster(dataDir, options);
    const startedHere = !(await isAccepting(cluster));
    if (startedHere) await startServer(cluster, options.settings ?? {});
    await ensureDatabase(cluster);
    const presence = await Presence.begin(cluster);
    options.say(
      `${startedHere ? 'Started' : 'Joined'} the embedded PostgreSQL ${cluster.binaries.version} on 127.0.0.1:${cluster.port}, data in ${cluster.directory}`,
    );
    let released: Promise<void> | undefined;
    const release = () => withStartLock(lock, READY_WITHIN_MS, () => leave(cluster, presence, options.say));
    return {
      url: `postgresql://${SUPERUSER}:${cluster.password}@127.0.0.1:${cluster.port}/${DATABASE}`,
      startedHere,
      release: () => (released ??= release()),
    };
  });
}

// ---------------------------------------------------------------------------------------------------- the cluster

interface Cluster {
  dataDir: string;
  /** PGDATA, as a real path. */
  directory: string;
  account: Account;
  binaries: ServerBinaries;
  password: string;
  /** The running server's, else the one it had last; 0 when there was none. */
  port: number;
}

/** Finds the cluster of `dataDir`, or makes it. The start lock is held. */
async function openCluster(dataDir: string, options: EmbeddedPostgresOptions): Promise<Cluster> {
  const pointer = await readPointer(dataDir);
  const newcomer = serverAccount();
  const directory = pointer
    ? path.resolve(dataDir, pointer.directory)
    : await chooseDirectory(dataDir, newcomer, options.say);
  const exists = existsSync(path.join(directory, 'PG_VERSION'));
  if (pointer && !exists) {
    throw new Error(
      `${path.join(dataDir, 'postgres.json')} says that the database is in ${directory}, but it is not there: restore it, or delete ${dataDir} to begin anew.`,
    );
  }
  const account = exists ? await ownerOf(directory) : newcomer;
  const binaries = await findServerBinaries(
    account,
    isRoot() ? path.join(SYSTEM_FOLDER, 'binaries') : path.join(dataDir, 'postgres-binaries'),
  );
  const password = await readOrMakePassword(dataDir, exists);
  if (exists) {
    const major = Number.parseInt(await readFile(path.join(directory, 'PG_VERSION'), 'utf8'), 10);
    if (major !== binaries.major) {
      throw new Error(
        `The database in ${directory} was made by PostgreSQL ${major}, but the installed binaries are ${binaries.version}: dump it with the old version and load it with the new one.`,
      );
    }
  } else {
    options.say('Making a new PostgreSQL cluster …');
    await initialise(directory, account, binaries, password, options.settings?.['fsync'] !== 'off');
  }
  const cluster = {
    dataDir,
    directory: await realpath(directory),
    account,
    binaries,
    password,
    port: pointer?.port ?? 0,
  };
  if (!pointer) await writePointer(cluster);
  return cluster;
}

async function makeDataDir(given: string): Promise<string> {
  const dataDir = path.resolve(given);
  try {
    // Root's server runs as somebody else, who has to pass through; the secrets in here have modes of their own.
    if (!existsSync(dataDir)) await mkdir(dataDir, { recursive: true, mode: isRoot() ? 0o711 : 0o700 });
    return await realpath(dataDir);
  } catch (error) {
    throw new Error(`Cannot use ${dataDir} for the embedded PostgreSQL: ${(error as Error).message}`, { cause: error });
  }
}

async function chooseDirectory(dataDir: string, account: Account, say: (line: string) => void): Promise<string> {
  const inside = path.join(dataDir, 'postgres');
  if (existsSync(inside) || !isRoot() || (await canEnter(account, dataDir))) return inside;

  const hash = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  const home = path.join(SYSTEM_FOLDER, hash);
  if (existsSync(home)) {
    // The pointer to it went with an earlier `dataDir` of this name, and so did its password.
    const aside = `${home}.until-${new Date().toISOString().replaceAll(/[:.]/g, '-')}`;
    await stopOrphan(path.join(home, 'postgres'));
    await rename(home, aside);
    say(`${dataDir} is new; the database of an earlier one of that name now lies in ${aside}`);
  }
  await mkdir(home, { recursive: true });
  for (const folder of [SYSTEM_FOLDER, home]) await chmod(folder, 0o755);
  return path.join(home, 'postgres');
}

async function canEnter(account: Account, folder: string): Promise<boolean> {
  return run('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { ...account, cwd: '/' }).then(
    () => true,
    () => false,
  );
}

async function ownerOf(directory: string): Promise<Account> {
  const { uid, gid } = await stat(directory);
  const me = process.getuid?.();
  if (me === 0) {
    if (uid !== 0) return { uid, gid };
    throw new Error(`The database in ${directory} belongs to root, as whom PostgreSQL does not run: change its owner.`);
  }
  if (uid === me) return {};
  throw new Error(`The database in ${directory} belongs to another user (uid ${uid}): start Holdfast as that user.`);
}

/** Whose the files in `dataDir` are to be: its owner's, also when root has done something there once. */
async function keeperOf(dataDir: string): Promise<Account> {
  if (!isRoot()) return {};
  const { uid, gid } = await stat(dataDir);
  return { uid, gid };
}

async function readOrMakePassword(dataDir: string, exists: boolean): Promise<string> {
  const file = path.join(dataDir, 'postgres.password');
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if (!isGone(error)) throw new Error(`Cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (exists) throw new Error(`${file} is missing, and with it the key to the database: restore it from a backup.`);
  const password = randomBytes(24).toString('hex');
  await writePrivately(file, `${password}\n`, await keeperOf(dataDir));
  return password;
}

/** In a folder beside, renamed when complete: a start that is killed in the middle leaves nothing that looks like data. */
async function initialise(
  directory: string,
  account: Account,
  binaries: ServerBinaries,
  password: string,
  durable: boolean,
): Promise<void> {
  const fresh = `${directory}.new`;
  const passwordFile = `${directory}.pwfile`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { mode: 0o700 });
  if (account.uid !== undefined) await chown(fresh, account.uid, account.gid!);
  await writePrivately(passwordFile, `${password}\n`, account);
  try {
    await run(
      binaries.initdb,
      [
        `--pgdata=${fresh}`,
        `--username=${SUPERUSER}`,
        `--pwfile=${passwordFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        // The same order of strings on every machine, whatever its C library knows.
        '--locale-provider=builtin',
        '--builtin-locale=C.UTF-8',
        '--locale=C',
        '--no-instructions',
        ...(durable ? [] : ['--no-sync']),
      ],
      { ...account, cwd: '/', env: SERVER_ENVIRONMENT },
    );
    await appendFile(
      path.join(fresh, 'postgresql.conf'),
      "\n# Written anew at every start.\ninclude = 'holdfast.conf'\n",
    );
    await rename(fresh, directory);
  } catch (error) {
    throw new Error(`Could not make a PostgreSQL cluster in ${directory}: ${lastWords(error)}`, { cause: error });
  } finally {
    await rm(passwordFile, { force: true });
    await rm(fresh, { recursive: true, force: true });
  }
}

interface Pointer {
  /** Relative to `dataDir` when it lies inside, so that the whole can be moved. */
  directory: string;
  port: number;
}

async function readPointer(dataDir: string): Promise<Pointer | undefined> {
  const file = path.join(dataDir, 'postgres.json');
  try {
    const found = JSON.parse(await readFile(file, 'utf8')) as Partial<Pointer> | null;
    if (typeof found?.directory === 'string' && typeof found.port === 'number') return found as Pointer;
  } catch (error) {
    if (isGone(error)) return undefined;
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Error(`${file} is damaged: it should be {"directory": "postgres", "port": 5432} with your values.`);
}

async function writePointer({ dataDir, directory, port }: Cluster): Promise<void> {
  const inside = path.relative(dataDir, directory);
  const pointer: Pointer = { directory: inside.startsWith('..') ? directory : inside, port };
  await writePrivately(
    path.join(dataDir, 'postgres.json'),
    `${JSON.stringify(pointer, undefined, 2)}\n`,
    await keeperOf(dataDir),
  );
}

// ----------------------------------------------------------------------------------------------------- the server

/** True when a server runs on the cluster and takes connections, waiting for one that is starting; false when there is none. */
async function isAccepting(cluster: Cluster): Promise<boolean> {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    if (!(await serverPid(cluster.directory))) return false;
    cluster.port = Number((await readPidFile(cluster.directory))?.[3]) || cluster.port;
    try {
      const client = await connect(cluster, 'postgres');
      await client.end();
      return true;
    } catch (error) {
      // 57P03: it is starting, recovering or stopping. Anything else that the server itself says will not pass by waiting.
      if (error instanceof DatabaseError && error.code !== '57P03') {
        throw new Error(`The PostgreSQL running on ${cluster.directory} refuses us: ${error.message}`, {
          cause: error,
        });
      }
      if (Date.now() > deadline) {
        const said = await readFrom(path.join(cluster.directory, 'server.log'), 0);
        throw new Error(`The PostgreSQL running on ${cluster.directory} does not answer: ${logWords(said)}`, {
          cause: error,
        });
      }
    }
    await sleep(100);
  }
}

async function startServer(cluster: Cluster, settings: Record<string, string>): Promise<void> {
  const log = path.join(cluster.directory, 'server.log');
  if ((await sizeOf(log)) > LARGEST_LOG) await rename(log, `${log}.1`);
  let port = cluster.port && (await isFree(cluster.port)) ? cluster.port : await findFreePort();
  const deadline = Date.now() + 20_000;
  for (;;) {
    await disownPidFile(cluster.directory);
    await writeSettings(cluster, { ...DEFAULT_SETTINGS, ...settings, port: String(port) });
    const logged = await sizeOf(log);
    try {
      // pg_ctl gives the server a session of its own and waits until it takes connections. The path is given through the
      // working directory because pg_ctl puts it on a shell's command line, where a $ in it would be expanded.
      const safe = /["$`\\]/.test(cluster.directory) ? '.' : cluster.directory;
      await run(
        cluster.binaries.pgCtl,
        ['start', '-w', '-t', String(READY_WITHIN_MS / 1000), '-D', safe, '-l', path.join(safe, 'server.log')],
        { ...cluster.account, cwd: cluster.directory, env: SERVER_ENVIRONMENT },
      );
      cluster.port = port;
      return await writePointer(cluster);
    } catch (error) {
      const said = (await readFrom(log, logged)) || lastWords(error);
      if (Date.now() > deadline) throw notStarted(said, error);
      if (/could not bind|could not create any TCP\/IP sockets/.test(said)) {
        // Somebody took the port after we had looked.
        port = await findFreePort();
      } else if (/pre-existing shared memory block/.test(said)) {
        // The postmaster was killed; the last of its children notice within moments, and must be gone before a new one.
        await sleep(200);
      } else {
        throw notStarted(said, error);
      }
    }
  }
}

function notStarted(said: string, cause: unknown): Error {
  return new Error(`The embedded PostgreSQL did not start: ${logWords(said)}`, { cause });
}

/**
 * The pid of the server that runs on `directory`, or undefined. What postmaster.pid says is not enough: after a kill -9 or a
 * power cut the file stays, and its pid may be another program's by now.
 */
async function serverPid(directory: string): Promise<number | undefined> {
  const pid = Number((await readPidFile(directory))?.[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !isRunning(pid)) return undefined;
  if (process.platform === 'linux') {
    // A postmaster's working directory is its data directory. Unreadable: another uid's process, so not ours.
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    return cwd === (await realpath(directory)) ? pid : undefined;
  }
  const { stdout } = await run('ps', ['-ww', '-o', 'command=', '-p', String(pid)]).catch(() => ({ stdout: '' }));
  return stdout.includes('postgres') && (stdout.includes(directory) || stdout.includes(' -D .')) ? pid : undefined;
}

/**
 * Makes a postmaster.pid that names a stranger's process name nobody's. PostgreSQL would refuse to start because of it. The
 * file must not be deleted instead: its other lines are how a new server finds out that children of the old one still
 * write to the shared memory.
 */
async function disownPidFile(directory: string): Promise<void> {
  const lines = await readPidFile(directory);
  if (!lines || !isRunning(Number(lines[0])) || (await serverPid(directory))) return;
  const file = path.join(directory, 'postmaster.pid');
  const { uid, gid } = await stat(file);
  await writePrivately(file, [NOBODYS_PID, ...lines.slice(1)].join('\n'), isRoot() ? { uid, gid } : {});
}

/** Line by line: pid, data directory, start, port, socket directory, address, shared memory, state. */
async function readPidFile(directory: string): Promise<string[] | undefined> {
  const content = await readFile(path.join(directory, 'postmaster.pid'), 'utf8').catch(() => undefined);
  return content?.split('\n');
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Stops the server of a cluster whose password is lost. */
async function stopOrphan(directory: string): Promise<void> {
  const pid = await serverPid(directory);
  if (!pid) return;
  // SIGINT is PostgreSQL's fast shutdown.
  process.kill(pid, 'SIGINT');
  for (let waited = 0; waited < 30_000 && (await serverPid(directory)); waited += 50) await sleep(50);
}

/** In a file of their own that postgresql.conf includes: what a person sets in postgresql.conf above that line is kept. */
async function writeSettings(cluster: Cluster, settings: Record<string, string>): Promise<void> {
  const all = {
    ...settings,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
  };
  const lines = Object.entries(all).map(([name, value]) => {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name)) throw new Error(`"${name}" is no name of a PostgreSQL setting.`);
    return `${name} = '${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'\n`;
  });
  await writePrivately(path.join(cluster.directory, 'holdfast.conf'), lines.join(''), cluster.account);
}

// ------------------------------------------------------------------------------------------------------- its users

/** Missing in the types, not in the client. */
type PresenceClient = Client & { ref(): void; unref(): void };

/**
 * A connection held for as long as this process uses the server. A pool may be empty for moments; without this, another
 * process that leaves just then would stop the server under us. It never keeps the process alive.
 */
class Presence {
  private client: PresenceClient | undefined;
  private ended = false;

  private constructor(private readonly cluster: Cluster) {}

  static async begin(cluster: Cluster): Promise<Presence> {
    const presence = new Presence(cluster);
    await presence.connect();
    return presence;
  }

  async end(): Promise<void> {
    this.ended = true;
    // Else nothing might be left to keep the process waiting for the goodbye, and it would end in the middle of this.
    this.client?.ref();
    await this.client?.end().catch(() => undefined);
  }

  private async connect(): Promise<void> {
    const client = (await connect(this.cluster, 'postgres', PRESENCE)) as PresenceClient;
    this.client = client;
    client.unref();
    client.on('end', () => void this.reconnect());
    if (this.ended) await client.end();
  }

  /** The server may be killed and started again by another process, on the same port. */
  private async reconnect(): Promise<void> {
    while (!this.ended) {
      await sleep(1000, undefined, { ref: false });
      if (this.ended) return;
      try {
        return await this.connect();
      } catch {
        // Still down. Those who query it will say so; here there is nothing to add.
      }
    }
  }
}

async function leave(cluster: Cluster, presence: Presence, say: (line: string) => void): Promise<void> {
  await presence.end();
  if (!(await serverPid(cluster.directory))) return;
  // Refused: it is full of other people's connections, or starting or stopping at somebody else's word.
  const client = await connect(cluster, 'postgres').catch(() => undefined);
  const isUsed = !client || (await isUsedByOthers(client));
  await client?.end();
  if (isUsed) {
    say('The embedded PostgreSQL goes on running: others use it.');
    return;
  }
  try {
    await run(cluster.binaries.pgCtl, ['stop', '-w', '-t', '30', '-m', 'fast', '-D', cluster.directory], {
      ...cluster.account,
      cwd: '/',
      env: SERVER_ENVIRONMENT,
    });
  } catch (error) {
    if (!(await serverPid(cluster.directory))) return;
    throw new Error(`The embedded PostgreSQL did not stop: ${lastWords(error)}`, { cause: error });
  }
}

/**
 * Backends go a little after their clients, so what is there at first glance may be our own that were just closed. Another
 * process's presence ends only under the lock that we hold, so a shorter look at it is enough: when several leave at once,
 * each waits for those before it.
 */
async function isUsedByOthers(client: Client): Promise<boolean> {
  const since = Date.now();
  for (;;) {
    const { rows } = await client.query<{ application_name: string }>(
      `SELECT application_name FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    if (rows.length === 0) return false;
    const patience = rows.some((row) => row.application_name === PRESENCE) ? 300 : 2000;
    if (Date.now() - since > patience) return true;
    await sleep(50);
  }
}

async function ensureDatabase(cluster: Cluster): Promise<void> {
  const client = await connect(cluster, 'postgres');
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await client.end();
  }
}

async function connect(cluster: Cluster, database: string, name = 'holdfast embedded'): Promise<Client> {
  const client = new Client({
    host: '127.0.0.1',
    port: cluster.port,
    user: SUPERUSER,
    password: cluster.password,
    database,
    ssl: false,
    application_name: name,
    connectionTimeoutMillis: 5000,
  });
  // Without a listener a connection that breaks would end the process; queries report it by themselves.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

// ---------------------------------------------------------------------------------------------------- small things

async function isFree(port: number): Promise<boolean> {
  return listenOnce(port).then(
    () => true,
    () => false,
  );
}

async function findFreePort(): Promise<number> {
  return listenOnce(0);
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port));
    });
  });
}

/**
 * Readable by its owner alone. Made under a new name and renamed: never half written, and in a folder that the server's user
 * owns a symbolic link planted there is replaced, not followed.
 */
async function writePrivately(file: string, content: string, owner: Account): Promise<void> {
  const fresh = `${file}.${randomUUID()}`;
  const handle = await open(fresh, 'wx', 0o600);
  try {
    await handle.writeFile(content);
    if (owner.uid !== undefined) await handle.chown(owner.uid, owner.gid!);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(fresh, file);
}

async function readFrom(file: string, from: number): Promise<string> {
  const content = await readFile(file).catch(() => Buffer.alloc(0));
  return content.subarray(from).toString();
}

/** What went wrong, on one line: the first complaint, and with what the server gave up, which alone may say too little. */
function logWords(text: string): string {
  const lines = text
    .split('\n')
    .map((line) => line.replace(/^\d{4}-\S+ \S+ \S+ \[\d+\] (LOG: +)?/, '').trim())
    .filter((line) => line !== '');
  const complaint = lines.find((line) => /could not|invalid|unrecognized/.test(line));
  const end = lines.findLast((line) => /^(FATAL|PANIC):/.test(line)) ?? lines.at(-1) ?? 'it left no word in its log';
  return complaint && complaint !== end ? `${complaint}; ${end}` : end;
}

function lastWords(error: unknown): string {
  const { stderr, message } = error as Error & { stderr?: string };
  const lines = (stderr?.trim() || message).split('\n');
  return (lines.findLast((line) => /error|FATAL|could not/.test(line)) ?? lines.at(-1) ?? '').trim();
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

function isGone(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}
