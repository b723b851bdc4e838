import pg from 'pg';
import { auditLedger } from '../../src/operations';
import type { SegmentView } from './client';
import type { Span } from './history';
import type { Finding } from './history-checks';
import type { Life } from './lives';
import { differencesFromLife } from './invariants';
import { ACKNOWLEDGED, AUDITED, DATABASE_CHECKS, EXPIRED, OCCUPYING, SQL_CHECKS, UNEXPLAINED } from './invariants.sql';
import type { World } from './world';

interface Row {
  id: string;
  status: string;
  version: number;
  starts_at: Date;
  ends_at: Date;
  service_id: string;
  phone: string;
  segments: SegmentView[];
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
      const startedAt = performance.now();
      const acknowledged = lives.flatMap((life) => (life.appointment ? [life.appointment.id] : []));
      const rows = await this.rows(world, acknowledged);
      findings.push(...compare(lives, rows, { from: startedAt, until: performance.now() }));
      const ids = [...new Set([...acknowledged, ...rows.keys()])];
      const { organizationId, schedules, tag } = world;
      const scope = {
        organizationId,
        schedules,
        appointments: ids,
        phones: [...world.phones],
        tag,
        seats: world.seatsOf,
      };
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
      `SELECT a.id, CASE WHEN ${EXPIRED} THEN 'expired' ELSE a.status END AS status, a.version, a.starts_at, a.ends_at, a.service_id, a.metadata, p.phone, s.segments
       FROM appointment a
       JOIN patient p ON p.organization_id = a.organization_id AND p.id = a.patient_id
       CROSS JOIN LATERAL (
         SELECT coalesce(jsonb_agg(jsonb_build_object('scheduleId', g.schedule_id, 'practitionerId', g.practitioner_id, 'roomId', g.room_id,
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

function compare(lives: readonly Life[], rows: Map<string, Row>, read: Span): Finding[] {
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
    const differences = differencesFromLife(life, view, read);
    const [from, until] = [
      Math.min(...row.segments.map(({ startsAt }) => Date.parse(startsAt))),
      Math.max(...row.segments.map(({ endsAt }) => Date.parse(endsAt))),
    ];
    if (from !== row.starts_at.getTime() || until !== row.ends_at.getTime()) {
      differences.push(`${id}: its segments lie elsewhere than it`);
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
