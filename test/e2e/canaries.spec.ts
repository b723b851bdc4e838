import { AuditTrail, Log, RATE_LIMITS, RateLimits } from '../../src/platform';
import { contentsOf, inDays, maker, openSql, sendRaw, type Sql } from '../support/api';
import { type Answer, type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { CANARIES, canariesIn, canariesInTables } from '../support/canaries';
import { catchDeliveries, peopleOf } from '../support/people';

/** Where what is known of a person belongs, and nowhere else. */
const BELONGS = /^public\.(patient|appointment|appointment_history|idempotency_key|phone_identity|otp_code)\./;

const PASSWORD = 'Canary-Password-Wiedehopf';

describe('what people tell', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let sql: Sql;
  let lines = '';
  let serviceId: string;
  let time = 0;
  const secrets: string[] = [PASSWORD];
  /** Every answer that told of a failure. */
  const failures: Answer[] = [];
  beforeAll(async () => {
    const log = Log.create('trace', { write: (line: string) => void (lines += line) });
    app = await startApp({ log, rateLimitsExempt: ['none'] });
    clinic = await seedClinic(app);
    sql = await openSql(app);
    call = watched(clinic.call);
    serviceId = (await maker(call).lane()).service.id;
    secrets.push(clinic.apiKey);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const watched =
    (caller: Caller): Caller =>
    async (...request) => {
      const answer = await caller(...request);
      if (answer.status >= 400) failures.push(answer);
      return answer;
    };
  const person = { phone: CANARIES.phone, name: CANARIES.name, email: CANARIES.email };
  const words = () => ({
    attendeeName: CANARIES.attendee,
    notes: CANARIES.visitNotes,
    metadata: { [CANARIES.metadataName]: CANARIES.metadata },
  });
  const startsAt = () => new Date(Date.parse(inDays(5)) + 1_800_000 * time++).toISOString();
  const book = (fields: object = {}, headers: Record<string, string> = {}) =>
    call('POST', '/v1/appointments', { body: { serviceId, startsAt: startsAt(), patient: person, ...words(), ...fields }, headers }); // prettier-ignore
  const all = () => [...Object.values(CANARIES), ...secrets];

  it('goes through bookings, refusals and changes', async () => {
    const first = await book({}, { 'Idempotency-Key': 'booked' });
    const path = `/v1/appointments/${first.body.id}`;
    const answers = [
      first,
      await book({ startsAt: first.body.startsAt }),
      await book({}, { 'Idempotency-Key': 'booked' }),
      await book({ hold: true }),
      await call('POST', `${path}/reschedule`, { body: { startsAt: startsAt(), reason: CANARIES.reason } }),
      await call('POST', `${path}/cancel`, { body: { reason: CANARIES.reason } }),
      await call('POST', `${path}/check-in`, { body: { reason: CANARIES.reason } }),
      await call('PATCH', `/v1/patients/${first.body.patientId}`, { body: { notes: CANARIES.notes } }),
      await call('GET', `/v1/patients?phone=${encodeURIComponent(CANARIES.phone)}`),
    ];
    expect(answers.map((answer) => answer.status)).toEqual([201, 409, 422, 201, 200, 200, 409, 200, 200]);
    const other = await call('POST', '/v1/patients', { body: { phone: '+4915100000001' } });
    const taken = await call('PATCH', `/v1/patients/${other.body.id}`, { body: { phone: CANARIES.phone } });
    expect(taken.status).toBe(409);
  });

  it('goes through mistakes', async () => {
    const { name, notes, phone, email } = CANARIES;
    const answers = [
      await call('POST', '/v1/patients', { body: { phone: `${phone}${name}` } }),
      await call('POST', '/v1/patients', { body: { phone, name: { first: name } } }),
      await call('POST', '/v1/patients', { body: { phone, email: `${email} ${notes}` } }),
      await call('POST', '/v1/patients', { body: { phone, locale: name.repeat(20), status: name } }),
      await call('POST', '/v1/patients', { raw: `{"phone":"${phone}","name":"${name}" "notes":${notes}}` }),
      await call('POST', '/v1/patients', { raw: `${name} ${phone}` }),
      await call('POST', '/v1/patients', { body: { phone, name: `${name}\0` } }),
      await call('GET', `/v1/patients?phone=${encodeURIComponent(`${phone} ${name}`)}`),
      await call('GET', `/v1/patients?cursor=${name}&phone=${encodeURIComponent(phone)}`),
      await call('GET', `/v1/nothing?phone=${encodeURIComponent(phone)}&name=${name}`),
      await call('GET', `/v1/appointments?status=${name}`),
      await call('GET', `/v1/patients/none?phone=${encodeURIComponent(phone)}`),
      await book({ startsAt: name }),
      await book({ mode: name }),
      await book({ serviceId: notes }),
      await book({ hold: name }),
      await book({ metadata: name }),
      await book({}, { 'If-Match': name }),
    ];
    expect(answers.map((answer) => answer.status).filter((status) => status < 400 || status >= 500)).toEqual([]);
    const raw = await sendRaw(`${app.url}/v1/patients?phone=${CANARIES.phone}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${clinic.apiKey}`, 'content-type': `application/${CANARIES.name}` },
      body: CANARIES.notes,
    });
    failures.push(raw);
  });

  it('goes through defects', async () => {
    const defects = [
      [`ALTER TABLE patient ADD CONSTRAINT planted CHECK (phone <> '+4915798765433')`, 'ALTER TABLE patient DROP CONSTRAINT planted'], // prettier-ignore
      ['ALTER TABLE patient RENAME COLUMN notes TO moved', 'ALTER TABLE patient RENAME COLUMN moved TO notes'],
      [
        `CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''% is no number'', NEW.name::integer; END';
         CREATE TRIGGER planted BEFORE INSERT ON patient FOR EACH ROW EXECUTE FUNCTION planted()`,
        'DROP FUNCTION planted CASCADE',
      ],
    ];
    const patient = { ...person, phone: '+4915798765433' };
    secrets.push(patient.phone);
    const before = await contentsOf(sql);
    for (const [defect, repair] of defects) {
      await sql(defect!);
      try {
        const made = await call('POST', '/v1/patients', { body: { ...patient, notes: CANARIES.notes } });
        const booked = await book({ patient });
        expect([made.status, booked.status]).toEqual([500, 500]);
      } finally {
        await sql(repair!);
      }
    }
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('goes through signing in, keys and limits', async () => {
    const caught = catchDeliveries(app);
    const people = peopleOf(app, clinic.organizationId, call);
    const { accessToken, refreshToken } = await people.patient(CANARIES.phone);
    const key = await call('POST', '/v1/api-keys', { body: { name: 'X' }, headers: { 'Idempotency-Key': 'a key' } });
    const invited = await call('POST', '/v1/invitations', { body: { email: 'x@example.org', role: 'operator' }, headers: { 'Idempotency-Key': 'a guest' } }); // prettier-ignore
    const rotated = await call('POST', `/v1/api-keys/${key.body.id}/rotate`, { body: {}, headers: { 'Idempotency-Key': 'the next' } }); // prettier-ignore
    const { invitationToken } = invited.body;
    secrets.push(accessToken, refreshToken, key.body.key, rotated.body.key, invitationToken);
    const nobody = watched(app.as(undefined));
    const post = (path: string, body: object) => nobody('POST', `/v1/auth/${path}`, { body });
    const signedUp = await post('sign-up', { invitationToken, name: 'X', password: PASSWORD });
    secrets.push(signedUp.body.accessToken, signedUp.body.refreshToken);
    await post('sign-in', { email: 'x@example.org', password: PASSWORD });
    await post('sign-in', { email: 'y@example.org', password: PASSWORD });
    await post('sign-up', { invitationToken, name: 'X', password: PASSWORD });
    await post('password-reset', { email: 'x@example.org' });
    await post('refresh', { refreshToken });
    await post('refresh', { refreshToken: `${refreshToken}x` });
    await post('otp/verify', { organizationId: clinic.organizationId, phone: CANARIES.phone, code: CANARIES.name });
    await post('otp', { organizationId: clinic.organizationId, phone: CANARIES.name });
    await watched(app.as(`${clinic.apiKey}x`))('GET', '/v1/patients');
    await watched(app.as(`${accessToken}x`))('GET', '/v1/appointments');
    secrets.push(...caught.concat(people.deliveries).filter(({ purpose }) => purpose !== 'sign_in').map(({ secret }) => secret)); // prettier-ignore
    const limits = app.app.get(RateLimits, { strict: false });
    await limits.takeAll([
      { limit: RATE_LIMITS.otpPerPhone, organizationId: clinic.organizationId, subject: CANARIES.phone },
      { limit: RATE_LIMITS.messagesPerPhone, organizationId: clinic.organizationId, subject: CANARIES.phone },
    ]);
    expect(await sql('SELECT count(*)::integer AS hits FROM rate_limit_hit')).not.toEqual([{ hits: 0 }]);
  });

  it('is found in no table but its own, and secrets in none', async () => {
    await app.app.get(AuditTrail, { strict: false }).chain();
    const found = await canariesInTables(sql, Object.values(CANARIES));
    expect(found.filter((place) => !BELONGS.test(place))).toEqual([]);
    // That it was looked for where it is.
    for (const table of ['patient', 'appointment', 'appointment_history', 'idempotency_key'])
      expect(found.filter((place) => place.startsWith(`public.${table}.`))).not.toEqual([]);
    expect(await canariesInTables(sql, secrets)).toEqual([]);
  });

  it('is found in no log, though it tells everything else', () => {
    expect(lines).toContain('unexpected_constraint_violation');
    expect(lines).toContain('unexpected_error');
    expect(lines).toContain('patient_created');
    const told = lines.split('\n').filter((line) => canariesIn(line, all()).length > 0);
    expect(told).toEqual([]);
  });

  it('is found in no failure that is told, its instance included', () => {
    expect(failures.length).toBeGreaterThanOrEqual(25);
    const told = failures.filter(
      ({ body, headers }) => canariesIn(JSON.stringify([body, [...headers]]), all()).length > 0,
    );
    expect(told.map(({ status, body }) => [status, body])).toEqual([]);
    expect(failures.filter(({ body }) => body.instance.includes('?'))).toEqual([]);
  });

  it('is found in no metric', async () => {
    const { body } = await call('GET', '/metrics');
    expect(body).toContain('holdfast_transactions_total');
    expect(canariesIn(body, all())).toEqual([]);
  });
});
