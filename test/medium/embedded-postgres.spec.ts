import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/platform/embedded';
import { withClient } from '../support/database';

const isRoot = process.getuid?.() === 0;
const HOLDFAST = path.join(__dirname, '../support/embedded-postgres.process.cjs');

/** Another Holdfast: a process of its own that uses the server. */
interface OtherProcess {
  process: ChildProcess;
  url: string;
  startedHere: boolean;
  release(): Promise<void>;
}

describe('the embedded PostgreSQL', () => {
  let dataDir: string;
  let said: string[];
  const processes: ChildProcess[] = [];
  const servers: EmbeddedPostgres[] = [];
  const folders: string[] = [];

  beforeEach(async () => {
    dataDir = await newFolder(0o711);
    said = [];
  });

  afterEach(async () => {
    await Promise.all(processes.splice(0).map((child) => killAndWait(child)));
    for (const server of servers.splice(0)) await server.release();
    // What no process that still lives has stopped: joining and leaving stops it.
    for (const folder of folders.filter((folder) => existsSync(path.join(folder, 'postgres.json')))) {
      await start({ dataDir: folder }).then(
        (server) => server.release(),
        () => undefined,
      );
    }
    servers.length = 0;
    for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
  });

  it('starts on an empty folder: durable, local, behind a password, in a session of its own', async () => {
    const server = await start();

    expect(server.startedHere).toBe(true);
    const settings = await withClient(server.url, async (client) => {
      const { rows } = await client.query<{ name: string; setting: string }>('SELECT name, setting FROM pg_settings');
      return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
    });
    expect(settings).toMatchObject({
      fsync: 'on',
      synchronous_commit: 'on',
      max_connections: '200',
      shared_buffers: String((128 * 1024 * 1024) / 8192),
      log_lock_waits: 'on',
      deadlock_timeout: '500',
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      TimeZone: 'UTC',
    });
    expect(new URL(server.url).pathname).toBe('/holdfast');
    expect(said).toEqual([expect.stringMatching('new PostgreSQL cluster'), expect.stringMatching(/^Started .* 18\./)]);

    expect((await stat(path.join(dataDir, 'postgres.password'))).mode & 0o777).toBe(0o600);
    const withoutPassword = new URL(server.url);
    withoutPassword.password = 'guessed';
    await expect(withClient(withoutPassword.href, async () => undefined)).rejects.toThrow('password authentication');

    if (process.platform === 'linux') expect(await sessionOf(await serverPid())).not.toBe(await sessionOf('self'));
  });

  it('is joined by a second process, and stopped by the last to leave', async () => {
    const first = await start();
    const second = await startElsewhere();
    expect(second).toMatchObject({ startedHere: false, url: first.url });

    await first.release();
    await expect(select(first.url)).resolves.toBe(1);
    expect(said.at(-1)).toMatch('goes on running');

    await second.release();
    await expect(select(first.url)).rejects.toThrow('ECONNREFUSED');
  });

  it('is started once when two processes start at the same time', async () => {
    const [one, other] = await Promise.all([startElsewhere(), startElsewhere()]);

    expect(one.startedHere).not.toBe(other.startedHere);
    expect(one.url).toBe(other.url);
  });

  it('goes on running while any other client is connected', async () => {
    const server = await start();
    await withClient(server.url, async (client) => {
      await server.release();
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    });
    const again = await start();
    expect(again.startedHere).toBe(false);
  });

  it('is joined again after Holdfast was killed', async () => {
    const killed = await startElsewhere();
    await killAndWait(killed.process);

    const server = await start();
    expect(server).toMatchObject({ startedHere: false, url: killed.url });
    await server.release();
    await expect(select(server.url)).rejects.toThrow('ECONNREFUSED');
  });

  it('starts again, on the same port and with the same data, after the server was killed', async () => {
    const before = await start();
    await withClient(before.url, (client) => client.query('CREATE TABLE kept AS SELECT 7 AS number'));
    process.kill(await serverPid(), 'SIGKILL');

    const server = await start();
    expect(server).toMatchObject({ startedHere: true, url: before.url });
    const kept = await withClient(server.url, (client) => client.query('SELECT number FROM kept'));
    expect(kept.rows).toEqual([{ number: 7 }]);

    // The process that was there all along counts as a user of the new server, too.
    await sleep(1500);
    await server.release();
    await expect(select(server.url)).resolves.toBe(1);
  });

  it('does not take a stranger for its server when a stale postmaster.pid names one', async () => {
    await start();
    const pidFile = path.join(dataDir, 'postgres', 'postmaster.pid');
    const { uid, gid } = await stat(pidFile);
    process.kill(await serverPid(), 'SIGKILL');
    // Of the server's own user: of another user's process PostgreSQL itself sees that it cannot be the server.
    const stranger = spawn('sleep', ['60'], isRoot ? { uid, gid, cwd: '/' } : {});
    processes.push(stranger);
    const lines = (await readFile(pidFile, 'utf8')).split('\n');
    await writeFile(pidFile, [stranger.pid, ...lines.slice(1)].join('\n'));

    const server = await start();
    expect(server.startedHere).toBe(true);
    expect(await serverPid()).not.toBe(stranger.pid);
    expect(stranger.exitCode).toBeNull();
    expect(stranger.signalCode).toBeNull();
  });

  it('takes another port when its own is in use', async () => {
    const before = await start();
    await before.release();
    const stranger = createServer().listen(Number(new URL(before.url).port), '127.0.0.1');
    await once(stranger, 'listening');

    const server = await start();
    expect(server.url).not.toBe(before.url);
    await expect(select(server.url)).resolves.toBe(1);
    stranger.close();
  });

  it('says why it does not start', async () => {
    await expect(start({ settings: { max_connections: 'many' } })).rejects.toThrow(
      /^The embedded PostgreSQL did not start: .*max_connections.*$/,
    );
    await writeFile(path.join(dataDir, 'postgres', 'PG_VERSION'), '17\n');
    await expect(start()).rejects.toThrow(/^The database in .* was made by PostgreSQL 17, but .* are 18\..*$/);
    await writeFile(path.join(dataDir, 'postgres', 'PG_VERSION'), '18\n');
    await rm(path.join(dataDir, 'postgres.password'));
    await expect(start()).rejects.toThrow(/^.*postgres\.password is missing.*$/);
  });

  // Only root meets this case: its server runs as somebody else, everybody else's runs as themselves.
  (isRoot ? describe : describe.skip)('as root, below a folder that the server cannot enter', () => {
    beforeEach(async () => {
      dataDir = path.join(await newFolder(0o700), 'data');
      folders.push(dataDir);
    });

    it('keeps its data where the server can reach it, and finds it again', async () => {
      const before = await start();
      const directory = await clusterFolder();
      expect(directory.startsWith(dataDir)).toBe(false);
      expect(directory.startsWith(os.tmpdir())).toBe(false);
      await withClient(before.url, (client) => client.query('CREATE TABLE kept AS SELECT 7 AS number'));
      await before.release();

      const server = await start();
      expect((await withClient(server.url, (client) => client.query('SELECT number FROM kept'))).rowCount).toBe(1);
      await server.release();

      await rm(directory, { recursive: true });
      await expect(start()).rejects.toThrow(/says that the database is in .*, but it is not there/);
    });

    it('begins anew when the data folder was deleted, and sets the old database aside', async () => {
      const killed = await startElsewhere();
      await killAndWait(killed.process);
      await rm(dataDir, { recursive: true });

      const server = await start();
      expect(server.startedHere).toBe(true);
      const aside = /now lies in (.*)$/m.exec(said.join('\n'))?.[1];
      expect(existsSync(path.join(aside!, 'postgres', 'PG_VERSION'))).toBe(true);
      await expect(select(killed.url)).rejects.toThrow();
      folders.push(aside!);
    });
  });

  async function newFolder(mode: number): Promise<string> {
    // Open to pass through for root's server; mkdtemp makes it private.
    const folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-embedded-'));
    await chmod(folder, mode);
    folders.push(folder);
    return folder;
  }

  async function start(
    options: { dataDir?: string; settings?: Record<string, string> } = {},
  ): Promise<EmbeddedPostgres> {
    const server = await startEmbeddedPostgres({ dataDir, say: (line) => said.push(line), ...options });
    servers.push(server);
    const folder = await clusterFolder(options.dataDir);
    if (!folder.startsWith(options.dataDir ?? dataDir)) folders.push(path.dirname(folder));
    return server;
  }

  async function startElsewhere(): Promise<OtherProcess> {
    const child = fork(HOLDFAST, [dataDir], { execArgv: [] });
    processes.push(child);
    const [{ url, startedHere }] = (await once(child, 'message')) as [{ url: string; startedHere: boolean }];
    const folder = await clusterFolder();
    if (!folder.startsWith(dataDir)) folders.push(path.dirname(folder));
    const release = async () => {
      child.send('release');
      await once(child, 'exit');
    };
    return { process: child, url, startedHere, release };
  }

  async function clusterFolder(of = dataDir): Promise<string> {
    const pointer = await readFile(path.join(of, 'postgres.json'), 'utf8');
    return path.resolve(of, (JSON.parse(pointer) as { directory: string }).directory);
  }

  async function serverPid(): Promise<number> {
    return Number.parseInt(await readFile(path.join(await clusterFolder(), 'postmaster.pid'), 'utf8'), 10);
  }
});

async function select(url: string): Promise<number> {
  return withClient(url, async (client) => (await client.query<{ one: number }>('SELECT 1 AS one')).rows[0]!.one);
}

async function killAndWait(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function sessionOf(pid: number | 'self'): Promise<string> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]!.split(' ');
  return fields[3]!;
}
