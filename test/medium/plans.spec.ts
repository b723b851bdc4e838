import { Client } from 'pg';
import { AppointmentRepository } from '../../src/appointments';
import { Cursors, Database } from '../../src/platform';
import { type Answer, addOrganization, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { openClient } from '../support/database';

/** Tables that grow with the use of an install: whoever reads one of them whole gets slower every day. */
const HOT = [
  'schedule_day',
  'claim',
  'appointment',
  'appointment_segment',
  'appointment_history',
  'patient',
  'idempotency_key',
  'api_key',
];

/** No hot query needs to read more rows of one hot table: an index that gives more does not fit the question. */
const MOST = 3_500;

/** What of a plan's node counts as read, per loop. */
const READ = ['Actual Rows', 'Rows Removed by Filter', 'Rows Removed by Index Recheck'] as const;

/** A page of 50 that is found along an index reads what it shows and the one after, and few others in between. */
const FEW = { rows: 150, buffers: 800 };

const STATUSES = ['held', 'pending', 'confirmed', 'checked_in', 'completed', 'no_show', 'cancelled', 'expired'];

/** Days ahead that are fully booked, and days past that were. */
const DAYS = 60;
const PAST = 140;

/** From this day on, some of the time ahead is held, asked for or given back. */
const UNDECIDED = 45;

/** A statement as the product sent it, with the opening of its transaction: role, organization, time-outs. */
interface Statement {
  text: string;
  name?: string;
  values: unknown[];
  opening: string;
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  'Actual Rows'?: number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  'Actual Loops'?: number;
  'Shared Hit Blocks'?: number;
  'Shared Read Blocks'?: number;
  Plans?: PlanNode[];
}

/**
 * The plans of what the product really sends, recorded at the driver while the API is used, and explained as the role and
 * organization that sent it, on enough rows for PostgreSQL to care.
 *
 * Row-level security is what makes this worth watching: an operator that is not leakproof (all of the ranges') may not be
 * evaluated before the policy, and so cannot use an index, while everything still works.
 */
describe('the plans of hot queries', () => {
  let app: TestApp;
  let clinic: Clinic;
  let explainer: Client;
  let recorded: Statement[] = [];
  const original = Client.prototype.query as (...call: unknown[]) => unknown;

  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    const other = await addOrganization(app);
    explainer = await openClient(app.databaseUrl);
    await fill([clinic.organizationId, other.organizationId]);
    record();
  }, 240_000);
  afterAll(async () => {
    Client.prototype.query = original as never;
    await explainer.end();
    await app.stop();
  });

  /** Listens at the driver: what TypeORM builds is caught as it is sent. */
  function record(): void {
    const openings = new WeakMap<object, string>();
    Client.prototype.query = function (this: Client, ...call: unknown[]) {
      const [query, values] = call as [string | { text: string; name?: string; values?: unknown[] }, unknown];
      const text = typeof query === 'string' ? query : query.text;
      if (this !== explainer) {
        if (text.includes(`set_config('role'`)) openings.set(this, text);
        else if (/^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b/i.test(text)) {
          recorded.push({
            text,
            name: typeof query === 'string' ? undefined : query.name,
            values: (Array.isArray(values) ? values : (query as { values?: unknown[] }).values) ?? [],
            opening: openings.get(this) ?? '',
          });
        }
      }
      return original.apply(this, call);
    } as never;
  }

  /** Two organizations of 30 practitioners, fully booked for 200 days but for the last half hour of each day ahead. */
  async function fill(organizations: string[]): Promise<void> {
    const id = (kind: string, ...of: string[]) => `md5('${kind}' || ${of.join(` || '/' || `)})::uuid`;
    const [service, schedule, practitioner] = [
      id('service', 'o'),
      id('schedule', 'o', 'n'),
      id('practitioner', 'o', 'n'),
    ];
    const [appointment, patient] = [
      id('appointment', 'o', 'n', 'd', 'k'),
      id('patient', 'o', '(n * 3000 + (d + 1000) * 15 + k) % 10000'),
    ];
    // What the appointments are for; the other service has none.
    const usual = id('usual', 'o', 'n % 10');
    const lanes = `unnest($1::uuid[]) AS o, generate_series(1, 30) AS n`;
    const day = `(current_date + d)`;
    const at = (time: string) => `(${day} + time '${time}') AT TIME ZONE 'UTC'`;
    const start = `${at('09:00')} + k * interval '30 minutes'`;
    const end = `${start} + interval '30 minutes'`;
    const slots = `${lanes}, generate_series(${-PAST}, ${DAYS}) AS d, generate_series(0, 14) AS k`;
    // What time has made of those behind us, and what is not decided of those far ahead.
    const dice = `(abs(n * 7919 + d * 1049 + k * 613) % 200)`;
    const status = `CASE WHEN d < 0 AND ${dice} < 20 THEN 'cancelled' WHEN d < 0 AND ${dice} < 30 THEN 'no_show' WHEN d < 0 AND ${dice} < 40 THEN 'expired'
      WHEN d < 0 THEN 'completed' WHEN d < ${UNDECIDED} OR k % 5 = 3 THEN 'confirmed' WHEN k % 5 = 0 THEN 'held' WHEN k % 5 = 1 THEN 'pending'
      WHEN k % 5 = 2 THEN 'checked_in' ELSE 'cancelled' END`;
    const occupies = `d >= 0 AND ${status} <> 'cancelled'`;
    const expiresAt = `CASE WHEN ${status} IN ('held', 'pending') THEN now() + interval '1 hour' END`;
    const updatedAt = `least(${start}, now()) - ${dice} * interval '1 hour'`;
    const answered = `CASE WHEN ${dice} < 4 THEN 'confirmed' WHEN ${dice} = 4 THEN 'declined' ELSE 'none' END`;
    const range = (from: string, to: string) => `tstzmultirange(tstzrange(${from}, ${to}))`;
    const inserts = [
      `service (organization_id, id, name, duration_minutes) SELECT o, ${service}, 'Checkup', 30 FROM unnest($1::uuid[]) AS o`,
      `service (organization_id, id, name, duration_minutes)
       SELECT o, ${usual}, 'Service ' || n, 30 FROM unnest($1::uuid[]) AS o, generate_series(0, 9) AS n`,
      `schedule (organization_id, id, time_zone) SELECT o, ${schedule}, 'UTC' FROM ${lanes}`,
      `schedule_hours (organization_id, id, schedule_id, weekday, start_minute, end_minute)
       SELECT o, gen_random_uuid(), ${schedule}, w, 540, 1020 FROM ${lanes}, generate_series(1, 7) AS w`,
      `practitioner (organization_id, id, schedule_id, name) SELECT o, ${practitioner}, ${schedule}, 'Dr. ' || n FROM ${lanes}`,
      `service_practitioner SELECT o, ${service}, ${practitioner} FROM ${lanes}`,
      `patient (organization_id, id, phone, name)
       SELECT o, ${id('patient', 'o', 'i')}, '+49170' || (1000000 + i), 'Somebody' FROM unnest($1::uuid[]) AS o, generate_series(0, 9999) AS i`,
      `schedule_day (organization_id, schedule_id, day, covers, open, taken, grid)
       SELECT o, ${schedule}, ${day}, tstzrange(${at('00:00')}, ${at('00:00')} + interval '1 day'),
              ${range(at('09:00'), at('17:00'))}, ${range(at('09:00'), at('16:30'))},
              jsonb_build_array(jsonb_build_array(extract(epoch FROM ${at('09:00')})::bigint, extract(epoch FROM ${at('17:00')})::bigint, NULL))
       FROM ${lanes}, generate_series(${-PAST}, ${DAYS}) AS d`,
      `appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, expires_at, confirmation_status, updated_at)
       SELECT o, ${appointment}, ${status}, ${usual}, ${patient}, ${start}, ${end}, 'in_person', ${expiresAt}, ${answered}, ${updatedAt}
       FROM ${slots}`,
      `appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at, appointment_starts_at)
       SELECT o, ${appointment}, 0, ${schedule}, ${practitioner}, ${start}, ${end}, ${start} FROM ${slots}`,
      `appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
       SELECT o, ${appointment}, 1, 'book', ${status}, 'test', 'api' FROM ${slots}`,
      `claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
       SELECT o, ${schedule}, ${start}, ${end}, ${start}, ${end}, ${appointment}, ${expiresAt} FROM ${slots} WHERE ${occupies}`,
      `idempotency_key (organization_id, principal, key, fingerprint, status, body)
       SELECT o, o, 'key ' || i, '\\x00', 201, '{}' FROM unnest($1::uuid[]) AS o, generate_series(1, 10000) AS i`,
      `api_key (organization_id, id, name, role, prefix, key_hash)
       SELECT o, gen_random_uuid(), 'key', 'receptionist', 'hf_', sha256((o || '/' || i)::bytea)
       FROM unnest($1::uuid[]) AS o, generate_series(1, 3000) AS i`,
    ];
    // Without looking each reference up, which takes longer than all the rest.
    await explainer.query(`SET session_replication_role = replica`);
    for (const insert of inserts) await explainer.query(`INSERT INTO ${insert}`, [organizations]);
    await explainer.query(`SET session_replication_role = origin`);
    await explainer.query('ANALYZE');
    const { rows } = await explainer.query<{ id: string; kind: string }>(
      `SELECT ${service} AS id, 'service' AS kind FROM (SELECT $1::uuid AS o) AS one
       UNION ALL SELECT ${practitioner}, 'practitioner' FROM (SELECT $1::uuid AS o) AS one, generate_series(1, 3) AS n
       UNION ALL SELECT ${schedule}, 'schedule' FROM (SELECT $1::uuid AS o) AS one, generate_series(1, 3) AS n
       UNION ALL SELECT ${id('patient', 'o', 'i')}, 'patient' FROM (SELECT $1::uuid AS o) AS one, generate_series(7, 7) AS i
       UNION ALL (SELECT practitioner_id, 'his' FROM appointment_segment s JOIN appointment a ON a.id = s.appointment_id
                  WHERE a.patient_id = (SELECT ${id('patient', 'o', 'i')} FROM (SELECT $1::uuid AS o, 7 AS i) AS one) LIMIT 1)
       UNION ALL (SELECT patient_id, 'expected' FROM appointment
                  WHERE organization_id = $1 AND status = 'confirmed' AND starts_at > now() + interval '5 days' LIMIT 1)`,
      [organizations[0]],
    );
    ids = Object.fromEntries(
      ['service', 'practitioner', 'schedule', 'patient', 'his', 'expected'].map((kind) => [
        kind,
        rows.filter((row) => row.kind === kind).map((row) => row.id),
      ]),
    );
  }
  let ids: Record<string, string[]>;

  /** The plans of a statement, as the role and organization that sent it would get them. */
  async function plansOf({ text, name, values, opening }: Statement): Promise<Array<[mode: string, plan: PlanNode]>> {
    const plans: Array<[string, PlanNode]> = [];
    // A named statement is planned for its values at first and for any values later: both must do.
    for (const mode of name === undefined ? ['force_custom_plan'] : ['force_custom_plan', 'force_generic_plan']) {
      await explainer.query('BEGIN');
      try {
        await explainer.query(opening);
        await explainer.query(`SET LOCAL plan_cache_mode = ${mode}`);
        await explainer.query(`PREPARE recorded AS ${text}`);
        const reads =
          /^\s*(SELECT|WITH)\b/i.test(text) && !/\b(INSERT INTO|DELETE FROM|UPDATE \S+( \w+)?\s+SET)\b/i.test(text);
        const literals = values.length === 0 ? '' : `(${values.map(literal).join(', ')})`;
        const { rows } = await explainer.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
          `EXPLAIN (${reads ? 'ANALYZE, BUFFERS, TIMING OFF, ' : ''}FORMAT JSON) EXECUTE recorded${literals}`,
        );
        plans.push([mode, rows[0]!['QUERY PLAN'][0].Plan]);
      } finally {
        await explainer.query('ROLLBACK');
        await explainer.query('DEALLOCATE ALL');
      }
    }
    return plans;
  }

  /** What is wrong with the plans of a statement: hot tables read whole, or much more of them than is needed. */
  async function offences(statement: Statement): Promise<string[]> {
    const found = new Set<string>();
    for (const [mode, plan] of await plansOf(statement)) {
      for (const offence of wrong(plan)) {
        found.add(`${offence} [${mode}]\n${statement.text.trim()}\n${JSON.stringify(plan, null, 1)}`);
      }
    }
    return [...found];
  }

  const readBy = (node: PlanNode): number =>
    READ.reduce((sum, count) => sum + (node[count] ?? 0), 0) * (node['Actual Loops'] ?? 1);

  function wrong(node: PlanNode): string[] {
    const below = (node.Plans ?? []).flatMap(wrong);
    const sorted = node['Node Type'] === 'Sort' ? (node.Plans ?? []).reduce((sum, each) => sum + readBy(each), 0) : 0;
    if (sorted > MOST) below.push(`sorts ${sorted} rows`);
    const table = node['Relation Name'];
    if (table === undefined || !HOT.includes(table)) return below;
    if (node['Node Type'] === 'Seq Scan') return [`reads ${table} whole`, ...below];
    if (readBy(node) <= MOST) return below;
    return [`reads ${readBy(node)} rows of ${table} by ${node['Index Name'] ?? 'an index'}`, ...below];
  }

  const nodesOf = (plan: PlanNode): PlanNode[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

  /** A value as the driver would send it, as a literal. */
  function literal(value: unknown): string {
    if (value === null || value === undefined) return 'NULL';
    if (value instanceof Date) return `'${value.toISOString()}'`;
    if (Buffer.isBuffer(value)) return `'\\x${value.toString('hex')}'`;
    if (Array.isArray(value)) return `'{${value.map((each) => JSON.stringify(each)).join(',')}}'`;
    if (typeof value === 'string') return explainer.escapeLiteral(value);
    return explainer.escapeLiteral(JSON.stringify(value));
  }

  /** Does something through the API, and judges everything that was sent meanwhile. */
  async function judge(work: () => Promise<unknown>): Promise<{ statements: Statement[]; offences: string[] }> {
    recorded = [];
    await work();
    const statements = recorded;
    const seen = new Set<string>();
    const found: string[] = [];
    for (const statement of statements) {
      if (!HOT.some((table) => new RegExp(`\\b${table}\\b`).test(statement.text)) || seen.has(statement.text)) continue;
      seen.add(statement.text);
      found.push(...(await offences(statement)));
    }
    return { statements, offences: found };
  }

  const day = (ahead: number) => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);
  const last = (ahead: number) => `${day(ahead)}T16:30:00Z`;
  const book = (body: object, key?: string) => {
    const headers: Record<string, string> = key === undefined ? {} : { 'Idempotency-Key': key };
    return clinic.call('POST', '/v1/appointments', { headers, body: { serviceId: ids.service![0], ...body } });
  };
  const known = { patient: { phone: '+491701000042' } };
  const [first, second] = [() => ids.practitioner![0]!, () => ids.practitioner![1]!];
  const list = (query: string) => clinic.call('GET', `/v1/appointments?limit=50&${query}`);
  const pages = async (query: string) => {
    const page = await list(query);
    expect(page.body.data).toHaveLength(50);
    const next = await list(`${query}&cursor=${page.body.nextCursor}`);
    expect(next.body.data.length).toBeGreaterThan(0);
    return next;
  };
  const status = async (expected: number, answer: Promise<Answer>) => {
    const { status: is, body } = await answer;
    expect([is, is === expected ? '' : body]).toEqual([expected, '']);
  };

  // Each with what it must have sent: a flow that no longer sends it proves nothing.
  it.each<[string, RegExp[], () => Promise<unknown>]>([
    [
      'a booking: key, patient by phone, days, the guarded statement',
      [/day AS \(\s*UPDATE schedule_day/, /FROM idempotency_key/, /FROM "?patient/, /FROM schedule_day/],
      () => status(201, book({ practitionerId: first(), startsAt: last(5), ...known }, 'a new key')),
    ],
    [
      'a booking by what is known: one statement',
      [/WITH\s+moment[^]*FROM patient WHERE[^]*phone = [^]*UPDATE schedule_day[^]*FROM idempotency_key/],
      () => status(201, book({ practitionerId: first(), startsAt: last(6), ...known }, 'another key')),
    ],
    [
      'its repetition under the key',
      [/FROM idempotency_key/],
      () => status(201, book({ practitionerId: first(), startsAt: last(5), ...known }, 'a new key')),
    ],
    [
      'a booking with anybody, which locks many days',
      [/schedule_day d[^]*FOR NO KEY UPDATE/, /FROM claim c/],
      () => status(201, book({ startsAt: last(6), ...known })),
    ],
    [
      'a booking over a hold past its time, which deletes its claim and recomputes what is taken',
      [/DELETE FROM claim/, /range_agg/],
      async () => {
        const startsAt = `${day(8)}T10:00:00Z`;
        await explainer.query(
          `UPDATE claim SET expires_at = now() - interval '1 hour' WHERE schedule_id = $1 AND starts_at = $2`,
          [ids.schedule![0], startsAt],
        );
        await status(201, book({ practitionerId: first(), startsAt, ...known }));
      },
    ],
    [
      'a booking that comes too late, with its alternatives',
      [/FROM schedule_day/],
      () => status(409, book({ practitionerId: first(), startsAt: `${day(9)}T10:00:00Z`, ...known })),
    ],
    [
      'a cancellation: claims of a holder, recomputed days',
      [/FROM claim c[^]*c\.holder/, /DELETE FROM claim/, /range_agg/, /FROM appointment[^]*FOR NO KEY UPDATE/],
      async () => {
        const { body } = await list(`from=${last(10)}&to=${last(12)}&practitionerId=${second()}`);
        await status(200, clinic.call('POST', `/v1/appointments/${body.data[0].id}/cancel`, { body: {} }));
      },
    ],
    [
      'free slots of all over two weeks',
      [/FROM schedule_day/],
      () => status(200, clinic.call('GET', `/v1/slots?serviceId=${ids.service![0]}&from=${last(1)}&to=${last(15)}`)),
    ],
    ['appointments by start', [/"appointment"/, /FROM appointment_segment/], () => pages(`from=${last(20)}`)],
    ['appointments of a while', [/"appointment"/], () => pages(`from=${last(20)}&to=${last(22)}`)],
    ['appointments of a patient', [/patient_id =/], () => list(`patientId=${ids.patient![0]}`)],
    ['appointments of a practitioner', [/practitioner_id =/], () => pages(`practitionerId=${first()}`)],
    [
      'appointments of a practitioner in a while',
      [/practitioner_id =/],
      () => list(`practitionerId=${first()}&from=${last(40)}&to=${last(42)}`),
    ],
    [
      'an appointment and its history',
      [/FROM appointment WHERE/, /"appointment_history"/],
      async () => {
        const { body } = await list(`from=${last(30)}`);
        await status(200, clinic.call('GET', `/v1/appointments/${body.data[0].id}`));
        await status(200, clinic.call('GET', `/v1/appointments/${body.data[0].id}/history`));
      },
    ],
    [
      'a patient by phone',
      [/\bphone = \$1/, /INSERT INTO patient/, /"phone"/],
      async () => {
        await status(200, clinic.call('POST', '/v1/patients', { body: { phone: '+491701000077' } }));
        await status(201, clinic.call('POST', '/v1/patients', { body: { phone: '+4915199999999' } }));
        await status(200, clinic.call('GET', '/v1/patients?phone=%2B491701000078'));
      },
    ],
    ['a page of patients', [/"patient"/], () => status(200, clinic.call('GET', '/v1/patients?limit=50'))],
    [
      'new hours and an exception: days from today on, future claims of a schedule',
      [/"claim"/, /"schedule_day"[^]*FOR NO KEY UPDATE/],
      async () => {
        const path = `/v1/schedules/${ids.schedule![2]}`;
        const hours = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '09:00', end: '18:00' }));
        const headers = { 'If-Match': '"1"' };
        await status(200, clinic.call('PUT', `${path}/hours`, { headers, body: { timeZone: 'UTC', hours } }));
        const exception = { startsAt: `${day(12)}T12:00:00Z`, endsAt: `${day(12)}T13:00:00Z`, kind: 'closed' };
        await status(
          201,
          clinic.call('POST', `${path}/exceptions`, { headers: { 'If-Match': '"2"' }, body: exception }),
        );
      },
    ],
    [
      'deletions that look for what depends on them',
      [/"appointment"/, /"claim"/],
      async () => {
        await status(409, clinic.call('DELETE', `/v1/patients/${ids.expected![0]}`));
        await status(409, clinic.call('DELETE', `/v1/practitioners/${second()}`));
      },
    ],
    [
      'an API key by its public part, as the system role',
      [/FROM api_key[^]*prefix = /],
      () => status(401, app.as(`${clinic.apiKey.slice(0, -6)}nobody`)('GET', '/v1/organization')),
    ],
    [
      'an API key of earlier releases by its hash, as the system role',
      [/FROM api_key[^]*key_hash = /],
      () => status(401, app.as(`hf_${'nobody'.repeat(7)}x`)('GET', '/v1/organization')),
    ],
    ['a page of API keys', [/"api_key"/], () => status(200, clinic.call('GET', '/v1/api-keys?limit=50'))],
  ])('use indexes: %s', async (_, sent, work) => {
    const found = await judge(work);
    for (const pattern of sent)
      expect(found.statements.map((each) => each.text)).toContainEqual(expect.stringMatching(pattern));
    expect(found.offences).toEqual([]);
  });

  describe('of lists of appointments', () => {
    const ago = (days: number) => new Date(Date.now() - days * 86_400_000).toISOString();
    const patientOf = () => `patientId=${ids.patient![0]}`;
    const his = () => `practitionerId=${first()}`;
    const changed = (days: number) => () => `updatedSince=${ago(days)}`;
    const and =
      (...parts: Array<string | (() => string)>) =>
      () =>
        parts.map((part) => (typeof part === 'string' ? part : part())).join('&');
    const past = () => `from=${last(-100)}&to=${last(-10)}`;

    /** What the statement that finds the keys of a page reads beyond these limits; and whatever else is wrong with the request. */
    async function excess(page: string, limit: { rows: number; buffers: number }): Promise<string[]> {
      const { statements, offences: found } = await judge(() => status(200, list(page)));
      const keys = statements.filter((each) => /\) page ORDER BY/.test(each.text));
      expect(keys).toHaveLength(1);
      for (const [, plan] of await plansOf(keys[0]!)) {
        const rows = Math.max(
          ...nodesOf(plan)
            .filter((node) => node['Relation Name'])
            .map(readBy),
        );
        const buffers = plan['Shared Hit Blocks']! + plan['Shared Read Blocks']!;
        if (rows > limit.rows) found.push(`reads ${rows} rows to find ${plan['Actual Rows']}`);
        if (buffers > limit.buffers)
          found.push(`looks at ${buffers} pages of memory to find ${plan['Actual Rows']} rows`);
      }
      return found;
    }

    /** The keys of a page from the middle of the list: what a cursor would hold that lies there. */
    async function deepIn(query: string, at: string): Promise<string> {
      const cursors = app.app.get(Cursors, { strict: false });
      const write = jest.spyOn(cursors, 'write');
      const { body } = await clinic.call('GET', `/v1/appointments?limit=1&${query}`);
      expect(body.nextCursor).not.toBeNull();
      const [scope, key] = write.mock.calls[0]!;
      write.mockRestore();
      return `${query}&cursor=${cursors.write(scope, [at, ...key.slice(1)])}`;
    }

    const none: string[] = [];
    // With an instant in the middle of what is found, by the order of the list. A page costs the same wherever it lies.
    it.each<[string, () => string, string]>([
      ['nothing', () => '', last(-20)],
      ['a while', past, last(-40)],
      ['a start', () => `from=${last(-100)}`, last(-40)],
      ['an end', () => `to=${last(-10)}`, last(-40)],
      ['a practitioner', his, last(-20)],
      ['a practitioner in a while', and(his, past), last(-40)],
      ['a patient', patientOf, last(-60)],
      ['a patient in a while', and(patientOf, () => `from=${last(-130)}&to=${last(20)}`), last(-60)],
      ['who is there', () => 'status=checked_in', last(52)],
      ['a frequent status of the future', () => 'status=confirmed', last(30)],
      ['a frequent status of the past', () => 'status=completed', last(-40)],
      ['a rare status', () => 'status=no_show', last(-40)],
      ['a status of past and future', () => 'status=cancelled', last(-40)],
      ['what expired', () => 'status=expired', last(-40)],
      ['what is over', () => 'status=completed,no_show,cancelled,expired', last(-40)],
      ['a status in a while', and('status=cancelled', past), last(-40)],
      ['a frequent confirmation status', () => 'confirmationStatus=none', last(-40)],
      ['a rare confirmation status', () => 'confirmationStatus=declined', last(-40)],
      ['a confirmation status in a while', and('confirmationStatus=confirmed', past), last(-40)],
      ['a patient and a status', and(patientOf, 'status=completed,confirmed'), last(-60)],
      ['a practitioner and a frequent status', and(his, 'status=completed'), last(-40)],
      ['all changes', changed(400), ago(60)],
      ['the changes of a month', changed(30), ago(10)],
      ['the changes of a patient', and(changed(400), patientOf), ago(60)],
    ])('read a page and little beside it: %s', async (_, query, middle) => {
      for (const page of [query(), await deepIn(query(), middle)]) {
        expect(await excess(page, FEW)).toEqual(none);
      }
    });

    // What else is asked for is looked for among what comes along: of one practitioner, of one status, or since a while. What is
    // not decided yet is little at any time, and may be sorted.
    it.each<[string, () => string, string]>([
      ['a hold', () => 'status=held', last(52)],
      ['a request', () => 'status=pending', last(52)],
      ['what occupies time', () => 'status=held,pending,confirmed,checked_in', last(30)],
      ['all statuses', () => `status=${STATUSES.join()}`, last(-40)],
      ['a practitioner and a rare status', and(his, 'status=expired'), last(-40)],
      ['a practitioner and what occupies time', and(his, 'status=held,pending,confirmed,checked_in'), last(30)],
      ['a practitioner and a confirmation status', and(his, 'confirmationStatus=confirmed'), last(-40)],
      ['a confirmation status and a status', () => 'confirmationStatus=declined&status=cancelled', last(-40)],
      ['the changes of a while of starts', and(changed(0.5), () => `from=${last(20)}&to=${last(30)}`), ago(0.1)],
      ['the changes of a practitioner', and(changed(0.5), his), ago(0.1)],
      ['the changes to a status', and(changed(0.5), 'status=confirmed'), ago(0.1)],
      ['the changes of a confirmation status', and(changed(0.5), 'confirmationStatus=confirmed'), ago(0.1)],
    ])('read one practitioner, status or while at most: %s', async (_, query, middle) => {
      for (const page of [query(), await deepIn(query(), middle)]) {
        expect(await excess(page, { rows: MOST, buffers: 8 * MOST })).toEqual(none);
      }
    });

    it('read one patient at most: a patient and a practitioner', async () => {
      expect(await excess(`patientId=${ids.patient![0]}&practitionerId=${ids.his![0]}`, FEW)).toEqual(none);
    });

    it.each<[string, () => string]>([
      ['starts', () => `from=${last(20)}&to=${last(24)}`],
      ['a practitioner', () => `practitionerId=${second()}&from=${last(20)}&to=${last(40)}`],
      ['a patient', () => `patientId=${ids.patient![0]}`],
      ['a status', () => `status=confirmed&from=${last(20)}&to=${last(24)}`],
    ])('show what was there once each while more comes: %s', async (_, query) => {
      const page = async (limit: number, cursor: string) => {
        const path = `/v1/appointments?limit=${limit}&${query()}${cursor && `&cursor=${cursor}`}`;
        return (await clinic.call('GET', path)).body as { data: Array<{ id: string }>; nextCursor: string | null };
      };
      const before = (await page(1000, '')).data.map((each) => each.id);
      expect(before.length).toBeGreaterThan(5);
      const shown: string[] = [];
      const limit = Math.ceil(before.length / 6);
      for (let cursor: string | null = ''; cursor !== null;) {
        const { data, nextCursor }: Awaited<ReturnType<typeof page>> = await page(limit, cursor);
        shown.push(...data.map((each) => each.id));
        cursor = nextCursor;
        // At the very start of the last one shown, with ids on either side of its own; and before and after it.
        const at = data.at(-1)!.id;
        if (shown.length > 10 * before.length) break;
        if (!before.includes(at)) continue;
        await copy(at, ['00000000', 'ffffffff'], '0 seconds');
        await copy(at, ['88888888'], '-30 seconds');
        await copy(at, ['99999999'], '30 seconds');
      }
      await explainer.query(`DELETE FROM appointment_segment WHERE name = 'a copy'`);
      await explainer.query(`DELETE FROM appointment WHERE notes = 'a copy'`);
      expect(shown).toHaveLength(new Set(shown).size);
      expect(shown.filter((id) => before.includes(id))).toEqual(before);
      expect(shown.length).toBeGreaterThan(before.length);
    });

    /** Makes appointments like another one, with ids that begin so, at a time so far from its own. */
    async function copy(id: string, beginnings: string[], shift: string): Promise<void> {
      await explainer.query(
        `WITH made AS (SELECT (beginning || substr(gen_random_uuid()::text, 9))::uuid AS id FROM unnest($2::text[]) AS beginning),
         appointments AS (
           INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, notes)
           SELECT a.organization_id, made.id, a.status, a.service_id, a.patient_id, a.starts_at + $3::interval, a.ends_at + $3::interval,
                  a.mode, 'a copy' FROM appointment a, made WHERE a.id = $1)
         INSERT INTO appointment_segment (organization_id, appointment_id, position, name, schedule_id, practitioner_id, starts_at, ends_at,
                                          appointment_starts_at)
         SELECT s.organization_id, made.id, 0, 'a copy', s.schedule_id, s.practitioner_id, s.starts_at + $3::interval,
                s.ends_at + $3::interval, s.appointment_starts_at + $3::interval FROM appointment_segment s, made WHERE s.appointment_id = $1`,
        [id, beginnings, shift],
      );
    }
  });

  describe('of what is over', () => {
    const endOf = (hours: number) =>
      explainer.query(
        `WITH claims AS (UPDATE claim SET expires_at = now() + make_interval(hours => $1) WHERE expires_at IS NOT NULL)
         UPDATE appointment SET expires_at = now() + make_interval(hours => $1) WHERE status IN ('held', 'pending')`,
        [hours],
      );
    const indexesOf = async (statement: Statement) => {
      const plans = await plansOf(statement);
      return plans.map(([, plan]) => [...new Set(nodesOf(plan).flatMap((node) => node['Index Name'] ?? []))]);
    };
    const search = () => clinic.call('GET', `/v1/slots?serviceId=${ids.service![0]}&from=${last(1)}&to=${last(15)}`);
    const overdue = () =>
      app.app
        .get(Database, { strict: false })
        .transaction(clinic.organizationId, async (tx) => {
          await app.app.get(AppointmentRepository, { strict: false }).lockOverdue(tx, 100);
          throw new Error('taken back');
        })
        .catch(() => undefined);
    beforeAll(() => endOf(1));
    afterAll(() => endOf(1));

    it.each([
      ['nothing is over', 1],
      ['thousands are over', -1],
    ])('use the indexes made for it when %s', async (_, hours) => {
      await endOf(hours);
      const searched = await judge(search);
      const swept = await judge(overdue);
      expect([...searched.offences, ...swept.offences]).toEqual([]);
      const days = searched.statements.find((each) => each.text.includes('WITH lapsed'))!;
      for (const indexes of await indexesOf(days)) {
        expect(indexes).toEqual(expect.arrayContaining(['claim_expiry', 'schedule_day_pkey']));
      }
      const locking = swept.statements.find((each) => each.text.includes('SKIP LOCKED'))!;
      for (const indexes of await indexesOf(locking)) expect(indexes).toEqual(['appointment_expiry']);
    });

    it('look at no more of them than they need', async () => {
      await endOf(-1);
      const { statements } = await judge(overdue);
      const [[, plan]] = (await plansOf(statements.find((each) => each.text.includes('SKIP LOCKED'))!)) as [
        [string, PlanNode],
      ];
      expect(Math.max(...nodesOf(plan).map(readBy))).toBe(100);
    });
  });

  describe('which would be missed', () => {
    const statement = (text: string, values: unknown[]): Statement => ({
      text,
      values,
      opening: recorded.find((each) => each.opening.includes(clinic.organizationId))!.opening,
    });
    beforeAll(() => judge(() => list(`from=${last(20)}`)));

    it('are noticed when a range is asked for by its operator', async () => {
      const sql = 'SELECT 1 FROM claim WHERE schedule_id = $1 AND during && tstzrange($2, $3)';
      expect(await offences(statement(sql, [ids.schedule![0], last(3), last(4)]))).toEqual([]);
      const everywhere = 'SELECT 1 FROM claim WHERE during && tstzrange($1, $2)';
      expect(await offences(statement(everywhere, [last(3), last(4)]))).toEqual([
        expect.stringMatching(/^reads (claim whole|\d{5} rows of claim)/),
      ]);
    });

    it('are noticed when an index finds them only by their organization', async () => {
      await explainer.query('SET enable_seqscan = off');
      try {
        const sql = `SELECT 1 FROM appointment WHERE organization_id = $1 AND mode = 'video'`;
        expect(await offences(statement(sql, [clinic.organizationId]))).toEqual([
          expect.stringMatching(/^reads \d{5} rows of appointment/),
        ]);
      } finally {
        await explainer.query('SET enable_seqscan = on');
      }
    });

    it('are noticed when a list is sorted that no index gives in its order', async () => {
      const sql = `SELECT id FROM appointment WHERE status = 'completed' ORDER BY mode, starts_at LIMIT 50`;
      expect(await offences(statement(sql, []))).toEqual(
        expect.arrayContaining([expect.stringMatching(/^sorts \d{5,6} rows/)]),
      );
    });

    it('are noticed when an index is gone', async () => {
      await explainer.query('ALTER INDEX claim_holder RENAME TO claim_holder_kept');
      await explainer.query(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'claim_holder_kept'::regclass`);
      try {
        const sql = 'SELECT * FROM claim WHERE holder = $1';
        expect(await offences(statement(sql, [ids.patient![0]]))).toEqual([
          expect.stringMatching(/^reads (claim whole|\d{5} rows of claim)/),
        ]);
      } finally {
        await explainer.query(`UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'claim_holder_kept'::regclass`);
        await explainer.query('ALTER INDEX claim_holder_kept RENAME TO claim_holder');
      }
    });
  });
});
