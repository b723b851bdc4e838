import { createHash } from 'node:crypto';
import { migrations } from '../../migrations';
import { migrate, readSettings } from '../../src/platform';
import { loadSteps, shapeOf } from './dataset.sql';
import { type Server, withClient } from './server';

/** Raised by hand when what is loaded becomes different. */
const VERSION = 2;
/** The loaded future becomes past; the days that have rows last this long. */
const KEPT_DAYS = 7;

/** A database with so many appointments that copies are made of: loaded now, or by an earlier run from the same schema. */
export const template = (server: Server, appointments: number, say: (line: string) => void): Promise<string> =>
  server.alone(() => find(server, appointments, say));

async function find(server: Server, appointments: number, say: (line: string) => void): Promise<string> {
  const name = `holdfast_bench_${appointments}`;
  const key = createHash('sha256')
    .update(JSON.stringify([VERSION, appointments, migrations.map((migration) => migration.name)]))
    .digest('hex')
    .slice(0, 16);
  const [found] = await server.query<{ comment: string | null }>(
    `SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1`,
    [name],
  );
  const [, loadedKey, loadedAt] = /^bench (\S+) of (\S+)$/.exec(found?.comment ?? '') ?? [];
  const age = (Date.now() - Date.parse(loadedAt ?? '')) / 86_400_000;
  if (loadedKey === key && age < KEPT_DAYS) return name;

  const started = performance.now();
  say(`Loading ${appointments.toLocaleString('en')} appointments …`);
  await server.drop(name);
  await server.query(`CREATE DATABASE ${name}`);
  await load(server.url(name), appointments, say);
  // Said last: a database without it was not loaded to the end.
  await server.query(`COMMENT ON DATABASE ${name} IS 'bench ${key} of ${new Date().toISOString()}'`);
  say(`Loaded in ${((performance.now() - started) / 1000).toFixed(0)} s; kept for the next runs.`);
  return name;
}

/** Migrates an empty database and fills it. */
export async function load(url: string, appointments: number, say: (line: string) => void): Promise<void> {
  await migrate(
    { ...readSettings({ ...process.env, DATABASE_URL: url, MIGRATION_DATABASE_URL: '' }), databaseUrl: url },
    () => undefined,
  );
  await withClient(url, async (client) => {
    const { rows } = await client.query<{ trusted: boolean; role: string }>(
      `SELECT u.rolsuper OR u.rolbypassrls AS trusted, r.rolname AS role
       FROM pg_roles u, pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
       WHERE u.rolname = current_user AND p.polrelid = 'appointment'::regclass AND p.polname = 'system_access'`,
    );
    const { trusted, role } = rows[0]!;
    await client.query('BEGIN');
    // Row-level security holds for the owner, too.
    if (!trusted) await client.query(`SET LOCAL ROLE "${role}"`);
    // Millions of references, each of them made right here: not looked up one by one where the login may say so.
    else await client.query(`SET LOCAL session_replication_role = replica`);
    await client.query(`SET LOCAL TimeZone = 'UTC'; SET LOCAL synchronous_commit = off`);
    for (const [about, sql] of loadSteps(shapeOf(appointments))) {
      say(`  ${about} …`);
      await client.query(sql);
    }
    await client.query('COMMIT');
    // Now, and not by a vacuum in the middle of a measurement.
    await client.query('VACUUM (FREEZE, ANALYZE)');
    await client.query('CHECKPOINT').catch(() => undefined);
  });
}
