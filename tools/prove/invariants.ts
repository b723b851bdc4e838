import pg from 'pg';
import { auditLedger } from '../../src/operations';
import { type AppointmentView, type Client, describe, inParallel, listAll, type SlotView } from './client';
import type { Finding, Life } from './history';
import { differencesFrom } from './storm';
import { DAY, MINUTE, OPEN, type Practitioner, type World } from './world';

/**
 * What must be true of an install after every storm, whatever happened in it. Asked twice, over two ways that share no
 * code: over the API, as any client could, and in SQL, where the connection is at hand.
 */
export const HTTP_CHECKS = {
  exists: 'every acknowledged booking is there, as it was acknowledged',
  acknowledged: 'every occupying appointment was acknowledged, or its outcome is unknown',
  overlap: 'no two occupying appointments of a practitioner overlap',
  slots: 'GET /v1/slots offers exactly the free time',
  history: 'the history leads from version 1 to the present version and status',
};

/** Days whose slots are compared after a storm: enough to meet every kind, few enough to be quick. */
const DAYS_COMPARED = 12;
const HISTORIES_READ = 100;
const READERS = 16;

export async function checkOverHttp(
  world: World,
  clients: readonly Client[],
  lives: readonly Life[],
): Promise<{ made: number; findings: Finding[] }> {
  const findings: Finding[] = [];
  let made = 0;
  const check = (name: string, problems: string[]) => {
    made++;
    findings.push(...problems.map((detail) => ({ check: name, detail })));
  };
  const readers = clients.slice(0, READERS);

  const acknowledged = lives.filter((life) => life.appointment !== undefined);
  await inParallel(readers, acknowledged, async (client, life) => {
    const { id } = life.appointment as AppointmentView;
    const answer = await client.request('GET', `/v1/appointments/${id}`);
    if (answer.status !== 200) return check(HTTP_CHECKS.exists, [`${id}: ${describe(answer)}`]);
    check(HTTP_CHECKS.exists, differencesFromLife(life, answer.body as AppointmentView));
  });

  const occupying = new Map<Practitioner, AppointmentView[]>();
  await inParallel(readers, [...world.practitioners, world.edited], async (client, practitioner) => {
    occupying.set(practitioner, await world.occupying(client, practitioner));
  });
  const explained = new Set(lives.map((life) => life.wish.requestId));
  for (const [practitioner, appointments] of occupying) {
    check(
      HTTP_CHECKS.acknowledged,
      appointments
        .filter(({ metadata }) => !explained.has(String(metadata?.['request'])))
        .map(({ id, startsAt }) => `${id} at ${startsAt} of ${practitioner.name}`),
    );
    check(HTTP_CHECKS.overlap, overlaps(timesOf(world, appointments)));
  }

  const days = [...world.daysUsed].filter((_, index, all) => index % Math.ceil(all.length / DAYS_COMPARED) === 0);
  const pairs = days.flatMap((day) => [...occupying.keys()].map((practitioner) => ({ day, practitioner })));
  await inParallel(readers, pairs, async (client, { day, practitioner }) => {
    check(HTTP_CHECKS.slots, await compareSlots(world, client, practitioner, day, occupying.get(practitioner) ?? []));
  });

  await inParallel(readers, acknowledged.slice(0, HISTORIES_READ), async (client, { appointment }) => {
    check(HTTP_CHECKS.history, await checkOneHistory(client, (appointment as AppointmentView).id));
  });
  return { made, findings };
}

function differencesFromLife(life: Life, now: AppointmentView): string[] {
  const { cancelled, wish } = life;
  const shown = `${now.status}, version ${now.version}`;
  const expected = {
    no: ['confirmed, version 1'],
    yes: ['cancelled, version 2'],
    perhaps: ['confirmed, version 1', 'cancelled, version 2'],
  }[cancelled];
  return [
    ...differencesFrom(wish, now),
    ...(expected.includes(shown) ? [] : [`${shown} instead of ${expected.join(' or ')}`]),
  ].map((difference) => `${now.id}: ${difference}`);
}

