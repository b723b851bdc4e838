import { connect } from 'node:net';
import { Log } from '../../src/platform';
import { problem, problemOf } from '../support/api';
import { type Clinic, seedClinic, startApp, type TestApp } from '../support/app';

const PAGE = 'https://app.example';
/** Refusing costs no more than reading a head or the beginning of a body; this is a bound for a machine that is busy. */
const QUICKLY = 2_000;

/** Everything that a server says to these bytes until it hangs up. */
function say(url: string, bytes: string): Promise<{ text: string; milliseconds: number }> {
  const { hostname, port } = new URL(url);
  const began = performance.now();
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname, () => void socket.write(bytes));
    socket.on('data', (chunk) => (text += chunk.toString()));
    // It may hang up before it has read all.
    socket.on('error', () => undefined);
    socket.on('close', () => resolve({ text, milliseconds: performance.now() - began }));
  });
}

describe('the edge', () => {
  let app: TestApp;
  let clinic: Clinic;
  let complaints: jest.SpyInstance[];
  beforeAll(async () => {
    app = await startApp({
      corsOrigins: [PAGE],
      trustedProxies: ['loopback'],
      rateLimitOverrides: { ip: { count: 3, windowSeconds: 60 } },
    });
    clinic = await seedClinic(app);
    const log = app.app.get(Log, { strict: false });
    complaints = (['failure', 'warning', 'error'] as const).map((level) => jest.spyOn(log, level));
  });
  afterAll(() => app.stop());
  afterEach(() => {
    expect(complaints.flatMap((spy) => spy.mock.calls as unknown[])).toEqual([]);
  });

  describe('requests of pages', () => {
    const preflight = (origin: string, path = '/v1/appointments') =>
      app.as(undefined)('OPTIONS', path, {
        headers: {
          Origin: origin,
          'Access-Control-Request-Method': 'POST',
          'Access-Control-Request-Headers': 'authorization,idempotency-key',
        },
      });
    const allowed = (headers: Headers) => headers.get('access-control-allow-origin');

    it('are allowed to those that are named, without cookies', async () => {
      const { status, headers } = await preflight(PAGE);
      expect([status, allowed(headers), headers.get('access-control-allow-credentials')]).toEqual([204, PAGE, null]);
      expect(headers.get('access-control-allow-headers')).toContain('Idempotency-Key');
      const answer = await clinic.call('GET', '/v1/services', { headers: { Origin: PAGE } });
      expect([answer.status, allowed(answer.headers), answer.headers.get('vary')]).toEqual([200, PAGE, 'Origin']);
      expect(answer.headers.get('access-control-expose-headers')).toContain('Retry-After');
    });

    it('are not allowed to any others', async () => {
      for (const origin of ['https://evil.example', `${PAGE}.evil.example`, 'http://app.example', 'null']) {
        expect([origin, allowed((await preflight(origin)).headers)]).toEqual([origin, null]);
        const answer = await clinic.call('GET', '/v1/services', { headers: { Origin: origin } });
        expect([origin, answer.status, allowed(answer.headers)]).toEqual([origin, 200, null]);
      }
    });

    it('are told of refusals, those of the limits among them', async () => {
      const headers = { Origin: PAGE, 'X-Forwarded-For': '198.51.100.9' };
      const answers = [];
      for (let at = 0; at < 4; at++) answers.push(await app.as(undefined)('GET', '/v1/services', { headers }));
      expect(answers.map((each) => [each.status, allowed(each.headers)])).toEqual([
        ...[401, 401, 401].map((status) => [status, PAGE]),
        [429, PAGE],
      ]);
    });

    it('are allowed to nobody unless told', async () => {
      const plain = await startApp({ databaseUrl: app.databaseUrl });
      const answer = await plain.as(clinic.apiKey)('GET', '/v1/services', { headers: { Origin: PAGE } });
      expect([answer.status, allowed(answer.headers)]).toEqual([200, null]);
      const asked = await plain.as(undefined)('OPTIONS', '/v1/services', { headers: { Origin: PAGE } });
      expect([asked.status, allowed(asked.headers)]).toEqual([404, null]);
      await plain.stop();
    });
  });

  describe('heads of requests', () => {
    const head = (lines: string[]) => `GET /v1/services HTTP/1.1\r\nHost: a\r\n${lines.join('\r\n')}\r\n\r\n`;
    it.each([
      ['one header of 64 kB', head([`Authorization: Bearer ${'x'.repeat(65_536)}`])],
      ['20,000 headers', head(Array.from({ length: 20_000 }, (_, at) => `x-${at}: y`))],
      ['headers without an end', `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(200_000)}`],
      ['a path of 64 kB', `GET /${'x'.repeat(65_536)} HTTP/1.1\r\nHost: a\r\n\r\n`],
    ])('that are too large are refused at once: %s', async (_, bytes) => {
      const { text, milliseconds } = await say(app.url, bytes);
      expect(text).toMatch(/^HTTP\/1\.1 431 /);
      expect(JSON.parse(text.split('\r\n\r\n')[1]!)).toMatchObject({ status: 431, code: 'headers_too_large' });
      expect(milliseconds).toBeLessThan(QUICKLY);
    });

    it.each([
      ['no HTTP at all', 'hello\r\n\r\n'],
      ['two lengths', 'POST /v1/patients HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
      ['a length and chunks', 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'], // prettier-ignore
    ])('that cannot be read are refused: %s', async (_, bytes) => {
      const { text } = await say(app.url, bytes);
      expect(text).toMatch(/^HTTP\/1\.1 400 /);
      expect(JSON.parse(text.split('\r\n\r\n')[1]!)).toMatchObject({ status: 400, code: 'validation_failed' });
    });

    it('of some kilobytes are read', async () => {
      const headers = Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`x-${at}`, 'y'.repeat(100)]));
      expect((await clinic.call('GET', '/v1/services', { headers })).status).toBe(200);
    });
  });

  describe('bodies', () => {
    const LARGE = 10 * 1024 * 1024;
    const start = (more: string) =>
      `POST /v1/patients HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${clinic.apiKey}\r\nContent-Type: application/json\r\n${more}\r\n\r\n`;

    it('of 10 MB are refused before they have arrived', async () => {
      const { text, milliseconds } = await say(app.url, `${start(`Content-Length: ${LARGE}`)}{"name":"`);
      expect(text).toMatch(/^HTTP\/1\.1 413 /);
      expect(JSON.parse(text.split('\r\n\r\n')[1]!)).toMatchObject({ status: 413, code: 'payload_too_large' });
      expect(milliseconds).toBeLessThan(QUICKLY);
    });

    it('of 10 MB in chunks are refused where they become too large', async () => {
      const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
      const { text, milliseconds } = await say(app.url, start('Transfer-Encoding: chunked') + chunk.repeat(5));
      expect(text).toMatch(/^HTTP\/1\.1 413 /);
      expect(milliseconds).toBeLessThan(QUICKLY);
    });

    it('of 10 MB that arrive whole are refused, too', async () => {
      const began = performance.now();
      const answer = await clinic.call('POST', '/v1/patients', { raw: `{"name":"${'x'.repeat(LARGE)}"}` });
      expect(problemOf(answer)).toEqual(problem(413, 'payload_too_large'));
      expect(performance.now() - began).toBeLessThan(QUICKLY);
    });
  });
});
