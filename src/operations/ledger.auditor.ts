import type { EntityManager } from 'typeorm';
import {
  type ExceptionSpan,
  planDays,
  type Published,
  type ScheduleRules,
  storedGrid,
  storedPublished,
  type WeeklyHours,
} from '../availability';
import { type Database, type Interval, Log, openDatabase, union } from '../platform';

/** Something in the data that must not be. */
export interface Finding {
  check: string;
  subject: string;
  detail: string;
}

export interface AuditScope {
  organizationId?: string;
  scheduleIds?: string[];
}

/** Audits the ledger of an install from outside of it. */
export async function auditLedger(databaseUrl: string, scope: AuditScope = {}): Promise<Finding[]> {
  const { database, close } = await openDatabase(databaseUrl, Log.create('silent'));
  try {
    return await audit(database, scope);
  } finally {
    await close();
  }
}

/**
 * Recomputes what the ledger has derived and compares: every day row against its rules and claims, every claim against its
 * appointment, and whether the constraint that has the last word is there. Reads one snapshot, changes nothing.
 */
export function audit(database: Database, scope: AuditScope = {}): Promise<Finding[]> {
  const look = async (tx: EntityManager) => {
    const filter = [scope.organizationId ?? null, scope.scheduleIds ?? null];
    return [
      ...(await missingConstraint(tx)),
      ...(await driftedDays(tx, filter)),
      ...(await overlaps(tx, filter)),
      ...(await strayClaims(tx, filter)),
      ...(await differentEnds(tx, filter)),
      ...(await sessionsOffTheirClaims(tx, filter)),
      ...(await brokenHistory(tx, filter)),
    ];
  };
  return database.system('audit of the ledger', look, { minutes: 60 });
}

const IN_SCOPE = '($1::uuid IS NULL OR organization_id = $1) AND ($2::uuid[] IS NULL OR schedule_id = ANY($2))';

async function missingConstraint(tx: EntityManager): Promise<Finding[]> {
  const rows = await tx.query<unknown[]>(
    `SELECT 1 FROM pg_constraint WHERE conrelid = 'claim'::regclass AND conname = 'claim_no_overlap'`,
  );
  if (rows.length > 0) return [];
  return [{ check: 'constraint', subject: 'claim_no_overlap', detail: 'the exclusion constraint is missing' }];
}

/** Days from the day before yesterday on; what is over is left as it was when rules change. */
async function driftedDays(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const days = await tx.query<
    Array<{
      schedule_id: string;
      day: string;
      covers: Interval[];
      open: Interval[];
      taken: Interval[];
      grid: unknown;
      places: number;
      published: unknown;
      claimed: Interval[];
    }>
  >(
    `SELECT d.schedule_id, d.day, d.covers, d.open, d.taken, d.grid, d.places, d.published, (
       SELECT coalesce(jsonb_agg(jsonb_build_object(
         'start', extract(epoch FROM greatest(c.starts_at, lower(d.covers))) * 1000,
         'end', extract(epoch FROM least(c.ends_at, upper(d.covers))) * 1000)), '[]') FROM claim c
       WHERE c.schedule_id = d.schedule_id AND c.starts_at < upper(d.covers) AND c.ends_at > lower(d.covers)
         AND c.starts_at > lower(d.covers) - interval '72 hours') AS claimed
     FROM schedule_day d WHERE ${IN_SCOPE} AND upper(d.covers) > now() - interval '1 day'`,
    filter,
  );
  const rules = await rulesOf(tx, [...new Set(days.map((row) => row.schedule_id))]);
  const findings: Finding[] = [];
  for (const row of days) {
    const subject = `${row.schedule_id}/${row.day}`;
    const [plan] = planDays(rules.get(row.schedule_id)!, [row.day]);
    const compare = (what: string, found: unknown, due: unknown) => {
      if (JSON.stringify(found) !== JSON.stringify(due)) {
        findings.push({
          check: `day_row_${what}`,
          subject,
          detail: `is ${JSON.stringify(found)}, its sources give ${JSON.stringify(due)}`,
        });
      }
    };
    compare('covers', row.covers, [plan!.covers]);
    compare('open', union(row.open), plan!.open);
    compare('taken', union(row.taken), occupiedBy(row.claimed, row.places));
    compare('grid', row.grid, storedGrid(plan!.grid));
    compare('places', row.places, rules.get(row.schedule_id)!.places);
    compare('published', row.published, storedPublished(plan!.published));
  }
  return findings;
}

