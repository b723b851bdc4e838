import { maker, openSql, problem, problemOf, sendRaw, type Sql } from '../support/api';
import { type Answer, type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';

describe('API keys', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let sql: Sql;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const create = async (role?: string) => {
    const answer = await call('POST', '/v1/api-keys', { body: { name: `Key of ${role}`, role } });
    expect(answer.status).toBe(201);
    return answer.body as { id: string; key: string; prefix: string };
  };
  /** A revoked key may be trusted for two seconds more. */
  async function diesSoon(caller: Caller): Promise<void> {
    const deadline = Date.now() + 2_500;
    while ((await caller('GET', '/v1/organization')).status === 200) {
      if (Date.now() > deadline) throw new Error('the key still lives');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect(problemOf(await caller('GET', '/v1/organization'))).toEqual(problem(401, 'unauthenticated'));
  }

  it('are shown once, when they are made', async () => {
    const answer = await call('POST', '/v1/api-keys', { body: { name: 'Website', role: 'receptionist' } });
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      id: expect.any(String),
      name: 'Website',
      role: 'receptionist',
      prefix: answer.body.key.slice(0, answer.body.prefix.length),
      permissions: null,
      practitionerId: null,
      locationIds: null,
      createdAt: expect.stringMatching(/Z$/),
      expiresAt: null,
      rotatedAt: null,
      lastUsedAt: null,
      revokedAt: null,
      key: expect.stringMatching(/^hf_[A-Za-z0-9_-]{40,}$/),
    });
    expect(answer.body.prefix.length).toBeLessThan(16);
    const list = await call('GET', '/v1/api-keys?limit=200');
    const shown = list.body.data.find((each: { id: string }) => each.id === answer.body.id);
    const { key, ...rest } = answer.body;
    expect(shown).toEqual(rest);
    expect(JSON.stringify(list.body)).not.toContain(key.slice(12));
    const rows = await sql('SELECT k::text AS text FROM api_key k WHERE id = $1', [answer.body.id]);
    expect(rows[0].text).not.toContain(key.slice(12));
    expect((await app.as(key)('GET', '/v1/patients')).status).toBe(200);
  });

  it('are an administrator unless told', async () => {
    const answer = await call('POST', '/v1/api-keys', { body: { name: 'Plain' } });
    expect(answer.body.role).toBe('administrator');
    expect((await app.as(answer.body.key)('GET', '/v1/api-keys')).status).toBe(200);
  });

  it('that are new lead where their Location says', async () => {
    const answer = await call('POST', '/v1/api-keys', { body: { name: 'Findable' } });
    const location = answer.headers.get('location');
    if (location === null) return;
    const read = await call('GET', location);
    expect([read.status, read.body.id, read.body.key]).toEqual([200, answer.body.id, undefined]);
  });

  it('are listed in pages', async () => {
    await create();
    await create();
    const first = await call('GET', '/v1/api-keys?limit=2');
    const second = await call('GET', `/v1/api-keys?limit=2&cursor=${first.body.nextCursor}`);
    const ids = [...first.body.data, ...second.body.data].map((each: { id: string }) => each.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(first.body.data).toHaveLength(2);
  });

  it('that are revoked die', async () => {
    const made = await create();
    const caller = app.as(made.key);
    expect((await caller('GET', '/v1/organization')).status).toBe(200);
    const revoked = await call('DELETE', `/v1/api-keys/${made.id}`);
    expect([revoked.status, revoked.body]).toEqual([204, '']);
    await diesSoon(caller);
    const list = await call('GET', '/v1/api-keys?limit=200');
    const shown = list.body.data.find((each: { id: string }) => each.id === made.id);
    expect(shown?.revokedAt).toEqual(expect.stringMatching(/Z$/));
  });

  it('that are revoked twice keep the day of the first', async () => {
    const made = await create();
    const shown = async () =>
      (await call('GET', '/v1/api-keys?limit=200')).body.data.find((each: { id: string }) => each.id === made.id);
    expect((await call('DELETE', `/v1/api-keys/${made.id}`)).status).toBe(204);
    const first = await shown();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect([204, 404]).toContain((await call('DELETE', `/v1/api-keys/${made.id}`)).status);
    expect(await shown()).toEqual(first);
  });

  it('revoked in one process die in another', async () => {
    const other = await startApp({ databaseUrl: app.databaseUrl });
    try {
      const made = await create();
      const caller = other.as(made.key);
      expect((await caller('GET', '/v1/organization')).status).toBe(200);
      await call('DELETE', `/v1/api-keys/${made.id}`);
      await diesSoon(caller);
    } finally {
      await other.stop();
    }
  });

  it('that nobody has are not found', async () => {
    const answer = await call('DELETE', '/v1/api-keys/01890000-0000-7000-8000-000000000000');
    expect(problemOf(answer)).toEqual(problem(404, 'not_found'));
  });

  it.each([
    [{ name: 'X', role: 'patient' }, '/role'],
    [{ name: 'X', role: 'root' }, '/role'],
    [{ name: 'X', role: null }, '/role'],
    [{ name: '' }, '/name'],
    [{ role: 'operator' }, '/name'],
    [{ name: 'X', key: 'hf_of_my_own_choice_1234567890' }, '/key'],
  ])('%j is refused', async (body, pointer) => {
    expect(problemOf(await call('POST', '/v1/api-keys', { body }))).toEqual(problem(400, 'validation_failed', pointer));
  });

  describe('what roles may do', () => {
    const paths = ['/v1/patients', '/v1/appointments', '/v1/organization', '/v1/api-keys', '/metrics'] as const;
    it.each([
      ['administrator', [200, 200, 200, 200, 200]],
      ['receptionist', [200, 200, 200, 403, 403]],
      ['practitioner', [200, 200, 200, 403, 403]],
      ['operator', [403, 403, 403, 403, 200]],
    ])('%s reads', async (role, expected) => {
      const caller = app.as((await create(role)).key);
      const answers = await Promise.all(paths.map((path) => caller('GET', path)));
      expect(answers.map((answer) => answer.status)).toEqual(expected);
      const refused = answers.filter((answer) => answer.status === 403);
      expect(refused.map(problemOf)).toEqual(refused.map(() => problem(403, 'forbidden')));
    });

    it.each([
      ['administrator', [201, 200, 201, 204]],
      ['receptionist', [201, 403, 403, 204]],
      ['practitioner', [403, 403, 403, 403]],
      ['operator', [403, 403, 403, 403]],
    ])('%s writes', async (role, expected) => {
      const caller = app.as((await create(role)).key);
      const doomed = await maker(call).location();
      const answers: Answer[] = [
        await caller('POST', '/v1/locations', { body: { name: 'X', timeZone: 'Europe/Berlin' } }),
        await caller('PATCH', '/v1/organization', { body: { name: 'X' } }),
        await caller('POST', '/v1/api-keys', { body: { name: 'X' } }),
        await caller('DELETE', `/v1/locations/${doomed.id}`),
      ];
      expect(answers.map((answer) => answer.status)).toEqual(expected);
    });
  });

  describe('without a right key', () => {
    const secret = () => clinic.apiKey;
    it.each<[string, () => string | undefined]>([
      ['no header', () => undefined],
      ['an empty header', () => ''],
      ['the key alone', () => secret()],
      ['Bearer alone', () => 'Bearer'],
      ['Bearer and a blank', () => 'Bearer '],
      ['another scheme', () => `Basic ${Buffer.from(`x:${secret()}`).toString('base64')}`],
      ['two keys', () => `Bearer ${secret()} ${secret()}`],
      ['a key that nobody has', () => `Bearer hf_${'A'.repeat(43)}`],
      ['a key cut short', () => `Bearer ${secret().slice(0, -1)}`],
      ['a key with more', () => `Bearer ${secret()}A`],
      ['its prefix', () => `Bearer ${secret().slice(0, 9)}`],
      ['a key without hf_', () => `Bearer ${secret().slice(3)}`],
      ['a key in capitals', () => `Bearer ${secret().toUpperCase()}`],
      ['a quote', () => `Bearer hf_' OR '1'='1`],
      ['a token of a kilobyte', () => `Bearer hf_${'A'.repeat(1000)}`],
      ['a JSON web token', () => 'Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'],
    ])('%s', async (_, header) => {
      const value = header();
      for (const path of ['/v1/patients', '/metrics', '/v1/api-keys']) {
        const headers: Record<string, string> = value === undefined ? {} : { Authorization: value };
        const answer = await sendRaw(app.url + path, { method: 'GET', headers });
        expect(problemOf(answer)).toEqual(problem(401, 'unauthenticated'));
        expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer/);
        expect(JSON.stringify(answer.body)).not.toContain(secret());
      }
    });

    it('bearer in any letters is Bearer', async () => {
      for (const scheme of ['bearer', 'BEARER']) {
        const headers = { Authorization: `${scheme} ${secret()}` };
        expect((await sendRaw(`${app.url}/v1/organization`, { method: 'GET', headers })).status).toBe(200);
      }
    });

    it('a key in the query is no key', async () => {
      const answer = await app.as(undefined)('GET', `/v1/patients?apiKey=${secret()}&access_token=${secret()}`);
      expect(answer.status).toBe(401);
    });
  });
});
