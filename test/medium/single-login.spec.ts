import { randomBytes } from 'node:crypto';
import { Log, migrate, openDatabase, readSettings } from '../../src/platform';
import { createTestDatabase, withClient } from '../support/database';

/**
 * One login without superuser rights that owns its database, migrates and serves. Since PostgreSQL 16 the maker of a role is
 * its member without the right to become it, so the migration has to hand it that right by name.
 */
it('a single login that is no superuser migrates and serves', async () => {
  const { url: adminUrl, drop } = await createTestDatabase();
  const name = `holdfast_single_${randomBytes(4).toString('hex')}`;
  const url = new URL(adminUrl);
  url.username = name;
  url.password = 'single';
  url.pathname = `/${name}`;
  await withClient(adminUrl, async (admin) => {
    await admin.query(`CREATE ROLE ${name} LOGIN CREATEROLE PASSWORD 'single'`);
    await admin.query(`CREATE DATABASE ${name} OWNER ${name}`);
    try {
      await migrate({ ...readSettings({}), databaseUrl: url.href }, () => undefined);
      const { database, close } = await openDatabase(url.href, Log.create('silent'));
      try {
        await expect(database.onApplicationBootstrap()).resolves.toBeUndefined();
        const [row] = await database.read('01890000-0000-7000-8000-000000000000', (tx) =>
          tx.query<Array<{ role: string; patients: number }>>(
            'SELECT current_user AS role, (SELECT count(*)::int FROM patient) AS patients',
          ),
        );
        expect(row).toEqual({ role: `holdfast_app_${name}`, patients: 0 });
        const who = 'SELECT current_user AS role, (SELECT count(*)::int FROM appointment) AS appointments';
        expect(await database.system('test', (tx) => tx.query(who))).toEqual([
          { role: `holdfast_system_${name}`, appointments: 0 },
        ]);
        expect(await database.prune('test', (tx) => tx.query(who))).toEqual([
          { role: `holdfast_retention_${name}`, appointments: 0 },
        ]);
      } finally {
        await close();
      }
    } finally {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      for (const role of [...['app', 'system', 'retention'].map((kind) => `holdfast_${kind}_${name}`), name]) {
        await admin.query(`DROP ROLE IF EXISTS ${role}`);
      }
    }
  });
  await drop();
});
