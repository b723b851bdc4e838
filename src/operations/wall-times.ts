import { instantAt, localTime } from '../availability';
import { type Database, isTimeZone } from '../platform';

/** A segment whose clocks will not show what they were to show when it was booked. */
export interface MovedSegment {
  appointmentId: string;
  scheduleId: string;
  timeZone: string;
  /** The wall time that was booked, `YYYY-MM-DDTHH:MM:SS`. */
  booked: string;
  /** Absent where this process's zone database does not know the zone. */
  now?: {
    shown: string;
    /** How much later the clock shows than was booked. */
    minutes: number;
    /** The instant at which the booked wall time is shown, in milliseconds since the epoch. */
    keptAt: number;
  };
}

export interface WallTimes {
  /** Segments of appointments to come that occupy their time. */
  segments: number;
  moved: number;
  /** Booked before wall times were recorded; nothing can be said of them. */
  unrecorded: number;
}

interface SegmentRow {
  appointment_id: string;
  /** The appointment's start as PostgreSQL writes it, to the microsecond: with the id, where the next page begins. */
  cursor: string;
  schedule_id: string;
  starts_at: Date;
  time_zone: string | null;
  booked: string | null;
}

/**
 * Compares what the wall was to show at each segment to come, as it was recorded, with what this process's zone database
 * says it will. Changes nothing; reads page by page, so what is booked or moved meanwhile may be missed.
 * @param tell is called for each segment that differs, organization by organization, in order of time
 * @param pageSize how many appointments are looked at in one transaction
 */
export async function compareWallTimes(
  database: Database,
  tell: (moved: MovedSegment) => void,
  pageSize = 1_000,
): Promise<WallTimes> {
  const result: WallTimes = { segments: 0, moved: 0, unrecorded: 0 };
  for await (const row of segmentsToCome(database, pageSize)) {
    result.segments++;
    if (row.time_zone === null || row.booked === null) {
      result.unrecorded++;
      continue;
    }
    const moved = movedBy(row, row.time_zone, row.booked);
    if (!moved) continue;
    result.moved++;
    tell(moved);
  }
  return result;
}

function movedBy(row: SegmentRow, timeZone: string, booked: string): MovedSegment | undefined {
  const segment = { appointmentId: row.appointment_id, scheduleId: row.schedule_id, timeZone, booked };
  if (!isTimeZone(timeZone)) return segment;
  const startsAt = row.starts_at.getTime();
  const shown = localTime(timeZone, startsAt).slice(0, booked.length);
  // As if both were in UTC, so that only what the clocks show counts.
  const minutes = (Date.parse(`${shown}Z`) - Date.parse(`${booked}Z`)) / 60_000;
  if (minutes === 0) return undefined;
  // No zone moves what is finer than a second.
  return { ...segment, now: { shown, minutes, keptAt: instantAt(timeZone, booked) + (startsAt % 1_000) } };
}

const NIL = '00000000-0000-0000-0000-000000000000';

async function* segmentsToCome(database: Database, pageSize: number): AsyncGenerator<SegmentRow> {
  for (let organization = await organizationAfter(database, NIL); organization;) {
    let page = await pageOf(database, organization.id, { cursor: organization.now, appointment_id: NIL }, pageSize);
    for (; page.length > 0; page = await pageOf(database, organization.id, page.at(-1)!, pageSize)) yield* page;
    organization = await organizationAfter(database, organization.id);
  }
}

const organizationAfter = (database: Database, id: string): Promise<{ id: string; now: string } | undefined> =>
  database.system('organizations whose wall times are compared', async (tx) => {
    const rows = await tx.query<Array<{ id: string; now: string }>>(
      'SELECT id, now()::text AS now FROM organization WHERE id > $1 ORDER BY id LIMIT 1',
      [id],
    );
    return rows[0];
  });

/** Wall times travel as text: a timestamp without a zone is no instant. */
function pageOf(
  database: Database,
  organizationId: string,
  after: Pick<SegmentRow, 'cursor' | 'appointment_id'>,
  pageSize: number,
): Promise<SegmentRow[]> {
  return database.system('wall times that are compared', (tx) =>
    tx.query<SegmentRow[]>(
      `WITH page AS (
         SELECT organization_id, id, starts_at FROM appointment
         WHERE organization_id = $1 AND (starts_at, id) > ($2::timestamptz, $3::uuid)
           AND status IN ('held', 'pending', 'confirmed', 'checked_in') AND (expires_at IS NULL OR expires_at > now())
         ORDER BY starts_at, id LIMIT $4)
       SELECT page.id AS appointment_id, page.starts_at::text AS cursor, s.schedule_id, s.starts_at, s.time_zone,
              to_char(s.local_starts_at, 'YYYY-MM-DD"T"HH24:MI:SS') AS booked
       FROM page JOIN appointment_segment s ON s.organization_id = page.organization_id AND s.appointment_id = page.id
       ORDER BY page.starts_at, page.id, s.position`,
      [organizationId, after.cursor, after.appointment_id, pageSize],
    ),
  );
}
