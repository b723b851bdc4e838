import { contentsOf, inDays, maker, newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('Idempotency-Key', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  let practitioner: { id: string; scheduleId: string };
  let service: { id: string };
  let apiKey: string;
  let keys = 0;
  beforeAll(async () => {
    app = await startApp();
    ({ call, apiKey } = await seedClinic(app));
    make = maker(call);
    sql = await openSql(app);
    practitioner = await make.practitioner();
    service = await make.service([practitioner.id]);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const newKey = () => `key-${keys++}`;
  let minutes = 0;
  /** A booking of a time that no other test has. */
  const booking = (fields: object = {}) => ({
    serviceId: service.id,
    startsAt: new Date(Date.parse(inDays(5)) + 1_800_000 * minutes++).toISOString(),
    patient: { phone: newPhone(), name: 'A. Example' },
    ...fields,
  });
  /** The answer with its text as it came, for `byte for byte`. */
  async function post(path: string, key: string | undefined, body: unknown, secret = apiKey, more: object = {}) {
    const response = await fetch(app.url + path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers: {
        Authorization: `Bearer ${secret}`,
        'Content-Type': 'application/json',
        ...(key === undefined ? {} : { 'Idempotency-Key': key }),
        ...more,
      },
    });
    const text = await response.text();
    const { status, headers } = response;
    return { status, headers, text, body: JSON.parse(text) } as Answer & { text: string };
  }
  const replayed = (answer: Answer) => answer.headers.get('idempotency-replayed');
  const essence = ({ status, headers, text }: Answer & { text: string }) => ({
    status,
    text,
    location: headers.get('location'),
    etag: headers.get('etag'),
    type: headers.get('content-type'),
  });

  it('replays the first answer byte for byte', async () => {
    const key = newKey();
    const body = booking({ metadata: { z: 1, a: [{ c: 2, b: 3 }] }, attendeeName: '👩‍⚕️ שרה' });
    const first = await post('/v1/appointments', key, body);
    const second = await post('/v1/appointments', key, body);
    expect([first.status, replayed(first), replayed(second)]).toEqual([201, null, 'true']);
    expect(essence(second)).toEqual(essence(first));
    expect(second.headers.get('location')).toBe(`/v1/appointments/${first.body.id}`);
    expect(second.headers.get('etag')).toBe('"1"');
  });

  it('replays what was, not what is', async () => {
    const key = newKey();
    const body = booking();
    const first = await post('/v1/appointments', key, body);
    await post(`/v1/appointments/${first.body.id}/cancel`, undefined, {});
    const second = await post('/v1/appointments', key, body);
    expect(essence(second)).toEqual(essence(first));
    expect((await call('GET', `/v1/appointments/${first.body.id}`)).body.status).toBe('cancelled');
  });

  it('is the same key quoted or bare', async () => {
    const key = newKey();
    const body = booking();
    const first = await post('/v1/appointments', key, body);
    const quoted = await post('/v1/appointments', `"${key}"`, body);
    expect([quoted.status, replayed(quoted), quoted.text]).toEqual([201, 'true', first.text]);
    const other = newKey();
    const another = booking();
    const one = await post('/v1/appointments', `"${other}"`, another);
    const two = await post('/v1/appointments', other, another);
    expect([two.status, replayed(two), two.text]).toEqual([201, 'true', one.text]);
  });

  it('is told apart by its letters', async () => {
    const body = { name: 'X', timeZone: 'Europe/Berlin' };
    const [lower, upper] = [
      await post('/v1/locations', 'letters-a', body),
      await post('/v1/locations', 'LETTERS-A', body),
    ];
    expect([lower.status, upper.status, lower.body.id === upper.body.id]).toEqual([201, 201, false]);
  });

  it('does not mind the order of members, nor blanks', async () => {
    const key = newKey();
    const body = booking({ metadata: { a: { b: 1, c: [1, 2] }, d: null } });
    const first = await post('/v1/appointments', key, body);
    const { serviceId, startsAt, patient, metadata } = body as unknown as Record<string, Record<string, unknown>>;
    const shuffled = {
      metadata: { d: null, a: { c: [1, 2], b: 1 } },
      patient: { name: patient!['name'], phone: patient!['phone'] },
      startsAt,
      serviceId,
    };
    expect(metadata).toEqual(shuffled.metadata);
    const second = await post('/v1/appointments', key, JSON.stringify(shuffled, null, 4));
    expect([second.status, replayed(second), second.text]).toEqual([201, 'true', first.text]);
  });

  it.each<[string, (body: object) => object]>([
    ['metadata', (body) => ({ ...body, metadata: { a: 2 } })],
    ['the order within a list', (body) => ({ ...body, metadata: { a: 1, list: [2, 1] } })],
    ['the time', (body) => ({ ...body, startsAt: inDays(60, '10:00') })],
    ['the patient', (body) => ({ ...body, patient: { phone: newPhone() } })],
    ['a member more', (body) => ({ ...body, notes: 'x' })],
    ['a text for a number', (body) => ({ ...body, metadata: { a: '1', list: [1, 2] } })],
  ])('with another body is refused: %s', async (_, change) => {
    const key = newKey();
    const body = booking({ metadata: { a: 1, list: [1, 2] } });
    const first = await post('/v1/appointments', key, body);
    const before = await contentsOf(sql);
    const second = await post('/v1/appointments', key, change(body));
    expect(problemOf(second)).toEqual(problem(422, 'idempotency_key_reused'));
    expect(await contentsOf(sql)).toEqual(before);
    const third = await post('/v1/appointments', key, body);
    expect([third.status, third.text]).toEqual([201, first.text]);
  });

  it('on another path is refused', async () => {
    const key = newKey();
    const [one, two] = [
      await post('/v1/appointments', undefined, booking()),
      await post('/v1/appointments', undefined, booking()),
    ];
    expect((await post(`/v1/appointments/${one.body.id}/cancel`, key, { reason: 'x' })).status).toBe(200);
    const other = await post(`/v1/appointments/${two.body.id}/cancel`, key, { reason: 'x' });
    expect(problemOf(other)).toEqual(problem(422, 'idempotency_key_reused'));
    expect((await call('GET', `/v1/appointments/${two.body.id}`)).body.status).toBe('confirmed');
    const practitioners = await post('/v1/practitioners', newKey(), { name: 'Same body' });
    const shared = newKey();
    expect((await post('/v1/rooms', shared, { name: 'Same body' })).status).toBe(201);
    const again = await post('/v1/practitioners', shared, { name: 'Same body' });
    expect([practitioners.status, problemOf(again)]).toEqual([201, problem(422, 'idempotency_key_reused')]);
  });

  it("is each caller's own", async () => {
    const key = newKey();
    const body = { name: 'X', timeZone: 'Europe/Berlin' };
    const first = await post('/v1/locations', key, body);
    const colleague = (await call('POST', '/v1/api-keys', { body: { name: 'Colleague' } })).body.key;
    const stranger = (await addOrganization(app)).apiKey;
    const [second, third] = [
      await post('/v1/locations', key, body, colleague),
      await post('/v1/locations', key, body, stranger),
    ];
    expect([second, third].map((answer) => [answer.status, replayed(answer)])).toEqual([
      [201, null],
      [201, null],
    ]);
    expect(new Set([first, second, third].map((answer) => answer.body.id)).size).toBe(3);
    const different = await post('/v1/locations', key, { ...body, name: 'Y' }, (await addOrganization(app)).apiKey);
    expect(different.status).toBe(201);
  });

  describe('is free again after', () => {
    it('400', async () => {
      const key = newKey();
      const body = booking();
      expect((await post('/v1/appointments', key, { ...body, startsAt: 'x' })).status).toBe(400);
      const answer = await post('/v1/appointments', key, body);
      expect([answer.status, replayed(answer)]).toEqual([201, null]);
    });
    it('404', async () => {
      const key = newKey();
      const body = booking();
      const unknown = { ...body, serviceId: '01890000-0000-7000-8000-000000000000' };
      expect((await post('/v1/appointments', key, unknown)).status).toBe(404);
      expect((await post('/v1/appointments', key, body)).status).toBe(201);
    });
    it('409, and the same request succeeds when the time is free', async () => {
      const body = booking();
      const taken = await post('/v1/appointments', undefined, { ...body, patient: { phone: newPhone() } });
      const key = newKey();
      expect((await post('/v1/appointments', key, body)).body.code).toBe('slot_taken');
      expect((await post('/v1/appointments', key, body)).body.code).toBe('slot_taken');
      await post(`/v1/appointments/${taken.body.id}/cancel`, undefined, {});
      const answer = await post('/v1/appointments', key, body);
      expect([answer.status, replayed(answer)]).toEqual([201, null]);
    });
    it('412', async () => {
      const { body } = await post('/v1/appointments', undefined, booking());
      const key = newKey();
      const path = `/v1/appointments/${body.id}/cancel`;
      expect((await post(path, key, {}, apiKey, { 'If-Match': '"9"' })).status).toBe(412);
      expect((await post(path, key, {}, apiKey, { 'If-Match': '"1"' })).status).toBe(200);
    });
    it('422', async () => {
      const key = newKey();
      const body = booking();
      expect((await post('/v1/appointments', key, { ...body, startsAt: inDays(-1) })).status).toBe(422);
      expect((await post('/v1/appointments', key, body)).status).toBe(201);
    });
    it('428', async () => {
      const key = newKey();
      const path = `/v1/schedules/${practitioner.scheduleId}/exceptions`;
      const body = { startsAt: inDays(70), endsAt: inDays(71), kind: 'closed' };
      expect((await post(path, key, body)).status).toBe(428);
      expect((await post(path, key, body, apiKey, { 'If-Match': '*' })).status).toBe(201);
    });
  });

  it('has one effect when ten come at once', async () => {
    for (let round = 0; round < 5; round++) {
      const key = newKey();
      const body = booking();
      const answers = await Promise.all(Array.from({ length: 10 }, () => post('/v1/appointments', key, body)));
      const made = answers.filter((answer) => answer.status === 201);
      expect(made.filter((answer) => replayed(answer) === null)).toHaveLength(1);
      expect(new Set(made.map((answer) => answer.text)).size).toBe(1);
      const others = answers.filter((answer) => answer.status !== 201);
      expect(others.map(problemOf)).toEqual(others.map(() => problem(409, 'request_in_progress')));
      const rows = await sql('SELECT count(*)::int AS n FROM appointment WHERE starts_at = $1', [body.startsAt]);
      expect(rows).toEqual([{ n: 1 }]);
      const later = await post('/v1/appointments', key, body);
      expect([later.status, later.text]).toEqual([201, made[0]!.text]);
    }
  });

  it('has one effect when different bodies come at once', async () => {
    const key = newKey();
    const bodies = Array.from({ length: 6 }, (_, index) => ({ name: `Race ${index}`, timeZone: 'Europe/Berlin' }));
    const answers = await Promise.all(bodies.map((body) => post('/v1/locations', key, body)));
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    for (const answer of answers.filter((each) => each.status !== 201)) {
      expect(['request_in_progress', 'idempotency_key_reused']).toContain(answer.body.code);
    }
    expect(await sql("SELECT count(*)::int AS n FROM location WHERE name LIKE 'Race %'")).toEqual([{ n: 1 }]);
  });

  describe('works on every POST', () => {
    it.each<[string, () => Promise<[string, object]> | [string, object], number]>([
      ['locations', () => ['/v1/locations', { name: 'Every', timeZone: 'Europe/Berlin' }], 201],
      ['practitioners', () => ['/v1/practitioners', { name: 'Every' }], 201],
      ['rooms', () => ['/v1/rooms', { name: 'Every' }], 201],
      [
        'services',
        () => ['/v1/services', { name: 'Every', durationMinutes: 10, practitionerIds: [practitioner.id] }],
        201,
      ],
      ['patients, new', () => ['/v1/patients', { phone: newPhone(), name: 'Every' }], 201],
      ['patients, known', async () => ['/v1/patients', { phone: (await make.patient()).phone }], 200],
      ['appointments', () => ['/v1/appointments', booking()], 201],
      [
        'cancel',
        async () => [
          `/v1/appointments/${(await post('/v1/appointments', undefined, booking())).body.id}/cancel`,
          { reason: 'x' },
        ],
        200,
      ],
      [
        'exceptions',
        () => [
          `/v1/schedules/${practitioner.scheduleId}/exceptions`,
          { startsAt: inDays(80), endsAt: inDays(81), kind: 'closed' },
        ],
        201,
      ],
    ])('%s', async (_, prepare, status) => {
      const [path, body] = await prepare();
      const key = newKey();
      // A version that is stale by the second time: the replay comes before it is looked at.
      const etag = (await call('GET', `/v1/schedules/${practitioner.scheduleId}`)).headers.get('etag')!;
      const more = path.includes('/schedules/') ? { 'If-Match': etag } : {};
      const first = await post(path, key, body, apiKey, more);
      expect([first.status, replayed(first)]).toEqual([status, null]);
      const before = await contentsOf(sql);
      const second = await post(path, key, body, apiKey, more);
      expect([replayed(second), essence(second)]).toEqual(['true', essence(first)]);
      expect(await contentsOf(sql)).toEqual(before);
    });
  });

  it('never stores the secret of an API key', async () => {
    const key = newKey();
    const first = await post('/v1/api-keys', key, { name: 'Secret' });
    expect([first.status, first.body.key]).toEqual([201, expect.stringMatching(/^hf_/)]);
    const [row] = await sql('SELECT row_to_json(k)::text AS text, body FROM idempotency_key k WHERE key = $1', [key]);
    expect(row.text).not.toContain(first.body.key);
    expect(row.text).not.toContain(first.body.key.slice(12));
    expect(JSON.parse(row.body)).not.toHaveProperty('key');
    const second = await post('/v1/api-keys', key, { name: 'Secret' });
    expect([second.status, second.body.id, replayed(second)]).toEqual([201, first.body.id, 'true']);
    expect(second.text).not.toContain(first.body.key);
    const all = await sql("SELECT string_agg(t::text, ' ') AS text FROM api_key t");
    expect(all[0].text).not.toContain(first.body.key.slice(12));
    const listed = await call('GET', '/v1/api-keys');
    expect(listed.body.data.filter((each: { name: string }) => each.name === 'Secret')).toHaveLength(1);
  });

  it('is not asked of GET, PATCH, PUT and DELETE', async () => {
    const headers = { 'Idempotency-Key': newKey() };
    const location = await make.location();
    const path = `/v1/locations/${location.id}`;
    expect((await call('GET', path, { headers })).status).toBe(200);
    expect((await call('PATCH', path, { body: { name: 'Y' }, headers })).body.name).toBe('Y');
    expect((await call('PATCH', path, { body: { name: 'Z' }, headers })).body.name).toBe('Z');
    expect((await call('DELETE', path, { headers })).status).toBe(204);
    expect((await call('DELETE', path, { headers })).status).toBe(404);
  });

  it('can be replayed for a day', async () => {
    const key = newKey();
    const body = { name: 'Old', timeZone: 'Europe/Berlin' };
    const first = await post('/v1/locations', key, body);
    await sql("UPDATE idempotency_key SET created_at = created_at - interval '23 hours 50 minutes' WHERE key = $1", [
      key,
    ]);
    const second = await post('/v1/locations', key, body);
    expect([second.body.id, replayed(second)]).toEqual([first.body.id, 'true']);
  });
});
