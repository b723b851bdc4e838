import { decodeJwt } from 'jose';
import { ALWAYS, inDays, maker, newPhone } from './api';
import type { Caller, TestApp } from './app';

/** One operation of the API, as its OpenAPI document has it. */
export interface Operation {
  method: string;
  path: string;
  /** Where ids stand in it: parameters of the query by name, members of the body by their place. */
  ids: { query: string[]; body: string[] };
}

/** What one organization owns, by the route that shows it. */
export type Owned = Record<
  | 'locations'
  | 'practitioners'
  | 'rooms'
  | 'services'
  | 'patients'
  | 'schedules'
  | 'appointments'
  | 'api-keys'
  | 'invitations'
  | 'users'
  | 'exceptions'
  | 'published'
  | 'visits'
  | 'visited',
  string
>;

/** An id that nobody has, and that stands where a route names something unknown to the crawl. */
export const NOBODY = '01890000-0000-7000-8000-000000000000';

export const nameOf = ({ method, path }: Pick<Operation, 'method' | 'path'>): string => `${method} ${path}`;

/** Every operation of an app. */
export async function operationsOf(app: TestApp): Promise<Operation[]> {
  const document = (await app.as(undefined)('GET', '/openapi.json')).body;
  const idsIn = (schema: Schema | undefined, place: string): string[] => {
    if (schema === undefined) return [];
    if (schema.$ref) return idsIn(document.components.schemas[schema.$ref.split('/').at(-1)!], place);
    const parts = [...(schema.allOf ?? []), ...(schema.oneOf ?? []), ...(schema.anyOf ?? [])];
    return [
      ...(schema.format === 'uuid' ? [place] : []),
      ...parts.flatMap((part) => idsIn(part, place)),
      ...idsIn(schema.items, `${place}/*`),
      ...Object.entries(schema.properties ?? {}).flatMap(([name, member]) => idsIn(member, `${place}/${name}`)),
    ];
  };
  return Object.entries<Record<string, Described>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      ids: {
        query: parameters
          .filter((each) => each.in === 'query' && idsIn(each.schema, '').length > 0)
          .map((each) => each.name),
        body: [...new Set(idsIn(requestBody?.content['application/json']?.schema, ''))],
      },
    })),
  );
}

interface Schema {
  $ref?: string;
  format?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  allOf?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
}

interface Described {
  parameters?: Array<{ in: string; name: string; schema?: Schema }>;
  requestBody?: { content: Record<string, { schema: Schema }> };
}

/** One of everything, made through the API, all of it called `name`. */
export async function fill(app: TestApp, call: Caller, name: string): Promise<Owned> {
  const make = maker(call);
  const location = await make.location({ name });
  const practitioner = await make.practitioner({ name, locationId: location.id });
  const room = await make.room({ name });
  await make.setHours(room.scheduleId, ALWAYS);
  const service = await make.service([practitioner.id], { name });
  const patient = await make.patient({ name, notes: name });
  const booked = await make.book({
    serviceId: service.id,
    patientId: patient.id,
    startsAt: inDays(10, '08:00'),
    notes: name,
  });
  const exception = await make.exception(practitioner.scheduleId, {
    startsAt: inDays(30),
    endsAt: inDays(31),
    kind: 'closed',
    reason: name,
  });
  const published = await call('POST', `/v1/schedules/${practitioner.scheduleId}/published-slots`, {
    body: { startsAt: inDays(32), endsAt: inDays(32, '01:00') },
    headers: { 'If-Match': '*' },
  });
  const segments = [
    { name: 'who', durationMinutes: 10, practitionerIds: [practitioner.id] },
    { name: 'where', durationMinutes: 10, roomIds: [room.id] },
  ];
  const visit = await call('POST', '/v1/services', { body: { name, segments } });
  const startsAt = inDays(14, '08:00');
  const visited = await make.book({ serviceId: visit.body.id, patientId: patient.id, startsAt });
  const apiKey = await call('POST', '/v1/api-keys', { body: { name } });
  const invite = async (role: string) => {
    const email = `${role}.of.${name.toLowerCase().replaceAll(' ', '-')}@example.org`;
    return (await call('POST', '/v1/invitations', { body: { email, role } })).body;
  };
  const invitation = await invite('operator');
  const { invitationToken } = await invite('receptionist');
  const signedUp = await app.as(undefined)('POST', '/v1/auth/sign-up', {
    body: { invitationToken, name, password: 'a password for tests' },
  });
  return {
    locations: location.id,
    practitioners: practitioner.id,
    rooms: room.id,
    services: service.id,
    patients: patient.id,
    schedules: practitioner.scheduleId,
    appointments: booked.body.id,
    exceptions: exception.body.id,
    published: published.body.id,
    visits: visit.body.id,
    visited: visited.body.id,
    'api-keys': apiKey.body.id,
    invitations: invitation.id,
    users: decodeJwt(signedUp.body.accessToken).sub!,
  };
}

