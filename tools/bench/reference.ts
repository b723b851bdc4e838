import 'reflect-metadata';
import http from 'node:http';
import { Pool } from 'pg';
import { uuidv7 } from 'uuidv7';
import { guardedBooking } from '../../src/appointments';
import { PipelinedClient } from '../../src/platform';

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
const pool = new Pool({ connectionString: databaseUrl, max: 20, Client: PipelinedClient, pipeline: true } as never);
const opening = `START TRANSACTION; SELECT set_config('role', '${appRole}', true), set_config('holdfast.organization_id', '${organizationId}', true),
  set_config('TimeZone', 'UTC', true), set_config('lock_timeout', '2s', true), set_config('statement_timeout', '5s', true)`;

async function book(body: Booking): Promise<boolean> {
  const client = await pool.connect();
  try {
    const opened = client.query(opening);
    const start = new Date(body.startsAt);
    const end = new Date(start.getTime() + body.minutes * 60_000);
    const [id, core] = [uuidv7(), { start: start.getTime(), end: end.getTime() }];
    const appointment = {
      id,
      organizationId: organizationId!,
      serviceId: body.serviceId,
      attendeeName: null,
      startsAt: start,
      endsAt: end,
      cancellation: null,
      mode: 'in_person',
      confirmationStatus: 'none',
      source: 'api',
      notes: null,
      metadata: {},
    };
    const segment = {
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
    };
    const term = { status: 'confirmed' as const, lasts: null, latest: null };
    const events = { actor: organizationId!, channel: 'api', eventId: uuidv7() };
    const claim = {
      organizationId: organizationId!,
      service: { id: body.serviceId, version: 1, organizationVersion: 1 },
      lane: { practitionerId: body.practitionerId, scheduleId: body.scheduleId, scheduleVersion: 2 },
      day: body.startsAt.slice(0, 10),
      span: { core, buffered: core },
      holder: id,
    };
    const person = { phone: body.phone, fills: { name: null, email: null, locale: null } };
    const { rowCount } = await client.query(
      guardedBooking(claim, { appointment, term, segments: [segment], ...events }, person),
    );
    await opened;
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
