import { contentsOf, inDays, maker, newPhone, openSql, type Sql } from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';
import {
  bodyFor,
  fill,
  fillPath,
  NOBODY,
  type Operation,
  operationsOf,
  type Owned,
  send,
  slots,
} from '../support/crawl';

describe('two organizations', () => {
  let app: TestApp;
  let ours: Caller;
  let theirs: Caller;
  let own: Owned;
  let foreign: Owned;
  /** Anything of the other organization whose appearance would be a leak. */
  let traces: string[];
  let sql: Sql;
  let operations: Operation[];
  beforeAll(async () => {
    app = await startApp();
    const clinic = await seedClinic(app);
    ours = clinic.call;
    const other = await addOrganization(app);
    theirs = app.as(other.apiKey);
    [own, foreign] = [await fill(app, ours, 'Our Own'), await fill(app, theirs, 'Foreign Secret')];
    traces = [other.organizationId, 'Foreign Secret', ...Object.values(foreign)];
    sql = await openSql(app);
    operations = await operationsOf(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const leaks = (answer: Answer) => {
    const text = JSON.stringify([answer.body, [...answer.headers]]);
    return traces.filter((trace) => text.includes(trace));
  };

  it('the crawl knows every route that names something', () => {
    const named = operations.filter(({ path }) => path.includes('{'));
    expect(named.length).toBeGreaterThanOrEqual(25);
    const unknown = named.filter(({ path }) => fillPath(path, foreign).includes(NOBODY));
    expect(unknown).toEqual([]);
    const bodiless = operations.filter(
      (operation) => ['POST', 'PUT', 'PATCH'].includes(operation.method) && bodyFor(operation, own) === undefined,
    );
    expect(bodiless).toEqual([]);
  });

  it("answer 404 to every route that names the other's", async () => {
    const before = await contentsOf(sql);
    const answers: Array<[string, number]> = [];
    for (const operation of operations.filter(({ path }) => path.includes('{'))) {
      const answer = await send(ours, operation, fillPath(operation.path, foreign), bodyFor(operation, own));
      answers.push([`${operation.method} ${operation.path}`, answer.status]);
      const instance = { ...answer, body: { ...answer.body, instance: '' } };
      expect([operation, leaks(instance)]).toEqual([operation, []]);
      expect(answer.body.code).toBe('not_found');
    }
    expect(answers).toEqual(answers.map(([name]) => [name, 404]));
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('answer the same, word for word, as to what never was', async () => {
    const nobody = Object.fromEntries(
      Object.keys(foreign).map((kind) => [kind, '01890000-0000-7000-8000-000000000001']),
    ) as Owned;
    for (const operation of operations.filter(({ path }) => path.includes('{'))) {
      const [real, unreal] = [
        await send(ours, operation, fillPath(operation.path, foreign), bodyFor(operation, own)),
        await send(ours, operation, fillPath(operation.path, nobody), bodyFor(operation, own)),
      ];
      const words = ({ status, body }: Answer) => ({ status, ...body, instance: undefined });
      expect(words(real)).toEqual(words(unreal));
    }
  });

  it("answer 404 to every body that refers to the other's, and write nothing", async () => {
    const before = await contentsOf(sql);
    const referring = operations.filter((operation) => {
      const text = JSON.stringify(bodyFor(operation, foreign) ?? {});
      return Object.values(foreign).some((id) => text.includes(id));
    });
    expect(referring.length).toBeGreaterThanOrEqual(9);
    for (const operation of referring) {
      const answer = await send(ours, operation, fillPath(operation.path, own), bodyFor(operation, foreign));
      expect([operation, answer.status, leaks(answer)]).toEqual([operation, 404, []]);
    }
    expect(await contentsOf(sql)).toEqual(before);
  });

  it("take no single id of the other's in a booking, wherever it stands", async () => {
    const before = await contentsOf(sql);
    const booking = bodyFor({ method: 'POST', path: '/v1/appointments' }, own);
    for (const change of [
      { serviceId: foreign.services },
      { practitionerId: foreign.practitioners },
      { patientId: foreign.patients },
      { patientId: undefined, patient: { phone: newPhone(), locationId: foreign.locations } },
    ]) {
      const answer = await ours('POST', '/v1/appointments', { body: { ...booking, ...change } });
      expect([change, answer.status, leaks(answer)]).toEqual([change, 404, []]);
    }
    const startsAt = inDays(11, '08:00');
    const parts = [
      { practitionerId: own.practitioners, startsAt },
      { roomId: own.rooms, startsAt: inDays(11, '08:10') },
    ];
    for (const visit of [
      { serviceId: foreign.visits, segments: parts },
      { serviceId: own.visits, segments: [{ ...parts[0], practitionerId: foreign.practitioners }, parts[1]] },
      { serviceId: own.visits, segments: [parts[0], { ...parts[1], roomId: foreign.rooms }] },
    ]) {
      const answer = await ours('POST', '/v1/appointments', { body: { patientId: own.patients, startsAt, ...visit } });
      expect([visit, answer.status, leaks(answer)]).toEqual([visit, 404, []]);
    }
    const segments = [{ name: 'a', durationMinutes: 5, roomIds: [foreign.rooms] }];
    expect((await ours('POST', '/v1/services', { body: { name: 'X', segments } })).status).toBe(404);
    const mixed = [own.practitioners, foreign.practitioners];
    const service = await ours('POST', '/v1/services', {
      body: { name: 'X', durationMinutes: 5, practitionerIds: mixed },
    });
    expect(service.status).toBe(404);
    expect(await contentsOf(sql)).toEqual(before);
  });

  it("take no exception and no published slot of the other's under a schedule of one's own, nor the other way about", async () => {
    const paths = [
      `/v1/schedules/${own.schedules}/exceptions/${foreign.exceptions}`,
      `/v1/schedules/${foreign.schedules}/exceptions/${own.exceptions}`,
      `/v1/schedules/${own.schedules}/published-slots/${foreign.published}`,
      `/v1/schedules/${foreign.schedules}/published-slots/${own.published}`,
    ];
    for (const path of paths) {
      for (const method of ['GET', 'DELETE']) {
        const answer = await ours(method, path, { headers: { 'If-Match': '*' } });
        expect([method, path, answer.status]).toEqual([method, path, 404]);
      }
    }
  });

  it("find no free time of the other's", async () => {
    expect((await ours('GET', slots(foreign.services))).status).toBe(404);
    expect((await ours('GET', `${slots(own.services)}&practitionerId=${foreign.practitioners}`)).status).toBe(404);
    const explain = `/v1/slots/explain?startsAt=${inDays(11, '08:00')}`;
    expect((await ours('GET', `${explain}&serviceId=${foreign.services}`)).status).toBe(404);
    const whose = `${explain}&serviceId=${own.services}&practitionerId=${foreign.practitioners}`;
    expect((await ours('GET', whose)).status).toBe(404);
    const elsewhere = await ours('GET', `${slots(own.services)}&locationId=${foreign.locations}`);
    expect([
      [200, []],
      [404, undefined],
    ]).toContainEqual([elsewhere.status, elsewhere.body.data]);
  });

  it("see nothing of the other's in any list", async () => {
    const lists = operations.filter(
      ({ method, path }) => method === 'GET' && path.startsWith('/v1/') && !path.startsWith('/v1/slots'),
    );
    for (const { path } of lists) {
      const target = fillPath(path, own);
      const [mine, other] = [await ours('GET', target), await theirs('GET', fillPath(path, foreign))];
      expect([path, mine.status, leaks(mine)]).toEqual([path, 200, []]);
      expect([path, other.status]).toEqual([path, 200]);
      // The history of an appointment names none of what is looked for.
      if (!path.endsWith('/history')) expect([path, leaks(other).length > 0]).toEqual([path, true]);
    }
    for (const query of [`patientId=${foreign.patients}`, `practitionerId=${foreign.practitioners}`]) {
      expect((await ours('GET', `/v1/appointments?${query}`)).body.data).toEqual([]);
    }
  });

  it('have patients of their own by the same phone', async () => {
    const phone = newPhone();
    const [mine, other] = [
      await ours('POST', '/v1/patients', { body: { phone, name: 'Ours' } }),
      await theirs('POST', '/v1/patients', { body: { phone, name: 'Theirs' } }),
    ];
    expect([mine.status, other.status]).toEqual([201, 201]);
    expect(mine.body.id).not.toBe(other.body.id);
    const found = await ours('GET', `/v1/patients?phone=${encodeURIComponent(phone)}`);
    expect(found.body.data.map((each: { name: string }) => each.name)).toEqual(['Ours']);
  });

  it("do not stand in each other's way", async () => {
    const startsAt = inDays(12, '08:00');
    const book = (call: Caller, ids: Owned) => maker(call).book({ serviceId: ids.services, startsAt });
    const answers = await Promise.all([book(ours, own), book(theirs, foreign)]);
    expect(answers.map((answer) => answer.status)).toEqual([201, 201]);
    const lost = await book(ours, own);
    expect([lost.status, lost.body.alternatives.length, leaks(lost)]).toEqual([409, 3, []]);
  });

  it('close every route to nobody, but for health and documentation', async () => {
    const open: Record<string, number> = {
      '/health/live': 200,
      '/health/ready': 200,
      '/v1/auth/otp': 404,
      '/v1/auth/otp/verify': 401,
      '/v1/auth/sign-up': 404,
      '/v1/auth/sign-in': 401,
      '/v1/auth/refresh': 401,
      '/v1/auth/password-reset': 202,
      '/v1/auth/password-reset/confirm': 401,
    };
    for (const operation of operations) {
      const answer = await send(app.as(undefined), operation, fillPath(operation.path, own), bodyFor(operation, own));
      const expected = open[operation.path] ?? 401;
      expect([operation, answer.status]).toEqual([operation, expected]);
    }
  });
});
