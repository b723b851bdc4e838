import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Appointment, AppointmentStatus } from './appointment.entities';

/** What of an appointment actions change. */
export type Life = Pick<Appointment, 'status' | 'startsAt' | 'endsAt' | 'expiresAt' | 'pendingUntil' | 'cancellation'>;

/** What a change makes of an appointment that is locked, and the line that its history gets. */
export interface Change {
  before: Appointment;
  /** What becomes different. */
  after: Partial<Life>;
  from: AppointmentStatus;
  action: string;
  /** The outbox event. */
  event: string;
  /** Who, and through what: an id of a key or user, or `system`. */
  actor: string;
  channel: string;
  reason: string | null;
  details: Record<string, unknown>;
}

/**
 * Records changes of locked appointments: the row, its version, a line of history and an outbox event each, in one
 * statement. The version is compared once more, so a change that was decided on another version records nothing. The time of
 * the change is the database's, taken under the lock, so it never runs backwards from version to version.
 */
const RECORD_CHANGES = {
  name: 'record-changes',
  text: `
  WITH change AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS c (
      "organizationId" uuid, id uuid, version integer, status text, "startsAt" timestamptz, "endsAt" timestamptz, "expiresAt" timestamptz,
      "pendingUntil" timestamptz, cancellation text, action text, "from" text, actor text, channel text, reason text, details jsonb,
      "eventId" uuid, event text)
  ), changed AS (
    UPDATE appointment a
    SET status = c.status, version = c.version + 1, starts_at = c."startsAt", ends_at = c."endsAt", expires_at = c."expiresAt",
        pending_until = c."pendingUntil", cancellation = c.cancellation, updated_at = date_trunc('milliseconds', clock_timestamp())
    FROM change c WHERE a.organization_id = c."organizationId" AND a.id = c.id AND a.version = c.version
    RETURNING a.organization_id, a.id, a.version, a.status, a.updated_at, c.action, c."from", c.actor, c.channel, c.reason,
              c.details, c."eventId", c.event
  ), line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, from_status, to_status, actor, channel,
                                     reason, details, at)
    SELECT organization_id, id, version, action, "from", status, actor, channel, reason, details, updated_at FROM changed
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT "eventId", organization_id, event, id, version FROM changed
  )
  SELECT id, updated_at FROM changed`,
};

/** The change that writes down that a hold or request is over. */
export const expiryOf = (before: Appointment): Change => ({
  before,
  after: {
    status: 'expired',
    pendingUntil: before.status === 'pending' ? (before.pendingUntil ?? before.expiresAt) : null,
  },
  from: before.status,
  action: 'expire',
  event: 'appointment.expired',
  actor: 'system',
  channel: 'system',
  reason: null,
  details: {},
});

const lifeOf = ({ status, startsAt, endsAt, expiresAt, pendingUntil, cancellation }: Life): Life => ({
  status,
  startsAt,
  endsAt,
  expiresAt,
  pendingUntil,
  cancellation,
});

/** Records changes, and gives the appointments as they are now, in the order of the changes. */
export async function recordChanges(tx: EntityManager, changes: readonly Change[]): Promise<Appointment[]> {
  const rows = await tx.query<Array<{ id: string; updated_at: Date }>>(RECORD_CHANGES as never, [
    JSON.stringify(
      changes.map(({ before, after, ...line }) => ({
        organizationId: before.organizationId,
        id: before.id,
        version: before.version,
        ...lifeOf(before),
        ...after,
        ...line,
        eventId: uuidv7(),
      })),
    ),
  ]);
  if (rows.length !== changes.length) {
    throw new Error(`${changes.length} changes were decided on, and ${rows.length} could be recorded`);
  }
  const updatedAt = new Map(rows.map((row) => [row.id, row.updated_at]));
  return changes.map(({ before, after }) => ({
    ...before,
    ...after,
    version: before.version + 1,
    updatedAt: updatedAt.get(before.id)!,
  }));
}
