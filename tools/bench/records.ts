import { setTimeout as sleep } from 'node:timers/promises';
import type { Client as Postgres } from 'pg';
import { Client } from '../prove/client';

/** The clinic that is measured on: its lanes are open round the clock, the days of the coming weeks have rows. */
export interface Measured {
  organizationId: string;
  serviceId: string;
  patientId: string;
  lanes: Array<{ id: string; scheduleId: string }>;
}

export interface Timing {
  name: string;
  p50: number;
  p95: number;
  /** Of the median, to that of the reference read through the same stack in the same run. */
  ratio: number;
}

const PAGES = 40;

/**
 * Pages of `GET /v1/appointments` with each filter, among so many appointments: first pages, and pages in the middle. Taken in
 * turns with a read of one row, so that the ratio says what the list costs.
 */
export async function measureLists(
  client: Client,
  postgres: Postgres,
  clinic: Measured,
  rows: number,
): Promise<Timing[]> {
  await loadAppointments(postgres, clinic, rows);
  const { rows: edges } = await postgres.query<{ middle: Date; changed: Date }>(
    `SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY starts_at) AS middle,
            percentile_disc(0.999) WITHIN GROUP (ORDER BY updated_at) AS changed FROM appointment WHERE organization_id = $1`,
    [clinic.organizationId],
  );
  const [middle, changed] = [edges[0]!.middle.toISOString(), edges[0]!.changed.toISOString()];
  const practitioner = `practitionerId=${clinic.lanes[0]!.id}`;
  const filters: Array<[name: string, query: string]> = [
    ['no filter', ''],
    ['from the middle on', `from=${middle}`],
    ['one practitioner', practitioner],
    ['one practitioner, one status', `${practitioner}&status=no_show`],
    ['one patient', `patientId=${clinic.patientId}`],
    ['status, frequent', 'status=confirmed'],
    ['status, rare', 'status=pending'],
    ['status, several', 'status=cancelled,no_show,pending'],
    ['status, none has it', 'status=checked_in'],
    ['confirmation status', 'confirmationStatus=declined'],
    ['changed lately', `updatedSince=${changed}`],
    ['changed ever', 'updatedSince=2000-01-01T00:00:00Z'],
  ];
  const read = async (path: string): Promise<number> => {
    const { startedAt, endedAt } = await client.must('GET', path);
    return endedAt - startedAt;
  };
  const timings: Timing[] = [];
  for (const [name, query] of filters) {
    const [lists, references]: [number[], number[]] = [[], []];
    for (let page = 0; page < PAGES; page++) {
      references.push(await read('/v1/organization'));
      lists.push(await read(`/v1/appointments?limit=50&${query}`));
    }
    const [p50, reference] = [quantile(lists, 0.5), quantile(references, 0.5)];
    timings.push({ name, p50, p95: quantile(lists, 0.95), ratio: p50 / reference });
  }
  return timings;
}

/** Seconds from the first to the last of so many expiries that the worker writes down, all overdue at once. */
export async function measureSweep(postgres: Postgres, clinic: Measured, count: number): Promise<number> {
  await postgres.query('BEGIN');
  await postgres.query(
    `CREATE TEMPORARY TABLE overdue ON COMMIT DROP AS
     SELECT gen_random_uuid() AS id, schedule_id, practitioner_id, start AS starts_at, start + interval '15 minutes' AS ends_at
     FROM unnest($1::uuid[], $2::uuid[]) AS lane (schedule_id, practitioner_id),
          generate_series(date_trunc('day', now(), 'UTC') + interval '2 days 22 hours', now() + interval '20 days', interval '1 day') AS day,
          generate_series(day, day + interval '105 minutes', interval '15 minutes') AS start
     ORDER BY start LIMIT $3`,
    [clinic.lanes.map((lane) => lane.scheduleId), clinic.lanes.map((lane) => lane.id), count],
  );
  const values = [clinic.organizationId, clinic.serviceId, clinic.patientId];
  await postgres.query(
    `INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, expires_at)
     SELECT $1, id, 'held', $2, $3, starts_at, ends_at, 'in_person', date_trunc('milliseconds', now()) FROM overdue`,
    values,
  );
  await postgres.query(
    `INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at,
                                      appointment_starts_at)
     SELECT $1, id, 0, schedule_id, practitioner_id, starts_at, ends_at, starts_at FROM overdue`,
    [clinic.organizationId],
  );
  await postgres.query(
    `INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
     SELECT $1, id, 1, 'book', 'held', 'bench', 'api' FROM overdue`,
    [clinic.organizationId],
  );
  await postgres.query(
    `INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
     SELECT $1, schedule_id, starts_at, ends_at, starts_at, ends_at, id, date_trunc('milliseconds', now()) FROM overdue`,
    [clinic.organizationId],
  );
  await postgres.query(
    `UPDATE schedule_day d SET taken = d.taken + o.taken
     FROM (SELECT schedule_id, (starts_at AT TIME ZONE 'UTC')::date AS day, range_agg(tstzrange(starts_at, ends_at)) AS taken
           FROM overdue GROUP BY schedule_id, (starts_at AT TIME ZONE 'UTC')::date) o
     WHERE d.schedule_id = o.schedule_id AND d.day = o.day`,
  );
  await postgres.query('COMMIT');
  for (;;) {
    const { rows } = await postgres.query<{ done: number; seconds: number }>(
      `SELECT count(*)::integer AS done, extract(epoch FROM max(at) - min(at))::float AS seconds
       FROM appointment_history WHERE organization_id = $1 AND action = 'expire'`,
      [clinic.organizationId],
    );
    if (rows[0]!.done >= count) return rows[0]!.seconds;
    await sleep(500);
  }
}

/** Appointments of the past and the future in every status, most of them confirmed or completed, as a clinic has them. */
async function loadAppointments(postgres: Postgres, clinic: Measured, rows: number): Promise<void> {
  await postgres.query(
    `WITH made AS (
       INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, expires_at,
                                confirmation_status, created_at, updated_at)
       SELECT $1, gen_random_uuid(),
              CASE WHEN n % 5000 = 0 THEN 'pending' WHEN n % 50 = 0 THEN 'no_show' WHEN n % 10 = 0 THEN 'cancelled'
                   WHEN n % 2 = 0 THEN 'completed' ELSE 'confirmed' END,
              $2, $3, now() + interval '400 days' + n * interval '3 minutes', now() + interval '400 days' + n * interval '3 minutes' + interval '15 minutes',
              'in_person', now() + interval '400 days', 'none', now() - n * interval '1 minute', now() - n * interval '1 minute'
       FROM generate_series(1, $4::integer) AS n
       RETURNING id, starts_at, ends_at)
     INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at,
                                      appointment_starts_at)
     SELECT $1, id, 0, ($5::uuid[])[lane], ($6::uuid[])[lane], starts_at, ends_at, starts_at
     FROM (SELECT *, 1 + (row_number() OVER ())::integer % cardinality($5::uuid[]) AS lane FROM made) made`,
    [
      clinic.organizationId,
      clinic.serviceId,
      clinic.patientId,
      rows,
      clinic.lanes.map((lane) => lane.scheduleId),
      clinic.lanes.map((lane) => lane.id),
    ],
  );
  await postgres.query('ANALYZE appointment, appointment_segment');
}

const quantile = (numbers: number[], share: number): number =>
  [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * share))]!;
