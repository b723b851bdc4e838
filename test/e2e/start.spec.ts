import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEmbeddedPostgres } from '../../src/platform/embedded';
import type { Answer } from '../support/app';
import { createTestDatabase, urlOf, withClient } from '../support/database';

const ROOT = path.join(__dirname, '../..');
const READY = /^Holdfast is ready on (http:\/\/\S+)$/m;
/** What must not be seen in any output, whatever happens. */
const SECRET = `hunter2-${randomBytes(16).toString('hex')}`;

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The real program, as a person starts it. */
class Program {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  url = '';

  constructor(script: string, args: string[], environment: Record<string, string>) {
    this.process = spawn(process.execPath, [path.join(ROOT, 'dist/src', script), ...args], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], PORT: '0', LOG_LEVEL: 'warn', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout!.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    this.process.stderr!.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve) => {
      this.process.once('close', (code, signal) => {
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get isRunning(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async ready(): Promise<this> {
    while (!READY.test(this.stdout)) {
      if (!this.isRunning) {
        const { code, stdout, stderr } = await this.ended;
        throw new Error(`It ended with ${code} instead of being ready:\n${stdout}\n${stderr}`);
      }
      await sleep(20);
    }
    this.url = READY.exec(this.stdout)![1]!;
    return this;
  }

  kill(signal: NodeJS.Signals): Promise<Ended> {
    this.process.kill(signal);
    return this.ended;
  }
}

const programs: Program[] = [];
const folders: string[] = [];
const cleanUps: Array<() => Promise<unknown>> = [];

function launch(script: string, args: string[], environment: Record<string, string>): Program {
  const program = new Program(script, args, environment);
  programs.push(program);
  return program;
}
/** Ready to serve. */
const start = (environment: Record<string, string>): Promise<Program> => launch('main.js', [], environment).ready();
/** A start that is expected to fail; one that does not is ended. */
async function failToStart(environment: Record<string, string>): Promise<Ended> {
  const program = launch('main.js', [], environment);
  await program.ready().then(
    () => program.kill('SIGKILL'),
    () => undefined,
  );
  return program.ended;
}
const command = (args: string[], environment: Record<string, string>): Promise<Ended> =>
  launch('cli.js', args, environment).ended;

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-start-'));
  folders.push(folder);
  // Root's server runs as somebody else, who has to pass through.
  await chmod(folder, 0o711);
  return folder;
}

async function occupyPort(): Promise<{ port: number; server: Server }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as { port: number }).port, server };
}

