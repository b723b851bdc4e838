import { assertSchemaCompatibility, LATEST_SCHEMA_VERSION, runMigrations, SchemaMigrationRequiredError } from 'bullmq';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { migrations } from '../../migrations';
import type { Settings } from './config';
import { Database } from './database';
import { SchemaError } from './errors';
import { QUEUE_SCHEMA } from './jobs.module';
import type { Log } from './logging';
import { Metrics } from './metrics';
import './pg-types';
import { PipelinedClient } from './pipelined-client';
import { SnakeCaseNames } from './snake-case-names';

/** One migration and when it ran; `pending` when it has not yet. */
export interface MigrationState {
  name: string;
  state: 'applied' | 'pending' | 'unknown to this release';
}

/** The settings of a connection that everybody uses. */
export const connectionOptions = (url: string, poolSize: number) => ({
  type: 'postgres' as const,
  url,
  applicationName: 'holdfast',
  poolSize,
  // Waiting for a connection is part of a request's budget; what waits longer is told `busy`.
  connectTimeoutMS: 5_000,
  // Statements are sent without waiting for the answers of those before: see Database.once.
  extra: { keepAlive: true, pipeline: true, Client: PipelinedClient },
  namingStrategy: new SnakeCaseNames(),
  synchronize: false,
  migrationsRun: false,
  installExtensions: false,
  logging: false,
  migrationsTableName: 'migrations',
});

// Any number that no other program uses for its advisory locks: "hold" in ASCII.
const MIGRATION_LOCK = 0x686f6c64;

/**
 * Runs the migrations that are missing, as the owner's login, and lets the serving login take the roles. Processes that
 * start together wait for each other.
 * @throws SchemaError when the server cannot be reached, refuses the login, does not allow what the schema needs, or holds
 *   a schema that is newer than this release
 */
export async function migrate(
  settings: Settings & { databaseUrl: string },
  say: (line: string) => void,
): Promise<void> {
  const url = settings.migrationDatabaseUrl ?? settings.databaseUrl;
  const guard = await connect(url);
  try {
    await guard.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK]);
    const states = await migrationStates(guard);
    const unknown = states.filter((each) => each.state === 'unknown to this release');
    if (unknown.length > 0) {
      throw new SchemaError(
        `The database's schema is newer than this release: it has ${unknown.map((each) => each.name).join(', ')}. Start the newer release.`,
      );
    }
    const pending = states.filter((each) => each.state === 'pending');
    if (pending.length > 0) {
      say(`Migrating the database: ${pending.map((each) => each.name).join(', ')}`);
      const dataSource = new DataSource({ ...connectionOptions(url, 2), migrations });
      await dataSource.initialize();
      try {
        await dataSource.runMigrations({ transaction: 'each' });
      } finally {
        await dataSource.destroy();
      }
    }
    if (settings.redisUrl === undefined && !(await queueIsCurrent(guard))) await runMigrations(guard, QUEUE_SCHEMA);
    await grantRoles(guard, [url, settings.databaseUrl]);
  } catch (error) {
    throw explain(error, url);
  } finally {
    await guard.end();
  }
}

/** Which migrations ran and which are still to run. */
export async function migrationStatus(settings: Settings & { databaseUrl: string }): Promise<MigrationState[]> {
  const client = await connect(settings.migrationDatabaseUrl ?? settings.databaseUrl);
  try {
    return await migrationStates(client);
  } finally {
    await client.end();
  }
}

/** A {@link Database} outside of Nest, for programs that look at an install. */
export async function openDatabase(url: string, log: Log): Promise<{ database: Database; close: () => Promise<void> }> {
  const dataSource = new DataSource(connectionOptions(url, 4));
  try {
    await dataSource.initialize();
  } catch (error) {
    throw explain(error, url);
  }
  return { database: new Database(dataSource, log, new Metrics()), close: () => dataSource.destroy() };
}

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url, application_name: 'holdfast', connectionTimeoutMillis: 5_000 });
  try {
    await client.connect();
    return client;
  } catch (error) {
    throw explain(error, url);
  }
}

async function migrationStates(client: Client): Promise<MigrationState[]> {
  const ours = migrations.map((migration) => migration.name);
  const { rows } = await client.query<{ present: boolean }>(
    `SELECT to_regclass('public.migrations') IS NOT NULL AS present`,
  );
  const applied = rows[0]!.present
    ? (await client.query<{ name: string }>('SELECT name FROM migrations ORDER BY id')).rows.map((row) => row.name)
    : [];
  return [
    ...ours.map((name) => ({ name, state: applied.includes(name) ? ('applied' as const) : ('pending' as const) })),
    ...applied
      .filter((name) => !ours.includes(name))
      .map((name) => ({ name, state: 'unknown to this release' as const })),
  ];
}

