import { request } from 'node:http';
import type { Client } from 'pg';
import type { Answer, Caller, TestApp } from './app';
import { openClient } from './database';

/** What a problem says, in the form that tests compare. */
export function problemOf({ status, headers, body }: Answer) {
  return {
    status,
    type: headers.get('content-type')?.split(';')[0],
    code: body?.code,
    pointers: (body?.errors ?? []).map((error: { pointer: string }) => error.pointer),
  };
}

/** What {@link problemOf} must be; `pointers` are among those told. */
export const problem = (status: number, code: string, ...pointers: string[]) => ({
  status,
  type: 'application/problem+json',
  code,
  pointers: pointers.length === 0 ? expect.any(Array) : expect.arrayContaining(pointers),
});

/** A query of its own connection, past row-level security. */
export interface Sql {
  (text: string, values?: unknown[]): Promise<any[]>; // eslint-disable-line @typescript-eslint/no-explicit-any -- rows as they come
  close(): Promise<void>;
}

export async function openSql(target: TestApp): Promise<Sql> {
  const client: Client = await openClient(target.databaseUrl);
  const query = async (text: string, values?: unknown[]) => (await client.query<object>(text, values)).rows;
  return Object.assign(query, { close: () => client.end() });
}

/** What stands in every table: the number of rows and a digest of them. Equal before and after means nothing was written. */
export async function contentsOf(sql: Sql): Promise<Record<string, string>> {
  const tables = await sql(
    `SELECT format('%I', relname) AS name FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname`,
  );
  const states = await sql(
    tables
      .map(({ name }) => {
        // Publishing an event is no effect of a request, and neither is that a key was used.
        const own: Record<string, string> = {
          outbox_event: 't.id::text',
          api_key: `(to_jsonb(t) - 'last_used_at')::text`,
        };
        const row = own[name] ?? 't::text';
        return `SELECT '${name}' AS name, count(*) || ' ' || coalesce(md5(string_agg(${row}, E'\\n' ORDER BY ${row})), '') AS state FROM ${name} t`;
      })
      .join(' UNION ALL '),
  );
  return Object.fromEntries(states.map(({ name, state }) => [name, state]));
}

/** A request as `fetch` would not send it: a header several times (a list), any content type or none, a body in chunks. */
export function sendRaw(
  url: string,
  options: { method: string; headers?: Record<string, string | string[]>; body?: string | string[] },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method: options.method, headers: options.headers, agent: false });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const headers = new Headers();
        for (const [name, value] of Object.entries(response.headers)) headers.set(name, String(value));
        const json = /json/.test(headers.get('content-type') ?? '');
        resolve({ status: response.statusCode ?? 0, headers, body: json ? JSON.parse(text) : text });
      });
    });
    if (Array.isArray(options.body)) for (const chunk of options.body) outgoing.write(chunk);
    outgoing.end(Array.isArray(options.body) ? undefined : options.body);
  });
}

let phones = 10_000_000;

/** A phone number that nobody else in this file has. */
export const newPhone = (): string => `+49151${phones++}`;

/** Weekly hours round the clock. */
export const ALWAYS = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '00:00', end: '24:00' }));

/** Makes what a test needs through the API, and shows what the API answered. */
export const maker = (call: Caller) => {
  const post = async (path: string, body: object) => {
    const answer = await call('POST', path, { body });
    if (answer.status !== 201) throw new Error(`POST ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const setHours = async (scheduleId: string, hours: object[], timeZone = 'Europe/Berlin', more: object = {}) => {
    const answer = await call('PUT', `/v1/schedules/${scheduleId}/hours`, {
      body: { timeZone, hours, ...more },
      headers: { 'If-Match': '*' },
    });
    if (answer.status !== 200) throw new Error(`hours: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer;
  };
  const practitioner = async ({
    hours = ALWAYS,
    timeZone = 'Europe/Berlin',
    ...fields
  }: { hours?: object[]; timeZone?: string; [field: string]: unknown } = {}) => {
    const made = await post('/v1/practitioners', { name: 'Dr. Example', timeZone, ...fields });
    await setHours(made.scheduleId, hours, timeZone);
    return made;
  };
  const service = (practitionerIds: string[], fields: object = {}) =>
    post('/v1/services', { name: 'Check-up', durationMinutes: 30, practitionerIds, ...fields });
  return {
    practitioner,
    service,
    /** A practitioner who is always there, and a service that he alone offers. */
    lane: async (fields: object = {}) => {
      const made = await practitioner();
      return { practitioner: made, service: await service([made.id], fields) };
    },
    location: (fields: object = {}) =>
      post('/v1/locations', { name: 'Old Town', timeZone: 'Europe/Berlin', ...fields }),
    room: (fields: object = {}) => post('/v1/rooms', { name: 'Room 9', ...fields }),
    patient: (fields: object = {}) => post('/v1/patients', { phone: newPhone(), ...fields }),
    setHours,
    exception: (scheduleId: string, fields: object, ifMatch = '*') =>
      call('POST', `/v1/schedules/${scheduleId}/exceptions`, { body: fields, headers: { 'If-Match': ifMatch } }),
    /** Books for a new patient unless told; answers with the whole answer, for it may be a refusal. */
    book: (fields: object) =>
      call('POST', '/v1/appointments', {
        body: { ...('patientId' in fields ? {} : { patient: { phone: newPhone() } }), ...fields },
      }),
    /** Confirms, cancels, moves ... an appointment. */
    act: (id: string, action: string, body: object = {}, headers: Record<string, string> = {}) =>
      call('POST', `/v1/appointments/${id}/${action}`, { body, headers }),
  };
};

/** The same local date `days` from now, at a time of day in UTC. */
export const inDays = (days: number, time = '00:00'): string =>
  `${new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10)}T${time}:00Z`;

/** A whole second of the clock, a little more than so many seconds from now. */
export const inSeconds = (seconds: number): string =>
  new Date(Math.ceil(Date.now() / 1000 + seconds) * 1000).toISOString().replace('.000', '');

/** So many minutes after an instant, as the API writes it. */
export const after = (instant: string, minutes: number): string =>
  new Date(Date.parse(instant) + minutes * 60_000).toISOString().replace('.000', '');

/** Waits until an instant is over. */
export async function passing(instant: string): Promise<void> {
  while (Date.now() <= Date.parse(instant)) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Ends the time of holds and requests now, as the clock would have. */
export async function lapse(sql: Sql, ...ids: string[]): Promise<void> {
  await sql(
    `WITH moment AS MATERIALIZED (SELECT date_trunc('milliseconds', clock_timestamp()) AS now), claims AS (
       UPDATE claim SET expires_at = now FROM moment WHERE holder = ANY($1)
     ), seats AS (
       UPDATE attendance SET expires_at = now FROM moment WHERE holder = ANY($1)
     )
     UPDATE appointment SET expires_at = now, pending_until = CASE status WHEN 'pending' THEN now END
     FROM moment WHERE id = ANY($1)`,
    [ids],
  );
  // A session lasts as long as the last of its seats.
  await sql(
    `UPDATE claim c SET expires_at = until
     FROM (SELECT session_id, CASE WHEN bool_or(expires_at IS NULL) THEN NULL ELSE max(expires_at) END AS until
           FROM attendance WHERE session_id IN (SELECT session_id FROM attendance WHERE holder = ANY($1)) GROUP BY session_id) last
     WHERE c.holder = last.session_id`,
    [ids],
  );
}
