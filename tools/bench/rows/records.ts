import { setTimeout as sleep } from 'node:timers/promises';
import { uuidv7 } from 'uuidv7';
import { type Figure, figureOf, ms, ratioOf } from '../figures';
import { inTurns } from '../load';
import { searchRequest, somebody, timed, times } from '../requests';
import { withClient } from '../server';
import { nextSeat, type Place, type Stage } from '../stage';
import { median } from '../statistics';
import { requestOf, Wire } from '../wire';
import type { Row } from './row';

const OVERDUE = 10_000;

/** Information: how long the worker takes to write down what is over. */
export const sweep: Row = {
  name: 'sweep',
  about: `seconds to write down ${OVERDUE} holds that are over, all due at once; no bound`,
  in: 'full',
  async measure(stage) {
    const place = await stage.main();
    const seconds = await withClient(place.databaseUrl, async (client) => {
      const held = times(OVERDUE, () => ({ ...nextSeat(place), appointmentId: uuidv7() }));
      const seats = held.map(({ startsAt, ...seat }) => ({ ...seat, startsAt: startsAt.toISOString() }));
      const { organizationId, services } = place.clinic;
      const values = [organizationId, services.booking, somebody(stage, place).id, JSON.stringify(seats)];
      await client.query('BEGIN');
      await client.query(HOLD_ALL, values);
      await client.query('COMMIT');
      for (;;) {
        const { rows } = await client.query<{ done: number; seconds: number }>(
          `SELECT count(*)::integer AS done, extract(epoch FROM max(at) - min(at))::float AS seconds
           FROM appointment_history WHERE appointment_id = ANY($1::uuid[]) AND action = 'expire'`,
          [held.map((each) => each.appointmentId)],
        );
        if (rows[0]!.done >= OVERDUE) return rows[0]!.seconds;
        await sleep(500);
      }
    });
    return [
      figureOf([seconds], ([value]) => value!, {
        what: `writing down ${OVERDUE} expiries`,
        unit: 's',
        of: 'once',
        about: `${(OVERDUE / seconds).toFixed(0)}/s`,
      }),
    ];
  },
};

const HOLD_ALL = `
  WITH seat AS (
    SELECT * FROM jsonb_to_recordset($4::jsonb) AS s ("appointmentId" uuid, "scheduleId" uuid, id uuid, day date, "startsAt" timestamptz)
  ), held AS (
    INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, expires_at)
    SELECT $1, "appointmentId", 'held', $2, $3, "startsAt", "startsAt" + interval '15 minutes', 'in_person', date_trunc('milliseconds', now())
    FROM seat
  ), part AS (
    INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at,
                                     appointment_starts_at)
    SELECT $1, "appointmentId", 0, "scheduleId", id, "startsAt", "startsAt" + interval '15 minutes', "startsAt" FROM seat
  ), line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
    SELECT $1, "appointmentId", 1, 'book', 'held', 'bench', 'api' FROM seat
  ), claimed AS (
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
    SELECT $1, "scheduleId", "startsAt", "startsAt" + interval '15 minutes', "startsAt", "startsAt" + interval '15 minutes', "appointmentId",
           date_trunc('milliseconds', now()) FROM seat
  )
  UPDATE schedule_day d SET taken = d.taken + s.taken
  FROM (SELECT "scheduleId", day, range_agg(tstzrange("startsAt", "startsAt" + interval '15 minutes')) AS taken FROM seat GROUP BY 1, 2) s
  WHERE d.schedule_id = s."scheduleId" AND d.day = s.day`;

/** Information: first pages of the list of appointments with every filter, in turns with a request that reads nothing. */
export const lists: Row = {
  name: 'lists',
  about: 'pages of 50 of GET /v1/appointments with each filter, against SELECT 1 through the same stack; no bound',
  in: 'full',
  async measure(stage) {
    const place = await stage.main();
    const wire = await Wire.open(place.app.url);
    const { consultation } = place.clinic.services;
    const one = searchRequest(place, '/v1/bench/round-trip', { serviceId: consultation, days: 1 });
    const figures: Figure[] = [];
    for (const [name, query] of await filters(stage, place)) {
      const page = requestOf('GET', `/v1/appointments?limit=50&${query}`, place.headers);
      const blocks = await inTurns(
        stage.rounds(8),
        () =>
          timed(
            wire,
            times(5, () => page),
            200,
          ),
        () =>
          timed(
            wire,
            times(5, () => one),
            200,
          ),
      );
      figures.push(
        ratioOf(
          blocks.map(([a, b]) => [median(a), median(b)]),
          { what: `page of 50, ${name}: p50, of SELECT 1`, about: ms(blocks.flatMap(([a]) => a)) },
        ),
      );
    }
    wire.close();
    return figures;
  },
};

async function filters(stage: Stage, place: Place): Promise<Array<[name: string, query: string]>> {
  const edges = await withClient(place.databaseUrl, async (client) => {
    const { rows } = await client.query<{ middle: Date; changed: Date }>(
      `SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY starts_at) AS middle,
              percentile_disc(0.999) WITHIN GROUP (ORDER BY updated_at) AS changed FROM appointment`,
    );
    return rows[0]!;
  });
  const practitioner = `practitionerId=${place.clinic.lanes.consultation[0]!.id}`;
  return [
    ['no filter', ''],
    ['from the middle on', `from=${edges.middle.toISOString()}`],
    ['one practitioner', practitioner],
    ['one practitioner, one status', `${practitioner}&status=no_show`],
    ['one patient', `patientId=${somebody(stage, place).id}`],
    ['status, frequent', 'status=confirmed'],
    ['status, rare', 'status=pending'],
    ['status, several', 'status=cancelled,no_show,pending'],
    ['changed lately', `updatedSince=${edges.changed.toISOString()}`],
    ['changed ever', 'updatedSince=2000-01-01T00:00:00Z'],
  ];
}
