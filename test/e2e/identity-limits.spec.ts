import { decodeJwt } from 'jose';
import { Secret, TOTP } from 'otpauth';
import { newPhone, openSql, type Sql } from '../support/api';
import { addOrganization, type Answer, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { PASSWORD, peopleOf } from '../support/people';

/** A proxy that is trusted tells whose requests it forwards; tests call from wherever they like. */
const PROXIED = { trustedProxies: ['loopback'], rateLimitsExempt: ['192.0.2.99'] };
const EXEMPT = '192.0.2.99';
const times = <T>(count: number, work: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => work(at));
const statusOf = (answers: Answer[]) =>
  Object.fromEntries([...new Set(answers.map((each) => each.status))].map((status) => [status, answers.filter((each) => each.status === status).length])); // prettier-ignore
/** As refused requests of different people are compared: all of it but for whom it was. */
const words = ({ status, body, headers }: Answer) => ({
  status,
  body,
  headers: ['ratelimit-policy', 'content-type'].map((name) => headers.get(name)),
});

let addresses = 0;
/** One that nothing was sent from. */
const anywhere = () => `198.51.${100 + Math.floor(addresses / 250)}.${(addresses++ % 250) + 1}`;

describe('limits on identity', () => {
  let app: TestApp;
  let second: TestApp;
  let clinic: Clinic;
  let organizationId: string;
  let people: ReturnType<typeof peopleOf>;
  let sql: Sql;
  beforeAll(async () => {
    app = await startApp(PROXIED);
    second = await startApp({ ...PROXIED, databaseUrl: app.databaseUrl });
    clinic = await seedClinic(app);
    organizationId = clinic.organizationId;
    people = peopleOf(app, organizationId, clinic.call);
    peopleOf(second, organizationId, clinic.call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await second.stop();
    await app.stop();
  });

  const post = (path: string, body: object, from = anywhere(), target = app) =>
    target.as(undefined)('POST', `/v1/auth/${path}`, { body, headers: { 'X-Forwarded-For': from } });
  const ask = (phone: string, from?: string, target?: TestApp) => post('otp', { organizationId, phone }, from, target);
  const show = (phone: string, code: string, from?: string) => post('otp/verify', { organizationId, phone, code }, from); // prettier-ignore
  const codesOf = (phone: string) => sql('SELECT code_hash, tries, created_at, expires_at FROM otp_code WHERE phone = $1', [phone]); // prettier-ignore
  const hits = async () => (await sql('SELECT count(*)::int AS count FROM rate_limit_hit'))[0].count as number;

  it('send a phone five codes, whoever asks and over whichever process, and a refusal writes nothing', async () => {
    const phone = newPhone();
    const before = await hits();
    const answers = await Promise.all(times(24, (at) => ask(phone, undefined, at % 2 ? app : second)));
    expect(statusOf(answers)).toEqual({ 202: 5, 429: 19 });
    const [code] = await codesOf(phone);
    // Five of the phone, and five each of their addresses, of the organization and of the install.
    expect((await hits()) - before).toBe(20);
    const refused = await ask(phone);
    expect([refused.status, refused.body.code]).toEqual([429, 'rate_limited']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(800);
    expect(refused.headers.get('ratelimit-policy')).toBe(
      '"otp-phone";q=5;w=900, "otp-ip";q=20;w=3600, "otp-organization";q=2000;w=86400, "otp-installation";q=10000;w=86400',
    );
    expect(refused.headers.get('ratelimit')).toMatch(/^"otp-phone";r=0;t=\d+, "otp-ip";r=20;t=\d+, /);
    expect(await codesOf(phone)).toEqual([code]);
    expect((await hits()) - before).toBe(20);
  });

  it('hold for a phone from exempt addresses, too, and say the same of a phone that is known', async () => {
    const [known, unknown] = [newPhone(), newPhone()];
    expect((await clinic.call('POST', '/v1/patients', { body: { phone: known } })).status).toBe(201);
    const answers = async (phone: string) => {
      expect(statusOf(await Promise.all(times(8, () => ask(phone, EXEMPT))))).toEqual({ 202: 5, 429: 3 });
      return words(await ask(phone, EXEMPT));
    };
    const [first, other] = [await answers(known), await answers(unknown)];
    const timeless = ({ body: { detail, ...body }, ...rest }: typeof first) => ({ ...rest, body, detail: detail.replace(/\d+ s/, '') }); // prettier-ignore
    expect(timeless(first)).toEqual(timeless(other));
  });

  it('send 20 codes to the phones of one address, and none to the others', async () => {
    const from = anywhere();
    const phones = times(30, () => newPhone());
    const answers = await Promise.all(phones.map((phone) => ask(phone, from)));
    expect(statusOf(answers)).toEqual({ 202: 20, 429: 10 });
    for (const [at, phone] of phones.entries())
      expect([answers[at]!.status, (await codesOf(phone)).length]).toEqual(answers[at]!.status === 202 ? [202, 1] : [429, 0]); // prettier-ignore
    expect((await ask(newPhone(), from)).status).toBe(429);
    expect((await ask(newPhone())).status).toBe(202);
  });

  it('look at 15 guesses of one phone, beside the five of each code', async () => {
    const phone = newPhone();
    await ask(phone);
    const code = people.lastTo(phone);
    const wrong = times(25, (at) => String((Number(code) + 1 + at) % 1_000_000).padStart(6, '0'));
    expect(statusOf(await Promise.all(wrong.map((guess) => show(phone, guess))))).toEqual({ 401: 15, 429: 10 });
    expect(await codesOf(phone)).toMatchObject([{ tries: 5 }]);
    await ask(phone);
    expect((await show(phone, people.lastTo(phone))).status).toBe(429);
    expect(await codesOf(phone)).toMatchObject([{ tries: 0 }]);
  });

  it('look at ten tries of one e-mail address however it is written, the right one no exception', async () => {
    const email = 'Limited@Example.org';
    await people.member(email, { role: 'receptionist' });
    const spellings = [email, email.toLowerCase(), email.toUpperCase()];
    const tries = async (of: string[]) => {
      const answers = await Promise.all(times(16, (at) => post('sign-in', { email: of[at % of.length], password: 'not it' }))); // prettier-ignore
      expect(statusOf(answers)).toEqual({ 401: 10, 429: 6 });
    };
    await tries(spellings);
    const [known] = [await post('sign-in', { email, password: PASSWORD })];
    await tries(['nobody@example.org']);
    const unknown = await post('sign-in', { email: 'nobody@example.org', password: PASSWORD });
    expect([known.status, known.headers.get('ratelimit-policy')]).toEqual([429, unknown.headers.get('ratelimit-policy')]); // prettier-ignore
    expect(Object.keys(known.body)).toEqual(Object.keys(unknown.body));
  });

  it('look at ten codes of a second factor', async () => {
    const member = await people.member('factor@example.org', { role: 'receptionist' });
    const { secret } = (await member.call('POST', '/v1/auth/totp')).body;
    const wrong = () => member.call('POST', '/v1/auth/totp/confirm', { body: { code: '000000' } });
    expect(statusOf(await Promise.all(times(14, wrong)))).toEqual({ 403: 10, 429: 4 });
    const code = new TOTP({ secret: Secret.fromBase32(secret) }).generate();
    expect((await member.call('POST', '/v1/auth/totp/confirm', { body: { code } })).status).toBe(429);
    expect(await sql('SELECT totp_since FROM user_account WHERE id = $1', [decodeJwt(member.accessToken).sub])).toEqual([{ totp_since: null }]); // prettier-ignore
  });

  it('send three links to one e-mail address, whether or not it has an account', async () => {
    const email = 'forgetful@example.org';
    await people.member(email, { role: 'receptionist' });
    for (const one of [email, 'stranger@example.org'])
      expect(statusOf(await Promise.all(times(8, () => post('password-reset', { email: one }))))).toEqual({ 202: 3, 429: 5 }); // prettier-ignore
  });

  it.each([
    ['otp/verify', 60, 401, (at: number) => ({ organizationId, phone: newPhone(), code: String(100_000 + at) })],
    ['sign-in', 100, 401, (at: number) => ({ email: `nobody${at}@example.org`, password: 'not it' })],
    ['sign-up', 30, 404, (at: number) => ({ invitationToken: `hi_${at}`, name: 'A', password: PASSWORD })],
    ['password-reset', 20, 202, (at: number) => ({ email: `nobody${at}@example.com` })],
    ['password-reset/confirm', 30, 401, (at: number) => ({ token: `hp_${at}`, password: PASSWORD })],
    ['refresh', 600, 401, (at: number) => ({ refreshToken: `hr_${at}` })],
  ])('admit to %s exactly %d of one address, and any number of an exempt one', async (path, count, usual, bodyOf) => {
    const from = anywhere();
    const answers = await Promise.all(times(count + 7, (at) => post(path, bodyOf(at), from)));
    expect(statusOf(answers)).toEqual({ [usual]: count, 429: 7 });
    expect((await post(path, bodyOf(1_000), EXEMPT)).status).toBe(usual);
  });

  it('keep neither phones nor addresses as they are', async () => {
    const [{ keys }] = await sql(`SELECT string_agg(key, ' ') AS keys FROM rate_limit`);
    expect(keys).toContain('holdfast:limit:otp-phone:');
    expect(keys).not.toMatch(/\+\d{6}|example\.|198\.51/);
  });
});

describe('what codes may cost', () => {
  it('is limited for each organization, and for the install however many organizations it has', async () => {
    const rateLimitOverrides = {
      'otp-organization': { count: 4, windowSeconds: 86_400 },
      'otp-installation': { count: 6, windowSeconds: 86_400 },
    };
    const app = await startApp({ rateLimitOverrides });
    const clinic = await seedClinic(app);
    const { deliveries, post } = peopleOf(app, clinic.organizationId, clinic.call);
    const other = await addOrganization(app);
    const asked = async (organizationId: string) =>
      statusOf(await Promise.all(times(10, () => post('otp', { organizationId, phone: newPhone() }))));
    // What is asked for in the name of nobody uses nothing up.
    expect(await asked('01890000-0000-7000-8000-000000000000')).toEqual({ 404: 10 });
    expect(await asked(clinic.organizationId)).toEqual({ 202: 4, 429: 6 });
    expect(await asked(other.organizationId)).toEqual({ 202: 2, 429: 8 });
    expect(deliveries).toHaveLength(6);
    await app.stop();
  });

  it('is not limited with RATE_LIMITS=off, nor is anything else', async () => {
    const app = await startApp({ ...PROXIED, rateLimits: false });
    const clinic = await seedClinic(app);
    const { post } = peopleOf(app, clinic.organizationId, clinic.call);
    const phone = newPhone();
    const from = { 'X-Forwarded-For': anywhere() };
    const ask = () => post('otp', { organizationId: clinic.organizationId, phone }, from);
    expect(statusOf(await Promise.all(times(25, ask)))).toEqual({ 202: 25 });
    const signIn = () => post('sign-in', { email: 'nobody@example.org', password: 'not it' }, from);
    expect(statusOf(await Promise.all(times(110, signIn)))).toEqual({ 401: 110 });
    await app.stop();
  });
});
