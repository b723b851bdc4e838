import { ExpiryService, RetentionService } from '../../src/appointments';
import { DayPlanner, KnownLanes } from '../../src/availability';
import { ALWAYS, inSeconds, lapse, maker, passing, type Sql } from './api';
import { addOrganization, type TestApp } from './app';
import { TABLES } from './row-locks';

/** Something that changes the database, on the rows of the arena. */
export interface Operation {
  /** Answers with the status: what it is when nobody is in its way, it says beforehand. */
  run(headers?: Record<string, string>): Promise<number>;
  status: number;
  /** The route that it serves; none for what runs by the clock. */
  route?: string;
}

export interface Arena {
  operations: Record<string, Operation>;
  /** Puts everything back to where it was when the arena was made; the organization's rules for patients off, or on. */
  restore(rules?: boolean): Promise<void>;
  /** The rows of the arena have names, for messages. */
  nameOf(lock: string): string;
}

const DAY = 10;
const NEXT_DAY = 11;
/** No day row yet. */
const FAR_DAY = 20;

/**
 * A small clinic on which every operation meets the others: two practitioners, few days, an appointment in every state that
 * something can be done with. The first practitioner's schedule sorts before the second one's.
 */
export async function makeArena(app: TestApp, sql: Sql): Promise<Arena> {
  const { apiKey } = await addOrganization(app);
  const call = app.as(apiKey);
  const make = maker(call);
  const sweeper = app.app.get(ExpiryService, { strict: false });
  const send = async (method: string, path: string, body?: object, headers: Record<string, string> = {}) => {
    const answer = await call(method, path, { body, headers });
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };

  const timeZone = 'UTC';
  const home = await make.location({ name: 'home', timeZone });
  const branch = await make.location({ name: 'branch', timeZone });
  await send('PATCH', '/v1/organization', { defaultLocationId: home.id });
  const p = await make.practitioner({ timeZone });
  const q = await make.practitioner({ timeZone });
  const free = await make.practitioner({ timeZone });
  const part = await make.practitioner({ timeZone });
  const room = await make.room({ timeZone });
  const offered = [p.id, q.id, free.id];
  const service = await make.service([p.id, q.id]);
  const asking = await make.service(offered, { requiresConfirmation: true });
  const unused = await make.service(offered);
  const segments = [
    { name: 'before', durationMinutes: 10, practitionerIds: [part.id] },
    { name: 'scan', durationMinutes: 10, roomIds: [room.id] },
    { name: 'after', durationMinutes: 10, practitionerIds: [part.id] },
  ];
  const composite = await send('POST', '/v1/services', { name: 'Scan', segments });
  const visit = await send('POST', '/v1/services', {
    name: 'Visit',
    segments: [
      { name: 'first', durationMinutes: 10, practitionerIds: [p.id, q.id] },
      { name: 'second', durationMinutes: 10, practitionerIds: [q.id, p.id] },
    ],
  });
  // Sessions and places are on schedules of their own: nobody else has to meet there.
  const [shared, chairs] = [await make.practitioner({ timeZone }), await make.practitioner({ timeZone })];
  await make.setHours(chairs.scheduleId, ALWAYS, timeZone, { places: 2 });
  const group = await make.service([shared.id], { capacity: 3 });
  const chair = await make.service([chairs.id]);
  const [one, two, nobody] = [await make.patient(), await make.patient(), await make.patient()];
  const three = { patientId: (await make.patient()).id };

  const book = async (fields: object) => {
    const answer = await make.book({ serviceId: service.id, practitionerId: p.id, patientId: one.id, ...fields });
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  // Also where midnight comes while this is made.
  const today = Date.now();
  const inDays = (day: number, time: string) =>
    `${new Date(today + day * 86_400_000).toISOString().slice(0, 10)}T${time}:00Z`;
  const at = (day: number, time: string) => ({ startsAt: inDays(day, time) });
  const hold = { hold: true };

  // What the sweeper has written down, and long ago, so that it is not only confirmed late but pruned, too.
  const swept = await book({ ...at(DAY, '18:00'), practitionerId: q.id, ...hold });
  await lapse(sql, swept.id);
  await sweeper.sweep();
  const ancient = await book(at(DAY, '08:00'));
  await send('POST', `/v1/appointments/${ancient.id}/cancel`, {});
  // Somebody whose visit was cancelled, with words in it and its answer kept, and who signs in.
  const forgotten = await make.patient({ name: 'Forgotten' });
  const undone = await send('POST', '/v1/appointments', { serviceId: service.id, practitionerId: p.id, patientId: forgotten.id, notes: 'words', ...at(DAY, '21:00') }, { 'Idempotency-Key': 'kept' }); // prettier-ignore
  await send('POST', `/v1/appointments/${undone.id}/cancel`, { reason: 'words' });
  await sql(
    `INSERT INTO phone_identity (organization_id, id, phone, verified_at) SELECT organization_id, gen_random_uuid(), phone, now() FROM patient WHERE id = $1`,
    [forgotten.id],
  );
  const a = await book(at(DAY, '10:00'));
  const b = await book({ ...at(DAY, '10:00'), practitionerId: q.id, patientId: two.id });
  const later = await book({ ...at(NEXT_DAY, '14:00'), patientId: two.id });
  const held = await book({ ...at(DAY, '14:00'), hold: { seconds: 3600 } });
  const pending = await book({ ...at(DAY, '14:00'), serviceId: asking.id, practitionerId: q.id, patientId: two.id });
  const here = await book(at(DAY, '20:00'));
  await send('POST', `/v1/appointments/${here.id}/check-in`, {});
  const gone = await book({ ...at(DAY, '19:00'), ...hold });
  await lapse(sql, gone.id);
  const inItsPlace = await book({ ...at(DAY, '19:00'), patientId: two.id });
  await send('POST', `/v1/appointments/${inItsPlace.id}/cancel`, {});
  const lapsed = await book({ ...at(NEXT_DAY, '16:00'), ...hold });
  const lapsedToo = await book({ ...at(NEXT_DAY, '16:00'), practitionerId: q.id, patientId: two.id, ...hold });
  await lapse(sql, lapsed.id, lapsedToo.id);
  const closed = await make.exception(p.scheduleId, {
    startsAt: inDays(DAY, '06:00'),
    endsAt: inDays(DAY, '07:00'),
    kind: 'closed',
  });
  const published = await send(
    'POST',
    `/v1/schedules/${p.scheduleId}/published-slots`,
    { startsAt: inDays(DAY, '04:00'), endsAt: inDays(DAY, '04:30') },
    { 'If-Match': '*' },
  );
  const visited = await book({ ...at(DAY, '16:00'), serviceId: visit.id, practitionerId: null, ...three });
  const seat = (time: string, more: object = {}) =>
    book({ ...at(DAY, time), serviceId: group.id, practitionerId: shared.id, ...three, ...more });
  const seated = await seat('10:00');
  const seatOver = await seat('10:00', hold);
  const seatHeld = await seat('12:00', { hold: { seconds: 3600 } });
  await lapse(sql, seatOver.id);
  // Two in a row on one place, one beside each of them on the other: who comes over both makes one of them move.
  const place = (time: string) => book({ ...at(DAY, time), serviceId: chair.id, practitionerId: chairs.id, ...three });
  await place('10:00');
  const beside = await place('10:15');
  const below = await place('10:45');
  await send('POST', `/v1/appointments/${beside.id}/cancel`, {});
  const key = await send('POST', '/v1/api-keys', { name: 'Spare', role: 'receptionist' }, { 'Idempotency-Key': 'old' });
  const begun = await book({ startsAt: inSeconds(2) });
  await passing(begun.startsAt);
  await sql(`UPDATE appointment SET updated_at = updated_at - interval '40 days' WHERE id = $1`, [swept.id]);
  await sql(`UPDATE appointment_history SET at = at - interval '40 days' WHERE appointment_id = $1`, [swept.id]);
  await sql(
    `UPDATE appointment SET starts_at = starts_at - interval '500 days', ends_at = ends_at - interval '500 days',
                            updated_at = updated_at - interval '500 days' WHERE id = $1`,
    [ancient.id],
  );
  await sql(`UPDATE appointment_history SET at = at - interval '500 days' WHERE appointment_id = $1`, [ancient.id]);
  await sql(`UPDATE idempotency_key SET created_at = created_at - interval '3 days'`);

  const lanes = app.app.get(KnownLanes, { strict: false });
  const restore = await keep(sql, Reflect.get(lanes, 'known') as Map<string, unknown>);
  const route =
    (method: string, template: string, status: number) =>
    (ids: string[] | string, body?: object, more: Record<string, string> = {}): Operation => {
      const path = [ids].flat().reduce((left, id) => left.replace(/\{\w+\}/, id), template);
      return {
        status,
        route: `${method} ${template}`,
        run: async (headers = {}) => {
          const answer = await call(method, path, { body, headers: { ...more, ...headers } });
          return answer.status;
        },
      };
    };
  const create = (path: string, body: object): Operation => route('POST', path, 201)([], body);
  const booking = (fields: object): Operation =>
    create('/v1/appointments', {
      serviceId: service.id,
      practitionerId: p.id,
      ...('patient' in fields ? {} : { patientId: one.id }),
      ...fields,
    });
  const act = (action: string, id: string, body: object = {}) =>
    route('POST', `/v1/appointments/{id}/${action}`, 200)(id, body);
  const byTheClock = (run: () => Promise<unknown>): Operation => ({
    status: 200,
    run: async () => {
      await run();
      return 200;
    },
  });
  const anyVersion = { 'If-Match': '*' };
  const hours = (locationId: string) => ALWAYS.map((each) => ({ ...each, locationId }));
  const anybody = { practitionerId: null };

  const operations: Record<string, Operation> = {
    'book one day': booking(at(DAY, '11:00')),
    'book for a new patient': booking({ ...at(DAY, '11:15'), patient: { phone: '+4915790000001', name: 'New' } }),
    'book for a known phone': booking({ ...at(DAY, '11:30'), patient: { phone: one.phone, email: 'one@example.org' } }),
    'book for a caller': booking({
      ...at(DAY, '11:45'),
      patient: { phone: '+4915790000002', source: 'phone_anonymous' },
    }),
    'book over midnight': booking(at(DAY, '23:45')),
    'book with anybody': booking({ ...at(DAY, '12:30'), ...anybody }),
    'book on a new day': booking(at(FAR_DAY, '10:00')),
    'book over the midnight of new days': booking(at(FAR_DAY, '23:45')),
    'book with anybody on a new day': booking({ ...at(FAR_DAY, '10:15'), ...anybody }),
    'book a hold': booking({ ...at(DAY, '11:00'), ...hold }),
    'book over a hold that is over': booking(at(NEXT_DAY, '16:00')),
    'book a request': booking({ ...at(DAY, '11:00'), serviceId: asking.id, practitionerId: q.id }),
    'confirm a hold': act('confirm', held.id),
    'confirm a request': act('confirm', pending.id),
    'confirm late': act('confirm', lapsed.id),
    'confirm late, the claim gone': act('confirm', gone.id),
    'confirm late, written down': act('confirm', swept.id),
    cancel: act('cancel', a.id),
    'cancel a hold that is over': { ...act('cancel', lapsed.id), status: 409 },
    'move to another time': act('reschedule', a.id, at(DAY, '12:00')),
    'move to another day': act('reschedule', a.id, at(NEXT_DAY, '12:00')),
    'move to another practitioner': act('reschedule', a.id, { ...at(DAY, '12:00'), practitionerId: q.id }),
    'move to another practitioner and day': act('reschedule', a.id, { ...at(NEXT_DAY, '12:00'), practitionerId: q.id }),
    'move over midnight': act('reschedule', a.id, at(DAY, '23:40')),
    'move to a new day': act('reschedule', a.id, at(FAR_DAY, '12:00')),
    'move the other way': act('reschedule', b.id, { ...at(DAY, '12:45'), practitionerId: p.id }),
    'move the other way, to a new day': act('reschedule', b.id, { ...at(FAR_DAY, '12:45'), practitionerId: p.id }),
    'move to an earlier day': act('reschedule', later.id, at(DAY, '13:00')),
    'move a hold': act('reschedule', held.id, { ...at(NEXT_DAY, '10:00'), practitionerId: q.id }),
    'book a visit': booking({ ...at(DAY, '17:00'), serviceId: visit.id, ...anybody }),
    'book a visit the other way round': booking({
      ...at(DAY, '17:00'),
      serviceId: visit.id,
      ...anybody,
      segments: [
        { practitionerId: q.id, ...at(DAY, '17:00') },
        { practitionerId: p.id, ...at(DAY, '17:10') },
      ],
    }),
    'move a visit': act('reschedule', visited.id, at(NEXT_DAY, '16:10')),
    'join a session': booking({ ...at(DAY, '10:00'), serviceId: group.id, practitionerId: shared.id }),
    'hold a seat': booking({ ...at(DAY, '12:00'), serviceId: group.id, practitionerId: shared.id, ...hold }),
    'confirm a seat': act('confirm', seatHeld.id),
    'leave a session': act('cancel', seated.id),
    'leave the last seat': act('cancel', seatHeld.id),
    'move to another session': act('reschedule', seated.id, at(DAY, '12:00')),
    'book a place': booking({ ...at(DAY, '10:20'), serviceId: chair.id, practitionerId: chairs.id }),
    'check in': act('check-in', a.id),
    complete: act('complete', here.id),
    'say who did not come': act('no-show', begun.id),
    sweep: byTheClock(() => sweeper.sweep()),
    prune: byTheClock(() => app.app.get(RetentionService, { strict: false }).prune()),
    'plan ahead': byTheClock(() => app.app.get(DayPlanner, { strict: false }).planAhead()),
    'set hours': route('PUT', '/v1/schedules/{id}/hours', 200)(p.scheduleId, { timeZone, hours: hours(branch.id) }, anyVersion), // prettier-ignore
    'set hours in another zone': route('PUT', '/v1/schedules/{id}/hours', 200)(q.scheduleId, { timeZone: 'Europe/Berlin', hours: ALWAYS }, anyVersion), // prettier-ignore
    'make an exception': route('POST', '/v1/schedules/{id}/exceptions', 201)(p.scheduleId, { startsAt: inDays(DAY, '03:00'), endsAt: inDays(NEXT_DAY, '04:00'), kind: 'closed' }, anyVersion), // prettier-ignore
    'end an exception': route('DELETE', '/v1/schedules/{id}/exceptions/{exceptionId}', 200)([p.scheduleId, closed.body.id], undefined, anyVersion), // prettier-ignore
    'publish a slot': route('POST', '/v1/schedules/{id}/published-slots', 201)(p.scheduleId, { startsAt: inDays(DAY, '03:00'), endsAt: inDays(DAY, '03:30') }, anyVersion), // prettier-ignore
    'withdraw a slot': route('DELETE', '/v1/schedules/{id}/published-slots/{slotId}', 200)([p.scheduleId, published.id], undefined, anyVersion), // prettier-ignore
    'delete a practitioner': route('DELETE', '/v1/practitioners/{id}', 204)(free.id),
    'delete a practitioner in use': route('DELETE', '/v1/practitioners/{id}', 409)(p.id),
    'delete a practitioner of segments': route('DELETE', '/v1/practitioners/{id}', 204)(part.id),
    'delete a room': route('DELETE', '/v1/rooms/{id}', 204)(room.id),
    'delete a service': route('DELETE', '/v1/services/{id}', 204)(unused.id),
    'delete a service in use': route('DELETE', '/v1/services/{id}', 409)(service.id),
    'delete a patient': route('DELETE', '/v1/patients/{id}', 204)(nobody.id),
    'delete a patient in use': route('DELETE', '/v1/patients/{id}', 409)(one.id),
    'erase a patient': route('POST', '/v1/patients/{id}/erase', 200)(forgotten.id),
    'erase a patient in use': route('POST', '/v1/patients/{id}/erase', 409)(one.id),
    'delete the default location': route('DELETE', '/v1/locations/{id}', 204)(home.id),
    'delete a location': route('DELETE', '/v1/locations/{id}', 204)(branch.id),
    'change a practitioner': route('PATCH', '/v1/practitioners/{id}', 200)(p.id, { locationId: home.id }),
    'change a room': route('PATCH', '/v1/rooms/{id}', 200)(room.id, { locationId: home.id }),
    'change a service': route('PATCH', '/v1/services/{id}', 200)(service.id, { bufferBeforeMinutes: 5, practitionerIds: offered }), // prettier-ignore
    'change a service of segments': route('PATCH', '/v1/services/{id}', 200)(composite.id, { segments }),
    'change a patient': route('PATCH', '/v1/patients/{id}', 200)(one.id, { phone: '+4915790000001', locationId: branch.id }), // prettier-ignore
    'change a location': route('PATCH', '/v1/locations/{id}', 200)(home.id, { name: 'Home' }),
    'change the organization': route('PATCH', '/v1/organization', 200)([], { defaultLocationId: branch.id }),
    'fill a patient': route('POST', '/v1/patients', 200)([], { phone: one.phone, name: 'One', locationId: branch.id }),
    'make a patient': create('/v1/patients', { phone: '+4915790000001', locationId: home.id }),
    'make a practitioner': create('/v1/practitioners', { name: 'Dr. New', locationId: branch.id }),
    'make a room': create('/v1/rooms', { name: 'New room', locationId: home.id }),
    'make a service': create('/v1/services', { name: 'New', durationMinutes: 20, practitionerIds: offered }),
    'make a location': create('/v1/locations', { name: 'New', timeZone }),
    'make a key': create('/v1/api-keys', { name: 'New', role: 'receptionist' }),
    'revoke a key': route('DELETE', '/v1/api-keys/{id}', 204)(key.id),
  };

  const names = new Map<string, string>();
  const named = {
    p,
    q,
    free,
    part,
    room,
    service,
    asking,
    unused,
    composite,
    one,
    two,
    nobody,
    forgotten,
    home,
    branch,
  };
  const visits = { shared, chairs, visit, group, chair, visited, seated, seatOver, seatHeld, below };
  const appointments = { ...visits, swept, ancient, a, b, later, held, pending, here, gone, lapsed, lapsedToo, begun };
  for (const [name, { id, scheduleId }] of Object.entries({ ...named, ...appointments })) {
    names.set(id, name);
    if (scheduleId) names.set(scheduleId, name);
  }
  const nameOf = (lock: string) => lock.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, (id) => names.get(id) ?? id);
  return { operations, restore, nameOf };
}

