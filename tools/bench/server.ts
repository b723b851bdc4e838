import path from 'node:path';
import { Client, type DatabaseError } from 'pg';
import { startEmbeddedPostgres } from '../../src/platform';

const FOLDER = path.resolve(__dirname, '../../../.holdfast-bench');

/** Any number that nobody else uses for an advisory lock: "load" in ASCII. */
const LOADING = 0x6c6f6164;

/** The PostgreSQL on which everything of one run lies. */
export class Server {
  private constructor(
    private readonly base: string,
    private readonly release: () => Promise<void>,
  ) {}

  /** The one that DATABASE_URL names, else an embedded one whose folder is kept from run to run. */
  static async open(say: (line: string) => void): Promise<Server> {
    const given = process.env['MIGRATION_DATABASE_URL'] || process.env['DATABASE_URL'];
    if (given) return new Server(given, async () => undefined);
    const embedded = await startEmbeddedPostgres({ dataDir: FOLDER, say });
    return new Server(embedded.url, () => embedded.release());
  }

  url(database: string): string {
    return Object.assign(new URL(this.base), { pathname: `/${database}` }).href;
  }

  query<T extends object>(sql: string, values: unknown[] = []): Promise<T[]> {
    return withClient(this.base, async (client) => (await client.query<T>(sql, values)).rows);
  }

  /** Runs work while no other run on this server does the same. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return withClient(this.base, async (client) => {
      await client.query('SELECT pg_advisory_lock($1)', [LOADING]);
      return work();
    });
  }

  /** A copy of a database, file by file: its size matters less than if it went through the log. */
  async copy(template: string, name: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.query(`CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY FILE_COPY`);
        return;
      } catch (error) {
        // 55006: somebody looks into the template at this moment, autovacuum for one.
        if ((error as DatabaseError).code !== '55006' || attempt === 20) throw error;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
  }

  async drop(name: string): Promise<void> {
    await this.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  }

  async close(): Promise<void> {
    await this.release();
  }
}

export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: url, application_name: 'holdfast bench' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
