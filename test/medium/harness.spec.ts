import { createTestDatabase, openClient, withClient } from '../support/database';

type TestDatabase = Awaited<ReturnType<typeof createTestDatabase>>;

describe('the test databases', () => {
  let one: TestDatabase;
  let other: TestDatabase;

  beforeAll(async () => {
    [one, other] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  });

  afterAll(async () => {
    await Promise.all([one.drop(), other.drop()]);
  });

  it('are independent of each other', async () => {
    const tables = `SELECT to_regclass('only_here') IS NOT NULL AS found`;
    await withClient(one.url, (client) => client.query('CREATE TABLE only_here (id integer)'));

    expect((await withClient(one.url, (client) => client.query(tables))).rows).toEqual([{ found: true }]);
    expect((await withClient(other.url, (client) => client.query(tables))).rows).toEqual([{ found: false }]);
  });

  it('are migrated', async () => {
    const client = await openClient(one.url);
    const constraint = await client.query(
      `SELECT contype FROM pg_constraint WHERE conname = 'claim_no_overlap' AND conrelid = 'claim'::regclass`,
    );
    const applied = await client.query('SELECT name FROM migrations');

    expect(constraint.rows).toEqual([{ contype: 'x' }]);
    expect(applied.rows).toContainEqual({ name: 'Foundation1795305600000' });
    await client.end();
  });

  it('are gone when dropped, connections or not', async () => {
    const database = await createTestDatabase();
    const client = await openClient(database.url);
    const broken = new Promise((resolve) => client.on('error', resolve));
    await database.drop();
    await broken;
    await expect(openClient(database.url)).rejects.toThrow('does not exist');
  });
});