/** Occupied time with buffers, by its start. */
function timesOf(world: World, appointments: AppointmentView[]): Array<{ id: string; from: number; until: number }> {
  return appointments
    .map((appointment) => {
      const service = Object.values(world.services).find(({ id }) => id === appointment.serviceId);
      return {
        id: appointment.id,
        from: Date.parse(appointment.startsAt) - (service?.bufferBeforeMinutes ?? 0) * MINUTE,
        until: Date.parse(appointment.endsAt) + (service?.bufferAfterMinutes ?? 0) * MINUTE,
      };
    })
    .sort((a, b) => a.from - b.from);
}

function overlaps(times: Array<{ id: string; from: number; until: number }>): string[] {
  let latest = times[0];
  return times.slice(1).flatMap((time) => {
    const before = latest;
    if (latest === undefined || time.until > latest.until) latest = time;
    return before !== undefined && time.from < before.until
      ? [`${before.id} and ${time.id} at ${new Date(time.from).toISOString()}`]
      : [];
  });
}

/** The grid of the open hours without what is occupied, against what is offered. */
async function compareSlots(
  world: World,
  client: Client,
  practitioner: Practitioner,
  day: number,
  appointments: AppointmentView[],
): Promise<string[]> {
  const service = practitioner === world.edited ? world.services.edited : world.services.plain;
  const step = service.slotIntervalMinutes * MINUTE;
  const taken = timesOf(world, appointments).filter(({ from, until }) => from < day + DAY && until > day);
  const expected = new Set<number>();
  for (let start = day + OPEN.from; start + service.durationMinutes * MINUTE <= day + OPEN.until; start += step) {
    const from = start - service.bufferBeforeMinutes * MINUTE;
    const until = start + (service.durationMinutes + service.bufferAfterMinutes) * MINUTE;
    if (!taken.some((time) => time.from < until && from < time.until)) expected.add(start);
  }
  const query = new URLSearchParams({
    serviceId: service.id,
    practitionerId: practitioner.id,
    from: new Date(day).toISOString(),
    to: new Date(day + DAY).toISOString(),
    limit: '1000',
  });
  const { body } = await client.must('GET', `/v1/slots?${query.toString()}`);
  const offered = new Set((body as { data: SlotView[] }).data.map((slot) => Date.parse(slot.startsAt)));
  const show = (instant: number) => `${new Date(instant).toISOString()} of ${practitioner.name}`;
  return [
    ...[...offered].filter((start) => !expected.has(start)).map((start) => `${show(start)} is offered, but taken`),
    ...[...expected].filter((start) => !offered.has(start)).map((start) => `${show(start)} is free, but not offered`),
  ];
}

interface HistoryEntry {
  version: number;
  fromStatus: string | null;
  toStatus: string;
}

async function checkOneHistory(client: Client, id: string): Promise<string[]> {
  const { status, body } = await client.request('GET', `/v1/appointments/${id}`);
  // What is missing altogether is said by the check for that.
  if (status !== 200) return [];
  const entries = await listAll<HistoryEntry>(client, `/v1/appointments/${id}/history`, {});
  entries.sort((a, b) => a.version - b.version);
  const now = body as AppointmentView;
  const broken =
    entries.length !== now.version ||
    entries.at(-1)?.toStatus !== now.status ||
    entries.some((entry, index) => {
      return entry.version !== index + 1 || entry.fromStatus !== (entries[index - 1]?.toStatus ?? null);
    });
  if (!broken) return [];
  const shown = entries
    .map(({ version, fromStatus, toStatus }) => `${version}: ${fromStatus} -> ${toStatus}`)
    .join(', ');
  return [`${id} is ${now.status}, version ${now.version}, with the history [${shown}]`];
}

// ------------------------------------------------------------------------------------------------------------ in SQL

/** What the checks look at: the test location, and the appointments that this storm was about. */
interface Scope {
  organizationId: string;
  schedules: string[];
  appointments: string[];
  phones: string[];
  tag: string;
}

interface SqlCheck {
  name: string;
  /** Selects one column of text: one row for each violation. */
  sql: string;
  parameters: (scope: Scope) => unknown[];
}

/** A hold or a pending request past its time does not occupy; until it is swept, its claim may be there or not. */
const EXPIRED = `(a.status IN ('held', 'pending') AND coalesce(a.expires_at <= clock_timestamp(), false))`;
const OCCUPYING = `a.status IN ('held', 'pending', 'confirmed', 'checked_in')`;