/** When as many of these overlap as there are places. */
function occupiedBy(claimed: readonly Interval[], places: number): Interval[] {
  const edges = [...new Set(claimed.flatMap(({ start, end }) => [start, end]))].sort((a, b) => a - b);
  return union(
    edges.slice(1).flatMap((end, index) => {
      const start = edges[index]!;
      const count = claimed.filter((each) => each.start <= start && end <= each.end).length;
      return count >= places ? [{ start, end }] : [];
    }),
  );
}

async function rulesOf(tx: EntityManager, scheduleIds: string[]): Promise<Map<string, ScheduleRules>> {
  const schedules = await tx.query<Array<{ id: string; time_zone: string; places: number }>>(
    'SELECT id, time_zone, places FROM schedule WHERE id = ANY($1)',
    [scheduleIds],
  );
  const hours = await tx.query<Array<WeeklyHours & { scheduleId: string }>>(
    `SELECT schedule_id AS "scheduleId", weekday, start_minute AS "startMinute", end_minute AS "endMinute",
            location_id AS "locationId", valid_from AS "validFrom", valid_until AS "validUntil"
     FROM schedule_hours h WHERE schedule_id = ANY($1) AND EXISTS (SELECT 1 FROM schedule s WHERE s.id = h.schedule_id AND s.active)`,
    [scheduleIds],
  );
  const exceptions = await tx.query<
    Array<{ scheduleId: string; starts_at: Date; ends_at: Date; kind: ExceptionSpan['kind'] }>
  >(
    `SELECT schedule_id AS "scheduleId", starts_at, ends_at, kind FROM schedule_exception e
     WHERE schedule_id = ANY($1) AND ends_at > now() - interval '4 days'
       AND EXISTS (SELECT 1 FROM schedule s WHERE s.id = e.schedule_id AND s.active)`,
    [scheduleIds],
  );
  const published = await tx.query<
    Array<Omit<Published, 'start' | 'end'> & { scheduleId: string; starts_at: Date; ends_at: Date }>
  >(
    `SELECT schedule_id AS "scheduleId", starts_at, ends_at, mode, capacity FROM published_slot p
     WHERE schedule_id = ANY($1) AND ends_at > now() - interval '4 days'
       AND EXISTS (SELECT 1 FROM schedule s WHERE s.id = p.schedule_id AND s.active) ORDER BY starts_at`,
    [scheduleIds],
  );
  return new Map(
    schedules.map(({ id, time_zone: timeZone, places }) => [
      id,
      {
        timeZone,
        places,
        published: published
          .filter((each) => each.scheduleId === id)
          .map(({ starts_at: start, ends_at: end, mode, capacity }) => ({
            start: start.getTime(),
            end: end.getTime(),
            mode,
            capacity,
          })),
        hours: hours.filter((each) => each.scheduleId === id),
        exceptions: exceptions
          .filter((each) => each.scheduleId === id)
          .map(({ starts_at: start, ends_at: end, kind }) => ({ start: start.getTime(), end: end.getTime(), kind })),
      },
    ]),
  );
}

async function overlaps(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const rows = await tx.query<Array<{ schedule_id: string; a: string; b: string }>>(
    `SELECT schedule_id, holder AS a, next AS b FROM (
       SELECT schedule_id, holder, ends_at, lead(starts_at) OVER lane AS next_start, lead(holder) OVER lane AS next
       FROM claim WHERE ${IN_SCOPE} WINDOW lane AS (PARTITION BY schedule_id, seat ORDER BY starts_at, ends_at)) pairs
     WHERE next_start < ends_at`,
    filter,
  );
  return rows.map((row) => ({
    check: 'overlapping_claims',
    subject: row.schedule_id,
    detail: `of ${row.a} and ${row.b}`,
  }));
}

/** Who occupies what: a session stands for everybody who has a seat in it. */
const OCCUPANTS = `
  occupant AS (
    SELECT c.organization_id, c.schedule_id, c.core_starts_at, c.core_ends_at, c.shared,
           coalesce(a.holder, c.holder) AS appointment_id, CASE WHEN c.shared THEN a.expires_at ELSE c.expires_at END AS expires_at,
           c.shared AND a.holder IS NULL AS empty
    FROM claim c LEFT JOIN attendance a ON c.shared AND a.organization_id = c.organization_id AND a.session_id = c.holder
    WHERE ($1::uuid IS NULL OR c.organization_id = $1) AND ($2::uuid[] IS NULL OR c.schedule_id = ANY($2))
  )`;

