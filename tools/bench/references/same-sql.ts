import { createHash } from 'node:crypto';
import { Pool, type QueryConfig } from 'pg';
import { uuidv7 } from 'uuidv7';
import { guardedBooking } from '../../../src/appointments';
import { PipelinedClient } from '../../../src/platform';
import { OPENING, serve, settings } from './serve';

/**
 * What a booking costs without a framework: the statements of `POST /v1/appointments` under an Idempotency-Key, in the same
 * one round trip, sent by bare node:http and pg. It changes with the booking path: what Holdfast sends, this sends.
 * Path `/book`, body {@link Booking}.
 */
interface Booking {
  key: string;
  serviceId: string;
  practitionerId: string;
  scheduleId: string;
  day: string;
  startsAt: string;
  minutes: number;
  phone: string;
}

const { organizationId, principalId } = settings;
const pool = new Pool({
  connectionString: settings.databaseUrl,
  max: 20,
  Client: PipelinedClient,
  pipeline: true,
});

/** With the mark by which pollers see that a transaction may change something, and the lock on the key. */
const opening = (key: string) =>
  `START TRANSACTION; ${OPENING}, pg_advisory_xact_lock_shared(${0x63686e67}, hashtext('${organizationId}')),
   set_config('holdfast.key_is_free', pg_try_advisory_xact_lock(hashtextextended(convert_from(decode('${hex(key)}', 'hex'), 'UTF8'), 0))::text, true)`;

const hex = (key: string) => Buffer.from(`${organizationId}/${principalId}/${key}`).toString('hex');

async function book(body: Booking): Promise<string | null> {
  const { key } = body;
  const fingerprint = createHash('sha256').update(JSON.stringify(body)).digest();
  const client = await pool.connect();
  try {
    const sent = [client.query(opening(key)), client.query<{ reply: string }>(bookingOf(body, fingerprint))] as const;
    const [, { rows }] = await Promise.all([...sent, client.query('COMMIT')]);
    return rows[0]?.reply ?? null;
  } finally {
    client.release();
  }
}

/** The data of bench has first versions of everything. */
function bookingOf(body: Booking, fingerprint: Buffer): QueryConfig {
  const { serviceId, practitionerId, scheduleId, day, phone } = body;
  const [id, startsAt] = [uuidv7(), new Date(body.startsAt)];
  const endsAt = new Date(startsAt.getTime() + body.minutes * 60_000);
  const core = { start: startsAt.getTime(), end: endsAt.getTime() };
  const appointment = {
    ...{ id, organizationId, serviceId, attendeeName: null, startsAt, endsAt, cancellation: null, mode: 'in_person' },
    ...{ confirmationStatus: 'none', source: 'api', notes: null, metadata: {} },
  };
  const segment = {
    ...{ appointmentId: id, position: 0, organizationId, name: null, scheduleId, practitionerId, roomId: null },
    ...{ startsAt, endsAt, appointmentStartsAt: startsAt },
    ...{ timeZone: 'UTC', localStartsAt: startsAt.toISOString().slice(0, -1) },
  };
  return guardedBooking(
    {
      organizationId,
      service: { id: serviceId, version: 1, organizationVersion: 1 },
      lane: { practitionerId, scheduleId, scheduleVersion: 1 },
      ...{ day, span: { core, buffered: core }, holder: id },
    },
    {
      appointment,
      term: { status: 'confirmed', lasts: null, latest: null },
      segments: [segment],
      ...{ actor: principalId, channel: 'api', eventId: uuidv7() },
    },
    { phone, fills: { name: null, email: null, locale: null } },
    { organizationId, principalId, idempotencyKey: body.key, fingerprint },
  );
}

serve({ book });