/**
 * The time that appointments occupy, reckoned from their segments and not from the claims: each run of consecutive segments
 * on one schedule, with the service's buffers around it.
 */
const RUNS = `
  runs AS (
    SELECT a.id, a.status, r.schedule_id, r.starts_at, r.ends_at, ${EXPIRED} AS expired
    FROM appointment a
    JOIN service v ON v.organization_id = a.organization_id AND v.id = a.service_id
    CROSS JOIN LATERAL (
      SELECT s.schedule_id, min(s.starts_at) - make_interval(mins => v.buffer_before_minutes) AS starts_at,
             max(s.ends_at) + make_interval(mins => v.buffer_after_minutes) AS ends_at
      FROM (SELECT *, position - row_number() OVER (PARTITION BY schedule_id ORDER BY position) AS run
            FROM appointment_segment WHERE organization_id = a.organization_id AND appointment_id = a.id) s
      GROUP BY s.schedule_id, s.run
    ) r
    WHERE a.organization_id = $1 AND ${OCCUPYING} AND r.schedule_id = ANY($2::uuid[])
  )`;

export const SQL_CHECKS: SqlCheck[] = [
  {
    // Without a look at the constraint: it may be the thing that is missing.
    name: 'no two claims on one seat overlap',
    parameters: ({ schedules }) => [schedules],
    sql: `
      SELECT format('%s and %s on schedule %s', before, holder, schedule_id)
      FROM (SELECT schedule_id, holder, starts_at, lag(holder) OVER seat AS before,
                   max(ends_at) OVER (seat ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
            FROM claim WHERE schedule_id = ANY($1::uuid[])
            WINDOW seat AS (PARTITION BY schedule_id, seat ORDER BY starts_at, ends_at, holder)) c
      WHERE starts_at < taken_until`,
  },
  {
    name: 'no two occupying appointments overlap, buffers included',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${RUNS}
      SELECT format('%s and %s on schedule %s', before, id, schedule_id)
      FROM (SELECT schedule_id, id, starts_at, lag(id) OVER lane AS before,
                   max(ends_at) OVER (lane ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS taken_until
            FROM runs WHERE NOT expired
            WINDOW lane AS (PARTITION BY schedule_id ORDER BY starts_at, ends_at, id)) r
      WHERE starts_at < taken_until`,
  },
  {
    name: 'every occupying appointment has exactly its claims, and every claim its appointment',
    parameters: ({ organizationId, schedules }) => [organizationId, schedules],
    sql: `
      WITH ${RUNS},
      expected AS (SELECT id AS holder, schedule_id, starts_at, ends_at, expired FROM runs),
      actual AS (SELECT holder, schedule_id, starts_at, ends_at, coalesce(expires_at <= clock_timestamp(), false) AS expired
                 FROM claim WHERE schedule_id = ANY($2::uuid[]))
      SELECT format('%s on schedule %s: by its segments %s, claimed %s', holder, schedule_id,
                    coalesce(tstzrange(e.starts_at, e.ends_at)::text, 'nothing'),
                    coalesce(tstzrange(c.starts_at, c.ends_at)::text, 'nothing'))
      FROM expected e FULL JOIN actual c USING (holder, schedule_id, starts_at, ends_at)
      WHERE (e.expired IS NULL OR c.expired IS NULL) AND NOT coalesce(e.expired, c.expired)`,
  },
  {
    // Reckoned here from the rules themselves, in UTC, in which the test location's schedules are.
    name: 'every day row covers its day, is open by its rules and taken by its claims',
    parameters: ({ schedules }) => [schedules],
    sql: `
      WITH sources AS (
        SELECT d.schedule_id, d.day, d.covers, d.open, d.taken, s.active,
          tstzrange(d.day::timestamp AT TIME ZONE 'UTC', (d.day + 1)::timestamp AT TIME ZONE 'UTC') AS whole,
          (SELECT coalesce(range_agg(tstzrange((d.day + make_interval(mins => h.start_minute)) AT TIME ZONE 'UTC',
                                               (d.day + make_interval(mins => h.end_minute)) AT TIME ZONE 'UTC')), '{}')
           FROM schedule_hours h
           WHERE h.schedule_id = d.schedule_id AND h.weekday = extract(isodow FROM d.day)
             AND d.day >= coalesce(h.valid_from, d.day) AND d.day <= coalesce(h.valid_until, d.day)) AS weekly,
          (SELECT coalesce(range_agg(tstzrange(e.starts_at, e.ends_at)) FILTER (WHERE e.kind = 'open'), '{}')
           FROM schedule_exception e WHERE e.schedule_id = d.schedule_id) AS opened,
          (SELECT coalesce(range_agg(tstzrange(e.starts_at, e.ends_at)) FILTER (WHERE e.kind = 'closed'), '{}')
           FROM schedule_exception e WHERE e.schedule_id = d.schedule_id) AS closed,
          (SELECT coalesce(range_agg(c.during * d.covers) FILTER (WHERE c.expires_at IS NULL OR c.expires_at > clock_timestamp()), '{}')
           FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during && d.covers) AS claimed,
          (SELECT coalesce(range_agg(c.during * d.covers), '{}')
           FROM claim c WHERE c.schedule_id = d.schedule_id AND c.during && d.covers) AS claimed_or_expired
        FROM schedule_day d JOIN schedule s ON s.organization_id = d.organization_id AND s.id = d.schedule_id
        WHERE d.schedule_id = ANY($1::uuid[])
      ), reckoned AS (
        SELECT *, CASE WHEN active THEN ((weekly + opened) - closed) * whole::tstzmultirange ELSE '{}' END AS openable
        FROM sources
      )
      SELECT format('schedule %s on %s:', schedule_id, day)
          || CASE WHEN covers <> whole THEN format(' covers %s instead of %s', covers, whole) ELSE '' END
          || CASE WHEN open <> openable THEN format(' open %s instead of %s', open, openable) ELSE '' END
          || CASE WHEN NOT taken @> claimed THEN format(' lacks %s, which is claimed', claimed - taken) ELSE '' END
          || CASE WHEN NOT taken <@ claimed_or_expired
               THEN format(' has %s as taken, which nobody claims', taken - claimed_or_expired) ELSE '' END
      FROM reckoned
      WHERE covers <> whole OR open <> openable OR NOT taken @> claimed OR NOT taken <@ claimed_or_expired`,
  },
  {
    name: 'the history leads from version 1 to the present version and status without a hole',
    parameters: ({ organizationId, appointments }) => [organizationId, appointments],
    sql: `
      SELECT format('%s is %s, version %s; its history is %s', a.id, a.status, a.version, h.shown)
      FROM appointment a
      CROSS JOIN LATERAL (
        SELECT count(*) AS entries, min(version) AS first, max(version) AS last, bool_and(joined) AS joined,
               (array_agg(to_status ORDER BY version DESC))[1] AS final,
               string_agg(format('%s: %s -> %s', version, from_status, to_status), ', ' ORDER BY version) AS shown
        FROM (SELECT *, from_status IS NOT DISTINCT FROM lag(to_status) OVER (ORDER BY version) AS joined
              FROM appointment_history WHERE organization_id = a.organization_id AND appointment_id = a.id) e
      ) h
      WHERE a.organization_id = $1 AND a.id = ANY($2::uuid[])
        AND NOT coalesce(h.entries = a.version AND h.first = 1 AND h.last = a.version AND h.joined AND h.final = a.status, false)`,
  },
  {
    name: 'exactly one outbox event for each version',
    parameters: ({ organizationId, appointments }) => [organizationId, appointments],
    sql: `
      SELECT format('%s, version %s: %s events', a.id, v.version, count(o.id))
      FROM appointment a
      CROSS JOIN LATERAL generate_series(1, a.version) AS v (version)
      LEFT JOIN outbox_event o ON o.organization_id = a.organization_id AND o.subject_id = a.id AND o.version = v.version
      WHERE a.organization_id = $1 AND a.id = ANY($2::uuid[])
      GROUP BY a.id, v.version HAVING count(o.id) <> 1
      UNION ALL
      SELECT format('%s: an event for version %s, which it never had', o.subject_id, o.version)
      FROM outbox_event o JOIN appointment a ON a.organization_id = o.organization_id AND a.id = o.subject_id
      WHERE o.organization_id = $1 AND o.subject_id = ANY($2::uuid[]) AND o.version NOT BETWEEN 1 AND a.version`,
  },
  {
    name: 'one living patient for each phone',
    parameters: ({ organizationId, phones }) => [organizationId, phones],
    sql: `
      SELECT format('%s: %s patients', phone, count(*)) FROM patient
      WHERE organization_id = $1 AND phone = ANY($2::text[]) AND deleted_at IS NULL
      GROUP BY phone HAVING count(*) > 1`,
  },
  {
    name: 'one appointment at most for each request and Idempotency-Key',
    parameters: ({ organizationId, tag }) => [organizationId, tag],
    sql: `
      SELECT format('%s: %s appointments', metadata ->> 'request', count(*)) FROM appointment
      WHERE organization_id = $1 AND metadata ->> 'prove' = $2
      GROUP BY metadata ->> 'request' HAVING count(*) > 1`,
  },
  {
    name: 'every stored answer has its effect',
    parameters: ({ organizationId, tag }) => [organizationId, tag],
    sql: `
      SELECT format('the answer stored under %s names appointment %s, which is not there', k.key, k.body::jsonb ->> 'id')
      FROM idempotency_key k
      WHERE k.organization_id = $1 AND starts_with(k.key, $2) AND NOT EXISTS (
        SELECT FROM appointment a WHERE a.organization_id = k.organization_id AND a.id = (k.body::jsonb ->> 'id')::uuid)`,
  },
];

const ACKNOWLEDGED = 'every acknowledged booking is in the database, as it was acknowledged';
const UNEXPLAINED = 'every occupying row was acknowledged, or its outcome is unknown';
const AUDITED = "the app's own auditor finds nothing: every day row is equal to its sources, the constraint is there";

export const DATABASE_CHECKS = [...SQL_CHECKS.map(({ name }) => name), ACKNOWLEDGED, UNEXPLAINED, AUDITED];

interface Row {
  id: string;
  status: string;
  version: number;
  starts_at: Date;
  ends_at: Date;
  service_id: string;
  phone: string;
  segments: Array<{ scheduleId: string; practitionerId: string | null; startsAt: string; endsAt: string }>;
  metadata: Record<string, unknown>;
}

/** A read-only look into the install's database. It never takes a lock that a booking could wait for. */
export class LedgerReader {
  private constructor(
    private readonly client: pg.Client,
    private readonly databaseUrl: string,
    readonly serverVersion: string,
    /** The role that sees every organization, where the login may take it on; else the organization is set. */
    private readonly systemRole: string | undefined,
  ) {}

  /** @throws Error where the database cannot be reached or is none of Holdfast's */
  static async open(databaseUrl: string): Promise<LedgerReader> {
    const client = new pg.Client({ connectionString: databaseUrl, application_name: 'holdfast prove' });
    // Without a listener a connection that breaks between two queries would end the process; the next query reports it.
    client.on('error', () => undefined);
    await client.connect();
    const { rows } = await client.query<{ version: string; role: string | null }>(`
      SELECT current_setting('server_version') AS version,
        (SELECT r.rolname FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
         WHERE p.polrelid = to_regclass('public.appointment') AND p.polname = 'system_access'
           AND pg_has_role(current_user, r.oid, 'MEMBER') LIMIT 1) AS role`);
    const version = rows[0]?.version.split(' ')[0] ?? 'unknown';
    return new LedgerReader(client, databaseUrl, version, rows[0]?.role ?? undefined);
  }

  /** Whether this is the database of the install that the world was made in, and not another one of the same kind. */
  async holds(world: World): Promise<boolean> {
    return this.snapshot(world, async () => {
      const { rowCount } = await this.client.query('SELECT FROM location WHERE id = $1', [world.locationId]);
      return rowCount === 1;
    });
  }

  async check(world: World, lives: readonly Life[]): Promise<{ made: number; findings: Finding[] }> {
    const findings: Finding[] = [];
    await this.snapshot(world, async () => {
      const acknowledged = lives.flatMap((life) => (life.appointment ? [life.appointment.id] : []));
      const rows = await this.rows(world, acknowledged);
      findings.push(...compare(lives, rows));
      const ids = [...new Set([...acknowledged, ...rows.keys()])];
      const { organizationId, schedules, tag } = world;
      const scope = { organizationId, schedules, appointments: ids, phones: [...world.phones], tag };
      for (const { name, sql, parameters } of SQL_CHECKS) {
        const result = await this.client.query<[string]>({ text: sql, values: parameters(scope), rowMode: 'array' });
        findings.push(...result.rows.map(([detail]) => ({ check: name, detail })));
      }
    });
    const options = { organizationId: world.organizationId, scheduleIds: world.schedules };
    for (const { check, subject, detail } of await auditLedger(this.databaseUrl, options)) {
      findings.push({ check: AUDITED, detail: `${check}: ${subject}: ${detail}` });
    }
    return { made: DATABASE_CHECKS.length, findings };
  }

  /** Deadlocks of this database since its statistics began; undefined where they may not be read. */
  async deadlocks(): Promise<number | undefined> {
    try {
      const { rows } = await this.client.query<{ deadlocks: string }>(
        'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
      );
      return rows[0] && Number(rows[0].deadlocks);
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.client.end();
  }

  /** All checks of one storm see one state. Row-level security is obeyed: as the system, or within the organization. */
  private async snapshot<T>(world: World, work: () => Promise<T>): Promise<T> {
    await this.client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    try {
      if (this.systemRole !== undefined) {
        await this.client.query(`SET LOCAL ROLE ${pg.escapeIdentifier(this.systemRole)}`);
      }
      await this.client.query(
        `SELECT set_config('holdfast.organization_id', $1, true), set_config('TimeZone', 'UTC', true)`,
        [world.organizationId],
      );
      return await work();
    } finally {
      await this.client.query('ROLLBACK');
    }
  }

  /** The appointments that are known to the clients, and all that occupy time of the test location. */
  private async rows(world: World, acknowledged: string[]): Promise<Map<string, Row>> {
    const { rows } = await this.client.query<Row>(
      `SELECT a.id, a.status, a.version, a.starts_at, a.ends_at, a.service_id, a.metadata, p.phone, s.segments
       FROM appointment a
       JOIN patient p ON p.organization_id = a.organization_id AND p.id = a.patient_id
       CROSS JOIN LATERAL (
         SELECT coalesce(jsonb_agg(jsonb_build_object('scheduleId', g.schedule_id, 'practitionerId', g.practitioner_id,
                  'startsAt', g.starts_at, 'endsAt', g.ends_at) ORDER BY g.position), '[]') AS segments,
                coalesce(bool_or(g.schedule_id = ANY($2::uuid[])), false) AS here
         FROM appointment_segment g WHERE g.organization_id = a.organization_id AND g.appointment_id = a.id
       ) s
       WHERE a.organization_id = $1 AND (a.id = ANY($3::uuid[]) OR (${OCCUPYING} AND NOT ${EXPIRED} AND s.here))`,
      [world.organizationId, world.schedules, acknowledged],
    );
    return new Map(rows.map((row) => [row.id, row]));
  }
}

function compare(lives: readonly Life[], rows: Map<string, Row>): Finding[] {
  const findings: Finding[] = [];
  const acknowledged = new Set<string>();
  for (const life of lives) {
    if (!life.appointment) continue;
    const { id } = life.appointment;
    acknowledged.add(id);
    const row = rows.get(id);
    if (!row) {
      findings.push({ check: ACKNOWLEDGED, detail: `${id} is not there` });
      continue;
    }
    const view = {
      ...row,
      serviceId: row.service_id,
      patientId: '',
      startsAt: row.starts_at.toISOString(),
      endsAt: row.ends_at.toISOString(),
    };
    const differences = differencesFromLife(life, view);
    const [segment] = row.segments;
    if (
      Date.parse(segment?.startsAt ?? '') !== row.starts_at.getTime() ||
      Date.parse(segment?.endsAt ?? '') !== row.ends_at.getTime()
    ) {
      differences.push(`${id}: its segment lies elsewhere than it`);
    }
    if (row.phone !== life.wish.phone)
      differences.push(`${id}: is the patient's with ${row.phone} instead of ${life.wish.phone}`);
    findings.push(...differences.map((detail) => ({ check: ACKNOWLEDGED, detail })));
  }
  const unknown = new Set(lives.filter((life) => !life.appointment).map((life) => life.wish.requestId));
  for (const row of rows.values()) {
    if (acknowledged.has(row.id) || unknown.has(String(row.metadata['request']))) continue;
    findings.push({ check: UNEXPLAINED, detail: `${row.id} at ${row.starts_at.toISOString()}, ${row.status}` });
  }
  return findings;
}
