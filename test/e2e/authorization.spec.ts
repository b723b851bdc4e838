import { ModulesContainer } from '@nestjs/core';
import { PERMITTED, PUBLIC } from '../../src/auth';
import { AuditTrail } from '../../src/platform';
import { contentsOf, openSql, type Sql } from '../support/api';
import {
  addOrganization,
  type Answer,
  type Caller,
  type Clinic,
  seedClinic,
  startApp,
  type TestApp,
} from '../support/app';
import {
  bodyFor,
  fill,
  fillPath,
  nameOf,
  type Operation,
  operationsOf,
  otherBodiesFor,
  type Owned,
  send,
  slots,
} from '../support/crawl';
import { peopleOf } from '../support/people';

const CALLERS = [
  'nobody',
  'patient',
  'practitioner',
  'branch',
  'receptionist',
  'administrator',
  'operator',
  'key',
] as const;
type Who = (typeof CALLERS)[number];

/**
 * Who may call which route, written down once more: what the code declares is held against this, and neither is made of the
 * other. The columns are those of {@link CALLERS}; `key` is an API key of an administrator with `patients:read` alone.
 */
// prettier-ignore
const MAY: Record<string, string> = {
  //                                                        nobody patient practitioner branch receptionist administrator operator key
  'GET /health/live':                                         'x x x x x x x x',
  'GET /health/ready':                                        'x x x x x x x x',
  'GET /metrics':                                             '. . . . . x x .',
  'POST /v1/auth/otp':                                        'x x x x x x x x',
  'POST /v1/auth/otp/verify':                                 'x x x x x x x x',
  'POST /v1/auth/sign-up':                                    'x x x x x x x x',
  'POST /v1/auth/sign-in':                                    'x x x x x x x x',
  'POST /v1/auth/refresh':                                    'x x x x x x x x',
  'POST /v1/auth/password-reset':                             'x x x x x x x x',
  'POST /v1/auth/password-reset/confirm':                     'x x x x x x x x',
  'POST /v1/auth/totp':                                       '. . x x x x x .',
  'POST /v1/auth/totp/confirm':                               '. . x x x x x .',
  'POST /v1/auth/totp/remove':                                '. . x x x x x .',
  'POST /v1/auth/sign-out':                                   '. x x x x x x .',
  'GET /v1/organization':                                     '. x x x x x . .',
  'PATCH /v1/organization':                                   '. . . . . x . .',
  'GET /v1/locations':                                        '. x x x x x . .',
  'POST /v1/locations':                                       '. . . . x x . .',
  'GET /v1/locations/{id}':                                   '. x x x x x . .',
  'PATCH /v1/locations/{id}':                                 '. . . . x x . .',
  'DELETE /v1/locations/{id}':                                '. . . . x x . .',
  'GET /v1/practitioners':                                    '. x x x x x . .',
  'POST /v1/practitioners':                                   '. . . . x x . .',
  'GET /v1/practitioners/{id}':                               '. x x x x x . .',
  'PATCH /v1/practitioners/{id}':                             '. . . . x x . .',
  'DELETE /v1/practitioners/{id}':                            '. . . . x x . .',
  'GET /v1/rooms':                                            '. x x x x x . .',
  'POST /v1/rooms':                                           '. . . . x x . .',
  'GET /v1/rooms/{id}':                                       '. x x x x x . .',
  'PATCH /v1/rooms/{id}':                                     '. . . . x x . .',
  'DELETE /v1/rooms/{id}':                                    '. . . . x x . .',
  'GET /v1/services':                                         '. x x x x x . .',
  'POST /v1/services':                                        '. . . . x x . .',
  'GET /v1/services/{id}':                                    '. x x x x x . .',
  'PATCH /v1/services/{id}':                                  '. . . . x x . .',
  'DELETE /v1/services/{id}':                                 '. . . . x x . .',
  'GET /v1/patients':                                         '. . x x x x . x',
  'POST /v1/patients':                                        '. . x x x x . .',
  'GET /v1/patients/{id}':                                    '. . x x x x . x',
  'PATCH /v1/patients/{id}':                                  '. . x x x x . .',
  'DELETE /v1/patients/{id}':                                 '. . . . x x . .',
  'GET /v1/patients/{id}/export':                             '. . . . . x . .',
  'POST /v1/patients/{id}/erase':                             '. . . . . x . .',
  'GET /v1/schedules/{id}':                                   '. . x x x x . .',
  'PUT /v1/schedules/{id}/hours':                             '. . x x x x . .',
  'GET /v1/schedules/{id}/exceptions':                        '. . x x x x . .',
  'POST /v1/schedules/{id}/exceptions':                       '. . x x x x . .',
  'GET /v1/schedules/{id}/exceptions/{exceptionId}':          '. . x x x x . .',
  'DELETE /v1/schedules/{id}/exceptions/{exceptionId}':       '. . x x x x . .',
  'GET /v1/schedules/{id}/published-slots':                   '. . x x x x . .',
  'POST /v1/schedules/{id}/published-slots':                  '. . x x x x . .',
  'GET /v1/schedules/{id}/published-slots/{slotId}':          '. . x x x x . .',
  'DELETE /v1/schedules/{id}/published-slots/{slotId}':       '. . x x x x . .',
  'GET /v1/slots':                                            '. x x x x x . .',
  'GET /v1/slots/explain':                                    '. x x x x x . .',
  'GET /v1/appointments':                                     '. x x x x x . .',
  'POST /v1/appointments':                                    '. x x x x x . .',
  'GET /v1/appointments/{id}':                                '. x x x x x . .',
  'GET /v1/appointments/{id}/history':                        '. x x x x x . .',
  'POST /v1/appointments/{id}/confirm':                       '. x x x x x . .',
  'POST /v1/appointments/{id}/reschedule':                    '. x x x x x . .',
  'POST /v1/appointments/{id}/check-in':                      '. . x x x x . .',
  'POST /v1/appointments/{id}/complete':                      '. . x x x x . .',
  'POST /v1/appointments/{id}/no-show':                       '. . x x x x . .',
  'POST /v1/appointments/{id}/cancel':                        '. x x x x x . .',
  'GET /v1/users':                                            '. . . . . x . .',
  'GET /v1/users/{id}':                                       '. . . . . x . .',
  'PATCH /v1/users/{id}':                                     '. . . . . x . .',
  'DELETE /v1/users/{id}':                                    '. . . . . x . .',
  'GET /v1/invitations':                                      '. . . . . x . .',
  'POST /v1/invitations':                                     '. . . . . x . .',
  'GET /v1/invitations/{id}':                                 '. . . . . x . .',
  'DELETE /v1/invitations/{id}':                              '. . . . . x . .',
  'GET /v1/api-keys':                                         '. . . . . x . .',
  'POST /v1/api-keys':                                        '. . . . . x . .',
  'GET /v1/api-keys/{id}':                                    '. . . . . x . .',
  'POST /v1/api-keys/{id}/rotate':                            '. . . . . x . .',
  'DELETE /v1/api-keys/{id}':                                 '. . . . . x . .',
  'GET /v1/audit-log':                                        '. . . . . x . .',
};