/** A body that each write would take, with ids of these owners. */
export const bodyFor = ({ method, path }: Pick<Operation, 'method' | 'path'>, ids: Owned): object | undefined => {
  const bodies: Record<string, object> = {
    'PATCH /v1/organization': { defaultLocationId: ids.locations, patientRules: { maxOpenHolds: 1000 } },
    'POST /v1/locations': { name: 'X', timeZone: 'Europe/Berlin' },
    'PATCH /v1/locations/{id}': { name: 'X' },
    'POST /v1/practitioners': { name: 'X', locationId: ids.locations },
    'PATCH /v1/practitioners/{id}': { name: 'X', locationId: ids.locations },
    'POST /v1/rooms': { name: 'X', locationId: ids.locations },
    'PATCH /v1/rooms/{id}': { name: 'X', locationId: ids.locations },
    'POST /v1/services': { name: 'X', durationMinutes: 30, practitionerIds: [ids.practitioners] },
    'PATCH /v1/services/{id}': { practitionerIds: [ids.practitioners] },
    'POST /v1/patients': { phone: newPhone(), locationId: ids.locations },
    'POST /v1/patients/{id}/erase': {},
    'PATCH /v1/patients/{id}': { locationId: ids.locations },
    'PUT /v1/schedules/{id}/hours': {
      timeZone: 'Europe/Berlin',
      hours: [{ weekday: 1, start: '09:00', end: '10:00', locationId: ids.locations }],
    },
    'POST /v1/schedules/{id}/exceptions': { startsAt: inDays(40), endsAt: inDays(41), kind: 'closed' },
    'POST /v1/schedules/{id}/published-slots': { startsAt: inDays(42), endsAt: inDays(42, '01:00') },
    'POST /v1/appointments': {
      serviceId: ids.services,
      practitionerId: ids.practitioners,
      patientId: ids.patients,
      startsAt: inDays(11, '08:00'),
    },
    'POST /v1/appointments/{id}/confirm': { reason: 'X' },
    'POST /v1/appointments/{id}/cancel': { reason: 'X' },
    'POST /v1/appointments/{id}/reschedule': { startsAt: inDays(11, '10:00'), practitionerId: ids.practitioners },
    'POST /v1/appointments/{id}/check-in': { reason: 'X' },
    'POST /v1/appointments/{id}/complete': { reason: 'X' },
    'POST /v1/appointments/{id}/no-show': { reason: 'X' },
    'POST /v1/api-keys': { name: 'X' },
    'POST /v1/api-keys/{id}/rotate': { overlapSeconds: 60 },
    'POST /v1/invitations': { email: 'x@example.org', role: 'receptionist', locationIds: [ids.locations] },
    'PATCH /v1/users/{id}': { role: 'practitioner', practitionerId: ids.practitioners },
    'POST /v1/auth/sign-out': {},
    'POST /v1/auth/totp': {},
    'POST /v1/auth/totp/confirm': { code: '123456' },
    'POST /v1/auth/totp/remove': { code: '123456' },
    // Open to everybody: not there is what somebody gets whose secret is none.
    'POST /v1/auth/otp': { organizationId: NOBODY, phone: newPhone() },
    'POST /v1/auth/otp/verify': { organizationId: NOBODY, phone: newPhone(), code: '123456' },
    'POST /v1/auth/sign-up': { invitationToken: 'none', name: 'X', password: 'a password for tests' },
    'POST /v1/auth/sign-in': { email: 'nobody@example.org', password: 'a password for tests' },
    'POST /v1/auth/refresh': { refreshToken: 'none' },
    'POST /v1/auth/password-reset': { email: 'nobody@example.org' },
    'POST /v1/auth/password-reset/confirm': { token: 'none', password: 'a password for tests' },
  };
  return bodies[`${method} ${path}`];
};

/**
 * Further bodies of the same operations, with ids in other places; `of` is what else than usual the path names.
 * @param phone the owners' patient's
 */
export function otherBodiesFor(
  { method, path }: Operation,
  ids: Owned,
  phone: string,
): Array<{ body: object; of?: keyof Owned }> {
  const startsAt = inDays(11, '08:00');
  const segments = [
    { practitionerId: ids.practitioners, startsAt },
    { roomId: ids.rooms, startsAt: inDays(11, '08:10') },
  ];
  const places = [
    { name: 'who', durationMinutes: 10, practitionerIds: [ids.practitioners] },
    { name: 'where', durationMinutes: 10, roomIds: [ids.rooms] },
  ];
  const practitioner = { role: 'practitioner', practitionerId: ids.practitioners };
  const branch = { role: 'receptionist', locationIds: [ids.locations] };
  const bodies: Record<string, Array<{ body: object; of?: keyof Owned }>> = {
    'POST /v1/appointments': [
      { body: { serviceId: ids.services, startsAt, patient: { phone, locationId: ids.locations } } },
      { body: { serviceId: ids.visits, startsAt, patientId: ids.patients, segments } },
    ],
    'POST /v1/appointments/{id}/reschedule': [{ body: { startsAt, segments }, of: 'visited' }],
    'POST /v1/services': [{ body: { name: 'X', segments: places } }],
    'PATCH /v1/services/{id}': [{ body: { segments: places }, of: 'visits' }],
    'POST /v1/api-keys': [{ body: { name: 'X', ...practitioner } }, { body: { name: 'X', ...branch } }],
    'POST /v1/invitations': [{ body: { email: 'x@example.org', ...practitioner } }],
    'PATCH /v1/users/{id}': [{ body: branch }],
  };
  return bodies[`${method} ${path}`] ?? [];
}

/** The path of an operation with ids of these owners. */
export const fillPath = (path: string, ids: Owned): string =>
  path
    .replace('{exceptionId}', ids.exceptions)
    .replace('{slotId}', ids.published)
    .replace('{id}', ids[path.split('/')[2] as keyof Owned] ?? NOBODY);

export const slots = (serviceId: string) => `/v1/slots?serviceId=${serviceId}&from=${inDays(1)}&to=${inDays(20)}`;

/** Sends an operation as it would be done on purpose. */
export const send = (
  call: Caller,
  { method, path }: Pick<Operation, 'method' | 'path'>,
  target: string,
  body?: object,
) => call(method, path === '/v1/slots' ? slots(target) : target, { body, headers: { 'If-Match': '*' } });
