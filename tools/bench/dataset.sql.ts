/** What is made of how many; see {@link shapeOf}. */
export interface Shape {
  appointments: number;
  /** Practitioners open round the clock, whose days the bookings of a run fill. */
  lanes: number;
  /** Confirmed appointments with them, for what happens to an appointment after its booking. */
  stock: number;
  patients: number;
  /** Of the clinic's coming days, how much is booked tomorrow; it falls to nothing over the weeks. */
  fill: number;
  /** Whether there are also 500 practitioners with hardly any time left. */
  slivers: boolean;
}

/** Sizes below 30,000 are for quick looks: their coming weeks are emptier. */
export function shapeOf(appointments: number): Shape {
  const small = appointments < 30_000;
  const large = appointments >= 300_000;
  return {
    appointments,
    lanes: small ? 100 : 300,
    stock: large ? 60_000 : small ? 8_000 : 6_000,
    patients: 5_000,
    fill: small ? 0.05 : 0.4,
    slivers: large,
  };
}

/** Days ahead that have rows: five weeks as in an install, and a week during which the data is used again. */
export const DAYS_AHEAD = 44;
export const ZONE = 'Europe/Berlin';

/** The names by which a run finds its services again. */
export const SERVICES = {
  booking: 'Booking',
  consultation: 'Consultation',
  crowded: 'Consultation, hardly any time left',
  hot: 'Five minutes',
  visit: 'Visit of three',
} as const;

/** Nothing; but what mentions it is drawn for each time, and not once for all times of a day. */
const EACH = '0 * half_hour * ahead * n';

/** Who there is, by what for: how many, whether a room, and when open. */
const lanesOf = (shape: Shape) => `
  VALUES ('booking', ${shape.lanes}, false, 0, 1440, 7), ('consultation', 500, false, 540, 1020, 5), ('hot', 4, false, 0, 1440, 7),
         ('crowded', ${shape.slivers ? 500 : 0}, false, 540, 1020, 5),
         ('visit', 8, false, 540, 1020, 5), ('visit', 4, true, 540, 1020, 5)`;

/**
 * Loads everything, in one transaction of one connection; tables of its own it makes as temporary ones. Each statement is
 * one step, with what a person is told of it.
 *
 * It is what a clinic's database looks like: appointments of years past in every status, with their histories; the coming
 * weeks booked less and less; claims for what occupies time, and day rows that say the same as the claims.
 */