const may = (operation: Operation, who: Who): boolean =>
  MAY[nameOf(operation)]?.split(' ')[CALLERS.indexOf(who)] === 'x';

describe('who may do what', () => {
  let app: TestApp;
  let clinic: Clinic;
  let sql: Sql;
  let operations: Operation[];
  let callers: Record<Who, Caller>;
  let own: Owned;
  let foreign: Owned;
  /** Of our own patient. */
  let phone: string;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    sql = await openSql(app);
    const theirs = app.as((await addOrganization(app)).apiKey);
    [own, foreign] = [await fill(app, clinic.call, 'Our Own'), await fill(app, theirs, 'Foreign Secret')];
    operations = await operationsOf(app);
    phone = (await clinic.call('GET', `/v1/patients/${own.patients}`)).body.phone;
    const people = peopleOf(app, clinic.organizationId, clinic.call);
    const member = async (role: string, place: object = {}) =>
      (await people.member(`${role}.${Object.keys(place).length}@example.org`, { role, ...place })).call;
    const key = await clinic.call('POST', '/v1/api-keys', {
      body: { name: 'limited', permissions: ['patients:read'] },
    });
    callers = {
      nobody: app.as(undefined),
      patient: (await people.patient(phone)).call,
      practitioner: await member('practitioner', { practitionerId: own.practitioners }),
      branch: await member('receptionist', { locationIds: [own.locations] }),
      receptionist: await member('receptionist'),
      administrator: await member('administrator'),
      operator: await member('operator'),
      key: app.as(key.body.key),
    };
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  /** Whether the door was shut. Behind it, who shows a wrong code or password is refused too, in other ways. */
  const refused = ({ status, headers, body }: Answer) =>
    (status === 403 && body.detail !== 'The code is not right.') || (status === 401 && headers.has('www-authenticate'));
  const ask = (who: Who, operation: Operation) =>
    send(callers[who], operation, withQuery(operation, fillPath(operation.path, own)), bodyFor(operation, own));
  /** What a route cannot be asked without. */
  const withQuery = ({ path }: Operation, target: string): string =>
    path === '/v1/slots' ? own.services : path === '/v1/slots/explain' ? explain(own.services) : target;
  const explain = (serviceId: string) => `/v1/slots/explain?serviceId=${serviceId}&startsAt=${slots('').slice(-20)}`;

  /** Who gets another answer than the table says, of those to whom some operations are closed or open. */
  async function differences(which: Operation[], open: boolean): Promise<string[]> {
    const found: string[] = [];
    for (const operation of which) {
      for (const who of CALLERS.filter((each) => may(operation, each) === open)) {
        const answer = await ask(who, operation);
        const due = who === 'nobody' ? [401, 'unauthenticated'] : [403, 'forbidden'];
        const isDue = open
          ? !refused(answer)
          : refused(answer) && answer.status === due[0] && answer.body.code === due[1];
        if (!isDue) found.push(`${nameOf(operation)} as ${who}: ${answer.status} ${JSON.stringify(answer.body)}`);
      }
    }
    return found;
  }

  const untold = (table: Record<string, string>): string[] => {
    const names = operations.map(nameOf);
    return [
      ...names.filter((name) => !(name in table)).map((name) => `${name} is not in the table`),
      ...Object.keys(table)
        .filter((name) => !names.includes(name))
        .map((name) => `${name} is no route`),
      ...Object.entries(table)
        .filter(([, row]) => !/^[x.]( [x.]){7}$/.test(row))
        .map(([name]) => `${name} is not filled in`),
    ];
  };

  it('is told for every route, and for no route that is none', () => {
    expect(untold(MAY)).toEqual([]);
    const { 'GET /v1/patients': _, ...less } = MAY;
    expect(untold(less)).toEqual(['GET /v1/patients is not in the table']);
    expect(untold({ ...MAY, 'GET /v1/secrets': MAY['GET /metrics']! })).toEqual(['GET /v1/secrets is no route']);
  });

  it('refuses everybody else, and nothing changes', async () => {
    const before = await contentsOf(sql);
    const found: string[] = [];
    for (const operation of operations) {
      found.push(...(await differences([operation], false)));
      if (JSON.stringify(await contentsOf(sql)) !== JSON.stringify(before))
        found.push(`${nameOf(operation)} has written`);
    }
    expect(found).toEqual([]);
  });

  describe("shows and changes nothing of another organization's", () => {
    const MEMBERS = CALLERS.filter((who) => who !== 'nobody');
    /** The places in a body at which an id stands. */
    function placesOf(value: unknown, place = ''): string[] {
      if (typeof value === 'string') return Object.values(own).includes(value) ? [place] : [];
      if (value === null || typeof value !== 'object') return [];
      return Object.entries(value).flatMap(([name, member]) => placesOf(member, `${place}/${name}`));
    }
    /** A body with another id in one place. */
    function replaced(body: object, place: string): object {
      const copy = JSON.parse(JSON.stringify(body));
      const [last, ...way] = place.slice(1).split('/').reverse();
      const holder = way.reverse().reduce((each, name) => each[name], copy);
      const kind = Object.entries(own).find(([, id]) => id === holder[last!])![0] as keyof Owned;
      holder[last!] = foreign[kind];
      return copy;
    }
    const bodiesOf = (operation: Operation): Array<{ body: object; of?: keyof Owned }> => {
      const usual = bodyFor(operation, own);
      return [...(usual ? [{ body: usual }] : []), ...otherBodiesFor(operation, own, phone)];
    };
    const KINDS: Record<string, keyof Owned> = {
      serviceId: 'services',
      practitionerId: 'practitioners',
      locationId: 'locations',
      patientId: 'patients',
      entityId: 'appointments',
    };
    const targetOf = (operation: Operation): string => {
      const target = withQuery(operation, fillPath(operation.path, own));
      return operation.path === '/v1/slots' ? slots(target) : target;
    };

    /** Every request that names something of the other's in one place, the rest being one's own. */
    function* attempts(operation: Operation): Generator<{ place: string; target: string; body?: object }> {
      const { method, path, ids } = operation;
      for (const [hole] of path.matchAll(/\{\w+\}/g)) {
        const target = path.replace(
          hole,
          fillPath(`${path.slice(0, path.indexOf('{'))}${hole}`, foreign)
            .split('/')
            .at(-1)!,
        );
        yield { place: hole, target: fillPath(target, own), body: bodyFor(operation, own) };
      }
      for (const name of ids.query) {
        const url = new URL(targetOf(operation), 'http://of.none');
        url.searchParams.set(name, foreign[KINDS[name]!]);
        yield { place: `?${name}`, target: url.pathname + url.search };
      }
      if (method === 'GET') return;
      for (const { body, of } of bodiesOf(operation)) {
        const target = of ? path.replace('{id}', own[of]) : fillPath(path, own);
        for (const place of placesOf(body))
          yield { place: place.replaceAll(/\/\d+/g, '/*'), target, body: replaced(body, place) };
      }
    }

    /** What was answered otherwise than with 404, or shows or changes something. */
    async function leaks(which: Operation[], members: readonly Who[] = MEMBERS): Promise<string[]> {
      const found: string[] = [];
      // Who reads the log chains what is pending first.
      await app.app.get(AuditTrail, { strict: false }).chain();
      const before = JSON.stringify(await contentsOf(sql));
      for (const operation of which) {
        for (const who of members.filter((each) => may(operation, each))) {
          for (const { place, target, body } of attempts(operation)) {
            const answer = await callers[who](operation.method, target, { body, headers: { 'If-Match': '*' } });
            // A filter of a list refers to nothing: it finds nothing.
            const isEmpty = place.startsWith('?') && answer.status === 200 && answer.body.data?.length === 0;
            const text = JSON.stringify({ ...answer.body, instance: '' });
            const shows = ['Foreign Secret', ...Object.values(foreign)].some((trace) => text.includes(trace));
            if (shows || !(isEmpty || (answer.status === 404 && answer.body.code === 'not_found')))
              found.push(`${nameOf(operation)} ${place} as ${who}: ${answer.status} ${text}`);
          }
        }
        if (found.length === 0 && JSON.stringify(await contentsOf(sql)) !== before)
          found.push(`${nameOf(operation)} has written`);
      }
      return found;
    }

    it('looks at every place where a route takes an id', () => {
      const missed = operations.flatMap((operation) => {
        const tried = new Set([...attempts(operation)].map(({ place }) => place));
        const { path, ids } = operation;
        const all = [...path.matchAll(/\{\w+\}/g)].map(([hole]) => hole);
        all.push(...ids.query.map((name) => `?${name}`), ...ids.body);
        return all.filter((place) => !tried.has(place)).map((place) => `${nameOf(operation)} ${place}`);
      });
      // Whose organization it is, is all that these tell: everybody may ask them.
      expect(missed).toEqual([
        'POST /v1/auth/otp /organizationId',
        'POST /v1/auth/otp/verify /organizationId',
        'POST /v1/auth/sign-in /organizationId',
      ]);
    });

    it('to anybody, wherever it is named', async () => {
      expect(await leaks(operations)).toEqual([]);
    });

    it('by row-level security: without the policy of any one table it would be seen', async () => {
      const readers = operations.filter(({ method, path }) => method === 'GET' && path.includes('{'));
      const policies = await sql(
        `SELECT relname AS name, pg_get_expr(polqual, polrelid) AS expression FROM pg_policy JOIN pg_class c ON c.oid = polrelid
         WHERE polname = 'organization_isolation' AND relname = ANY($1)`,
        [
          [
            'location',
            'practitioner',
            'room',
            'service',
            'patient',
            'schedule',
            'appointment',
            'api_key',
            'invitation',
          ],
        ],
      );
      expect(policies).toHaveLength(9);
      for (const { name, expression } of policies) {
        await sql(`ALTER POLICY organization_isolation ON ${name} USING (true)`);
        try {
          expect([name, await leaks(readers, ['administrator'])]).not.toEqual([name, []]);
        } finally {
          await sql(`ALTER POLICY organization_isolation ON ${name} USING (${expression})`);
        }
      }
      expect(await leaks(readers, ['administrator'])).toEqual([]);
    });
  });

  describe("shows and changes nothing of others' in the same organization", () => {
    /** What belongs to somebody else: another patient's, practitioner's and branch's. */
    let others: Owned;
    beforeAll(async () => {
      others = await fill(app, clinic.call, 'Somebody Else');
    });
    const BOUND: Array<[Who, RegExp]> = [
      ['patient', /^\/v1\/appointments\/\{id\}/],
      ['practitioner', /^\/v1\/(appointments|schedules)\/\{id\}/],
      ['branch', /^\/v1\/(appointments|schedules)\/\{id\}/],
    ];

    it.each(BOUND)('to a %s', async (who, routes) => {
      const before = await contentsOf(sql);
      const which = operations.filter((operation) => routes.test(operation.path) && may(operation, who));
      expect(which.length).toBeGreaterThanOrEqual(5);
      for (const operation of which) {
        const body = bodyFor(operation, own);
        const answer = await send(callers[who], operation, fillPath(operation.path, others), body);
        expect([nameOf(operation), answer.status, answer.body.code]).toEqual([nameOf(operation), 404, 'not_found']);
      }
      const filters = [`practitionerId=${others.practitioners}`, `patientId=${others.patients}`, ''];
      for (const filter of filters) {
        const { body } = await callers[who]('GET', `/v1/appointments?limit=1000&${filter}`);
        expect(body.data.map((each: { id: string }) => each.id)).not.toContain(others.appointments);
      }
      expect(await contentsOf(sql)).toEqual(before);
    });
  });

  describe('would be noticed', () => {
    /** The method that answers an operation. */
    function handlerOf(controller: string, method: string): object {
      for (const module of app.app.get(ModulesContainer).values())
        for (const { metatype } of module.controllers.values())
          if (metatype?.name === controller) return (metatype.prototype as Record<string, object>)[method]!;
      throw new Error(`${controller}.${method}`);
    }
    const OFFENCES: Array<[string, string, unknown]> = [
      ['asks for nothing', PUBLIC, true],
      ['asks for less', PERMITTED, 'clinic:read'],
      ['asks for something else', PERMITTED, 'operations:read'],
    ];
    it.each(OFFENCES)('if a route %s', async (_, key, value) => {
      const handler = handlerOf('PatientsController', 'list');
      const before: unknown = Reflect.getMetadata(key, handler);
      const route = operations.filter((operation) => nameOf(operation) === 'GET /v1/patients');
      Reflect.defineMetadata(key, value, handler);
      try {
        expect(await differences(route, false)).not.toEqual([]);
      } finally {
        if (before === undefined) Reflect.deleteMetadata(key, handler);
        else Reflect.defineMetadata(key, before, handler);
      }
      expect(await differences(route, false)).toEqual([]);
    });
  });

  // At last, for it changes everything: who ends something leaves nothing of it to the next.
  it('lets everybody do what he may', async () => {
    const last = (operation: Operation) =>
      operation.path.endsWith('/sign-out') ? 2 : operation.method === 'DELETE' ? 1 : 0;
    expect(
      await differences(
        operations.toSorted((a, b) => last(a) - last(b)),
        true,
      ),
    ).toEqual([]);
  });
});
