import 'reflect-metadata';
import http from 'node:http';
import { Pool } from 'pg';
import { uuidv7 } from 'uuidv7';
import { GUARDED_BOOKING, recordValues } from '../../src/appointments';
import { guardedClaimValues } from '../../src/availability';

/**
 * The reference of the booking bench: what a booking costs without a framework. Bare node:http and pg, no validation, no
 * authentication, no errors but one; the same statements on the same tables, in a transaction of the same kind. Its only
 * argument: `{ databaseUrl, organizationId, appRole }` as JSON. Prints its port once it listens.
 */
interface Booking {
  serviceId: string;
  practitionerId: string;
  scheduleId: string;
  startsAt: string;
  minutes: number;
  phone: string;
}

const { databaseUrl, organizationId, appRole } = JSON.parse(process.argv[2] ?? '{}') as Record<string, string>;
const pool = new Pool({ connectionString: databaseUrl, max: 20 });
const opening = `SELECT set_config('role', '${appRole}', true), set_config('holdfast.organization_id', '${organizationId}', true),
  set_config('TimeZone', 'UTC', true), set_config('lock_timeout', '2s', true), set_config('statement_timeout', '5s', true)`;

async function book(body: Booking): Promise<boolean> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(opening);
    await client.query({
      name: 'service',
      text: 'SELECT * FROM service WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE',
      values: [body.serviceId],
    });
    await client.query({
      name: 'lane',
      text: `SELECT p.id, p.schedule_id, s.time_zone FROM practitioner p JOIN schedule s ON s.id = p.schedule_id
             JOIN service_practitioner o ON o.practitioner_id = p.id AND o.service_id = $1 WHERE p.id = $2`,
      values: [body.serviceId, body.practitionerId],
    });
    const start = new Date(body.startsAt);
    const end = new Date(start.getTime() + body.minutes * 60_000);
    const day = body.startsAt.slice(0, 10);
    await client.query({
      name: 'days',
      text: 'SELECT covers, open, taken, grid FROM schedule_day WHERE schedule_id = $1 AND day = $2',
      values: [body.scheduleId, day],
    });
    const known = await client.query<{ id: string }>({
      name: 'patient',
      text: 'SELECT * FROM patient WHERE phone = $1 AND deleted_at IS NULL',
      values: [body.phone],
    });
    const [id, now, core] = [uuidv7(), new Date(), { start: start.getTime(), end: end.getTime() }];
    const booking = {
      appointment: {
        id,
        organizationId: organizationId!,
        status: 'confirmed' as const,
        version: 1,
        serviceId: body.serviceId,
        patientId: known.rows[0]!.id,
        attendeeName: null,
        startsAt: start,
        endsAt: end,
        expiresAt: null,
        pendingUntil: null,
        cancellation: null,
        mode: 'in_person',
        confirmationStatus: 'none',
        source: 'api',
        notes: null,
        metadata: {},
        createdAt: now,
        updatedAt: now,
      },
      segments: [
        {
          appointmentId: id,
          position: 0,
          organizationId: organizationId!,
          name: null,
          scheduleId: body.scheduleId,
          practitionerId: body.practitionerId,
          roomId: null,
          startsAt: start,
          endsAt: end,
          appointmentStartsAt: start,
          timeZone: 'UTC',
          localStartsAt: start.toISOString().slice(0, -1),
        },
      ],
      actor: organizationId!,
      channel: 'api',
      eventId: uuidv7(),
    };
    const span = { core, buffered: core };
    const claim = {
      organizationId: organizationId!,
      scheduleId: body.scheduleId,
      day,
      span,
      holder: id,
      expiresAt: null,
    };
    const { rowCount } = await client.query({
      ...GUARDED_BOOKING,
      values: [...guardedClaimValues(claim), ...recordValues(booking)],
    });
    await client.query('COMMIT');
    return rowCount === 1;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

const server = http.createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    book(JSON.parse(Buffer.concat(chunks).toString()) as Booking).then(
      (booked) => response.writeHead(booked ? 201 : 409, { 'content-type': 'application/json' }).end('{}'),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`${typeof address === 'object' && address ? address.port : 0}\n`);
});