async function freePort(): Promise<number> {
  const { port, server } = await occupyPort();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Demo {
  baseUrl: string;
  organizationId: string;
  apiKey: string;
  timeZone: string;
  locations: Array<{ id: string; name: string }>;
  practitioners: Array<{ id: string; scheduleId: string; name: string }>;
  rooms: Array<{ id: string; scheduleId: string; name: string }>;
  services: Array<{ id: string; key: string; name: string }>;
}
const readDemo = async (dataDir: string): Promise<Demo> =>
  JSON.parse(await readFile(path.join(dataDir, 'demo.json'), 'utf8')) as Demo;

type Reply = Pick<Answer, 'status' | 'body'>;

async function api(url: string, apiKey: string, resource: string, body?: unknown): Promise<Reply> {
  const response = await fetch(`${url}${resource}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { Authorization: `Bearer ${apiKey}`, 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** What it takes to book the next free time of the first practitioner from tomorrow on. */
async function bookingOf(url: string, demo: Demo): Promise<Record<string, unknown>> {
  const serviceId = demo.services.find((service) => service.key === 'consultation')!.id;
  const practitionerId = demo.practitioners[0]!.id;
  const [from, to] = [1, 14].map((days) => new Date(Date.now() + days * 86_400_000).toISOString());
  const wanted = new URLSearchParams({ serviceId, practitionerId, from: from!, to: to!, limit: '1' });
  const slots = await api(url, demo.apiKey, `/v1/slots?${wanted.toString()}`);
  expect(slots.status).toBe(200);
  return {
    serviceId,
    practitionerId,
    startsAt: slots.body.data[0].startsAt,
    patient: { phone: `+49151${randomBytes(4).readUInt32BE().toString().padStart(10, '0').slice(0, 8)}` },
  };
}

const isHealthy = async (url: string): Promise<boolean> => (await fetch(`${url}/health/ready`)).status === 200;

/** A failure as a person wants to see it: one line on stderr, no stack trace, no secret, a code that scripts understand. */
function expectOneLine({ code, stderr, stdout }: Ended, ...words: Array<string | RegExp>): void {
  expect(stderr).toMatch(/^Holdfast cannot start: [^\n]+\n$/);
  for (const word of words) expect(stderr).toMatch(word);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(stdout).not.toMatch(READY);
  expect(code).toBe(1);
}

afterEach(() => {
  const outputs = programs.map(({ stdout, stderr }) => stdout + stderr);
  const running = programs.filter((program) => program.isRunning);
  programs.splice(0, programs.length, ...running);
  for (const output of outputs) expect(output).not.toContain(SECRET);
});

afterAll(async () => {
  for (const program of programs.filter((each) => each.isRunning)) await program.kill('SIGKILL');
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
  for (const folder of folders) {
    if (existsSync(path.join(folder, 'postgres.json'))) {
      // Joining and leaving stops what a killed program has left running.
      const server = await startEmbeddedPostgres({ dataDir: folder, say: () => undefined });
      await server.release();
    }
    await rm(folder, { recursive: true, force: true });
  }
});

// One install and its life, told in order: each start finds what the one before has left.
describe('Holdfast on its own PostgreSQL', () => {
  let dataDir: string;
  let program: Program;
  let demo: Demo;
  let booked: string;
  const environment = () => ({ DATA_DIR: dataDir, SECRET_KEY: `${SECRET} of the install` });
  const postmaster = async (): Promise<number> =>
    Number((await readFile(path.join(dataDir, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);
  const databaseUrl = async (): Promise<string> => {
    const { port } = JSON.parse(await readFile(path.join(dataDir, 'postgres.json'), 'utf8')) as { port: number };
    const password = (await readFile(path.join(dataDir, 'postgres.password'), 'utf8')).trim();
    return `postgresql://holdfast:${password}@127.0.0.1:${port}/holdfast`;
  };
  const expectKept = async (url: string) => {
    const kept = await api(url, demo.apiKey, `/v1/appointments/${booked}`);
    expect(kept).toMatchObject({ status: 200, body: { id: booked, status: 'confirmed' } });
  };

  beforeAll(async () => {
    dataDir = await newFolder();
  });

  it('is ready at the address that it was told, with a demo clinic', async () => {
    const port = await freePort();
    program = await start({ ...environment(), PORT: String(port) });
    expect(program.url).toBe(`http://127.0.0.1:${port}`);
    expect(program.stdout.trimEnd().split('\n').at(-1)).toBe(`Holdfast is ready on http://127.0.0.1:${port}`);
    expect(program.stderr).toBe('');
    expect(await isHealthy(program.url)).toBe(true);

    demo = await readDemo(dataDir);
    const named = { id: expect.any(String), name: expect.any(String) };
    const lane = { ...named, scheduleId: expect.any(String) };
    expect(demo).toEqual({
      baseUrl: program.url,
      organizationId: expect.any(String),
      apiKey: expect.stringMatching(/^hf_/),
      operator: { email: expect.stringMatching(/@/), password: expect.any(String) },
      timeZone: expect.any(String),
      locations: expect.arrayContaining([named]),
      practitioners: demo.practitioners.map(() => lane),
      rooms: demo.rooms.map(() => lane),
      services: demo.services.map(() => ({ ...named, key: expect.any(String) })),
    });
    expect(demo.practitioners.length).toBeGreaterThanOrEqual(8);
    expect(demo.rooms.length).toBeGreaterThanOrEqual(1);
    expect(demo.services.map((service) => service.key)).toEqual(expect.arrayContaining(['consultation', 'follow-up']));
    expect((await stat(path.join(dataDir, 'demo.json'))).mode & 0o777).toBe(0o600);
  });

  it('serves whoever has the key of demo.json, and nobody else', async () => {
    const organization = await api(program.url, demo.apiKey, '/v1/organization');
    expect(organization).toMatchObject({ status: 200, body: { id: demo.organizationId } });
    expect((await api(program.url, 'hf_guessed', '/v1/organization')).status).toBe(401);

    const answer = await api(program.url, demo.apiKey, '/v1/appointments', await bookingOf(program.url, demo));
    expect(answer).toMatchObject({ status: 201, body: { status: 'confirmed' } });
    booked = answer.body.id;
  });

  it('refuses a wrong password in one line', async () => {
    const url = new URL(await databaseUrl());
    url.password = SECRET;
    expectOneLine(
      await failToStart({ DATA_DIR: await newFolder(), DATABASE_URL: url.href }),
      'refused the login "holdfast"',
    );
  });

  it('stops its database with it on SIGTERM, and keeps the data for the next start', async () => {
    const begun = performance.now();
    expect(await program.kill('SIGTERM')).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(performance.now() - begun).toBeLessThan(10_000);
    expect(existsSync(path.join(dataDir, 'postgres/postmaster.pid'))).toBe(false);

    program = await start(environment());
    expect(program.stdout).toMatch(/^Started the embedded PostgreSQL/m);
    await expectKept(program.url);
    expect(await readDemo(dataDir)).toEqual({ ...demo, baseUrl: program.url });
  });

  it('goes on after it was killed', async () => {
    expect(await program.kill('SIGKILL')).toMatchObject({ signal: 'SIGKILL' });
    program = await start(environment());
    expect(program.stdout).toMatch(/^Joined the embedded PostgreSQL/m);
    await expectKept(program.url);
  });

  it('goes on after it and its database were killed', async () => {
    const pid = await postmaster();
    await program.kill('SIGKILL');
    process.kill(pid, 'SIGKILL');
    program = await start(environment());
    expect(program.stdout).toMatch(/^Started the embedded PostgreSQL/m);
    await expectKept(program.url);
  });

  it('is joined by a second process on the same data, and both serve', async () => {
    const second = await start(environment());
    expect(second.stdout).toMatch(/^Joined the embedded PostgreSQL/m);
    expect(second.url).not.toBe(program.url);
    // The address of the one that answers is left alone.
    expect((await readDemo(dataDir)).baseUrl).toBe(program.url);

    const here = await api(program.url, demo.apiKey, '/v1/appointments', await bookingOf(program.url, demo));
    const there = await api(second.url, demo.apiKey, '/v1/appointments', await bookingOf(second.url, demo));
    expect([here.status, there.status]).toEqual([201, 201]);
    expect((await api(second.url, demo.apiKey, `/v1/appointments/${here.body.id}`)).status).toBe(200);
    expect((await api(program.url, demo.apiKey, `/v1/appointments/${there.body.id}`)).status).toBe(200);

    expect(await program.kill('SIGTERM')).toMatchObject({ code: 0 });
    program = second;
    expect(await isHealthy(program.url)).toBe(true);
    await expectKept(program.url);
  });

  it('finishes on SIGTERM a request that is in flight', async () => {
    const body = await bookingOf(program.url, demo);
    let answer: Promise<Reply> | undefined;
    let begun = 0;
    await withClient(await databaseUrl(), async (client) => {
      await client.query('BEGIN; LOCK TABLE appointment IN ACCESS EXCLUSIVE MODE');
      answer = api(program.url, demo.apiKey, '/v1/appointments', body);
      for (let waiting = false; !waiting; await sleep(20)) {
        const { rows } = await client.query<{ waiting: boolean }>(
          'SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted) AS waiting',
        );
        waiting = rows[0]!.waiting;
      }
      begun = performance.now();
      program.process.kill('SIGTERM');
      await sleep(300);
      expect(program.isRunning).toBe(true);
      await client.query('COMMIT');
    });
    expect(await answer!).toMatchObject({ status: 201, body: { status: 'confirmed' } });
    expect(await program.ended).toMatchObject({ code: 0, signal: null, stderr: '' });
    expect(performance.now() - begun).toBeLessThan(10_000);
    await expect(fetch(`${program.url}/health/live`)).rejects.toThrow();
  });
});

