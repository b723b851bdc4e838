import { migrate, readSettings } from '../../src/platform';
import { seedClinic, startApp } from '../support/app';
import { createTestDatabase, withClient } from '../support/database';

describe('a worker', () => {
  it('plans the days to come, on the queue that PostgreSQL keeps, and leaves nothing open when it stops', async () => {
    const database = await createTestDatabase();
    const settings = { ...readSettings({}), databaseUrl: database.url };
    await migrate(settings, () => undefined);
    const api = await startApp({ databaseUrl: database.url });
    const clinic = await seedClinic(api);
    const patient = { phone: '+4915199887766', name: 'Kanarienvogel' };
    expect((await clinic.call('POST', '/v1/patients', { body: patient })).status).toBe(201);

    const worker = await startApp({ databaseUrl: database.url, role: 'worker' });
    await withClient(database.url, async (client) => {
      const planned = async () => {
        const { rows } = await client.query<{ schedules: number; days: number }>(
          'SELECT count(DISTINCT schedule_id)::int AS schedules, count(*)::int AS days FROM schedule_day',
        );
        return rows[0]!;
      };
      const deadline = Date.now() + 30_000;
      while ((await planned()).schedules < 11 && Date.now() < deadline)
        await new Promise((next) => setTimeout(next, 100));
      // Eight practitioners and three rooms, five weeks each.
      expect(await planned()).toEqual({ schedules: 11, days: 11 * 36 });

      // What the queue holds of its jobs: when they run, and of people nothing.
      const tables = await client.query<{ name: string }>(
        `SELECT format('bullmq.%I', relname) AS name FROM pg_class WHERE relnamespace = 'bullmq'::regnamespace AND relkind = 'r'`,
      );
      const contents: string[] = [];
      for (const { name } of tables.rows) {
        const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
        contents.push(...rows.map(({ row }) => row));
      }
      expect(contents.join('\n')).toContain('plan-days-ahead');
      expect(contents.join('\n')).not.toMatch(/Kanarienvogel|15199887766/);

      await worker.stop();
      await api.stop();
      const open = async () => {
        const { rows } = await client.query<{ application_name: string }>(
          `SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        );
        return rows;
      };
      // The server takes note of a closed connection a moment later.
      const closed = Date.now() + 10_000;
      while ((await open()).length > 0 && Date.now() < closed) await new Promise((next) => setTimeout(next, 50));
      expect(await open()).toEqual([]);
    });
    await database.drop();
  });
});
