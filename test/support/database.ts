import { randomBytes } from 'node:crypto';
import { Client, type DatabaseError } from 'pg';

/** How a worker learns what the global setup has prepared; workers inherit the environment of the main process. */
const HANDED_OVER = 'HOLDFAST_TEST_SERVER';

/** A server for tests, and the migrated database on it that each test database is a copy of. */
export interface TestServer {
  /** Of a login that may create databases. */
  url: string;
  /** What the names of all databases of this test run begin with. */
  prefix: string;
  template: string;
}

export function handOver(server: TestServer): void {
  process.env[HANDED_OVER] = JSON.stringify(server);
}

function testServer(): TestServer {
  const server = process.env[HANDED_OVER];
  if (!server) throw new Error('There is no test server: only the medium and e2e projects of jest.config.ts have one.');
  return JSON.parse(server) as TestServer;
}

/**
 * A migrated, empty database of its own (about 50 ms). `drop` also ends what is still connected to it; what a test
 * forgets to drop goes at the end of the run.
 *
 * The two roles of a migrated database belong to the whole server, and a copy shares them with the template: their names
 * carry the template's name, and the copy's policies mean them.
 */
export async function createTestDatabase(): Promise<{ url: string; drop(): Promise<void> }> {
  const server = testServer();
  const name = `${server.prefix}${randomBytes(6).toString('hex')}`;
  await withClient(server.url, (client) => cloneTemplate(client, name, server.template));
  return {
    url: urlOf(server, name),
    drop: () => withClient(server.url, (client) => dropDatabase(client, name)),
  };
}

/** Connected; closing it is the caller's. */
export async function openClient(url: string): Promise<Client> {
  const client = new Client({ connectionString: url, application_name: 'holdfast test' });
  await client.connect();
  return client;
}

export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await openClient(url);
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export function urlOf(server: { url: string }, database: string): string {
  const url = new URL(server.url);
  url.pathname = `/${database}`;
  return url.href;
}

/** Everything of a test run: its databases, then the roles that belong to them. */
export async function dropAll(server: TestServer): Promise<void> {
  await withClient(server.url, async (client) => {
    const databases = await client.query<{ name: string }>(
      'SELECT datname AS name FROM pg_database WHERE starts_with(datname, $1)',
      [server.prefix],
    );
    for (const { name } of databases.rows) await dropDatabase(client, name);
    const roles = await client.query<{ name: string }>(
      `SELECT rolname AS name FROM pg_roles
       WHERE rolname ~ '^holdfast_(app|system|retention)_' AND strpos(rolname, $1) > 0`,
      [server.prefix],
    );
    for (const { name } of roles.rows) await client.query(`DROP ROLE ${client.escapeIdentifier(name)}`);
  });
}

async function cloneTemplate(client: Client, name: string, template: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
      return;
    } catch (error) {
      // 55006: somebody looks into the template at this moment, autovacuum for one.
      if ((error as DatabaseError).code !== '55006' || attempt === 5) throw error;
    }
  }
}

async function dropDatabase(client: Client, name: string): Promise<void> {
  await client.query(`DROP DATABASE IF EXISTS ${client.escapeIdentifier(name)} WITH (FORCE)`);
}
