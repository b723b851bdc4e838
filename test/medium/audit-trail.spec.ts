import { AuditTrail, Database } from '../../src/platform';
import { type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { Stage } from '../support/sessions';

/** Tables whose changes nobody is told of, and why. */
const UNTOLD: Record<string, string> = {
  appointment: 'its history tells',
  appointment_segment: 'a part of the appointment',
  attendance: 'a part of the appointment',
  audit_head: 'the trail itself',
  audit_log: 'the trail itself',
  audit_pending: 'the trail itself',
  auth_session: 'signing in changes nothing of the clinic',
  claim: 'follows from the appointment',
  group_session: 'follows from the appointments in it',
  idempotency_key: 'an answer, not a change',
  otp_code: 'signing in changes nothing of the clinic',
  outbox_event: 'tells of a change that is told',
  phone_identity: 'signing in changes nothing of the clinic',
  schedule_day: 'follows from hours and appointments',
  schedule_hours: 'a part of the schedule, whose version rises',
  service_practitioner: 'a part of the service, whose version rises',
  service_segment: 'a part of the service, whose version rises',
  service_segment_resource: 'a part of the service, whose version rises',
};

describe('the audit trail', () => {
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  let trail: AuditTrail;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
    trail = app.app.get(AuditTrail, { strict: false });
  });
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  const ids = () => ({
    serviceId: clinic.services.find((each) => each.key === 'consultation')!.id,
    practitionerId: clinic.practitioners[0]!.id,
  });
  const book = (time: string, more: object = {}) =>
    clinic.call('POST', '/v1/appointments', {
      headers: { 'X-Request-Id': `book-${time.replace(':', '')}` },
      body: { ...ids(), startsAt: `${workday()}T${time}:00Z`, patient: { phone: '+4915112345678', ...more } },
    });
  const logOf = (query: string) => clinic.call('GET', `/v1/audit-log?${query}`);

  describe('tells of every change', () => {
    it('who did what to which version, when, and in which request', async () => {
      const booked = await book('10:00');
      const path = `/v1/appointments/${booked.body.id}`;
      expect(booked.headers.get('x-request-id')).toBe('book-1000');
      await clinic.call('POST', `${path}/cancel`, { body: { reason: 'a cold' } });
      const { data } = (await logOf(`entityId=${booked.body.id}`)).body as { data: Array<Record<string, unknown>> };
      expect(data.map(({ action, entity, version }) => [action, entity, version])).toEqual([
        ['cancel', 'appointment', 2],
        ['book', 'appointment', 1],
      ]);
      expect(data[1]).toMatchObject({ requestId: 'book-1000', at: booked.body.createdAt, hash: expect.any(String) });
      const [key] = await stage.look<{ id: string }>('SELECT id FROM api_key');
      expect(data.map(({ actor }) => actor)).toEqual([key!.id, key!.id]);
      expect(JSON.stringify(data)).not.toMatch(/cold|4915112345678/);
    });

    it('of records too, with what became of them; not of reading, and not of what was refused', async () => {
      const room = await clinic.call('POST', '/v1/rooms', { body: { name: 'Blue', timeZone: 'UTC' } });
      const path = `/v1/rooms/${room.body.id}`;
      await clinic.call('GET', path);
      await clinic.call('PATCH', path, { body: { name: 'Green' } });
      await clinic.call('PATCH', path, { body: { name: 'Red' }, headers: { 'If-Match': '"1"' } });
      await clinic.call('DELETE', path);
      const { data } = (await logOf(`entity=room&entityId=${room.body.id}`)).body as {
        data: Array<{ action: string }>;
      };
      expect(data.map(({ action }) => action)).toEqual(['delete', 'update', 'create']);
    });

    it('by actor, action and time, a page at a time, and to nobody else', async () => {
      const all = (await logOf('limit=1000')).body as { data: Array<{ seq: number; at: string }> };
      const some = (await logOf('limit=3')).body as { data: unknown[]; nextCursor: string };
      const more = (await logOf(`limit=3&cursor=${some.nextCursor}`)).body as { data: unknown[] };
      expect([...some.data, ...more.data]).toEqual(all.data.slice(0, 6));
      expect(all.data.map(({ seq }) => seq)).toEqual(all.data.map((_, index) => all.data.length - index));
      expect((await logOf('action=book')).body.data).toHaveLength(1);
      expect((await logOf('actor=nobody')).body.data).toEqual([]);
      expect((await logOf(`to=${all.data.at(-1)!.at}`)).body.data).toEqual([]);
      expect((await logOf('from=yesterday')).body.code).toBe('validation_failed');
    });
  });

  const untold = async () => {
    const rows = await stage.look<{ name: string }>(
      `SELECT relname AS name FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
         AND (relname = 'organization' OR EXISTS (
           SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped))
         AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'audited' AND t.tgenabled = 'O')
       ORDER BY relname`,
    );
    return rows.map(({ name }) => name);
  };

  it('is written by a trigger on every table of an organization, or there is a reason', async () => {
    expect(await untold()).toEqual(Object.keys(UNTOLD));
    await stage.look('ALTER TABLE patient DISABLE TRIGGER audited');
    expect(await untold()).toContain('patient');
    await stage.look('ALTER TABLE patient ENABLE TRIGGER audited');
  });

  it('is one chain without a gap, whoever chains how much of it at once', async () => {
    const times = ['11:00', '11:30', '12:00', '12:30', '13:00', '13:30', '14:00', '14:30'];
    const booked = times.map((time) => book(time));
    const chaining = Array.from({ length: 4 }, async () => {
      for (let turn = 0; turn < 10; turn++) await trail.chain();
    });
    await Promise.all([...booked, ...chaining]);
    await trail.chain();
    const told = await stage.look('SELECT 1 FROM audit_log WHERE action = $1', ['book']);
    expect(told).toHaveLength(1 + times.length);
    expect(await stage.look('SELECT 1 FROM audit_pending')).toEqual([]);
    expect(await trail.verify()).toEqual([]);
  });

  it('waits for no chain: a booking goes through while the head of the log is locked', async () => {
    const session = await stage.session();
    await session.run('BEGIN');
    await session.run('SELECT 1 FROM audit_head FOR UPDATE');
    expect((await book('15:00')).status).toBe(201);
    await session.run('ROLLBACK');
  });

  describe('shows that it was tampered with, by whoever owns the database', () => {
    it.each([
      ['an entry that was altered', `UPDATE audit_log SET actor = 'somebody' WHERE seq = 2`],
      ['one whose time was altered', `UPDATE audit_log SET at = at + interval '1 ms' WHERE seq = 2`],
      ['an entry that was deleted', 'DELETE FROM audit_log WHERE seq = 2'],
      [
        'a gap that was closed',
        `DELETE FROM audit_log WHERE seq = 2; UPDATE audit_log SET seq = 1 - seq WHERE seq > 2;
         UPDATE audit_log SET seq = -seq WHERE seq < 0; UPDATE audit_head SET seq = seq - 1`,
      ],
      [
        'two that changed places',
        'UPDATE audit_log SET seq = -seq WHERE seq IN (2, 3); UPDATE audit_log SET seq = 5 + seq WHERE seq < 0',
      ],
      ['an end that was cut off', 'DELETE FROM audit_log WHERE seq > (SELECT max(seq) - 2 FROM audit_log)'],
      [
        'an end that was cut off, and the head with it',
        `DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log);
         UPDATE audit_head SET seq = l.seq, hash = l.hash FROM (SELECT seq, hash FROM audit_log ORDER BY seq DESC LIMIT 1) l`,
      ],
      ['a head that is gone', 'DELETE FROM audit_head'],
      ['a log that is gone', 'DELETE FROM audit_log'],
      ['changes that were never told', `DELETE FROM audit_pending`],
    ])('%s', async (what, tampering) => {
      if (what.startsWith('changes')) await book('09:30');
      else await trail.chain();
      expect(await trail.verify()).toEqual([]);
      await stage.look('CREATE TABLE kept_log AS TABLE audit_log; CREATE TABLE kept_head AS TABLE audit_head');
      try {
        await stage.look(tampering);
        expect(await trail.verify()).not.toEqual([]);
      } finally {
        await stage.look(
          `DELETE FROM audit_log; INSERT INTO audit_log TABLE kept_log; DELETE FROM audit_head; INSERT INTO audit_head TABLE kept_head;
           DROP TABLE kept_log; DROP TABLE kept_head`,
        );
      }
    });
  });

  it('cannot be changed by any role of the product', async () => {
    const database = app.app.get(Database, { strict: false });
    const attempts = ['UPDATE audit_log SET actor = $1', 'DELETE FROM audit_log WHERE actor <> $1'];
    for (const sql of attempts) {
      for (const work of [
        () => database.transaction(clinic.organizationId, (tx) => tx.query(sql, ['x'])),
        () => database.system('an attempt', (tx) => tx.query(sql, ['x'])),
      ]) {
        await expect(work()).rejects.toMatchObject({ driverError: { code: '42501' } });
      }
    }
    const pending = 'DELETE FROM audit_pending WHERE actor <> $1';
    await expect(database.transaction(clinic.organizationId, (tx) => tx.query(pending, ['x']))).rejects.toMatchObject({
      driverError: { code: '42501' },
    });
  });
});
