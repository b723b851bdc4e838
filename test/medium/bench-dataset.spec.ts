import { auditLedger } from '../../src/operations';
import { load } from '../../tools/bench/dataset';
import { shapeOf } from '../../tools/bench/dataset.sql';
import { createTestDatabase, withClient } from '../support/database';

/** What bench loads by SQL must be what Holdfast would have written, or it measures something else. */
describe('the data of bench', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  beforeAll(async () => {
    database = await createTestDatabase();
    await load(database.url, 20_000, () => undefined);
  }, 120_000);
  afterAll(() => database.drop());

  const count = (sql: string) =>
    withClient(database.url, async (client) => Number((await client.query<{ count: string }>(sql)).rows[0]!.count));

  /** Some of everybody: practitioners of each kind and rooms. */
  const audit = async () => {
    const scheduleIds = await withClient(database.url, async (client) => {
      const { rows } = await client.query<{ id: string }>(
        `SELECT schedule_id AS id FROM (
           SELECT schedule_id, row_number() OVER (PARTITION BY split_part(name, ' ', 2) ORDER BY id) AS n FROM practitioner) p
         WHERE n <= 15 UNION ALL SELECT schedule_id FROM room`,
      );
      return rows.map((row) => row.id);
    });
    expect(scheduleIds).toHaveLength(15 + 15 + 4 + 8 + 4);
    return auditLedger(database.url, { scheduleIds });
  };

  it('is a consistent ledger', async () => {
    expect(await audit()).toEqual([]);
  });

  it('would be found out if it were none', async () => {
    await withClient(database.url, (client) =>
      client.query(`DELETE FROM claim WHERE holder = (
        SELECT holder FROM claim JOIN room USING (schedule_id) WHERE starts_at > now() LIMIT 1)`),
    );
    const checks = (await audit()).map((finding) => finding.check);
    expect(checks.sort()).toEqual(['appointment_without_claim', 'day_row_taken']);
  });

  it('is as large as it says, past and to come, in every status', async () => {
    expect(await count('SELECT count(*) FROM appointment')).toBe(20_000);
    expect(await count('SELECT count(DISTINCT status) FROM appointment')).toBe(6);
    expect(await count('SELECT count(*) FROM appointment WHERE starts_at < now()')).toBeGreaterThan(1_000);
    expect(
      await count(`SELECT count(*) FROM appointment WHERE starts_at > now() AND status = 'confirmed'`),
    ).toBeGreaterThan(shapeOf(20_000).stock);
  });

  it('refers to nothing that is not there', async () => {
    // It is loaded without looking up references one by one.
    for (const [table, key, target] of [
      ['appointment', 'patient_id', 'patient'],
      ['appointment', 'service_id', 'service'],
      ['appointment_segment', 'appointment_id', 'appointment'],
      ['appointment_segment', 'schedule_id', 'schedule'],
      ['appointment_history', 'appointment_id', 'appointment'],
      ['claim', 'schedule_id', 'schedule'],
      ['schedule_day', 'schedule_id', 'schedule'],
    ]) {
      const lost = `SELECT count(*) FROM ${table} f WHERE NOT EXISTS (SELECT 1 FROM ${target} t WHERE t.id = f.${key})`;
      expect([table, key, await count(lost)]).toEqual([table, key, 0]);
    }
  });
});