/** A server's URL with another login. */
function asLogin(url: string, login: string, password: string): string {
  const changed = new URL(url);
  changed.username = login;
  changed.password = password;
  return changed.href;
}

/** The test server, as its superuser. */
let server: string;
let dataDir: string;
let serial = 0;

beforeAll(async () => {
  const { url, drop } = await createTestDatabase();
  cleanUps.push(drop);
  server = url;
  dataDir = await newFolder();
});

const query = (url: string, sql: string) => withClient(url, (client) => client.query(sql));

/** An empty database without a schema. */
async function emptyDatabase(owner?: string): Promise<string> {
  const name = `${new URL(server).pathname.slice(1)}_${++serial}`;
  await query(server, `CREATE DATABASE ${name}${owner ? ` OWNER ${owner}` : ''}`);
  cleanUps.push(async () => {
    await query(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await query(server, `DROP ROLE IF EXISTS holdfast_app_${name}, holdfast_system_${name}`);
  });
  return urlOf({ url: server }, name);
}

async function migratedDatabase(): Promise<string> {
  const { url, drop } = await createTestDatabase();
  cleanUps.push(drop);
  return url;
}

async function newLogin(attributes = ''): Promise<string> {
  const name = `holdfast_start_${process.pid}_${randomBytes(4).toString('hex')}`;
  await query(server, `CREATE ROLE ${name} LOGIN ${attributes} PASSWORD '${SECRET}'`);
  cleanUps.push(() => query(server, `DROP ROLE ${name}`));
  return name;
}

const given = (databaseUrl: string, more: Record<string, string> = {}): Record<string, string> => ({
  DATABASE_URL: databaseUrl,
  DATA_DIR: dataDir,
  SECRET_KEY: `${SECRET} of the install`,
  ...more,
});

describe('a start that cannot be', () => {
  it('on a port that is taken', async () => {
    const { port, server: other } = await occupyPort();
    const ended = await failToStart(given(server, { PORT: String(port) }));
    await new Promise((resolve) => other.close(resolve));
    expectOneLine(ended, `Port ${port}`, 'PORT');
  });

  it('with a server that is not there', async () => {
    const port = await freePort();
    const ended = await failToStart(given(`postgres://somebody:${SECRET}@127.0.0.1:${port}/clinic`));
    expectOneLine(ended, `127.0.0.1:${port}`, 'cannot be reached', 'DATABASE_URL');
  });

  it('with a login that the server does not know', async () => {
    const ended = await failToStart(given(asLogin(server, 'holdfast_nobody', SECRET)));
    expectOneLine(ended, 'refused the login "holdfast_nobody"');
  });

  it('with a database that does not exist', async () => {
    const ended = await failToStart(given(urlOf({ url: server }, 'holdfast_no_such_database')));
    expectOneLine(ended, 'no database "holdfast_no_such_database"');
  });

  it('with a login that may not make the extension btree_gist', async () => {
    const login = await newLogin('CREATEROLE');
    const database = await emptyDatabase();
    await query(database, `GRANT ALL ON SCHEMA public TO ${login}`);
    expectOneLine(
      await failToStart(given(asLogin(database, login, SECRET))),
      `"${login}"`,
      'permission denied',
      'CREATE EXTENSION btree_gist',
    );
  });

  it('with a login that owns nothing', async () => {
    const login = await newLogin();
    const database = await emptyDatabase();
    expectOneLine(
      await failToStart(given(asLogin(database, login, SECRET))),
      `"${login}"`,
      'permission denied',
      'MIGRATION_DATABASE_URL',
    );
  });

  it('on a schema that is newer than this release', async () => {
    const database = await migratedDatabase();
    await query(database, `INSERT INTO migrations (timestamp, name) VALUES (9999999999999, 'Future9999999999999')`);
    expectOneLine(await failToStart(given(database)), 'newer than this release', 'Future9999999999999');
  });

  it('in an environment with mistakes, all of which are named', async () => {
    const ended = await failToStart({ DATA_DIR: dataDir, PORT: SECRET, REDIS_URL: `http://:${SECRET}@localhost` });
    expectOneLine(ended, 'PORT ', 'REDIS_URL ');
  });

  it('where row-level security is off for a table', async () => {
    const database = await migratedDatabase();
    await query(database, 'ALTER TABLE patient DISABLE ROW LEVEL SECURITY');
    expectOneLine(await failToStart(given(database)), 'Row-level security', 'patient');
  });

  it('where the owner of a table is exempt from row-level security', async () => {
    const database = await migratedDatabase();
    await query(database, 'ALTER TABLE claim NO FORCE ROW LEVEL SECURITY');
    expectOneLine(await failToStart(given(database)), 'Row-level security', 'claim');
  });
});

describe('Holdfast on a PostgreSQL that is given', () => {
  let database: string;
  const setUp = () => command(['setup', '--organization', 'Clinic', '--email', 'ada@clinic.example'], given(database));

  beforeAll(async () => {
    database = await emptyDatabase();
  });

  it('says what is pending before it is migrated, and changes nothing by that', async () => {
    const status = await command(['migrate:status'], given(database));
    expect(status).toMatchObject({ code: 1, stderr: '' });
    expect(status.stdout).toMatch(/^pending +Foundation\d+$/m);
    const doctor = await command(['doctor'], given(database));
    expect(doctor.code).toBe(1);
    expect(doctor.stdout).toMatch(/migration.*Foundation\d+.*pending/);
    expect((await query(database, `SELECT 1 FROM pg_tables WHERE schemaname = 'public'`)).rowCount).toBe(0);
  });

  it('is migrated by its command, and stays so', async () => {
    expect(await command(['migrate'], given(database))).toMatchObject({ code: 0, stderr: '' });
    const status = await command(['migrate:status'], given(database));
    expect(status.code).toBe(0);
    expect(status.stdout).not.toMatch(/pending/);
    expect(await command(['migrate'], given(database))).toMatchObject({ code: 0, stderr: '' });
  });

  it('serves, without a demo clinic that nobody asked for', async () => {
    const program = await start(given(database));
    expect(await isHealthy(program.url)).toBe(true);
    expect(existsSync(path.join(dataDir, 'demo.json'))).toBe(false);
    expect((await query(database, 'SELECT 1 FROM organization')).rowCount).toBe(0);
    expect(await program.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' });
  });

  it('gets its first organization once', async () => {
    const first = await setUp();
    expect(first).toMatchObject({ code: 0, stderr: '' });
    const [apiKey] = /\bhf_\S+/.exec(first.stdout)!;

    const content = async () =>
      (await query(database, 'SELECT (SELECT count(*) FROM organization) o, (SELECT count(*) FROM api_key) k')).rows;
    const before = await content();
    expect(before).toEqual([{ o: '1', k: '1' }]);
    const second = await setUp();
    expect(second.code).toBe(1);
    expect(second.stdout).toMatch('nothing was changed');
    expect(second.stdout).not.toMatch(/\bhf_/);
    expect(await content()).toEqual(before);

    const program = await start(given(database));
    expect(await api(program.url, apiKey, '/v1/organization')).toMatchObject({ status: 200, body: { name: 'Clinic' } });
    await program.kill('SIGTERM');
  });

  it('is examined by the doctor, who finds what is wrong', async () => {
    const folder = await newFolder();
    const examined = await migratedDatabase();
    const environment = given(examined, { DATA_DIR: folder });
    const program = await start({ ...environment, HOLDFAST_DEMO: 'true' });
    const demo = await readDemo(folder);
    const booking = await bookingOf(program.url, demo);
    expect((await api(program.url, demo.apiKey, '/v1/appointments', booking)).status).toBe(201);
    expect(await program.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' });

    const healthy = await command(['doctor'], environment);
    expect(healthy).toMatchObject({ code: 0, stderr: '' });
    expect(healthy.stdout.split('\n')).toContain(`Zone database ${process.versions.tz}.`);

    const { rows } = await query(
      examined,
      `UPDATE schedule_day SET taken = '{}' WHERE taken <> '{}' RETURNING schedule_id, day::text`,
    );
    expect(rows).toHaveLength(1);
    const ill = await command(['doctor'], environment);
    expect(ill.code).toBe(1);
    expect(ill.stdout).toMatch('day_row_taken');
    expect(ill.stdout).toMatch(`${rows[0].schedule_id}/${rows[0].day}`);
  });

  it('lists the appointments whose wall time another zone database moved', async () => {
    const folder = await newFolder();
    const database = await migratedDatabase();
    const environment = given(database, { DATA_DIR: folder });
    const program = await start({ ...environment, HOLDFAST_DEMO: 'true' });
    const demo = await readDemo(folder);
    const booking = await bookingOf(program.url, demo);
    const booked = await api(program.url, demo.apiKey, '/v1/appointments', booking);
    expect(booked.status).toBe(201);
    expect(await program.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' });

    const { id, startsAt } = booked.body as { id: string; startsAt: string };
    const record = async (local: string) => {
      const { rows } = await query(
        database,
        `UPDATE appointment_segment SET time_zone = 'Etc/UTC', local_starts_at = '${local}' RETURNING schedule_id`,
      );
      expect(rows).toHaveLength(1);
      return rows[0].schedule_id as string;
    };
    const same = await command(['zones'], environment);
    expect(same).toEqual({
      code: 0,
      signal: null,
      stdout: `Zone database ${process.versions.tz}.\n1 to come, 0 moved, 0 without a recorded wall time.\n`,
      stderr: '',
    });

    const kept = new Date(Date.parse(startsAt) - 3_600_000).toISOString().slice(0, 19);
    const scheduleId = await record(kept);
    const moved = await command(['zones'], environment);
    expect(moved.code).toBe(1);
    expect(moved.stdout.split('\n').slice(1, 3)).toEqual([
      `${id}  ${scheduleId}  Etc/UTC  booked ${kept}  now ${startsAt.slice(0, 19)}  +60 min  kept at ${kept}Z`,
      '1 to come, 1 moved, 0 without a recorded wall time.',
    ]);
  });

  it('serves with a login that owns nothing, where the owner’s is there for migrations', async () => {
    const owner = await newLogin('CREATEROLE');
    const serving = await newLogin();
    const owned = await emptyDatabase(owner);
    const folder = await newFolder();
    const environment = given(asLogin(owned, serving, SECRET), { DATA_DIR: folder });
    const program = await start({
      ...environment,
      MIGRATION_DATABASE_URL: asLogin(owned, owner, SECRET),
      HOLDFAST_DEMO: 'true',
    });
    expect(await isHealthy(program.url)).toBe(true);
    const demo = await readDemo(folder);
    const booking = await bookingOf(program.url, demo);
    expect((await api(program.url, demo.apiKey, '/v1/appointments', booking)).status).toBe(201);
    const first = await program.kill('SIGTERM');

    const owners = await query(
      owned,
      `SELECT DISTINCT pg_get_userbyid(relowner) AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`,
    );
    expect(owners.rows).toEqual([{ name: owner }]);

    // What the owner has migrated, the other starts alone.
    const again = await start(environment);
    expect((await api(again.url, demo.apiKey, '/v1/organization')).status).toBe(200);
    const second = await again.kill('SIGTERM');
    for (const ended of [first, second]) expect(ended).toMatchObject({ code: 0, stderr: '' });
  });
});