/**
 * Lets the logins SET ROLE to the three roles that the policies name, and use the queue's tables. Says nothing where they may
 * already, so a login that owns nothing can start what an owner has migrated.
 */
async function grantRoles(owner: Client, urls: readonly string[]): Promise<void> {
  const logins = [...new Set(urls.map((url) => decodeURIComponent(new URL(url).username)).filter(Boolean))];
  const { rows: strangers } = await owner.query<{ login: string }>(
    `SELECT rolname AS login FROM pg_roles WHERE rolname = ANY($1) AND NOT has_table_privilege(rolname, 'public.migrations', 'SELECT')`,
    [logins],
  );
  for (const { login } of strangers) await owner.query(`GRANT SELECT ON public.migrations TO ${ident(login)}`);
  const { rows: outsiders } = await owner.query<{ login: string }>(
    `SELECT rolname AS login FROM pg_roles, pg_namespace n
     WHERE rolname = ANY($1) AND nspname = $2 AND NOT has_schema_privilege(rolname, n.oid, 'CREATE')`,
    [logins, QUEUE_SCHEMA],
  );
  for (const { login } of outsiders) {
    for (const objects of ['TABLES', 'SEQUENCES', 'FUNCTIONS']) {
      await owner.query(`GRANT ALL ON ALL ${objects} IN SCHEMA ${QUEUE_SCHEMA} TO ${ident(login)}`);
      await owner.query(
        `ALTER DEFAULT PRIVILEGES IN SCHEMA ${QUEUE_SCHEMA} GRANT ALL ON ${objects} TO ${ident(login)}`,
      );
    }
    // CREATE too: the queue makes the sequence of its job ids when the first job comes.
    await owner.query(`GRANT USAGE, CREATE ON SCHEMA ${QUEUE_SCHEMA} TO ${ident(login)}`);
  }
  // Since version 16 the maker of a role is its member without the right to become it: ask for that right by its name.
  const { rows: server } = await owner.query<{ right: string }>(
    `SELECT CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END AS right`,
  );
  const { rows } = await owner.query<{ login: string; role: string }>(
    `SELECT l.rolname AS login, r.rolname AS role
     FROM pg_roles l, pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
     WHERE p.polrelid = 'public.appointment'::regclass AND l.rolname = ANY($1) AND NOT pg_has_role(l.oid, r.oid, $2)`,
    [logins, server[0]!.right],
  );
  for (const { login, role } of rows) await owner.query(`GRANT ${ident(role)} TO ${ident(login)}`);
}

/** Whether the queue's tables are there and as this release wants them. */
async function queueIsCurrent(client: Client): Promise<boolean> {
  try {
    return (await assertSchemaCompatibility(client, QUEUE_SCHEMA)) >= LATEST_SCHEMA_VERSION;
  } catch (error) {
    if (error instanceof SchemaMigrationRequiredError) return false;
    throw error;
  }
}

const ident = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** One clear line for what goes wrong between an install and its server. Passwords never appear in it. */
function explain(error: unknown, url: string): unknown {
  if (error instanceof SchemaError) return error;
  const { driverError } = error as { driverError?: unknown };
  const { code, message = '' } = (driverError ?? error) as { code?: string; message?: string };
  const { hostname, port, username, pathname } = new URL(url);
  const where = `${hostname}:${port || 5432}`;
  const login = decodeURIComponent(username);
  if (code === '28P01' || code === '28000')
    return new SchemaError(`PostgreSQL at ${where} refused the login "${login}": ${message}.`);
  if (code === '3D000')
    return new SchemaError(`PostgreSQL at ${where} has no database "${pathname.slice(1)}". Create it first.`);
  if (/btree_gist/.test(message)) {
    return new SchemaError(
      `Holdfast needs PostgreSQL's extension btree_gist, and "${login}" could not create it (${message}). Let an administrator run: CREATE EXTENSION btree_gist;`,
    );
  }
  if (code === '42501') {
    return new SchemaError(
      `"${login}" may not do what a migration needs (${message}). Migrations need the owner of the database with CREATEROLE; set MIGRATION_DATABASE_URL to such a login.`,
    );
  }
  if (code !== undefined && /^(ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)/.test(code)) {
    return new SchemaError(
      `PostgreSQL cannot be reached at ${where} (${code}). Is it running, and is DATABASE_URL right?`,
    );
  }
  if (/timeout|terminated/i.test(message))
    return new SchemaError(`PostgreSQL at ${where} does not answer: ${message}.`);
  if (code !== undefined && ['57P03', '53300'].includes(code))
    return new SchemaError(`PostgreSQL at ${where} is not ready: ${message}.`);
  return error;
}
