import http from 'node:http';
import { Pool, type PoolClient } from 'pg';
import type { ReferenceSettings } from '../stage';

/** What a reference is told by its only argument. */
export const settings = JSON.parse(process.argv[2] ?? '{}') as ReferenceSettings;

/** As many connections as Holdfast has. */
export const pool = new Pool({ connectionString: settings.databaseUrl, max: 20 });

/** The role and settings that Holdfast gives every transaction, in one statement. */
export const OPENING = `SELECT set_config('role', '${settings.appRole}', true),
  set_config('holdfast.organization_id', '${settings.organizationId}', true), set_config('TimeZone', 'UTC', true),
  set_config('DateStyle', 'ISO', true), set_config('lock_timeout', '2s', true), set_config('statement_timeout', '5s', true),
  set_config('idle_in_transaction_session_timeout', '5s', true)`;

/** Runs work in one transaction; null from it rolls back. */
export async function transaction<T>(
  work: (client: PoolClient) => Promise<T | null>,
  begin = 'BEGIN',
): Promise<T | null> {
  const client = await pool.connect();
  try {
    await client.query(begin);
    await client.query(OPENING);
    const result = await work(client);
    await client.query(result === null ? 'ROLLBACK' : 'COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

/** What a path answers: 201 with an object or with JSON that is written already, 409 for null. */
export type Handler = (body: never) => Promise<object | string | null>;

/** Serves JSON by POST with nothing around it, and prints the port once it listens. */
export function serve(handlers: Record<string, Handler>): void {
  const answer = async (path: string, text: string): Promise<[number, string]> => {
    const handler = handlers[path.slice(1)];
    if (!handler) return [404, '{}'];
    try {
      const result = await handler(JSON.parse(text) as never);
      return result === null ? [409, '{}'] : [201, typeof result === 'string' ? result : JSON.stringify(result)];
    } catch (error) {
      return [500, JSON.stringify({ error: String(error) })];
    }
  };
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      void answer(request.url ?? '', Buffer.concat(chunks).toString()).then(([status, text]) => {
        const length = Buffer.byteLength(text);
        response.writeHead(status, { 'content-type': 'application/json', 'content-length': length }).end(text);
      });
    });
  });
  server.keepAliveTimeout = 600_000;
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    process.stdout.write(`${typeof address === 'object' && address ? address.port : 0}\n`);
  });
}