export const loadSteps = (shape: Shape): Array<[about: string, sql: string]> => [
  [
    'clinic',
    `
    SELECT setseed(0.5);
    CREATE FUNCTION pg_temp.id_at(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
      SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(random()::text), 1, 3)
              || '8' || substr(md5(random()::text), 1, 15))::uuid $$;
    CREATE TEMPORARY TABLE clinic AS SELECT pg_temp.id_at(now()) AS id, pg_temp.id_at(now()) AS location_id;
    INSERT INTO organization (id, name, time_zone) SELECT id, 'Bench', '${ZONE}' FROM clinic;
    INSERT INTO location (organization_id, id, name, time_zone) SELECT id, location_id, 'Main Street', '${ZONE}' FROM clinic;
    UPDATE organization o SET default_location_id = c.location_id FROM clinic c WHERE o.id = c.id;

    CREATE TEMPORARY TABLE lane AS
      SELECT kind, is_room, from_minute, to_minute, weekdays, n, pg_temp.id_at(now()) AS id, pg_temp.id_at(now()) AS schedule_id
      FROM (${lanesOf(shape)}) AS kinds (kind, count, is_room, from_minute, to_minute, weekdays), generate_series(1, count) AS n;
    INSERT INTO schedule (organization_id, id, time_zone) SELECT c.id, l.schedule_id, '${ZONE}' FROM lane l, clinic c;
    INSERT INTO schedule_hours (organization_id, id, schedule_id, weekday, start_minute, end_minute)
      SELECT c.id, pg_temp.id_at(now()), l.schedule_id, weekday, from_minute, to_minute
      FROM lane l, clinic c, generate_series(1, weekdays) AS weekday;
    INSERT INTO practitioner (organization_id, id, schedule_id, name, location_id)
      SELECT c.id, l.id, l.schedule_id, 'Dr. ' || kind || ' ' || n, c.location_id FROM lane l, clinic c WHERE NOT is_room;
    INSERT INTO room (organization_id, id, schedule_id, name, location_id)
      SELECT c.id, l.id, l.schedule_id, 'Room ' || n, c.location_id FROM lane l, clinic c WHERE is_room;

    CREATE TEMPORARY TABLE offer AS
      SELECT kind, name, minutes, pg_temp.id_at(now()) AS id FROM (VALUES
        ('booking', '${SERVICES.booking}', 15), ('consultation', '${SERVICES.consultation}', 30),
        ('crowded', '${SERVICES.crowded}', 30), ('hot', '${SERVICES.hot}', 5), ('visit', '${SERVICES.visit}', 65)
      ) AS offers (kind, name, minutes);
    INSERT INTO service (organization_id, id, name, duration_minutes, slot_interval_minutes)
      SELECT c.id, o.id, o.name, minutes, CASE WHEN kind = 'visit' THEN 15 END FROM offer o, clinic c;
    INSERT INTO service_practitioner (organization_id, service_id, practitioner_id)
      SELECT c.id, o.id, l.id FROM offer o JOIN lane l USING (kind), clinic c WHERE kind <> 'visit';
    INSERT INTO service_segment (organization_id, service_id, position, name, duration_minutes, gap_after_minutes)
      SELECT c.id, o.id, position, part, length, gap FROM offer o, clinic c,
        (VALUES (0, 'Examination', 20, 0), (1, 'Imaging', 30, 0), (2, 'Consultation', 15, 0)) AS parts (position, part, length, gap)
      WHERE kind = 'visit';
    INSERT INTO service_segment_resource (organization_id, id, service_id, position, practitioner_id, room_id)
      SELECT c.id, pg_temp.id_at(now()), o.id, position, CASE WHEN is_room THEN NULL ELSE l.id END, CASE WHEN is_room THEN l.id END
      FROM offer o JOIN lane l USING (kind), clinic c, generate_series(0, 2) AS position
      WHERE kind = 'visit' AND is_room = (position = 1) ORDER BY position, l.id;

    CREATE TEMPORARY TABLE person AS SELECT n, pg_temp.id_at(now()) AS id FROM generate_series(1, ${shape.patients}) AS n;
    INSERT INTO patient (organization_id, id, phone, name)
      SELECT c.id, p.id, '+4930' || 20000000 + n, 'Patient ' || n FROM person p, clinic c;
    CREATE INDEX ON person (n);`,
  ],
  [
    'appointments',
    `
    CREATE TEMPORARY TABLE wanted (
      schedule_id uuid, practitioner_id uuid, room_id uuid, kind text, starts_at timestamptz, ends_at timestamptz, past boolean);
    -- Weekdays, half-hours from nine to five. 24 weekdays ahead at most.
    INSERT INTO wanted
      SELECT schedule_id, id, NULL, kind, at, at + interval '30 minutes', false
      FROM lane, generate_series(1, 34) AS ahead, generate_series(0, 15) AS half_hour,
        LATERAL (SELECT (current_date + ahead + time '09:00' + half_hour * interval '30 minutes') AT TIME ZONE '${ZONE}' AS at) time
      WHERE kind = 'consultation' AND extract(isodow FROM current_date + ahead) < 6
        AND random() + ${EACH} < ${shape.fill} * (1 - ahead / 35.0);
    -- Visits' people and rooms are about half booked; in quarters of an hour that leave room for visits between them.
    INSERT INTO wanted
      SELECT schedule_id, CASE WHEN is_room THEN NULL ELSE id END, CASE WHEN is_room THEN id END, kind, at, at + interval '30 minutes', false
      FROM lane, generate_series(1, 34) AS ahead, generate_series(0, 15) AS half_hour,
        LATERAL (SELECT (current_date + ahead + time '09:00' + half_hour * interval '30 minutes') AT TIME ZONE '${ZONE}' AS at) time
      WHERE kind = 'visit' AND extract(isodow FROM current_date + ahead) < 6
        AND random() + ${EACH} < 0.45;
    -- Of these only 1 day in 20 is free; all others have two gaps of ten minutes, into which nothing fits.
    INSERT INTO wanted
      SELECT schedule_id, id, NULL, kind, at, at + (CASE WHEN piece = 15 THEN 10 ELSE 30 END) * interval '1 minute', false
      FROM (SELECT *, random() < 0.05 AS free FROM lane, generate_series(1, 24) AS ahead WHERE kind = 'crowded') days,
        generate_series(0, 15) AS piece,
        LATERAL (SELECT (current_date + ahead + time '09:00' + (piece * 30 + piece / 5 * 10 - CASE WHEN piece = 15 THEN 10 ELSE 0 END)
          * interval '1 minute') AT TIME ZONE '${ZONE}' AS at) time
      WHERE NOT free AND extract(isodow FROM current_date + ahead) < 6;
    -- With those open round the clock: the small hours of the coming days, in quarters of an hour.
    INSERT INTO wanted
      SELECT schedule_id, id, NULL, kind, at, at + interval '15 minutes', false
      FROM generate_series(8, 40) AS ahead, generate_series(0, 19) AS quarter, lane,
        LATERAL (SELECT (current_date + ahead)::timestamp AT TIME ZONE '${ZONE}' + quarter * interval '15 minutes' AS at) time
      WHERE kind = 'booking' ORDER BY ahead, quarter LIMIT ${shape.stock};
    -- The rest is past: as many weekdays back as it takes.
    INSERT INTO wanted
      SELECT schedule_id, id, NULL, kind, at, at + interval '30 minutes', true
      FROM generate_series(1, 20000) AS ago, lane, generate_series(0, 15) AS half_hour,
        LATERAL (SELECT (current_date - ago + time '09:00' + half_hour * interval '30 minutes') AT TIME ZONE '${ZONE}' AS at) time
      WHERE kind = 'consultation' AND extract(isodow FROM current_date - ago) < 6 AND (half_hour * 7 + n + ago) % 10 < 6
        AND ago <= (SELECT greatest(0, ${shape.appointments} - count(*)) / 4000 * 7 / 5 + 7 FROM wanted)
      LIMIT (SELECT greatest(0, ${shape.appointments} - count(*)) FROM wanted);
    CREATE TEMPORARY TABLE made AS
      SELECT w.*, o.id AS service_id, p.id AS patient_id, pg_temp.id_at(booked_at) AS id,
        CASE WHEN w.kind IN ('booking', 'crowded', 'visit') THEN 'confirmed'
             WHEN past THEN CASE WHEN roll < 0.8 THEN 'completed' WHEN roll < 0.86 THEN 'no_show' WHEN roll < 0.96 THEN 'cancelled' ELSE 'expired' END
             ELSE CASE WHEN roll < 0.92 THEN 'confirmed' WHEN roll < 0.98 THEN 'cancelled' ELSE 'pending' END END AS status
      FROM (SELECT *, random() AS roll, 1 + floor(random() * ${shape.patients})::integer AS person,
                   least(now() - interval '1 hour', starts_at - interval '3 days') - random() * interval '20 days' AS booked_at FROM wanted) w
        -- A visit of which one part alone is booked would be none: these are consultations with the same people.
        JOIN offer o ON o.kind = CASE WHEN w.kind = 'visit' THEN 'consultation' ELSE w.kind END
        JOIN person p ON p.n = w.person;
    INSERT INTO appointment (organization_id, id, status, version, service_id, patient_id, starts_at, ends_at, expires_at, pending_until,
                             mode, created_at, updated_at)
      SELECT c.id, m.id, m.status, CASE m.status WHEN 'confirmed' THEN 1 WHEN 'pending' THEN 1 WHEN 'completed' THEN 3 ELSE 2 END,
             service_id, patient_id, starts_at, ends_at,
             CASE status WHEN 'pending' THEN starts_at WHEN 'expired' THEN booked_at + interval '10 minutes' END, NULL, 'in_person', booked_at,
             CASE status WHEN 'completed' THEN ends_at WHEN 'no_show' THEN ends_at WHEN 'cancelled' THEN booked_at + interval '30 minutes'
                         WHEN 'expired' THEN booked_at + interval '10 minutes' ELSE booked_at END
      FROM made m, clinic c ORDER BY m.booked_at;`,
  ],
  [
    'segments',
    `
    INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, room_id, starts_at, ends_at,
                                     appointment_starts_at, time_zone, local_starts_at)
      SELECT c.id, m.id, 0, schedule_id, practitioner_id, room_id, starts_at, ends_at, starts_at, '${ZONE}', starts_at AT TIME ZONE '${ZONE}'
      FROM made m, clinic c ORDER BY m.booked_at;`,
  ],
  [
    'histories',
    `
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, from_status, to_status, actor, channel, at)
      SELECT c.id, m.id, line.version, line.action, line.before, line.after, 'bench', 'api', booked_at + (line.version - 1) * interval '10 minutes'
      FROM made m, clinic c, LATERAL (
        SELECT 1 AS version, 'book' AS action, NULL AS before,
               CASE status WHEN 'pending' THEN 'pending' WHEN 'expired' THEN 'held' ELSE 'confirmed' END AS after
        UNION ALL SELECT 2, 'check-in', 'confirmed', 'checked_in' WHERE status = 'completed'
        UNION ALL SELECT 3, 'complete', 'checked_in', 'completed' WHERE status = 'completed'
        UNION ALL SELECT 2, 'no-show', 'confirmed', 'no_show' WHERE status = 'no_show'
        UNION ALL SELECT 2, 'cancel', 'confirmed', 'cancelled' WHERE status = 'cancelled'
        UNION ALL SELECT 2, 'expire', 'held', 'expired' WHERE status = 'expired') line
      ORDER BY m.booked_at;
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version, created_at, published_at)
      SELECT pg_temp.id_at(booked_at), c.id, 'appointment.confirmed', m.id, 1, booked_at, booked_at
      FROM made m, clinic c WHERE booked_at > now() - interval '30 days' ORDER BY m.booked_at;`,
  ],
  [
    'claims and days',
    `
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
      SELECT c.id, schedule_id, starts_at, ends_at, starts_at, ends_at, m.id, CASE status WHEN 'pending' THEN starts_at END
      FROM made m, clinic c WHERE status IN ('confirmed', 'pending') ORDER BY starts_at;
    INSERT INTO schedule_day (organization_id, schedule_id, day, covers, open, taken, grid)
      SELECT c.id, schedule_id, day, covers, CASE WHEN open IS NULL THEN '{}' ELSE tstzmultirange(open) END, coalesce(taken, '{}'),
             CASE WHEN open IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_array(
               extract(epoch FROM lower(open))::bigint, extract(epoch FROM upper(open))::bigint, NULL)) END
      FROM clinic c, (
        SELECT l.schedule_id, day,
               tstzrange(day::timestamp AT TIME ZONE '${ZONE}', (day + 1)::timestamp AT TIME ZONE '${ZONE}') AS covers,
               CASE WHEN extract(isodow FROM day) <= weekdays THEN
                 tstzrange((day + from_minute * interval '1 minute') AT TIME ZONE '${ZONE}', (day + to_minute * interval '1 minute') AT TIME ZONE '${ZONE}')
               END AS open
        FROM lane l, generate_series(0, ${DAYS_AHEAD}) AS ahead, LATERAL (SELECT current_date + ahead AS day) days) planned
      LEFT JOIN (
        SELECT schedule_id, (starts_at AT TIME ZONE '${ZONE}')::date AS day, range_agg(during) AS taken
        FROM claim GROUP BY 1, 2) occupied USING (schedule_id, day)
      ORDER BY schedule_id, day;`,
  ],
];
