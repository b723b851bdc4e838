import crypto from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';
import { Secret, TOTP } from 'otpauth';
import { ApiKeysService, IdentityCleanUp, SigningKeys } from '../../src/auth';
import { newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Answer, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { PASSWORD, peopleOf } from '../support/people';

describe('signing in', () => {
  let app: TestApp;
  let clinic: Clinic;
  let organizationId: string;
  let people: ReturnType<typeof peopleOf>;
  let sql: Sql;
  beforeAll(async () => {
    // What holds without limits is shown here: nobody is sent away before the code or the token decides.
    const plenty = { count: 5_000, windowSeconds: 60 };
    app = await startApp({ rateLimitOverrides: { 'otp-phone': plenty, 'otp-verify-phone': plenty } });
    clinic = await seedClinic(app);
    organizationId = clinic.organizationId;
    people = peopleOf(app, organizationId, clinic.call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const statusOf = (answers: Answer[]) =>
    Object.fromEntries([...new Set(answers.map((each) => each.status))].map((status) => [status, answers.filter((each) => each.status === status).length])); // prettier-ignore
  let addresses = 0;
  const newAddress = () => `somebody${addresses++}@Example.org`;
  const TOKENS = {
    accessToken: expect.stringMatching(/^eyJ/),
    refreshToken: expect.stringMatching(/^hr_/),
    expiresIn: 600,
  };
  const isGood = async (token: string) => (await app.as(token)('GET', '/v1/organization')).status === 200;

  describe('by a code', () => {
    const ask = (phone: string) => people.post('otp', { organizationId, phone });
    const show = (phone: string, code: string) => people.post('otp/verify', { organizationId, phone, code });
    const wrong = (code: string) => String((Number(code) + 1) % 1_000_000).padStart(6, '0');

    it('gives tokens to who has the phone, and makes no patient of him', async () => {
      const phone = newPhone();
      const asked = await ask(phone);
      expect([asked.status, asked.body]).toEqual([202, { expiresAt: expect.stringMatching(/Z$/), resendAfterSeconds: expect.any(Number) }]); // prettier-ignore
      expect(people.lastTo(phone)).toMatch(/^[0-9]{6}$/);
      const shown = await show(phone, people.lastTo(phone));
      expect([shown.status, shown.body]).toEqual([200, TOKENS]);
      expect(await isGood(shown.body.accessToken)).toBe(true);
      expect(await sql('SELECT 1 FROM patient WHERE phone = $1', [phone])).toEqual([]);
    });

    it('answers the same for a phone that is known', async () => {
      const phone = newPhone();
      await clinic.call('POST', '/v1/patients', { body: { phone } });
      const [known, unknown] = [await ask(phone), await ask(newPhone())];
      expect([known.status, Object.keys(known.body)]).toEqual([unknown.status, Object.keys(unknown.body)]);
      expect((await show(phone, people.lastTo(phone))).status).toBe(200);
    });

    it('is the same person again', async () => {
      const phone = newPhone();
      const [first, second] = [await people.patient(phone), await people.patient(phone)];
      expect(decodeJwt(second.accessToken).sub).toBe(decodeJwt(first.accessToken).sub);
    });

    it('takes a code once', async () => {
      const phone = newPhone();
      await ask(phone);
      const code = people.lastTo(phone);
      const answers = await Promise.all(Array.from({ length: 20 }, () => show(phone, code)));
      expect(statusOf(answers)).toEqual({ 200: 1, 401: 19 });
      expect((await show(phone, code)).status).toBe(401);
    });

    it('forgets the code before with a new one', async () => {
      const phone = newPhone();
      await ask(phone);
      const old = people.lastTo(phone);
      await ask(phone);
      // One in a million times they are the same.
      if (old !== people.lastTo(phone)) expect((await show(phone, old)).status).toBe(401);
      expect((await show(phone, people.lastTo(phone))).status).toBe(200);
    });

    it('takes no code of another phone or organization, nor one that is over', async () => {
      const [phone, other] = [newPhone(), newPhone()];
      await Promise.all([ask(phone), ask(other)]);
      const code = people.lastTo(phone);
      const elsewhere = await addOrganization(app);
      await people.post('otp', { organizationId: elsewhere.organizationId, phone });
      const theirs = await people.post('otp/verify', { organizationId: elsewhere.organizationId, phone, code });
      if (people.lastTo(phone) !== code) expect(theirs.status).toBe(401);
      if (people.lastTo(other) !== code) expect((await show(other, code)).status).toBe(401);
      await sql('UPDATE otp_code SET expires_at = now() WHERE phone = $1', [phone]);
      expect(problemOf(await show(phone, code))).toEqual(problem(401, 'unauthenticated'));
    });

    it('takes five guesses: then the right one is wrong, too', async () => {
      const phone = newPhone();
      await ask(phone);
      const code = people.lastTo(phone);
      for (let guess = 0; guess < 4; guess++) expect((await show(phone, wrong(code))).status).toBe(401);
      const words = (answer: Answer) => ({ ...answer.body });
      const fifth = await show(phone, wrong(code));
      expect(words(await show(phone, code))).toEqual(words(fifth));
      expect(words(await show(newPhone(), code))).toEqual(words(fifth));
    });

    it('looks at five of 1,000 guesses at once', async () => {
      const phone = newPhone();
      await ask(phone);
      const code = people.lastTo(phone);
      const looks = jest.spyOn(crypto, 'timingSafeEqual');
      const guesses = Array.from({ length: 1_001 }, (_, guess) => String(guess).padStart(6, '0')).filter((each) => each !== code); // prettier-ignore
      const answers = await Promise.all(guesses.slice(0, 1_000).map((guess) => show(phone, guess)));
      const looked = looks.mock.calls.length;
      looks.mockRestore();
      expect(statusOf(answers)).toEqual({ 401: 1_000 });
      expect(looked).toBe(5);
      expect(await sql('SELECT tries FROM otp_code WHERE phone = $1', [phone])).toEqual([{ tries: 5 }]);
      expect((await show(phone, code)).status).toBe(401);
    });

    it('has one code of 200 requests at once', async () => {
      const phone = newPhone();
      const before = people.deliveries.length;
      const answers = await Promise.all(Array.from({ length: 200 }, () => ask(phone)));
      expect(statusOf(answers)).toEqual({ 202: 200 });
      expect(await sql('SELECT count(*)::int AS count FROM otp_code WHERE phone = $1', [phone])).toEqual([
        { count: 1 },
      ]);
      const codes = new Set(people.deliveries.slice(before).map((each) => each.secret));
      let good = 0;
      for (const code of codes) {
        await sql('UPDATE otp_code SET tries = 0 WHERE phone = $1', [phone]);
        if ((await show(phone, code)).status === 200) good++;
      }
      expect(good).toBe(1);
    });

    it('keeps no code as it is', async () => {
      const phone = newPhone();
      await ask(phone);
      const [row] = await sql('SELECT o::text AS text, code_hash FROM otp_code o WHERE phone = $1', [phone]);
      const code = people.lastTo(phone);
      expect(row.text.replace(phone, '').replace(/[0-9-]{10} [0-9:.+]+/g, '')).not.toContain(code);
      expect(row.code_hash.equals(crypto.createHash('sha256').update(code).digest())).toBe(false);
    });

    it.each(['12345', '1234567', '12 456', ' 12345', '12345a', '١٢٣٤٥٦', '１２３４５６', '', '-12345', '12345\n'])('refuses %j as a code', async (code) => {
      expect(problemOf(await show(newPhone(), code))).toEqual(problem(400, 'validation_failed', '/code'));
    }); // prettier-ignore

    it.each(['015112345678', '4915112345678', '0049151123456', '+49', '+49151123456789012', '+١٥١', 'abc', '', 5, null])('refuses %j as a phone', async (phone) => {
      expect(problemOf(await people.post('otp', { organizationId, phone }))).toEqual(problem(400, 'validation_failed', '/phone')); // prettier-ignore
    }); // prettier-ignore

    it.each([
      ['with a blank', (code: string) => `${code.slice(0, 3)} ${code.slice(3)}`],
      ['with a letter', (code: string) => `${code.slice(0, 5)}O`],
      [
        'in other digits',
        (code: string) => code.replace(/[0-9]/g, (digit) => String.fromCodePoint(0x0660 + Number(digit))),
      ],
      ['too short', (code: string) => code.slice(0, 5)],
      ['a number', (code: string) => Number(`1${code.slice(1)}`) as unknown as string],
    ])('is not read %s, and no try is spent on it', async (_, written) => {
      const phone = newPhone();
      await ask(phone);
      const code = people.lastTo(phone);
      for (let time = 0; time < 6; time++) {
        expect(problemOf(await show(phone, written(code)))).toEqual(problem(400, 'validation_failed', '/code'));
      }
      expect((await show(phone, code)).status).toBe(200);
    });

    it.each(['015112345678', '15112345678', '+49', 'nobody', '+49151123456789012'])(
      'is sent to no phone such as %s',
      async (phone) => {
        expect(problemOf(await ask(phone))).toEqual(problem(400, 'validation_failed', '/phone'));
        expect(await sql('SELECT 1 FROM otp_code WHERE phone = $1', [phone])).toEqual([]);
      },
    );

    it('knows no organization that is none', async () => {
      const nobody = { organizationId: '01890000-0000-7000-8000-000000000000', phone: newPhone() };
      expect(problemOf(await people.post('otp', nobody))).toEqual(problem(404, 'not_found'));
      expect((await people.post('otp/verify', { ...nobody, code: '123456' })).status).toBe(401);
    });

    it('ignores Idempotency-Key, whatever it says', async () => {
      const phone = newPhone();
      for (const key of ['the same', 'the same', 'x'.repeat(300)]) {
        const answer = await people.post('otp', { organizationId, phone }, { 'Idempotency-Key': key });
        expect([answer.status, answer.headers.get('idempotency-replayed')]).toEqual([202, null]);
      }
      expect(people.deliveries.filter((each) => each.to === phone)).toHaveLength(3);
    });
  });

  describe('access tokens', () => {
    let tokens: { accessToken: string };
    let key: Awaited<ReturnType<SigningKeys['signing']>>;
    beforeAll(async () => {
      tokens = await people.member(newAddress(), { role: 'administrator' });
      key = await app.app.get(SigningKeys, { strict: false }).signing();
    });
    const now = () => Math.floor(Date.now() / 1000);
    /** The same token with other claims or header, signed with the right key unless told. */
    const forged = (claims: object = {}, header: object = {}, secret: object = key.privateKey) => {
      const payload = { ...decodeJwt(tokens.accessToken), ...claims };
      return new SignJWT(payload).setProtectedHeader({ ...(decodeProtectedHeader(tokens.accessToken) as { alg: string }), ...header }).sign(secret); // prettier-ignore
    };
    const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

    it('say who calls, and for how long', () => {
      const { kid, alg, typ } = decodeProtectedHeader(tokens.accessToken);
      expect({ kid, alg, typ }).toEqual({ kid: key.id, alg: 'ES256', typ: 'at+jwt' });
      const claims = decodeJwt(tokens.accessToken);
      expect(claims).toMatchObject({ iss: expect.any(String), aud: 'holdfast', sub: expect.any(String), org: organizationId, role: 'administrator', jti: expect.any(String) }); // prettier-ignore
      expect(claims.exp! - claims.iat!).toBe(600);
    });

    it('are good when they are right', async () => {
      expect(await isGood(await forged())).toBe(true);
      expect(await isGood(await forged({ iat: now() + 3 }))).toBe(true);
    });

    const [head, body, signature] = [0, 1, 2].map((part) => () => tokens.accessToken.split('.')[part]!) as [() => string, () => string, () => string]; // prettier-ignore
    it.each<[string, () => string | Promise<string>]>([
      ['is over', () => forged({ iat: now() - 700, exp: now() - 60 })],
      ['is older than a token can be', () => forged({ iat: now() - 700, exp: now() + 60 })],
      ['was issued in the future', () => forged({ iat: now() + 60, exp: now() + 660 })],
      ['is not good yet', () => forged({ nbf: now() + 60 })],
      ['comes from another issuer', () => forged({ iss: 'urn:holdfast:another' })],
      ['comes from nobody', () => forged({ iss: undefined })],
      ['is for another audience', () => forged({ aud: 'another' })],
      ['is for nobody', () => forged({ aud: undefined })],
      ['is without an end', () => forged({ exp: undefined })],
      ['is without a beginning', () => forged({ iat: undefined })],
      ['is without a subject', () => forged({ sub: undefined })],
      ['is of another type', () => forged({}, { typ: 'JWT' })],
      ['has a key that nobody knows', () => forged({}, { kid: '01890000-0000-7000-8000-000000000000' })],
      ['names no key', () => forged({}, { kid: undefined })],
      ['is signed with another key', async () => forged({}, {}, (await generateKeyPair('ES256')).privateKey)],
      ['brings its own key', async () => {
        const pair = await generateKeyPair('ES256');
        return forged({}, { jwk: await exportJWK(pair.publicKey) }, pair.privateKey);
      }],
      ['says alg none', () => `${encoded({ ...decodeProtectedHeader(tokens.accessToken), alg: 'none' })}.${body()}.`],
      ['says alg none and keeps its signature', () => `${encoded({ ...decodeProtectedHeader(tokens.accessToken), alg: 'none' })}.${body()}.${signature()}`],
      ['is signed with the public key as a secret', async () => {
        const found = await app.app.get(SigningKeys, { strict: false }).find(key.id);
        return forged({}, { alg: 'HS256' }, new TextEncoder().encode(await exportSPKI(found!)));
      }],
      ['was changed', () => `${head()}.${encoded({ ...decodeJwt(tokens.accessToken), org: crypto.randomUUID() })}.${signature()}`],
      ['is cut short', () => tokens.accessToken.slice(0, -1)],
      ['has no signature', () => `${head()}.${body()}.`],
      ['is of a session that nobody has', () => forged({ sid: crypto.randomUUID() })],
      ['is no token', () => 'eyJ.eyJ.eyJ'],
      ['is long', () => `${head()}.${'A'.repeat(8_000)}.${signature()}`],
    ])('are refused: one that %s', async (_, make) => {
      expect(problemOf(await app.as(await make())('GET', '/v1/organization'))).toEqual(problem(401, 'unauthenticated'));
    }); // prettier-ignore

    it('outlive the key that signed them, and new ones have the next', async () => {
      const keys = app.app.get(SigningKeys, { strict: false });
      await keys.renew({ early: true });
      expect(await sql('SELECT count(*)::int AS count FROM signing_key')).toEqual([{ count: 2 }]);
      // Published, and not used yet.
      expect((await keys.signing()).id).toBe(key.id);
      await keys.renew({ early: true });
      expect(await sql('SELECT count(*)::int AS count FROM signing_key')).toEqual([{ count: 2 }]);
      // Its time has come.
      await sql('UPDATE signing_key SET signs_from = now() WHERE signs_from > now()');
      await keys.renew();
      const later = await people.member(newAddress(), { role: 'receptionist' });
      expect(decodeProtectedHeader(later.accessToken).kid).not.toBe(key.id);
      expect([await isGood(await forged()), await isGood(later.accessToken)]).toEqual([true, true]);
      // All that the old one signed is over: nothing that is signed with it now is good.
      await sql(`UPDATE signing_key SET signs_from = signs_from - interval '20 minutes'`);
      await keys.renew();
      expect([await isGood(await forged({ jti: 'another' })), await isGood(later.accessToken)]).toEqual([false, true]);
      key = await keys.signing();
    });

    it('are kept with the private part sealed', async () => {
      const rows = await sql('SELECT private_key, public_key FROM signing_key');
      for (const row of rows) {
        expect(row.private_key.toString('latin1')).not.toContain('"d"');
        expect(row.public_key.d).toBeUndefined();
      }
    });
  });

  describe('refresh tokens', () => {
    const refresh = (refreshToken: string, headers?: Record<string, string>) => people.post('refresh', { refreshToken }, headers); // prettier-ignore
    const later = (token: string) =>
      sql(`UPDATE auth_session SET rotated_at = rotated_at - interval '11 seconds' WHERE id = $1`, [
        decodeJwt(token)['sid'],
      ]);
    const refused = problem(401, 'unauthenticated');

    it('are exchanged for the next', async () => {
      const first = await people.patient(newPhone());
      const second = await refresh(first.refreshToken);
      expect([second.status, second.body]).toEqual([200, TOKENS]);
      expect(second.body.refreshToken).not.toBe(first.refreshToken);
      expect(await isGood(second.body.accessToken)).toBe(true);
      expect((await refresh(second.body.refreshToken)).status).toBe(200);
    });

    it('have one successor of 100 exchanges at once', async () => {
      const first = await people.patient(newPhone());
      const answers = await Promise.all(Array.from({ length: 100 }, () => refresh(first.refreshToken)));
      expect(statusOf(answers)).toEqual({ 200: 100 });
      expect(new Set(answers.map((answer) => answer.body.refreshToken)).size).toBe(1);
      const [row] = await sql('SELECT generation FROM auth_session WHERE id = $1', [
        decodeJwt(first.accessToken)['sid'],
      ]);
      expect(row).toEqual({ generation: 2 });
      expect((await refresh(answers[0]!.body.refreshToken)).status).toBe(200);
    });

    it.each<[string, (first: { accessToken: string; refreshToken: string }) => Promise<Answer>]>([
      ['after the time of grace', async (first) => {
        await later(first.accessToken);
        return refresh(first.refreshToken);
      }],
      ['by another client', (first) => refresh(first.refreshToken, { 'User-Agent': 'another' })],
    ])('end their family when a spent one is used %s', async (_, reuse) => {
      const first = await people.patient(newPhone());
      const second = (await refresh(first.refreshToken)).body;
      expect(problemOf(await reuse(first))).toEqual(refused);
      expect(problemOf(await refresh(second.refreshToken))).toEqual(refused);
      expect(await isGood(second.accessToken)).toBe(false);
    }); // prettier-ignore

    it('end their family when one is used whose successor was used', async () => {
      const first = await people.patient(newPhone());
      const second = (await refresh(first.refreshToken)).body;
      const third = (await refresh(second.refreshToken)).body;
      expect((await refresh(first.refreshToken)).status).toBe(401);
      expect((await refresh(third.refreshToken)).status).toBe(401);
    });

    it('are not guessed, and a guess ends nothing', async () => {
      const first = await people.patient(newPhone());
      const bytes = Buffer.from(first.refreshToken.slice(3), 'base64url');
      const changed = [0, 17, 19, 40].map((at) => {
        const copy = Buffer.from(bytes);
        copy[at]! ^= 1;
        return `hr_${copy.toString('base64url')}`;
      });
      for (const guess of [...changed, 'hr_', 'x', first.accessToken, clinic.apiKey]) {
        expect([guess, problemOf(await refresh(guess.slice(0, 200)))]).toEqual([guess, refused]);
      }
      expect((await refresh(first.refreshToken)).status).toBe(200);
    });

    it('are not stored, and are no access tokens', async () => {
      const first = await people.patient(newPhone());
      expect(await isGood(first.refreshToken)).toBe(false);
      const [row] = await sql('SELECT token_hash FROM auth_session WHERE id = $1', [
        decodeJwt(first.accessToken)['sid'],
      ]);
      const secret = Buffer.from(first.refreshToken.slice(3), 'base64url').subarray(20);
      expect(row.token_hash.equals(crypto.createHash('sha256').update(secret).digest())).toBe(true);
    });

    it('end with their session, and when it is too old', async () => {
      const [out, old] = [await people.patient(newPhone()), await people.patient(newPhone())];
      expect((await out.call('POST', '/v1/auth/sign-out')).status).toBe(204);
      await sql('UPDATE auth_session SET expires_at = now() WHERE id = $1', [decodeJwt(old.accessToken)['sid']]);
      expect([await refresh(out.refreshToken), await refresh(old.refreshToken)].map(problemOf)).toEqual([
        refused,
        refused,
      ]);
    });
  });

  describe('signing out', () => {
    it('ends one session, or all of them, in this process at once', async () => {
      const phone = newPhone();
      const [one, two, three] = [await people.patient(phone), await people.patient(phone), await people.patient(phone)];
      expect((await one.call('POST', '/v1/auth/sign-out')).status).toBe(204);
      expect(await Promise.all([one, two, three].map((each) => isGood(each.accessToken)))).toEqual([false, true, true]);
      expect((await two.call('POST', '/v1/auth/sign-out', { body: { everywhere: true } })).status).toBe(204);
      expect(await Promise.all([one, two, three].map((each) => isGood(each.accessToken)))).toEqual([
        false,
        false,
        false,
      ]);
    });

    it('is known to other processes within seconds', async () => {
      const other = await startApp({ databaseUrl: app.databaseUrl });
      try {
        const { accessToken, call } = await people.patient(newPhone());
        expect((await other.as(accessToken)('GET', '/v1/organization')).status).toBe(200);
        await call('POST', '/v1/auth/sign-out');
        const deadline = Date.now() + 6_000;
        while ((await other.as(accessToken)('GET', '/v1/organization')).status === 200) {
          if (Date.now() > deadline) throw new Error('the token still lives');
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      } finally {
        await other.stop();
      }
    });

    it('is not for API keys, which have no account either', async () => {
      for (const path of ['sign-out', 'totp'])
        expect(problemOf(await clinic.call('POST', `/v1/auth/${path}`))).toEqual(problem(403, 'forbidden'));
    });
  });

  describe('staff', () => {
    const signIn = (fields: object) => people.post('sign-in', { password: PASSWORD, ...fields });
    const signUp = (invitationToken: string, fields: object = {}) =>
      people.post('sign-up', { invitationToken, name: 'Somebody', password: PASSWORD, ...fields });

    it('come by invitation', async () => {
      const email = newAddress();
      const made = await clinic.call('POST', '/v1/invitations', { body: { email, role: 'receptionist' } });
      expect([made.status, made.body]).toEqual([201, {
        id: expect.any(String), email: email.toLowerCase(), role: 'receptionist', practitionerId: null, locationIds: null,
        createdAt: expect.any(String), expiresAt: expect.any(String), acceptedAt: null, revokedAt: null,
        invitationToken: expect.stringMatching(/^hi_/),
      }]); // prettier-ignore
      expect(people.lastTo(email.toLowerCase())).toBe(made.body.invitationToken);
      const up = await signUp(made.body.invitationToken);
      expect([up.status, up.body]).toEqual([201, TOKENS]);
      const listed = await clinic.call('GET', `/v1/invitations/${made.body.id}`);
      expect(listed.body).toMatchObject({ acceptedAt: expect.stringMatching(/Z$/) });
      expect(listed.body.invitationToken).toBeUndefined();
      const users = await clinic.call('GET', '/v1/users?limit=200');
      expect(users.body.data).toContainEqual({ id: decodeJwt(up.body.accessToken).sub, email: email.toLowerCase(), name: 'Somebody', role: 'receptionist', practitionerId: null, locationIds: null, createdAt: expect.any(String) }); // prettier-ignore
      expect((await signIn({ email: email.toUpperCase() })).status).toBe(200);
    });

    it('of one invitation are one, of 20 at once', async () => {
      const { invitationToken, email } = await people.invite(newAddress(), { role: 'receptionist' });
      const answers = await Promise.all(Array.from({ length: 20 }, () => signUp(invitationToken)));
      expect(statusOf(answers)).toEqual({ 201: 1, 409: 19 });
      expect(answers.filter((each) => each.status === 409).map(problemOf)).toEqual(Array(19).fill(problem(409, 'already_exists'))); // prettier-ignore
      expect(await sql('SELECT count(*)::int AS count FROM user_account WHERE email = $1', [email])).toEqual([
        { count: 1 },
      ]);
    });

    it('of one address are one, of ten invitations in any letters at once', async () => {
      const email = newAddress().toLowerCase();
      const invitations = await Promise.all(
        Array.from({ length: 10 }, (_, at) =>
          people.invite(at % 2 ? email.toUpperCase() : email, { role: 'receptionist' }),
        ),
      );
      const answers = await Promise.all(invitations.map((each) => signUp(each.invitationToken)));
      expect(statusOf(answers)).toEqual({ 201: 1, 409: 9 });
      expect(await sql('SELECT count(*)::int AS count FROM user_account WHERE lower(email) = $1', [email])).toEqual([{ count: 1 }]); // prettier-ignore
    });

    it('take no invitation that was revoked, is over, or never was', async () => {
      const [revoked, over] = [await people.invite(newAddress(), { role: 'operator' }), await people.invite(newAddress(), { role: 'operator' })]; // prettier-ignore
      expect((await clinic.call('DELETE', `/v1/invitations/${revoked.id}`)).status).toBe(204);
      await sql('UPDATE invitation SET expires_at = now() WHERE id = $1', [over.id]);
      for (const token of [revoked.invitationToken, over.invitationToken, `hi_${'A'.repeat(43)}`])
        expect(problemOf(await signUp(token))).toEqual(problem(404, 'not_found'));
    });

    it.each([
      [{ role: 'patient' }, '/role'],
      [{ role: 'practitioner' }, '/practitionerId'],
      [{ role: 'administrator', locationIds: ['01890000-0000-7000-8000-000000000000'] }, '/locationIds'],
      [{ role: 'receptionist', practitionerId: '01890000-0000-7000-8000-000000000000' }, '/practitionerId'],
      [{ role: 'receptionist', email: 'x' }, '/email'],
      [{}, '/role'],
    ])('are not invited as %j', async (body, pointer) => {
      const answer = await clinic.call('POST', '/v1/invitations', { body: { email: newAddress(), ...body } });
      expect(problemOf(answer)).toEqual(problem(400, 'validation_failed', pointer));
    });

    it("are bound to no practitioner or branch of another's", async () => {
      const id = '01890000-0000-7000-8000-000000000000';
      for (const place of [
        { role: 'practitioner', practitionerId: id },
        { role: 'receptionist', locationIds: [id] },
      ]) {
        const answer = await clinic.call('POST', '/v1/invitations', { body: { email: newAddress(), ...place } });
        expect(problemOf(answer)).toEqual(problem(404, 'not_found'));
      }
    });

    it('learn nothing from a refusal', async () => {
      const email = newAddress();
      await people.member(email, { role: 'receptionist' });
      const wrong = await signIn({ email, password: 'not the password' });
      const nobody = await signIn({ email: newAddress(), password: 'not the password' });
      const elsewhere = await signIn({ email, organizationId: '01890000-0000-7000-8000-000000000000' });
      expect(problemOf(wrong)).toEqual(problem(401, 'unauthenticated'));
      expect([nobody.body, elsewhere.body]).toEqual([wrong.body, wrong.body]);
    });

    it('join another organization with the account that they have', async () => {
      const email = newAddress().toLowerCase();
      await people.member(email, { role: 'receptionist' });
      const other = await addOrganization(app);
      const invited = await app.as(other.apiKey)('POST', '/v1/invitations', { body: { email, role: 'administrator' } });
      const { invitationToken } = invited.body;
      expect(problemOf(await signUp(invitationToken))).toEqual(problem(409, 'already_exists'));
      const joined = await signIn({ email, invitationToken });
      expect(decodeJwt(joined.body.accessToken)).toMatchObject({ org: other.organizationId, role: 'administrator' });
      const unsaid = await signIn({ email });
      expect([problemOf(unsaid), unsaid.body.organizationIds.sort()]).toEqual([problem(400, 'validation_failed', '/organizationId'), [organizationId, other.organizationId].sort()]); // prettier-ignore
      const said = await signIn({ email, organizationId });
      expect(decodeJwt(said.body.accessToken)).toMatchObject({ org: organizationId, role: 'receptionist' });
    });

    it('set a new password by a token, once, and all sessions end', async () => {
      const email = newAddress().toLowerCase();
      const member = await people.member(email, { role: 'receptionist' });
      const asked = [await people.post('password-reset', { email }), await people.post('password-reset', { email: newAddress() })]; // prettier-ignore
      expect(asked.map((each) => [each.status, each.body])).toEqual([
        [202, {}],
        [202, {}],
      ]);
      while (people.deliveries.findLast((each) => each.to === email)?.purpose !== 'password_reset')
        await new Promise((resolve) => setTimeout(resolve, 10));
      const token = people.lastTo(email);
      const confirm = (password: string) => people.post('password-reset/confirm', { token, password });
      const answers = await Promise.all([confirm('another password 1'), confirm('another password 2')]);
      expect(statusOf(answers)).toEqual({ 204: 1, 401: 1 });
      expect(await isGood(member.accessToken)).toBe(false);
      expect((await signIn({ email })).status).toBe(401);
      const passwords = ['another password 1', 'another password 2'];
      const tries = await Promise.all(passwords.map((password) => signIn({ email, password })));
      expect(statusOf(tries)).toEqual({ 200: 1, 401: 1 });
    });

    it('have a second factor if they want', async () => {
      const email = newAddress();
      const { call } = await people.member(email, { role: 'administrator' });
      const enrolled = await call('POST', '/v1/auth/totp');
      expect(enrolled.body).toEqual({
        secret: expect.any(String),
        uri: expect.stringMatching(/^otpauth:\/\/totp\/Holdfast/),
      });
      const totp = new TOTP({ secret: Secret.fromBase32(enrolled.body.secret) });
      const at = (steps: number) => totp.generate({ timestamp: Date.now() + steps * 30_000 });
      // Not in force before its first code was shown.
      expect((await signIn({ email })).status).toBe(200);
      expect((await call('POST', '/v1/auth/totp/confirm', { body: { code: '000000' } })).status).toBe(403);
      expect((await call('POST', '/v1/auth/totp/confirm', { body: { code: at(-1) } })).status).toBe(204);
      expect((await signIn({ email })).body).toMatchObject({ code: 'unauthenticated', totpRequired: true });
      expect((await signIn({ email, password: 'not the password' })).body.totpRequired).toBeUndefined();
      expect((await signIn({ email, totpCode: at(-1) })).status).toBe(401);
      const code = at(0);
      const answers = await Promise.all([1, 2, 3].map(() => signIn({ email, totpCode: code })));
      expect(statusOf(answers)).toEqual({ 200: 1, 401: 2 });
      expect((await call('POST', '/v1/auth/totp')).status).toBe(409);
      expect((await call('POST', '/v1/auth/totp/remove', { body: { code: at(1) } })).status).toBe(204);
      expect((await signIn({ email })).status).toBe(200);
      const [row] = await sql('SELECT u::text AS text FROM user_account u WHERE lower(email) = lower($1)', [email]);
      expect(row.text).not.toContain(enrolled.body.secret);
    });

    it('who are removed have no session and no key any more', async () => {
      const { accessToken, refreshToken, call } = await people.member(newAddress(), { role: 'administrator' });
      const made = await call('POST', '/v1/api-keys', { body: { name: 'Made by somebody' } });
      const key = app.as(made.body.key);
      expect((await key('GET', '/v1/organization')).status).toBe(200);
      const id = decodeJwt(accessToken).sub;
      expect((await clinic.call('DELETE', `/v1/users/${id}`)).status).toBe(204);
      expect([await isGood(accessToken), (await key('GET', '/v1/organization')).status]).toEqual([false, 401]);
      expect((await people.post('refresh', { refreshToken })).status).toBe(401);
      expect(problemOf(await clinic.call('GET', `/v1/users/${id}`))).toEqual(problem(404, 'not_found'));
    });

    it('who were removed do not come back by the invitation that they took', async () => {
      const email = newAddress().toLowerCase();
      const { invitationToken } = await people.invite(email, { role: 'receptionist' });
      const { accessToken } = (await signUp(invitationToken)).body;
      expect((await clinic.call('DELETE', `/v1/users/${decodeJwt(accessToken).sub}`)).status).toBe(204);
      expect(problemOf(await signIn({ email, invitationToken }))).toEqual(problem(409, 'already_exists'));
      expect(problemOf(await signIn({ email }))).toEqual(problem(401, 'unauthenticated'));
    });

    it('who get another post begin anew', async () => {
      const { accessToken } = await people.member(newAddress(), { role: 'administrator' });
      const id = decodeJwt(accessToken).sub;
      const body = { role: 'receptionist', locationIds: [clinic.locations[0]!.id] };
      const changed = await clinic.call('PATCH', `/v1/users/${id}`, { body });
      expect([changed.status, changed.body]).toEqual([200, expect.objectContaining({ id, ...body })]);
      expect(await isGood(accessToken)).toBe(false);
    });

    it('keep one administrator, whoever removes whom at once', async () => {
      const other = await addOrganization(app);
      const theirs = app.as(other.apiKey);
      const guests = peopleOf(app, other.organizationId, theirs);
      const members = [await guests.member(newAddress(), { role: 'administrator' }), await guests.member(newAddress(), { role: 'administrator' })]; // prettier-ignore
      const ids = members.map((each) => decodeJwt(each.accessToken).sub!);
      // Both have begun, and neither has ended.
      await sql('BEGIN');
      await sql('SELECT 1 FROM membership WHERE organization_id = $1 FOR UPDATE', [other.organizationId]);
      const both = [
        theirs('DELETE', `/v1/users/${ids[0]}`),
        theirs('PATCH', `/v1/users/${ids[1]}`, { body: { role: 'operator' } }),
      ];
      const waiting = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      while ((await sql(waiting)).length < 2) {
        // Within a transaction this view stays as it was first seen.
        await sql('SELECT pg_stat_clear_snapshot()');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await sql('COMMIT');
      const answers = await Promise.all(both);
      expect(new Set(answers.map((each) => each.body.code ?? 'done'))).toEqual(new Set(['done', 'in_use']));
      people = peopleOf(app, organizationId, clinic.call);
    });
  });

  describe('API keys', () => {
    const create = async (fields: object) => (await clinic.call('POST', '/v1/api-keys', { body: { name: 'X', ...fields } })).body; // prettier-ignore
    const read = (key: string) => app.as(key)('GET', '/v1/services');

    it('can do what they are limited to', async () => {
      const { key } = await create({ role: 'receptionist', permissions: ['clinic:read', 'slots:read'] });
      const call = app.as(key);
      const paths = ['/v1/services', '/v1/patients', '/v1/appointments'];
      expect((await Promise.all(paths.map((path) => call('GET', path)))).map((each) => each.status)).toEqual([
        200, 403, 403,
      ]);
    });

    it('give nobody more than they have', async () => {
      const { key } = await create({ permissions: ['api-keys:write', 'users:write'] });
      const call = app.as(key);
      expect(problemOf(await call('POST', '/v1/api-keys', { body: { name: 'All' } }))).toEqual(
        problem(403, 'forbidden'),
      );
      expect(
        (await call('POST', '/v1/api-keys', { body: { name: 'Same', permissions: ['users:write'] } })).status,
      ).toBe(201);
      const invitation = { email: newAddress(), role: 'administrator' };
      expect(problemOf(await call('POST', '/v1/invitations', { body: invitation }))).toEqual(problem(403, 'forbidden'));
    });

    it.each([
      [{ role: 'receptionist', permissions: ['users:write'] }, '/permissions'],
      [{ permissions: ['no such thing'] }, '/permissions'],
      [{ expiresAt: '2020-01-01T00:00:00Z' }, '/expiresAt'],
      [{ role: 'receptionist', practitionerId: '01890000-0000-7000-8000-000000000000' }, '/practitionerId'],
      [{ role: 'practitioner', locationIds: ['01890000-0000-7000-8000-000000000000'] }, '/locationIds'],
    ])('are not made with %j', async (fields, pointer) => {
      const answer = await clinic.call('POST', '/v1/api-keys', { body: { name: 'X', ...fields } });
      expect(problemOf(answer)).toEqual(problem(400, 'validation_failed', pointer));
    });

    it('end when they expire, trusted or not', async () => {
      const { key } = await create({ expiresAt: new Date(Date.now() + 1_200).toISOString() });
      expect((await read(key)).status).toBe(200);
      await new Promise((resolve) => setTimeout(resolve, 1_250));
      expect(problemOf(await read(key))).toEqual(problem(401, 'unauthenticated'));
    });

    it('of earlier releases, found by their hash, go on working', async () => {
      const key = `hf_${crypto.randomBytes(32).toString('base64url')}`;
      const hash = crypto.createHash('sha256').update(key).digest();
      await sql(`INSERT INTO api_key (organization_id, id, name, role, prefix, key_hash) VALUES ($1, gen_random_uuid(), 'Old', 'administrator', $2, $3)`, [organizationId, key.slice(0, 9), hash]); // prettier-ignore
      expect((await read(key)).status).toBe(200);
    });

    it('of another secret but the same beginning are none', async () => {
      const { key, prefix } = await create({});
      expect([prefix, key]).toEqual([
        expect.stringMatching(/^hf_.{8}$/),
        expect.stringMatching(/^hf_[A-Za-z0-9_-]{51}$/),
      ]);
      expect((await read(`${prefix}${'A'.repeat(43)}`)).status).toBe(401);
    });

    it('are replaced, and live on for a while', async () => {
      const old = await create({ role: 'receptionist', permissions: ['clinic:read'] });
      const rotate = (id: string, overlapSeconds?: number) => clinic.call('POST', `/v1/api-keys/${id}/rotate`, { body: { overlapSeconds } });
      const answers = await Promise.all([rotate(old.id, 60), rotate(old.id, 60), rotate(old.id, 60)]);
      expect(statusOf(answers)).toEqual({ 201: 1, 409: 2 });
      const next = answers.find((each) => each.status === 201)!.body;
      expect(next).toMatchObject({ role: 'receptionist', permissions: ['clinic:read'], key: expect.any(String) });
      expect([(await read(old.key)).status, (await read(next.key)).status]).toEqual([200, 200]);
      const shown = (await clinic.call('GET', `/v1/api-keys/${old.id}`)).body;
      expect(Date.parse(shown.expiresAt) - Date.parse(shown.rotatedAt)).toBe(60_000);
      const third = (await rotate(next.id, 0)).body;
      expect([(await read(next.key)).status, (await read(third.key)).status]).toEqual([401, 200]);
      await clinic.call('DELETE', `/v1/api-keys/${third.id}`);
      expect((await rotate(third.id)).status).toBe(409);
    }); // prettier-ignore

    it('show when they were used, without a write for each request', async () => {
      const { id, key } = await create({});
      await Promise.all([read(key), read(key), read(key)]);
      const last = async () => (await clinic.call('GET', `/v1/api-keys/${id}`)).body.lastUsedAt;
      expect(await last()).toBeNull();
      await app.app.get(ApiKeysService, { strict: false }).noteUses();
      expect(Math.abs(Date.parse(await last()) - Date.now())).toBeLessThan(60_000);
    });
  });

  it('is cleaned up', async () => {
    const phone = newPhone();
    const { accessToken } = await people.patient(phone);
    await people.post('otp', { organizationId, phone });
    await sql('UPDATE otp_code SET expires_at = now() WHERE phone = $1', [phone]);
    await sql(`UPDATE auth_session SET expires_at = now() - interval '2 days' WHERE id = $1`, [
      decodeJwt(accessToken)['sid'],
    ]);
    const gone = await app.app.get(IdentityCleanUp, { strict: false }).run();
    expect([gone['otp_code']! > 0, gone['auth_session']]).toEqual([true, 1]);
    expect(await sql('SELECT 1 FROM otp_code WHERE phone = $1', [phone])).toEqual([]);
  });

  it('works for the operator of the demo, who sees how it runs and nothing else', async () => {
    const { body } = await people.post('sign-in', clinic.operator);
    const call = app.as(body.accessToken);
    expect([(await call('GET', '/metrics')).status, (await call('GET', '/v1/patients')).status]).toEqual([200, 403]);
  });
});