async function strayClaims(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const orphans = await tx.query<Array<{ holder: string }>>(
    `WITH ${OCCUPANTS} SELECT appointment_id AS holder FROM occupant o WHERE empty OR NOT EXISTS (
       SELECT 1 FROM appointment a WHERE a.organization_id = o.organization_id AND a.id = o.appointment_id
         AND a.status IN ('held', 'pending', 'confirmed', 'checked_in'))`,
    filter,
  );
  const unclaimed = await tx.query<Array<{ id: string }>>(
    `WITH ${OCCUPANTS} SELECT DISTINCT a.id FROM appointment a JOIN appointment_segment s ON s.organization_id = a.organization_id AND s.appointment_id = a.id
     WHERE ($1::uuid IS NULL OR a.organization_id = $1) AND ($2::uuid[] IS NULL OR s.schedule_id = ANY($2))
       AND a.status IN ('held', 'pending', 'confirmed', 'checked_in') AND (a.expires_at IS NULL OR a.expires_at > now())
       AND NOT EXISTS (SELECT 1 FROM occupant o WHERE o.appointment_id = a.id AND o.schedule_id = s.schedule_id
                         AND o.core_starts_at <= s.starts_at AND o.core_ends_at >= s.ends_at)`,
    filter,
  );
  return [
    ...orphans.map(({ holder }) => ({
      check: 'claim_without_appointment',
      subject: holder,
      detail: 'occupies time for nobody',
    })),
    ...unclaimed.map(({ id }) => ({
      check: 'appointment_without_claim',
      subject: id,
      detail: 'does not occupy its time',
    })),
  ];
}

/** A claim or seat that ends at another time than its appointment would block, or let go, at the wrong moment. */
async function differentEnds(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const rows = await tx.query<Array<{ id: string; claimed: Date | null; stored: Date | null }>>(
    `WITH ${OCCUPANTS} SELECT a.id, o.expires_at AS claimed, a.expires_at AS stored
     FROM occupant o JOIN appointment a ON a.organization_id = o.organization_id AND a.id = o.appointment_id
     WHERE o.expires_at IS DISTINCT FROM a.expires_at`,
    filter,
  );
  return rows.map(({ id, claimed, stored }) => ({
    check: 'expiry',
    subject: id,
    detail: `its claim ends ${claimed?.toISOString() ?? 'never'}, it says ${stored?.toISOString() ?? 'never'}`,
  }));
}

/** A session with a claim that ends too early would be given away with people in it; one without a claim is nowhere. */
async function sessionsOffTheirClaims(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const rows = await tx.query<Array<{ id: string; detail: string }>>(
    `SELECT s.id, CASE WHEN c.holder IS NULL THEN 'has no claim' ELSE 'its claim does not end with its last seat' END AS detail
     FROM group_session s LEFT JOIN claim c ON c.organization_id = s.organization_id AND c.holder = s.id AND c.shared
       AND c.schedule_id = s.schedule_id AND c.core_starts_at = s.starts_at AND c.core_ends_at = s.ends_at
     LEFT JOIN LATERAL (SELECT CASE WHEN bool_or(expires_at IS NULL) THEN NULL ELSE max(expires_at) END AS until
       FROM attendance a WHERE a.organization_id = s.organization_id AND a.session_id = s.id) last ON true
     WHERE ($1::uuid IS NULL OR s.organization_id = $1) AND ($2::uuid[] IS NULL OR s.schedule_id = ANY($2))
       AND (c.holder IS NULL OR c.expires_at IS DISTINCT FROM last.until)`,
    filter,
  );
  return rows.map(({ id, detail }) => ({ check: 'session', subject: id, detail }));
}

/** A history is whole, or what was pruned of it, long after the appointment, is a beginning. */
async function brokenHistory(tx: EntityManager, filter: unknown[]): Promise<Finding[]> {
  const rows = await tx.query<Array<{ id: string }>>(
    `SELECT a.id FROM appointment a
     LEFT JOIN appointment_history h ON h.organization_id = a.organization_id AND h.appointment_id = a.id
     WHERE ($1::uuid IS NULL OR a.organization_id = $1)
       AND ($2::uuid[] IS NULL OR EXISTS (SELECT 1 FROM appointment_segment s WHERE s.appointment_id = a.id AND s.schedule_id = ANY($2)))
     GROUP BY a.id, a.version, a.status, a.updated_at, a.ends_at
     HAVING (count(h.version) > 0 OR a.updated_at > now() - interval '30 days')
       AND (count(h.version) <> a.version - coalesce(min(h.version), 1) + 1 OR max(h.version) <> a.version
         OR (min(h.version) > 1 AND a.ends_at > now() - interval '30 days')
         OR (array_agg(h.to_status ORDER BY h.version DESC))[1] <> a.status)`,
    filter,
  );
  return rows.map(({ id }) => ({
    check: 'history',
    subject: id,
    detail: 'does not lead to the present version and status',
  }));
}
