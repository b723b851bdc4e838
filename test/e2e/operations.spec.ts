import { migrate, readSettings } from '../../src/platform';
import { inDays, maker, problem, problemOf } from '../support/api';
import { type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];

describe('operations', () => {
  let app: TestApp;
  let clinic: Clinic;
  let nobody: Caller;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    nobody = app.as(undefined);
  });
  afterAll(() => app.stop());

  it('health is told to everybody', async () => {
    const live = await nobody('GET', '/health/live');
    expect([live.status, live.body.status]).toEqual([200, 'ok']);
    const ready = await nobody('GET', '/health/ready');
    expect([ready.status, ready.body.status]).toEqual([200, 'ok']);
    expect((await app.as('hf_nonsense')('GET', '/health/ready')).status).toBe(200);
  });

  describe('metrics', () => {
    it('are closed to whoever is no operator', async () => {
      expect(problemOf(await nobody('GET', '/metrics'))).toEqual(problem(401, 'unauthenticated'));
      for (const [role, status] of [
        ['receptionist', 403],
        ['practitioner', 403],
        ['operator', 200],
        ['administrator', 200],
      ] as const) {
        const { body } = await clinic.call('POST', '/v1/api-keys', { body: { name: role, role } });
        expect([role, (await app.as(body.key)('GET', '/metrics')).status]).toEqual([role, status]);
      }
    });

    it('count what happens, and name nobody', async () => {
      const make = maker(clinic.call);
      const practitioner = await make.practitioner();
      const service = await make.service([practitioner.id]);
      const patient = { phone: '+4915144444444', name: 'Somebody Particular' };
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00'), patient })).status).toBe(201);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') })).status).toBe(409);
      const answer = await clinic.call('GET', '/metrics');
      expect(answer.headers.get('content-type')).toMatch(/^text\/plain/);
      const text = answer.body as string;
      const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
      expect(samples.length).toBeGreaterThan(10);
      for (const line of samples) expect(line).toMatch(/^[a-zA-Z_:][\w:]*(\{.*\})? (-?[\d.e+-]+|NaN|[+-]Inf)( \d+)?$/);
      expect(text).toMatch(/outcome="booked"\} [1-9]/);
      expect(text).toMatch(/outcome="slot_taken"\} [1-9]/);
      for (const secret of [patient.phone, patient.name, clinic.apiKey]) expect(text).not.toContain(secret);
    });
  });

  describe('the OpenAPI document', () => {
    it('is valid JSON and names every route', async () => {
      const answer = await nobody('GET', '/openapi.json');
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-type')).toMatch(/json/);
      expect(answer.body.openapi).toMatch(/^3\./);
      const routes = Object.entries<object>(answer.body.paths).flatMap(([path, operations]) =>
        Object.keys(operations)
          .filter((method) => METHODS.includes(method))
          .map((method) => `${method.toUpperCase()} ${path}`),
      );
      const crud = (list: string) => [
        `GET /v1/${list}`,
        `POST /v1/${list}`,
        `GET /v1/${list}/{id}`,
        `PATCH /v1/${list}/{id}`,
        `DELETE /v1/${list}/{id}`,
      ];
      expect(routes).toEqual(
        expect.arrayContaining([
          'GET /v1/organization',
          'PATCH /v1/organization',
          ...['locations', 'practitioners', 'rooms', 'services', 'patients'].flatMap(crud),
          'GET /v1/schedules/{id}',
          'PUT /v1/schedules/{id}/hours',
          'POST /v1/schedules/{id}/exceptions',
          'GET /v1/schedules/{id}/exceptions',
          'GET /v1/schedules/{id}/exceptions/{exceptionId}',
          'DELETE /v1/schedules/{id}/exceptions/{exceptionId}',
          'GET /v1/slots',
          'POST /v1/appointments',
          'GET /v1/appointments',
          'GET /v1/appointments/{id}',
          'GET /v1/appointments/{id}/history',
          'POST /v1/appointments/{id}/cancel',
          'GET /v1/api-keys',
          'POST /v1/api-keys',
          'DELETE /v1/api-keys/{id}',
          'GET /health/live',
          'GET /health/ready',
          'GET /metrics',
        ]),
      );
    });

    it('refers to nothing that it does not contain, and gives each operation a name of its own', async () => {
      const { body } = await nobody('GET', '/openapi.json');
      const references = [...JSON.stringify(body).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
      for (const [, name] of references) expect(Object.keys(body.components.schemas)).toContain(name);
      const operations = Object.values<Record<string, { operationId: string }>>(body.paths).flatMap((each) =>
        Object.values(each),
      );
      const names = operations.map((operation) => operation.operationId);
      expect(new Set(names).size).toBe(names.length);
    });

    it('describes the body of a booking', async () => {
      const { body } = await nobody('GET', '/openapi.json');
      const reference = body.paths['/v1/appointments'].post.requestBody.content['application/json'].schema
        .$ref as string;
      const schema = body.components.schemas[reference.split('/').at(-1)!];
      expect(Object.keys(schema.properties)).toEqual(
        expect.arrayContaining(['serviceId', 'startsAt', 'practitionerId', 'patient', 'patientId', 'mode', 'metadata']),
      );
      expect(schema.required).toEqual(expect.arrayContaining(['serviceId', 'startsAt']));
      expect(schema.required).not.toContain('practitionerId');
    });

    it('has a page to read', async () => {
      const page = await nobody('GET', '/docs');
      expect([page.status, page.headers.get('content-type')]).toEqual([200, expect.stringMatching(/^text\/html/)]);
      const scripts = [...(page.body as string).matchAll(/(?:src|href)="(\.?[^"]+\.(?:js|css))"/g)].map(
        (each) => each[1]!,
      );
      expect(scripts.length).toBeGreaterThan(0);
      for (const script of scripts) {
        const asset = await fetch(new URL(script, `${app.url}/docs`));
        expect([script, asset.status]).toEqual([script, 200]);
      }
    });
  });

  describe('a worker', () => {
    it('is asked for its health, and for nothing else', async () => {
      await migrate({ ...readSettings({}), databaseUrl: app.databaseUrl }, () => undefined);
      const worker = await startApp({ databaseUrl: app.databaseUrl, role: 'worker' });
      try {
        const call = worker.as(clinic.apiKey);
        expect((await call('GET', '/health/live')).status).toBe(200);
        expect((await call('GET', '/health/ready')).status).toBe(200);
        for (const [method, path] of [
          ['GET', '/v1/appointments'],
          ['GET', '/v1/organization'],
          ['GET', '/metrics'],
          ['GET', '/openapi.json'],
          ['GET', '/docs'],
          ['GET', '/'],
          ['GET', '/health/../v1/organization'],
          ['GET', '/v1/organization?x=/health/live'],
        ] as const) {
          expect([path, problemOf(await call(method, path))]).toEqual([path, problem(404, 'not_found')]);
        }
        const post = await call('POST', '/v1/locations', { body: { name: 'X', timeZone: 'Europe/Berlin' } });
        expect(problemOf(post)).toEqual(problem(404, 'not_found'));
      } finally {
        await worker.stop();
      }
    });
  });

  it('an API process serves everything', async () => {
    const api = await startApp({ databaseUrl: app.databaseUrl, role: 'api' });
    try {
      expect((await api.as(clinic.apiKey)('GET', '/v1/organization')).status).toBe(200);
    } finally {
      await api.stop();
    }
  });

  it('errors do not tell what the program is made of', async () => {
    for (const path of ['/v1/nothing', '/v1/patients/x', '/nothing.php']) {
      const { body, headers } = await clinic.call('GET', path);
      expect(JSON.stringify(body)).not.toMatch(/node_modules|at .*\.ts|stack|Nest|fastify/i);
      expect(headers.get('x-powered-by')).toBeNull();
    }
  });
});
