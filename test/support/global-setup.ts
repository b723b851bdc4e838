import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DataSource } from 'typeorm';
import { migrations } from '../../migrations';
import { startEmbeddedPostgres } from '../../src/platform/embedded';
import { dropAll, handOver, type TestServer, urlOf, withClient } from './database';
import { cleanUpAfterwards } from './global-teardown';

const FOLDER = 'holdfast-test-';

/**
 * One PostgreSQL for the whole run, with a migrated template database on it: the server at DATABASE_URL, or else an embedded
 * one in a temporary folder.
 */
export default async function globalSetup(): Promise<void> {
  const given = process.env['DATABASE_URL'];
  const url = given ? await checkGivenServer(given) : await startServer();
  const prefix = `holdfast_test_${process.pid}_`;
  const server: TestServer = { url, prefix, template: `${prefix}template` };
  // Left by a killed run that had the same pid.
  await dropAll(server);
  cleanUpAfterwards(() => dropAll(server));
  await withClient(url, (client) => client.query(`CREATE DATABASE ${server.template}`));
  await migrate(urlOf(server, server.template));
  handOver(server);
}

async function checkGivenServer(url: string): Promise<string> {
  const problem = await withClient(url, async (client) => {
    const { rows } = await client.query<{ version: string; can_create_databases: boolean; can_create_roles: boolean }>(`
      SELECT current_setting('server_version_num') AS version,
             rolsuper OR rolcreatedb AS can_create_databases,
             rolsuper OR rolcreaterole AS can_create_roles
      FROM pg_roles WHERE rolname = current_user`);
    const { version, can_create_databases, can_create_roles } = rows[0]!;
    const major = Math.floor(Number(version) / 10_000);
    if (major < 15 || major > 18) return `is PostgreSQL ${major}; Holdfast runs on 15 to 18`;
    if (!can_create_databases) return 'does not let its login create databases, and each test has one of its own';
    if (!can_create_roles) return 'does not let its login create roles, which the migrations do';
    return undefined;
  }).catch((error: Error) => `cannot be reached: ${error.message}`);
  if (problem) throw new Error(`The tests cannot use the server at DATABASE_URL: it ${problem}.`);
  return url;
}

async function startServer(): Promise<string> {
  await removeLeftovers();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), `${FOLDER}${process.pid}-`));
  cleanUpAfterwards(() => rm(dataDir, { recursive: true, force: true }));
  // For root's server, which runs as somebody else: the data shall lie in this folder, to go with it.
  await chmod(dataDir, 0o711);
  const server = await startEmbeddedPostgres({
    dataDir,
    // What a crash of the machine does to a test database is nobody's loss.
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', autovacuum_naptime: '10min' },
    say: () => undefined,
  });
  cleanUpAfterwards(() => server.release());
  return server.url;
}

/** A run that was killed could not stop its server, which lives in a session of its own. */
async function removeLeftovers(): Promise<void> {
  for (const name of await readdir(os.tmpdir())) {
    const pid = new RegExp(`^${FOLDER}(\\d+)-`).exec(name)?.[1];
    if (!pid || isRunning(Number(pid))) continue;
    const dataDir = path.join(os.tmpdir(), name);
    try {
      await (await startEmbeddedPostgres({ dataDir, say: () => undefined })).release();
      await rm(dataDir, { recursive: true, force: true });
    } catch {
      // Another user's, or broken by the kill: in either case not worth failing this run.
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function migrate(url: string): Promise<void> {
  const dataSource = new DataSource({ type: 'postgres', url, migrations, migrationsTableName: 'migrations' });
  await dataSource.initialize();
  try {
    await dataSource.runMigrations();
  } finally {
    await dataSource.destroy();
  }
}
