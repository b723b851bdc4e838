import { ExpiryService, RetentionService } from '../../src/appointments';
import { Ledger } from '../../src/availability';
import { auditLedger } from '../../src/operations';
import { Database } from '../../src/platform';
import { ALWAYS, maker } from '../support/api';
import { addOrganization, type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { endIn } from '../support/life';
import { pauseBefore, type Session, Stage } from '../support/sessions';

/**
 * The end of what has outlived its use. Pruning is the only thing that deletes, so most of what is said here is what it must
 * leave alone. Age is written, not waited for.
 */
describe('retention', () => {
  const settings = { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 100 };
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  beforeAll(async () => {
    app = await startApp({ retention: settings });
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
    const { setHours } = maker(clinic.call);
    for (const { scheduleId } of clinic.practitioners) await setHours(scheduleId, ALWAYS);
  });
  beforeEach(async () => {
    Object.assign(settings, { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 100 });
    await prune();
  });
  afterEach(async () => {
    for (const session of open.splice(0)) await session.close();
    expect(await auditLedger(app.databaseUrl)).toEqual([]);
  });
  // What a test that failed has left open would keep the next ones waiting.
  const open: Session[] = [];
  const newSession = async () => {
    const session = await stage.session();
    open.push(session);
    return session;
  };
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  const prune = () => app.app.get(RetentionService, { strict: false }).prune();
  const sweep = () => app.app.get(ExpiryService, { strict: false }).sweep();
  let slots = 0;
  /** Books a quarter of an hour that nobody else here wants. */
  const book = (fields: { service?: string; hold?: boolean; key?: string } = {}): Promise<Answer> => {
    const slot = slots++;
    const start = Date.parse(`${workday(10)}T00:00:00Z`) + Math.floor(slot / 8) * 1_800_000;
    return clinic.call('POST', '/v1/appointments', {
      headers: fields.key === undefined ? {} : { 'Idempotency-Key': fields.key },
      body: {
        serviceId: clinic.services.find((each) => each.key === (fields.service ?? 'consultation'))!.id,
        practitionerId: clinic.practitioners[slot % 8]!.id,
        startsAt: new Date(start).toISOString(),
        hold: fields.hold ?? false,
        patient: { phone: '+4915160000000' },
      },
    });
  };
  const made = async (fields: { service?: string; hold?: boolean; key?: string } = {}): Promise<string> => {
    const { status, body } = await book(fields);
    expect([status, body.code]).toEqual([201, undefined]);
    return body.id;
  };
  const act = (id: string, action: string) => clinic.call('POST', `/v1/appointments/${id}/${action}`, { body: {} });
  const cancelled = async () => {
    const id = await made();
    expect((await act(id, 'cancel')).status).toBe(200);
    return id;
  };
  /** A hold or request that the sweeper has written down. */
  const expired = async (fields: { service?: string; hold?: boolean } = { hold: true }) => {
    const id = await made(fields);
    await endIn(stage, -1, id);
    expect(await sweep()).toBe(1);
    return id;
  };
  /** Makes the last change of appointments so many days old, and every line of their history with it. */
  const lastChanged = (days: number, ...ids: string[]) =>
    stage.look(
      `WITH lines AS (UPDATE appointment_history SET at = now() - make_interval(days => $2) WHERE appointment_id = ANY($1))
       UPDATE appointment SET created_at = now() - make_interval(days => $2), updated_at = now() - make_interval(days => $2)
       WHERE id = ANY($1)`,
      [ids, days],
    );
  /** Moves appointments that occupy nothing into the past. */
  const tookPlace = (days: number, ...ids: string[]) =>
    stage.look(
      `WITH moved AS (UPDATE appointment SET starts_at = starts_at - make_interval(days => $2), ends_at = ends_at - make_interval(days => $2)
                      WHERE id = ANY($1) RETURNING id, starts_at, ends_at)
       UPDATE appointment_segment s SET starts_at = moved.starts_at, ends_at = moved.ends_at, appointment_starts_at = moved.starts_at
       FROM moved WHERE moved.id = s.appointment_id`,
      [ids, days],
    );
  const everything = (...ids: string[]) =>
    stage.look(
      `SELECT to_jsonb(a) AS appointment,
              (SELECT jsonb_agg(s ORDER BY s.position) FROM appointment_segment s WHERE s.appointment_id = a.id) AS segments,
              (SELECT jsonb_agg(h ORDER BY h.version) FROM appointment_history h WHERE h.appointment_id = a.id) AS history
       FROM appointment a WHERE id = ANY($1) ORDER BY id`,
      [ids],
    );
  const linesOf = async (id: string) => {
    const answer = await clinic.call('GET', `/v1/appointments/${id}/history`);
    return [answer.status, answer.body.data?.map((line: { action: string }) => line.action)];
  };

  describe('of stored answers', () => {
    const stored = async () => {
      const rows = await stage.look<{ key: string }>('SELECT key FROM idempotency_key ORDER BY key');
      return rows.map((row) => row.key);
    };
    const aged = async (answers: Record<string, number>) => {
      await stage.look('TRUNCATE idempotency_key');
      for (const [key, hours] of Object.entries(answers)) {
        await made({ key });
        await stage.look(`UPDATE idempotency_key SET created_at = now() - make_interval(mins => $2) WHERE key = $1`, [
          key,
          hours * 60,
        ]);
      }
    };

    it('ends those that are older than the setting, and no other', async () => {
      await aged({ ancient: 10_000, old: 48.1, young: 47.9, new: 0 });
      expect(await prune()).toEqual({ answers: 2, holds: 0, histories: 0 });
      expect(await stored()).toEqual(['new', 'young']);
      expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 0 });
    });

    it('is refused by the database for those that may still be asked for, whatever the setting', async () => {
      settings.idempotencyHours = 0;
      await aged({ old: 24.1, young: 23.9, new: 0 });
      expect(await prune()).toMatchObject({ answers: 1 });
      expect(await stored()).toEqual(['new', 'young']);
    });
  });

  describe('of holds that expired', () => {
    it('ends those that are older than the setting, with all that belongs to them', async () => {
      const old = [await expired(), await expired()];
      await lastChanged(31, ...old);
      const other = await addOrganization(app, 'Another');
      const { practitioner, service, book: bookThere } = maker(app.as(other.apiKey));
      const who = await practitioner();
      const elsewhere = await bookThere({
        serviceId: (await service([who.id])).id,
        startsAt: `${workday(10)}T10:00:00Z`,
        hold: true,
      });
      await endIn(stage, -1, elsewhere.body.id);
      await sweep();
      await lastChanged(31, elsewhere.body.id);
      const young = await expired();
      await lastChanged(29, young);
      const before = await everything(young);

      expect(await prune()).toEqual({ answers: 0, holds: 3, histories: 0 });
      expect(await everything(...old, elsewhere.body.id, young)).toEqual(before);
      for (const table of ['appointment_segment', 'appointment_history', 'claim']) {
        const column = table === 'claim' ? 'holder' : 'appointment_id';
        expect(await stage.look(`SELECT 1 FROM ${table} WHERE ${column} = ANY($1)`, [old])).toEqual([]);
      }
      expect((await clinic.call('GET', `/v1/appointments/${old[0]}`)).status).toBe(404);
      expect((await act(old[0]!, 'confirm')).status).toBe(404);
      expect((await clinic.call('GET', `/v1/appointments/${young}`)).body.status).toBe('expired');
    });

    it('leaves requests alone that nobody decided, and everything else of that age', async () => {
      const request = await expired({ service: 'approval' });
      const hold = await made({ hold: true });
      expect((await act(hold, 'confirm')).status).toBe(200);
      const unswept = await made({ hold: true });
      await endIn(stage, -40 * 86_400, unswept);
      const kept = [request, hold, unswept, await made(), await made({ service: 'approval' }), await cancelled()];
      await lastChanged(40, ...kept);
      const before = await everything(...kept);
      expect(before).toHaveLength(6);
      expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 0 });
      expect(await everything(...kept)).toEqual(before);
      expect(await linesOf(request)).toEqual([200, ['book', 'expire']]);
      expect(await sweep()).toBe(1);
    });

    it('counts from the expiry that was written down, not from the booking', async () => {
      const hold = await expired();
      await stage.look(`UPDATE appointment SET created_at = now() - interval '90 days' WHERE id = $1`, [hold]);
      expect(await prune()).toMatchObject({ holds: 0 });
      expect(await everything(hold)).toHaveLength(1);
    });
  });

  describe('of histories', () => {
    it('ends those of appointments long over, whole, and leaves the appointments', async () => {
      const [old, changed, late] = [await cancelled(), await cancelled(), await cancelled()];
      await tookPlace(200, old, changed);
      await lastChanged(101, old, late);
      // The first line is old, the last one is not.
      await lastChanged(150, changed);
      await stage.look(
        `WITH line AS (UPDATE appointment_history SET at = now() - interval '99 days' WHERE appointment_id = $1 AND version = 2)
         UPDATE appointment SET updated_at = now() - interval '99 days' WHERE id = $1`,
        [changed],
      );
      const [before, kept] = [await everything(old), await everything(changed, late)];

      expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 1 });
      expect(await everything(old)).toEqual([{ ...before[0], history: null }]);
      expect(await everything(changed, late)).toEqual(kept);
      expect(await linesOf(old)).toEqual([200, []]);
      expect(await linesOf(changed)).toEqual([200, ['book', 'cancel']]);
      expect((await clinic.call('GET', `/v1/appointments/${old}`)).body).toMatchObject({
        status: 'cancelled',
        version: 2,
      });
      expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 0 });
    });

    it('is refused by the database for the lines of today, whatever the setting', async () => {
      settings.historyDays = 0;
      const id = await cancelled();
      await tookPlace(200, id);
      await stage.look(`UPDATE appointment SET updated_at = now() - interval '10 days' WHERE id = $1`, [id]);
      const before = await everything(id);
      await prune();
      expect(await everything(id)).toEqual(before);
      expect(before[0]!['history']).toHaveLength(2);
    });
  });

  describe('by the roles of the database', () => {
    const as = {
      app: (sql: string) =>
        app.app.get(Database, { strict: false }).transaction(clinic.organizationId, (tx) => tx.query<unknown[]>(sql)),
      system: (sql: string) =>
        app.app.get(Database, { strict: false }).system('test', (tx) => tx.query<unknown[]>(sql)),
      retention: (sql: string) =>
        app.app.get(Database, { strict: false }).prune('test', (tx) => tx.query<unknown[]>(sql)),
    };
    const denied = { driverError: { code: '42501' } };
    let old: string[];
    beforeAll(async () => {
      old = [await expired(), await made({ key: 'an old answer' })];
      await lastChanged(20, ...old);
      await stage.look(
        `UPDATE idempotency_key SET created_at = now() - interval '30 hours' WHERE key = 'an old answer'`,
      );
    });

    it.each(['app', 'system'] as const)('history is deleted and changed by nobody who serves (%s)', async (role) => {
      await expect(as[role]('DELETE FROM appointment_history')).rejects.toMatchObject(denied);
      await expect(as[role](`UPDATE appointment_history SET reason = 'another'`)).rejects.toMatchObject(denied);
    });

    it('what prunes changes nothing, in no table', async () => {
      const tables = await stage.look<{ name: string; column: string }>(
        `SELECT relname AS name, (SELECT min(attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attgenerated = '') AS column
         FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')`,
      );
      expect(tables.length).toBeGreaterThan(15);
      for (const { name, column } of tables) {
        await expect(as.retention(`INSERT INTO ${name} DEFAULT VALUES`)).rejects.toMatchObject(denied);
        await expect(as.retention(`UPDATE ${name} SET ${column} = ${column}`)).rejects.toMatchObject(denied);
        await expect(as.retention(`TRUNCATE ${name}`)).rejects.toMatchObject(denied);
      }
      // The one column that it may name, so that it may lock the row, lets no row pass.
      await expect(as.retention('UPDATE appointment SET version = version')).rejects.toMatchObject(denied);
      await expect(as.retention(`UPDATE appointment SET status = 'expired'`)).rejects.toMatchObject(denied);
    });

    it('what prunes sees no table but those that it prunes', async () => {
      const tables = await stage.look<{ name: string }>(
        `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> ALL($1)`,
        [['appointment', 'appointment_segment', 'appointment_history', 'idempotency_key']],
      );
      for (const { name } of tables) {
        await expect(as.retention(`SELECT 1 FROM ${name}`)).rejects.toMatchObject(denied);
        await expect(as.retention(`DELETE FROM ${name}`)).rejects.toMatchObject(denied);
      }
    });

    it('what prunes deletes no appointment that has not expired, and none of its parts', async () => {
      await made();
      const count = async () =>
        (
          await stage.look(
            `SELECT (SELECT count(*) FROM appointment WHERE status <> 'expired') AS appointments,
                    (SELECT count(*) FROM appointment_segment s JOIN appointment a ON a.id = s.appointment_id AND a.status <> 'expired') AS parts,
                    (SELECT count(*) FROM appointment_history WHERE at > now() - interval '1 day') AS lines,
                    (SELECT count(*) FROM idempotency_key WHERE created_at > now() - interval '24 hours') AS answers`,
          )
        )[0]!;
      const before = await count();
      expect(Object.values(before).every((number) => Number(number) > 0 || before.answers === number)).toBe(true);
      // Deletes all that it can, and takes it back.
      const deleted: Record<string, number> = {};
      const undone = app.app.get(Database, { strict: false }).prune('test', async (tx) => {
        const left = async (sql: string) =>
          Number((await tx.query<[{ count: string }]>(`SELECT count(*) FROM ${sql}`))[0].count);
        for (const table of ['idempotency_key', 'appointment_history', 'appointment_segment']) {
          deleted[table] = (await tx.query<[unknown[], number]>(`DELETE FROM ${table}`))[1];
          expect([table, await left(table)]).toEqual([table, 0]);
        }
        deleted['locked'] = (await tx.query<unknown[]>('SELECT 1 FROM appointment FOR UPDATE')).length;
        await tx.query(`DELETE FROM appointment WHERE status <> 'expired'`);
        expect(await left(`appointment WHERE status <> 'expired'`)).toBe(Number(before.appointments));
        throw new Error('taken back');
      });
      await expect(undone).rejects.toThrow('taken back');
      expect(Object.values(deleted).every((number) => number > 0)).toBe(true);
      expect(deleted['locked']).toBe(
        Number((await stage.look(`SELECT count(*) FROM appointment WHERE status = 'expired'`))[0]!['count']),
      );
      expect(await count()).toEqual(before);
    });
  });

  describe('beside others', () => {
    /** A session that keeps the pruner waiting in the middle: the hold locked, nothing of it deleted. */
    const inItsWay = async (id: string) => {
      const session = await newSession();
      await session.run('BEGIN');
      await session.run('SELECT 1 FROM appointment_history WHERE appointment_id = $1 FOR UPDATE', [id]);
      return session;
    };

    it('lets a late confirm wait, which then finds nothing', async () => {
      const hold = await expired();
      await lastChanged(31, hold);
      const session = await inItsWay(hold);
      const pruned = prune();
      await stage.waiting(1);
      const confirmed = act(hold, 'confirm');
      await stage.waiting(2);
      await session.run('COMMIT');
      expect(await pruned).toMatchObject({ holds: 1 });
      expect(await confirmed).toMatchObject({ status: 404, body: { code: 'not_found' } });
      expect(await stage.look('SELECT 1 FROM claim WHERE holder = $1', [hold])).toEqual([]);
    });

    it('leaves a hold alone that is being confirmed late, and complete it is', async () => {
      const hold = await expired();
      await lastChanged(31, hold);
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'claim');
      const confirmed = act(hold, 'confirm');
      await pause.reached;
      expect(await prune()).toMatchObject({ holds: 0 });
      pause.resume();
      expect(await confirmed).toMatchObject({ status: 200, body: { status: 'confirmed', version: 3 } });
      expect(await linesOf(hold)).toEqual([200, ['book', 'expire', 'confirm']]);
      expect(await prune()).toMatchObject({ holds: 0, histories: 0 });
      const [row] = await everything(hold);
      expect(row!['segments']).toHaveLength(1);
      expect(row!['history']).toHaveLength(3);
    });

    it('prunes the other holds beside one that is being confirmed', async () => {
      const [confirming, other] = [await expired(), await expired()];
      await lastChanged(31, confirming, other);
      const pause = pauseBefore(app.app.get(Ledger, { strict: false }), 'claim');
      const confirmed = act(confirming, 'confirm');
      await pause.reached;
      expect(await prune()).toMatchObject({ holds: 1 });
      pause.resume();
      expect((await confirmed).status).toBe(200);
    });

    it('prunes each once when two do it at once', async () => {
      const holds = [await expired(), await expired(), await expired()];
      await lastChanged(31, ...holds);
      const old = [await cancelled(), await cancelled()];
      await tookPlace(200, ...old);
      await lastChanged(101, ...old);
      const session = await inItsWay(holds[0]!);
      const first = prune();
      await stage.waiting(1);
      // The second one does not wait for the holds of the first.
      expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 2 });
      await session.run('COMMIT');
      expect(await first).toEqual({ answers: 0, holds: 3, histories: 0 });
      expect(await everything(...holds)).toEqual([]);
      expect((await everything(...old)).map((row) => row['history'])).toEqual([null, null]);
    });

    it('leaves nothing half pruned when its backend dies', async () => {
      const hold = await expired();
      await lastChanged(31, hold);
      const before = await everything(hold);
      const session = await newSession();
      await session.run('BEGIN');
      // The history is deleted by then, the segment is not.
      await session.run('SELECT 1 FROM appointment_segment WHERE appointment_id = $1 FOR UPDATE', [hold]);
      const pruned = prune().then(
        () => 'pruned',
        () => 'failed',
      );
      await stage.waiting(1);
      const [waiter] = await stage.waiters();
      await stage.look('SELECT pg_terminate_backend($1, 10000)', [waiter!.pid]);
      expect(await pruned).toBe('failed');
      await session.run('COMMIT');
      expect(await everything(hold)).toEqual(before);
      expect(await prune()).toMatchObject({ holds: 1 });
    });
  });

  it('goes on until all that is old has gone, in batches', async () => {
    const [hold, old] = [await expired(), await cancelled()];
    await lastChanged(31, hold);
    await tookPlace(200, old);
    await lastChanged(101, old);
    const copies = async (id: string, count: number) => {
      await stage.look(
        `WITH made AS (SELECT gen_random_uuid() AS id FROM generate_series(1, $2)),
         appointments AS (
           INSERT INTO appointment SELECT (jsonb_populate_record(a, jsonb_build_object('id', made.id))).* FROM appointment a, made WHERE a.id = $1),
         segments AS (
           INSERT INTO appointment_segment
           SELECT (jsonb_populate_record(s, jsonb_build_object('appointment_id', made.id))).* FROM appointment_segment s, made WHERE s.appointment_id = $1)
         INSERT INTO appointment_history
         SELECT (jsonb_populate_record(h, jsonb_build_object('appointment_id', made.id))).* FROM appointment_history h, made WHERE h.appointment_id = $1`,
        [id, count],
      );
    };
    await copies(hold, 1_500);
    await copies(old, 1_500);
    await stage.look(
      `INSERT INTO idempotency_key (organization_id, principal, key, fingerprint, status, body, created_at)
       SELECT $1::uuid, $1::uuid, 'copy ' || n, '\\x00', 200, '{}', now() - interval '50 hours' FROM generate_series(1, 2500) AS n`,
      [clinic.organizationId],
    );
    const appointments = async () => Number((await stage.look('SELECT count(*) FROM appointment'))[0]!['count']);
    const before = await appointments();
    const batches = jest.spyOn(app.app.get(Database, { strict: false }), 'prune');
    expect(await prune()).toEqual({ answers: 2_500, holds: 1_501, histories: 1_501 });
    // Not all of a kind in one transaction, whose locks others would feel.
    expect(batches.mock.calls.length).toBeGreaterThan(7);
    jest.restoreAllMocks();
    expect(await stage.look(`SELECT 1 FROM idempotency_key WHERE key LIKE 'copy %'`)).toEqual([]);
    expect((await appointments()) - before).toBe(-1_501);
    expect(await prune()).toEqual({ answers: 0, holds: 0, histories: 0 });
  });
});
