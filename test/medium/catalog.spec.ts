import { DataSource } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { AuditTrail, Database } from '../../src/platform';
import { addOrganization, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { Stage, type Session } from '../support/sessions';

/** Tables without row-level security, and why they need none. */
const EXEMPT: Record<string, string> = {
  migrations: 'which migrations ran; no data of any organization',
  rate_limit:
    'windows of limits, of the whole install; keys carry the organization, and a hash where a person is meant',
  rate_limit_hit: 'times within those windows',
  distributed_locks: 'leases on resources, of the whole install; keys carry ids only',
};

/** Tables of the install itself, users and sessions among them: closed to everybody but the system role. */
const OF_THE_INSTALL = ['auth_session', 'password_reset', 'signing_key', 'user_account'];

/**
 * What the database itself promises about organizations and history, read from its catalog and tried out. Each check is a
 * query for offences, and is seen red: the offence is planted and must be reported.
 */
describe('the catalog', () => {
  let app: TestApp;
  let clinic: Clinic;
  let other: { organizationId: string; apiKey: string };
  let stage: Stage;
  let roles: { app: string; system: string; retention: string };
  const open: Session[] = [];
  beforeAll(async () => {
    app = await startApp({ databasePoolSize: 4 });
    clinic = await seedClinic(app);
    other = await addOrganization(app);
    stage = await Stage.open(app.databaseUrl);
    const rows = await stage.look<{ policy: string; role: string }>(
      `SELECT polname AS policy, rolname AS role FROM pg_policy JOIN pg_roles r ON r.oid = ANY(polroles)
       WHERE polrelid = 'appointment'::regclass`,
    );
    const role = (policy: string) => rows.find((row) => row.policy === policy)!.role;
    roles = {
      app: role('organization_isolation'),
      system: role('system_access'),
      retention: role('retention_access'),
    };
    const start = `${workday()}T10:00:00Z`;
    const booked = await clinic.call('POST', '/v1/appointments', {
      headers: { 'Idempotency-Key': 'so that every table has a row' },
      body: {
        serviceId: clinic.services[0]!.id,
        practitionerId: clinic.practitioners[0]!.id,
        startsAt: start,
        patient: { phone: '+4915123456789' },
      },
    });
    expect(booked.status).toBe(201);
    await app.app.get(AuditTrail, { strict: false }).chain();
    await clinic.call('POST', '/v1/rooms', { body: { name: 'not in the log yet', timeZone: 'UTC' } });
    await clinic.call('POST', '/v1/api-keys', { body: { name: 'Of a practitioner' } });
    // Every reference has a row that makes it, those that this release cannot make by itself too.
    await stage.look(`
      UPDATE patient SET location_id = (SELECT min(id::text)::uuid FROM location);
      UPDATE schedule_hours SET location_id = (SELECT min(id::text)::uuid FROM location);
      INSERT INTO schedule_exception (organization_id, id, schedule_id, starts_at, ends_at, kind)
        SELECT organization_id, gen_random_uuid(), id, now(), now() + interval '1 hour', 'closed' FROM schedule LIMIT 1;
      INSERT INTO published_slot (organization_id, id, schedule_id, starts_at, ends_at, published_by)
        SELECT organization_id, gen_random_uuid(), id, now(), now() + interval '1 hour', gen_random_uuid() FROM schedule LIMIT 1;
      WITH session AS (
        INSERT INTO group_session (organization_id, id, schedule_id, service_id, starts_at, ends_at)
          SELECT s.organization_id, gen_random_uuid(), s.id, v.id, now(), now() + interval '1 hour' FROM schedule s, service v LIMIT 1
          RETURNING organization_id, id)
      INSERT INTO attendance (organization_id, session_id, seat, holder) SELECT organization_id, id, 1, gen_random_uuid() FROM session;
      INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, room_id, starts_at, ends_at,
                                       appointment_starts_at)
        SELECT a.organization_id, a.id, 1, r.schedule_id, r.id, a.starts_at, a.ends_at, a.starts_at FROM appointment a, room r LIMIT 1;
      INSERT INTO service_segment (organization_id, service_id, position, name, duration_minutes)
        SELECT organization_id, id, 0, 'first', 30 FROM service LIMIT 1;
      INSERT INTO service_segment_resource (organization_id, id, service_id, position, practitioner_id, room_id)
        (SELECT s.organization_id, gen_random_uuid(), service_id, position, p.id, NULL FROM service_segment s, practitioner p LIMIT 1)
        UNION ALL
        (SELECT s.organization_id, gen_random_uuid(), service_id, position, NULL, r.id FROM service_segment s, room r LIMIT 1);
      UPDATE api_key k SET role = 'practitioner', practitioner_id = p.id FROM practitioner p
        WHERE p.organization_id = k.organization_id AND k.name = 'Of a practitioner';
      WITH person AS (
        INSERT INTO user_account (id, email, name, password_hash) VALUES (gen_random_uuid(), 'a@example.org', 'A', '') RETURNING id),
      member AS (
        INSERT INTO membership (organization_id, user_id, role, practitioner_id)
          SELECT p.organization_id, person.id, 'practitioner', p.id FROM person, practitioner p LIMIT 1
          RETURNING organization_id, user_id, practitioner_id),
      phone AS (
        INSERT INTO phone_identity (organization_id, id, phone, verified_at)
          SELECT organization_id, gen_random_uuid(), '+4915123456789', now() FROM member RETURNING organization_id, id, phone),
      code AS (
        INSERT INTO otp_code (organization_id, phone, purpose, code_hash, expires_at)
          SELECT organization_id, phone, 'sign-in', '', now() FROM phone),
      invited AS (
        INSERT INTO invitation (organization_id, id, email, role, practitioner_id, token_hash, expires_at)
          SELECT organization_id, gen_random_uuid(), 'b@example.org', 'practitioner', practitioner_id, '', now() FROM member)
      INSERT INTO auth_session (id, organization_id, phone_identity_id, token_hash, client, expires_at)
        SELECT gen_random_uuid(), organization_id, id, '', '', now() FROM phone`);
  });
  afterEach(async () => {
    // An open transaction would keep the next test's changes of tables waiting.
    for (const session of open.splice(0)) await session.close();
  });
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  const quoted = (role: string) => `"${role.replaceAll('"', '""')}"`;

  /** Plants an offence, looks, and takes it back. */
  async function planted<T>(offence: string, look: () => Promise<T>, repair: string): Promise<T> {
    await stage.look(offence);
    try {
      return await look();
    } finally {
      await stage.look(repair);
    }
  }

  /** A session as a role of the product, in a transaction, with an organization or with none. */
  async function as(kind: keyof typeof roles, organizationId?: string): Promise<Session> {
    const session = await stage.session();
    open.push(session);
    await session.run('BEGIN');
    await session.run(`SELECT set_config('role', $1, true), set_config('holdfast.organization_id', $2, true)`, [
      roles[kind],
      organizationId ?? '',
    ]);
    return session;
  }

  const tables = async () => {
    const rows = await stage.look<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname`,
    );
    return rows.map((row) => row.name);
  };
  const ownedTables = async () =>
    (await tables()).filter((table) => !(table in EXEMPT) && !OF_THE_INSTALL.includes(table));
  const keyOf = (table: string) => (table === 'organization' ? 'id' : 'organization_id');

  describe('row-level security', () => {
    /** Tables that are not closed, or that are closed in another way than by the one policy. */
    const openTables = async (): Promise<string[]> => {
      const rows = await stage.look<{ name: string }>(
        `SELECT relname AS name FROM pg_class c
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT (
           relrowsecurity AND relforcerowsecurity
           AND EXISTS (
             SELECT 1 FROM pg_policy p WHERE polrelid = c.oid AND polname = 'organization_isolation'
               AND polpermissive AND polcmd = '*' AND polroles = ARRAY[$1::regrole::oid] AND polwithcheck IS NULL
               AND pg_get_expr(polqual, polrelid) = format(
                 '(%s = (NULLIF(current_setting(''holdfast.organization_id''::text, true), ''''::text))::uuid)',
                 CASE relname WHEN 'organization' THEN 'id' ELSE 'organization_id' END))
           -- Permissive policies add up: a second one for the same role would open what the first one closes.
           AND NOT EXISTS (SELECT 1 FROM pg_policy p WHERE polrelid = c.oid AND polname <> 'organization_isolation' AND polpermissive
             AND polroles <> ARRAY[$2::regrole::oid] AND polroles <> ARRAY[$3::regrole::oid]))
         ORDER BY relname`,
        [quoted(roles.app), quoted(roles.system), quoted(roles.retention)],
      );
      return rows.map((row) => row.name).filter((name) => !(name in EXEMPT) && !OF_THE_INSTALL.includes(name));
    };

    it('is enabled, forced and the same on every table', async () => {
      expect(await openTables()).toEqual([]);
      for (const name of Object.keys(EXEMPT)) expect(await tables()).toContain(name);
    });

    /** What of the install's own tables is open: to which role, or because security is not forced. */
    const openToOthers = async (): Promise<string[]> => {
      const rows = await stage.look<{ what: string }>(
        `SELECT relname || ' ' || what AS what FROM pg_class c, LATERAL (
           SELECT 'is not closed' AS what WHERE NOT (relrowsecurity AND relforcerowsecurity)
           UNION ALL SELECT 'has a policy ' || polname FROM pg_policy
             WHERE polrelid = c.oid AND polroles <> ARRAY[$1::regrole::oid]
           UNION ALL SELECT 'is granted to ' || rolname FROM pg_roles
             WHERE rolname = ANY($2) AND has_any_column_privilege(oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) open
         WHERE relnamespace = 'public'::regnamespace AND relname = ANY($3) ORDER BY 1`,
        [quoted(roles.system), [roles.app, roles.retention], OF_THE_INSTALL],
      );
      return rows.map((row) => row.what);
    };

    it('opens users, sessions and signing keys to the system alone', async () => {
      expect(await openToOthers()).toEqual([]);
      expect(await tables()).toEqual(expect.arrayContaining(OF_THE_INSTALL));
      const session = await as('app', clinic.organizationId);
      await expect(session.run('SELECT 1 FROM user_account')).rejects.toMatchObject({ code: '42501' });
    });

    it.each([
      ['is granted to', 'GRANT SELECT (email) ON user_account TO %'],
      ['has a policy also', 'CREATE POLICY also ON auth_session TO % USING (true)'],
      ['is not closed', 'ALTER TABLE signing_key NO FORCE ROW LEVEL SECURITY'],
    ])('is missed where one of them %s', async (what, offence) => {
      await stage.look('BEGIN');
      try {
        await stage.look(offence.replaceAll('%', quoted(roles.app)));
        expect(await openToOthers()).toEqual([expect.stringContaining(what)]);
      } finally {
        await stage.look('ROLLBACK');
      }
    });

    /** All that the role that prunes is granted, and what its policies make of it. */
    const retentionMay = async (): Promise<string[]> => {
      const rows = await stage.look<{ what: string }>(
        `WITH role AS (SELECT $1::regrole::oid AS oid),
         tables AS (SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p'))
         SELECT relname || ': ' || string_agg(privilege, ', ' ORDER BY privilege) AS what FROM (
           SELECT relname, privilege FROM role, tables t,
             unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
           WHERE has_table_privilege(role.oid, t.oid, privilege)
           UNION ALL
           SELECT relname, privilege || ' of ' || attname FROM role, tables t JOIN pg_attribute a ON a.attrelid = t.oid AND attnum > 0,
             unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege
           WHERE has_column_privilege(role.oid, t.oid, attnum, privilege) AND NOT has_table_privilege(role.oid, t.oid, privilege)
         ) granted GROUP BY relname
         UNION ALL
         SELECT format('%s: policy %s for %s, using %s, check %s', relname, polname,
                       CASE polcmd WHEN '*' THEN 'all' WHEN 'r' THEN 'select' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE polcmd::text END,
                       pg_get_expr(polqual, polrelid), coalesce(pg_get_expr(polwithcheck, polrelid), 'none'))
         FROM role, pg_policy p JOIN tables t ON t.oid = polrelid WHERE role.oid = ANY(polroles)
         ORDER BY 1`,
        [quoted(roles.retention)],
      );
      return rows.map((row) => row.what.replace(/\s+/g, ' ')).sort();
    };
    // The floors that hold whatever the settings say: a day for history and answers, and no appointment but an expired one.
    // What it may lock it may not change, for no row passes the check.
    const RETENTION = [
      'appointment: DELETE, SELECT, UPDATE of version',
      "appointment: policy retention_access for delete, using (status = 'expired'::text), check none",
      "appointment: policy retention_locks for update, using (status = 'expired'::text), check false",
      'appointment: policy retention_sees for select, using true, check none',
      'appointment_history: DELETE, SELECT',
      "appointment_history: policy retention_access for all, using (at < (now() - '1 day'::interval)), check none",
      'appointment_segment: DELETE, SELECT',
      "appointment_segment: policy retention_access for all, using (EXISTS ( SELECT 1 FROM appointment a WHERE ((a.id = appointment_segment.appointment_id) AND (a.status = 'expired'::text)))), check none",
      'idempotency_key: DELETE, SELECT',
      "idempotency_key: policy retention_access for all, using (created_at < (now() - '24:00:00'::interval)), check none",
    ];

    const scratch = 'CREATE TABLE scratch (organization_id uuid NOT NULL)';
    const policy = (roleOf: string, using = `NULLIF(current_setting('holdfast.organization_id', true), '')::uuid`) =>
      `CREATE POLICY organization_isolation ON scratch TO ${roleOf} USING (organization_id = ${using})`;
    const enable = 'ALTER TABLE scratch ENABLE ROW LEVEL SECURITY; ALTER TABLE scratch FORCE ROW LEVEL SECURITY';
    it.each([
      ['without any', () => scratch],
      ['that is not forced', () => `${scratch}; ${policy(quoted(roles.app))}; ALTER TABLE scratch ENABLE ROW LEVEL SECURITY`], // prettier-ignore
      ['without the policy', () => `${scratch}; ${enable}`],
      ['whose policy lets everything through', () => `${scratch}; ${enable}; ${policy(quoted(roles.app), 'organization_id')}`], // prettier-ignore
      ['whose policy is for everybody', () => `${scratch}; ${enable}; ${policy('PUBLIC')}`],
      ['with one more policy that opens it', () => `${scratch}; ${enable}; ${policy(quoted(roles.app))}; CREATE POLICY also ON scratch TO ${quoted(roles.app)} USING (true)`], // prettier-ignore
    ])('is missed on a table %s', async (_, offence) => {
      expect(await planted(offence(), openTables, 'DROP TABLE scratch')).toEqual(['scratch']);
    });

    it('lets the role that prunes do what is written here, and nothing else', async () => {
      expect(await retentionMay()).toEqual(RETENTION);
    });

    it.each([
      [
        'may see one more table',
        'CREATE POLICY also ON patient FOR SELECT TO % USING (true); GRANT SELECT ON patient TO %',
      ],
      ['may delete what has not expired', 'CREATE POLICY also ON appointment FOR DELETE TO % USING (true)'],
      ['may delete answers at any age', 'ALTER POLICY retention_access ON idempotency_key USING (true)'],
      ['may delete history at any age', 'ALTER POLICY retention_access ON appointment_history USING (true)'],
      ['may write what it locks', 'ALTER POLICY retention_locks ON appointment WITH CHECK (true)'],
      ['may insert', 'GRANT INSERT ON appointment_history TO %'],
      ['may update another column', 'GRANT UPDATE (status) ON appointment TO %'],
    ])('is missed when the role that prunes %s', async (_, offence) => {
      await stage.look('BEGIN');
      try {
        await stage.look(offence.replaceAll('%', quoted(roles.retention)));
        expect(await retentionMay()).not.toEqual(RETENTION);
      } finally {
        await stage.look('ROLLBACK');
      }
    });

    it('shows no row at all while no organization is set', async () => {
      const nobody = await as('app');
      for (const table of await ownedTables()) {
        expect([table, (await nobody.run(`SELECT 1 FROM ${table}`)).length]).toEqual([table, 0]);
      }
    });

    it("shows an organization its own rows and nobody else's, in every table", async () => {
      const session = await as('app', other.organizationId);
      const system = await as('system');
      const filled = [];
      for (const table of await ownedTables()) {
        const foreign = `SELECT 1 FROM ${table} WHERE ${keyOf(table)} <> $1`;
        if ((await system.run(foreign, [other.organizationId])).length > 0) filled.push(table);
        expect([table, (await session.run(foreign, [other.organizationId])).length]).toEqual([table, 0]);
      }
      // That nothing was seen proves something only where there is something.
      expect(filled).toEqual(await ownedTables());
    });

    it('refuses rows of another organization, and rows without any', async () => {
      const insert = `INSERT INTO patient (organization_id, id, phone) VALUES ($1, $2, '+4915111111111')`;
      const writers: Array<[Session, string]> = [
        [await as('app', other.organizationId), clinic.organizationId],
        [await as('app'), clinic.organizationId],
      ];
      for (const [session, organizationId] of writers) {
        await expect(session.run(insert, [organizationId, uuidv7()])).rejects.toMatchObject({ code: '42501' });
      }
      const mover = await as('app', clinic.organizationId);
      await expect(mover.run('UPDATE patient SET organization_id = $1', [other.organizationId])).rejects.toMatchObject({
        code: '42501',
      });
      const blind = await as('app', other.organizationId);
      const moved = await blind.run('UPDATE patient SET notes = $1 WHERE organization_id = $2 RETURNING id', [
        'seen',
        clinic.organizationId,
      ]);
      expect(moved).toEqual([]);
    });

    it('does not stay with a pooled connection after its transaction', async () => {
      const database = app.app.get(Database, { strict: false });
      const dataSource = app.app.get(DataSource, { strict: false });
      const state = `SELECT current_user <> session_user AS switched,
        coalesce(current_setting('holdfast.organization_id', true), '') AS organization, pg_backend_pid() AS pid`;
      type State = { switched: boolean; organization: string; pid: number };
      const used = new Set<number>();
      // All connections of the pool at once, with transactions that end in either way.
      await Promise.allSettled(
        [1, 2, 3, 4].map((index) =>
          database.transaction(clinic.organizationId, async (tx) => {
            const [row] = await tx.query<State[]>(state);
            expect(row).toMatchObject({ switched: true, organization: clinic.organizationId });
            used.add(row!.pid);
            await tx.query('SELECT pg_sleep(0.05)');
            if (index % 2 === 0) throw new Error('rolled back');
          }),
        ),
      );
      expect(used.size).toBeGreaterThan(0);
      const after = await Promise.all(
        [1, 2, 3, 4].map(async () => (await dataSource.query<State[]>(`${state}, pg_sleep(0.05)`))[0]!),
      );
      expect(after.some((row) => used.has(row.pid))).toBe(true);
      for (const row of after) expect(row).toMatchObject({ switched: false, organization: '' });
    });
  });

  describe('the roles', () => {
    /** What a role of the product must not be or have. */
    const offences = async (): Promise<string[]> => {
      const rows = await stage.look<{ offence: string }>(
        `SELECT rolname || ' ' || what AS offence FROM pg_roles r, LATERAL (VALUES
           ('is a superuser', rolsuper), ('bypasses row-level security', rolbypassrls), ('can log in', rolcanlogin),
           ('creates roles', rolcreaterole), ('creates databases', rolcreatedb),
           ('owns something', EXISTS (SELECT 1 FROM pg_class WHERE relowner = r.oid)
                           OR EXISTS (SELECT 1 FROM pg_namespace WHERE nspowner = r.oid)
                           OR EXISTS (SELECT 1 FROM pg_proc WHERE proowner = r.oid)),
           ('is a member of another role', EXISTS (SELECT 1 FROM pg_auth_members WHERE member = r.oid)),
           ('creates in the schema', has_schema_privilege(r.oid, 'public', 'CREATE')),
           ('changes history', EXISTS (
              -- But for the free text of the erased, which the role that serves an organization may take out (below).
              SELECT 1 FROM pg_attribute a WHERE attrelid = 'appointment_history'::regclass AND attnum > 0
                AND has_column_privilege(r.oid, attrelid, attnum, 'UPDATE') AND NOT (attname = 'reason' AND rolname = $3))
                            OR has_table_privilege(r.oid, 'appointment_history', 'DELETE') AND rolname <> $2),
           ('truncates', EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                                 AND has_table_privilege(r.oid, c.oid, 'TRUNCATE')))
         ) AS check_of (what, found) WHERE found AND rolname = ANY($1) ORDER BY 1`,
        [Object.values(roles), roles.retention, roles.app],
      );
      return rows.map((row) => row.offence);
    };

    it('can do no more than they need', async () => expect(await offences()).toEqual([]));

    // Roles belong to the whole server and other tests use them: what is planted on the role itself is rolled back.
    it.each([
      ['bypasses row-level security', (role: string) => `ALTER ROLE ${role} BYPASSRLS`],
      ['is a superuser', (role: string) => `ALTER ROLE ${role} SUPERUSER`],
      ['owns something', (role: string) => `CREATE TABLE scratch (id integer); ALTER TABLE scratch OWNER TO ${role}`],
      ['changes history', (role: string) => `GRANT UPDATE ON appointment_history TO ${role}`],
      ['truncates', (role: string) => `GRANT TRUNCATE ON claim TO ${role}`],
    ])('are missed when one %s', async (what, offence) => {
      for (const role of Object.values(roles)) {
        await stage.look('BEGIN');
        try {
          await stage.look(offence(quoted(role)));
          expect(await offences()).toContain(`${role} ${what}`);
        } finally {
          await stage.look('ROLLBACK');
        }
      }
    });

    it.each(['app', 'system'] as const)('cannot change or delete history (%s)', async (kind) => {
      for (const sql of [
        `UPDATE appointment_history SET reason = 'another'`,
        'DELETE FROM appointment_history',
        'TRUNCATE appointment_history',
      ]) {
        const session = await as(kind, clinic.organizationId);
        await expect(session.run(sql)).rejects.toMatchObject({ code: '42501' });
      }
    });

    it('takes words out of history, of nobody but who is erased, and changes nothing else of it', async () => {
      const change = async (set: string): Promise<number> => {
        const session = await as('app', clinic.organizationId);
        return (await session.run(`UPDATE appointment_history SET ${set} RETURNING version`)).length;
      };
      for (const set of ['reason = NULL', `reason = 'another'`, 'actor = NULL', 'at = now()', `details = '{}'`])
        await expect(change(set)).rejects.toMatchObject({ code: '42501' });
      await stage.look('BEGIN');
      try {
        const words = ['reason = NULL', `reason = 'another'`];
        const erase = `UPDATE patient SET phone = NULL, name = NULL, email = NULL, location_id = NULL, locale = NULL, notes = NULL,
                         verified_at = NULL, deleted_at = now(), erased_at = now()`;
        const attempts: string[] = [];
        for (const set of words) {
          await stage.look('SAVEPOINT before');
          await stage.look(erase);
          await stage.look(`SELECT set_config('role', '${roles.app}', true),
                              set_config('holdfast.organization_id', '${clinic.organizationId}', true)`);
          const changed = await stage.look(`UPDATE appointment_history SET ${set} RETURNING version`).catch((error: { code: string }) => error.code); // prettier-ignore
          attempts.push(Array.isArray(changed) ? `${changed.length > 0}` : changed);
          await stage.look('ROLLBACK TO before');
        }
        expect(attempts).toEqual(['true', '42501']);
      } finally {
        await stage.look('ROLLBACK');
      }
    });

    it('cannot change history, nor delete the history of today (retention)', async () => {
      for (const sql of [`UPDATE appointment_history SET reason = 'another'`, 'TRUNCATE appointment_history']) {
        const session = await as('retention');
        await expect(session.run(sql)).rejects.toMatchObject({ code: '42501' });
      }
      const session = await as('retention');
      expect(await session.run('DELETE FROM appointment_history RETURNING version')).toEqual([]);
    });

    it('makes organizations as the system alone', async () => {
      const session = await as('app', clinic.organizationId);
      await expect(session.run('DELETE FROM organization')).rejects.toMatchObject({ code: '42501' });
    });
  });

  describe('foreign keys', () => {
    /** Those between tables of organizations that would let a row refer to another organization's. */
    const loose = async (): Promise<string[]> => {
      const rows = await stage.look<{ name: string }>(
        `WITH owned AS (
           SELECT c.oid, c.relname, a.attnum FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             AND a.attname = CASE c.relname WHEN 'organization' THEN 'id' ELSE 'organization_id' END
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p'))
         SELECT f.relname || '.' || k.conname AS name FROM pg_constraint k
         JOIN owned f ON f.oid = k.conrelid JOIN owned t ON t.oid = k.confrelid
         WHERE k.contype = 'f' AND NOT EXISTS (
           SELECT 1 FROM unnest(k.conkey, k.confkey) AS pair (source, target)
           WHERE source = f.attnum AND target = t.attnum)
         ORDER BY 1`,
      );
      return rows.map((row) => row.name);
    };
    /** Columns that look like a reference (`..._id`) of which no key speaks, so nothing holds them to the organization. */
    const unkeyed = async (): Promise<string[]> => {
      const rows = await stage.look<{ name: string }>(
        `SELECT c.relname || '.' || a.attname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0
           AND a.attname LIKE '%\\_id' AND NOT EXISTS (
             SELECT 1 FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = c.oid AND a.attnum = ANY(k.conkey))
         ORDER BY 1`,
      );
      return rows.map((row) => row.name);
    };

    it('between tables of organizations all include the organization', async () => {
      expect(await loose()).toEqual([]);
      const [{ count }] = (await stage.look<{ count: number }>(
        `SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace`,
      )) as [{ count: number }];
      expect(count).toBeGreaterThan(20);
    });

    it('are there for every column that names a row of another table', async () => {
      // Events and entries of the audit trail may be about anything, also what is gone, so they name it without a key; a request
      // has no row; and what every booking writes down is checked when it comes into the log.
      const free = ['audit_log.entity_id', 'audit_log.request_id', 'audit_pending.entity_id'];
      const checkedLater = ['audit_pending.organization_id', 'audit_pending.request_id'];
      expect(await unkeyed()).toEqual([...free, ...checkedLater, 'outbox_event.subject_id']);
    });

    it('are missed when one forgets the organization, or refers to it by the wrong column', async () => {
      const found = await planted(
        `CREATE TABLE target (organization_id uuid, id uuid UNIQUE, PRIMARY KEY (organization_id, id));
         CREATE TABLE scratch (organization_id uuid, target_id uuid CONSTRAINT forgets REFERENCES target (id), a_id uuid, b_id uuid,
                               CONSTRAINT crosses FOREIGN KEY (a_id, b_id) REFERENCES target (organization_id, id));
         ALTER TABLE scratch ADD COLUMN lost_id uuid`,
        async () => [...(await loose()), ...(await unkeyed())],
        'DROP TABLE scratch, target',
      );
      expect(found).toEqual(expect.arrayContaining(['scratch.forgets', 'scratch.crosses', 'scratch.lost_id']));
    });

    it("refuse every reference to another organization's row", async () => {
      const keys = await stage.look<{ name: string; source: string; column: string }>(
        `SELECT conname AS name, conrelid::regclass::text AS source,
                (SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[cardinality(conkey)]) AS column
         FROM pg_constraint k WHERE contype = 'f' AND connamespace = 'public'::regnamespace
           AND EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = confrelid AND attname = 'organization_id')
         ORDER BY 2, 1`,
      );
      const untried: string[] = [];
      for (const { name, source, column } of keys) {
        await stage.look('BEGIN');
        try {
          // This key alone: what refuses shall be it, and nothing beside it.
          await stage.look(
            `DO $$ DECLARE k record; BEGIN
               FOR k IN SELECT conrelid::regclass AS source, conname AS name FROM pg_constraint
                        WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conname <> '${name}' LOOP
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.source, k.name);
               END LOOP;
             END $$`,
          );
          const sql =
            source === 'organization'
              ? `UPDATE organization SET ${column} = (SELECT ${column} FROM organization WHERE id = $2) WHERE id = $1 RETURNING 1`
              : `UPDATE ${source} SET organization_id = $1 WHERE organization_id = $2 AND ${column} IS NOT NULL RETURNING 1`;
          const moving = stage.look(sql, [other.organizationId, clinic.organizationId]);
          const outcome = await moving.then(
            (rows) => (rows.length === 0 ? 'no row to try it on' : 'accepted'),
            (error: { code: string; constraint?: string }) => `${error.code} ${error.constraint}`,
          );
          if (outcome === 'no row to try it on') untried.push(`${source}.${column}`);
          else expect([source, column, outcome]).toEqual([source, column, `23503 ${name}`]);
        } finally {
          await stage.look('ROLLBACK');
        }
      }
      expect(untried).toEqual([]);
    });
  });
});
