import { auditLedger } from '../../src/operations';
import { AuditTrail } from '../../src/platform';
import { contentsOf, inDays, maker, newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { CANARIES, canariesIn, canariesInTables } from '../support/canaries';
import { peopleOf } from '../support/people';

describe('what is known of a patient', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let sql: Sql;
  let trail: AuditTrail;
  let people: ReturnType<typeof peopleOf>;
  let serviceId: string;
  let time = 0;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    sql = await openSql(app);
    trail = app.app.get(AuditTrail, { strict: false });
    people = peopleOf(app, clinic.organizationId, call);
    serviceId = (await maker(call).lane()).service.id;
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const nextTime = () => new Date(Date.parse(inDays(5)) + 1_800_000 * time++).toISOString();
  const erase = (id: string, headers: Record<string, string> = {}) =>
    call('POST', `/v1/patients/${id}/erase`, { headers });
  const body = () => ({
    serviceId,
    startsAt: nextTime(),
    attendeeName: CANARIES.attendee,
    notes: CANARIES.visitNotes,
    metadata: { [CANARIES.metadataName]: CANARIES.metadata },
  });

  /** Somebody of whom everything is known that can be: with answers kept, moved, cancelled, signed in, asked for a code. */
  async function somebody(phone: string) {
    const { name, email, notes, reason } = CANARIES;
    const keyed = (key: string) => ({ 'Idempotency-Key': `${key} ${phone.slice(-4)}` });
    const patient = { phone, name, email, notes, locale: 'de' };
    const made = await call('POST', '/v1/patients', { body: patient, headers: keyed('made') });
    const booking = { ...body(), patientId: made.body.id };
    const booked = await call('POST', '/v1/appointments', { body: booking, headers: keyed('booked') });
    const path = `/v1/appointments/${booked.body.id}`;
    const move = { startsAt: nextTime(), reason };
    const moved = await call('POST', `${path}/reschedule`, { body: move, headers: keyed('moved') });
    const cancelled = await call('POST', `${path}/cancel`, { body: { reason }, headers: keyed('cancelled') });
    const signedIn = await people.patient(phone);
    const own = await signedIn.call('POST', '/v1/appointments', { body: body(), headers: keyed('own') });
    const undone = await signedIn.call('POST', `/v1/appointments/${own.body.id}/cancel`, { body: { reason } });
    await people.post('otp', { organizationId: clinic.organizationId, phone });
    expect([made, booked, moved, cancelled, own, undone].map((each) => each.status)).toEqual([201, 201, 200, 200, 201, 200]); // prettier-ignore
    return { id: made.body.id as string, appointments: [booked.body.id, own.body.id], signedIn, booking, key: keyed('booked') }; // prettier-ignore
  }

  it('is exported whole, and is gone for ever once it is erased', async () => {
    const { id, appointments, signedIn, booking, key } = await somebody(CANARIES.phone);
    await trail.chain();
    const exported = await call('GET', `/v1/patients/${id}/export`);
    expect([exported.status, canariesIn(JSON.stringify(exported.body))]).toEqual([200, Object.values(CANARIES)]);
    expect(exported.body).toMatchObject({ patient: { id, deletedAt: null, erasedAt: null }, signIn: { id: expect.any(String) } }); // prettier-ignore
    expect(exported.body.appointments.map((each: { id: string; history: object[] }) => [each.id, each.history.length])).toEqual([[appointments[0], 3], [appointments[1], 2]]); // prettier-ignore
    // Five changes of appointments and the making of the patient, at least.
    expect(exported.body.auditLog.length).toBeGreaterThanOrEqual(6);
    expect((await canariesInTables(sql)).length).toBeGreaterThanOrEqual(15);

    const rows = `SELECT id, status, version, starts_at, ends_at, updated_at FROM appointment WHERE patient_id = $1 ORDER BY id`;
    const before = await sql(rows, [id]);
    const erased = await erase(id);
    expect([erased.status, erased.body]).toEqual([200, { id, erasedAt: expect.any(String) }]);
    expect(await canariesInTables(sql)).toEqual([]);
    expect(await sql(rows, [id])).toEqual(before);

    // Whoever repeats what he did before learns that it is done, and nothing is done again.
    const repeated = await call('POST', '/v1/appointments', { body: booking, headers: key });
    expect([repeated.status, repeated.headers.get('idempotency-replayed')]).toEqual([201, 'true']);
    expect(repeated.body).toMatchObject({ id: appointments[0], attendeeName: null, notes: null, metadata: {} });

    expect((await signedIn.call('GET', '/v1/appointments')).status).toBe(401);
    const refreshed = await people.post('refresh', { refreshToken: signedIn.refreshToken });
    expect(refreshed.status).toBe(401);
    expect((await call('GET', `/v1/patients/${id}`)).status).toBe(404);
    const left = await call('GET', `/v1/patients/${id}/export`);
    expect([left.status, canariesIn(JSON.stringify(left.body))]).toEqual([200, []]);
    expect(left.body.signIn).toBeNull();

    expect(await auditLedger(app.databaseUrl)).toEqual([]);
    await trail.chain();
    expect(await trail.verify()).toEqual([]);
    const told = await call('GET', `/v1/audit-log?entityId=${id}`);
    expect(told.body.data[0]).toMatchObject({ action: 'erase', entity: 'patient', entityId: id });
  });

  it('is erased once, however often', async () => {
    const { id } = await somebody(newPhone());
    const both = await Promise.all([erase(id), erase(id)]);
    expect(both.map((each) => each.status)).toEqual([200, 200]);
    const again = await erase(id, { 'Idempotency-Key': 'again' });
    expect([both[1].body, again.body]).toEqual([both[0].body, both[0].body]);
    const told = await call('GET', `/v1/audit-log?entityId=${id}&action=erase`);
    expect(told.body.data).toHaveLength(1);
    expect(
      await sql(`SELECT 1 FROM outbox_event WHERE type = 'patient.erased' AND subject_id = $1`, [id]),
    ).toHaveLength(1);
  });

  it('stays as long as an appointment is to come', async () => {
    const patient = await maker(call).patient({ name: 'Still Needed' });
    const booked = await call('POST', '/v1/appointments', { body: { ...body(), patientId: patient.id } });
    const before = await contentsOf(sql);
    expect(problemOf(await erase(patient.id))).toEqual(problem(409, 'in_use'));
    expect(await contentsOf(sql)).toEqual(before);
    await call('POST', `/v1/appointments/${booked.body.id}/cancel`);
    expect((await erase(patient.id)).status).toBe(200);
  });

  it('is erased of one who is deleted, too, and whoever has his phone now stays', async () => {
    const phone = newPhone();
    const { id } = await somebody(phone);
    expect((await call('DELETE', `/v1/patients/${id}`)).status).toBe(204);
    const heir = await maker(call).patient({ phone, name: 'The Heir' });
    const { call: signedIn } = await people.patient(phone);
    expect((await erase(id)).status).toBe(200);
    expect((await call('GET', `/v1/patients/${heir.id}`)).body).toMatchObject({ phone, name: 'The Heir' });
    expect((await signedIn('GET', '/v1/appointments')).status).toBe(200);
  });

  it('is a stale version once somebody has changed it', async () => {
    const patient = await maker(call).patient();
    expect(problemOf(await erase(patient.id, { 'If-Match': '"7"' }))).toEqual(problem(412, 'version_stale'));
    expect((await erase(patient.id, { 'If-Match': '"1"' })).status).toBe(200);
  });

  it("is nobody else's", async () => {
    const other = app.as((await addOrganization(app)).apiKey);
    const { id } = await maker(call).patient();
    const before = await contentsOf(sql);
    expect(problemOf(await other('GET', `/v1/patients/${id}/export`))).toEqual(problem(404, 'not_found'));
    expect(problemOf(await other('POST', `/v1/patients/${id}/erase`))).toEqual(problem(404, 'not_found'));
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('is erased before a booking or not at all', async () => {
    const outcomes = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const phone = newPhone();
      const { id } = await maker(call).patient({ phone, name: CANARIES.name });
      const who = round % 2 === 0 ? { patientId: id } : { patient: { phone } };
      const booking = { ...body(), ...who };
      const [erased, booked] = await Promise.all([
        erase(id),
        call('POST', '/v1/appointments', { body: booking, headers: { 'Idempotency-Key': `race ${round}` } }),
      ]);
      const [row] = await sql('SELECT erased_at FROM patient WHERE id = $1', [id]);
      const ofHim = await sql('SELECT notes FROM appointment WHERE patient_id = $1', [id]);
      const outcome = `${erased.status} ${booked.status}`;
      outcomes.add(outcome);
      // Either he has his appointment and is known, or he is unknown and has none.
      expect([outcome, row.erased_at !== null, ofHim.length]).toEqual([outcome, erased.status === 200, erased.status === 200 ? 0 : 1]); // prettier-ignore
      expect(['200 404', '200 201', '409 201']).toContain(outcome);
      if (outcome === '200 201') expect(booked.body.patientId).not.toBe(id);
    }
    expect(await auditLedger(app.databaseUrl)).toEqual([]);
  });

  it('is erased whatever is just written about a visit that is over', async () => {
    for (let round = 0; round < 6; round++) {
      const { id } = await maker(call).patient();
      const booked = await call('POST', '/v1/appointments', { body: { ...body(), patientId: id } });
      const path = `/v1/appointments/${booked.body.id}/cancel`;
      const [cancelled] = await Promise.all([
        call('POST', path, { body: { reason: CANARIES.reason }, headers: { 'Idempotency-Key': `late ${round}` } }),
        (async () => {
          while ((await erase(id)).status === 409);
        })(),
      ]);
      expect(cancelled.status).toBe(200);
      const [left] = await sql('SELECT count(*)::integer AS lines FROM appointment_history WHERE appointment_id = $1 AND reason IS NOT NULL', [booked.body.id]); // prettier-ignore
      expect(left.lines).toBe(0);
      expect(await sql('SELECT 1 FROM idempotency_key WHERE key = $1 AND body LIKE $2', [`late ${round}`, '%Canary%'])).toEqual([]); // prettier-ignore
    }
  });
});