/**
 * Keeps all rows aside. What is called then brings them back, by changing as little as possible: it runs before every one
 * of some hundred interleavings.
 */
async function keep(sql: Sql, known: Map<string, unknown>): Promise<Arena['restore']> {
  const asKnown = [...known];
  await sql('CREATE SCHEMA kept');
  const [removals, returns]: [string[], string[]] = [[], []];
  for (const table of Object.keys(TABLES)) {
    await sql(`CREATE TABLE kept.${table} AS TABLE ${table}`);
    const columns = await sql(
      `SELECT attname AS name, attname IN (
                SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
                WHERE i.indrelid = $1::regclass AND i.indisprimary) AS key
       FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`,
      [table],
    );
    const all = columns.map(({ name }) => name).join(', ');
    const keys = columns.filter((column) => column.key).map(({ name }) => name);
    if (keys.length === 0) {
      // A heap of notes that nobody reads here.
      removals.push(`TRUNCATE ${table}`);
      continue;
    }
    const others = columns.filter((column) => !column.key).map(({ name }) => `${name} = excluded.${name}`);
    removals.unshift(
      `DELETE FROM ${table} t WHERE NOT EXISTS (SELECT 1 FROM kept.${table} k WHERE ${keys.map((name) => `k.${name} = t.${name}`).join(' AND ')})`,
    );
    returns.push(
      `INSERT INTO ${table} (${all}) SELECT ${all} FROM kept.${table} EXCEPT SELECT ${all} FROM ${table}
       ON CONFLICT (${keys.join(', ')}) DO ${others.length > 0 ? `UPDATE SET ${others.join(', ')}` : 'NOTHING'}`,
    );
  }
  const text = [...removals, ...returns].join(';\n');
  return async (rules = false) => {
    await sql(text);
    // What the process has read is as it was, too; under other rules it knows nothing, for these are switched behind its back.
    known.clear();
    if (!rules) for (const [key, value] of asKnown) known.set(key, value);
    if (rules) await sql('UPDATE organization SET allow_patient_overlap = false, max_open_holds = 3');
  };
}
