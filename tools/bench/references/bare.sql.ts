/**
 * What each action costs in SQL alone, in as few statements as its locks allow. Written here, so that it stays what it is
 * whatever becomes of Holdfast's own statements.
 */
const RANGE = 'tstzrange($3::timestamptz, $4::timestamptz)';

const GUARDED_DAY = `
  day AS (
    UPDATE schedule_day SET taken = taken + tstzmultirange(${RANGE}), version = version + 1
    WHERE schedule_id = $1::uuid AND day = $2::date AND covers @> ${RANGE} AND open @> ${RANGE} AND NOT taken && ${RANGE}
    RETURNING schedule_id)`;

const CLAIM_AND_APPOINTMENT = `
  claimed AS (
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
    SELECT $5::uuid, schedule_id, $3::timestamptz, $4::timestamptz, $3::timestamptz, $4::timestamptz, $6::uuid, $10::timestamptz FROM day
  ), booked AS (
    INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode, expires_at)
    SELECT $5::uuid, $6::uuid, $11::text, $7::uuid, $8::uuid, $3::timestamptz, $4::timestamptz, 'in_person', $10::timestamptz FROM day
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT $9::uuid, $5::uuid, 'appointment.' || $11::text, $6::uuid, 1 FROM day)`;

const SEGMENT_AND_HISTORY = `
  part AS (
    INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at, ends_at,
                                     appointment_starts_at)
    SELECT $5::uuid, $6::uuid, 0, schedule_id, $12::uuid, $3::timestamptz, $4::timestamptz, $3::timestamptz FROM day
  ), line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
    SELECT $5::uuid, $6::uuid, 1, 'book', $11::text, 'bench', 'api' FROM day)`;

/** Guarded day row, claim, appointment, event: less than that is no booking. */
export const BAREST = {
  name: 'barest',
  text: `WITH ${GUARDED_DAY}, ${CLAIM_AND_APPOINTMENT} SELECT 1 FROM day`,
};

/** With the segment and the first line of history, which every appointment has. */
export const GUARDED = {
  name: 'guarded',
  text: `WITH ${GUARDED_DAY}, ${CLAIM_AND_APPOINTMENT}, ${SEGMENT_AND_HISTORY} SELECT 1 FROM day`,
};

/** The locking form: what the day says under its lock … */
export const FREE = {
  name: 'free',
  text: `SELECT covers @> ${RANGE} AND open @> ${RANGE} AND NOT taken && ${RANGE} AS free
         FROM schedule_day WHERE schedule_id = $1::uuid AND day = $2::date`,
};
export const LOCKED_FREE = { name: 'locked-free', text: `${FREE.text} FOR NO KEY UPDATE` };
/** … and then the same writes, without a guard. */
export const TAKE = {
  name: 'take',
  text: `WITH day AS (
           UPDATE schedule_day SET taken = taken + tstzmultirange(${RANGE}), version = version + 1
           WHERE schedule_id = $1::uuid AND day = $2::date RETURNING schedule_id),
         ${CLAIM_AND_APPOINTMENT}, ${SEGMENT_AND_HISTORY} SELECT 1 FROM day`,
};

export const LOCK_APPOINTMENT = {
  name: 'lock-appointment',
  text: 'SELECT status, version, starts_at FROM appointment WHERE organization_id = $1 AND id = $2 FOR NO KEY UPDATE',
};

/** The days of what an appointment occupies, and one more. */
export const LOCK_DAYS = {
  name: 'lock-days',
  text: `SELECT d.schedule_id, d.day::text FROM schedule_day d
         WHERE (d.schedule_id, d.day) IN (
           SELECT c.schedule_id, (c.starts_at AT TIME ZONE s.time_zone)::date FROM claim c JOIN schedule s ON s.id = c.schedule_id
           WHERE c.holder = $1 UNION ALL SELECT $2::uuid, $3::date)
         ORDER BY d.schedule_id, d.day FOR NO KEY UPDATE`,
};

/** Of an appointment: $1 organization, $2 id, $3 status, $4 action, $5 event. */
const CHANGE = (more = '') => `
  changed AS (
    UPDATE appointment SET status = $3::text, version = version + 1, updated_at = clock_timestamp() ${more}
    WHERE organization_id = $1::uuid AND id = $2::uuid RETURNING version
  ), line AS (
    INSERT INTO appointment_history (organization_id, appointment_id, version, action, to_status, actor, channel)
    SELECT $1::uuid, $2::uuid, version, $4::text, $3::text, 'bench', 'api' FROM changed
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT $5::uuid, $1::uuid, 'appointment.' || $3::text, $2::uuid, version FROM changed)`;

export const CHECK_IN = { name: 'check-in', text: `WITH ${CHANGE()} SELECT version FROM changed` };

export const CONFIRM = {
  name: 'confirm',
  text: `WITH kept AS (UPDATE claim SET expires_at = NULL WHERE holder = $2::uuid), ${CHANGE(', expires_at = NULL')}
         SELECT version FROM changed`,
};

export const GIVE_UP = { name: 'give-up', text: 'DELETE FROM claim WHERE holder = $1' };

/** A day after a claim was deleted: what is taken is counted again, for subtracting could free what others occupy. */
const RECOUNT = (schedule: string, day: string) => `
  UPDATE schedule_day d SET version = version + 1, taken = coalesce((
    SELECT range_agg(c.during) FROM claim c WHERE c.schedule_id = d.schedule_id AND c.starts_at < upper(d.covers)
      AND c.starts_at > lower(d.covers) - interval '72 hours' AND c.ends_at > lower(d.covers)), '{}')
  WHERE d.schedule_id = ${schedule}::uuid AND d.day = ${day}::date`;

export const CANCEL = {
  name: 'cancel',
  text: `WITH freed AS (${RECOUNT('$6', '$7')}), ${CHANGE()} SELECT version FROM changed`,
};

export const FREE_DAY = { name: 'free-day', text: RECOUNT('$1', '$2') };

/** $6 schedule, $7 day, $8 and $9 the new time, $10 practitioner. */
export const MOVE = {
  name: 'move',
  text: `WITH day AS (
    UPDATE schedule_day SET taken = taken + tstzmultirange(tstzrange($8::timestamptz, $9::timestamptz)), version = version + 1
    WHERE schedule_id = $6::uuid AND day = $7::date AND covers @> tstzrange($8::timestamptz, $9::timestamptz)
      AND open @> tstzrange($8::timestamptz, $9::timestamptz) AND NOT taken && tstzrange($8::timestamptz, $9::timestamptz)
    RETURNING schedule_id
  ), claimed AS (
    INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder)
    SELECT $1::uuid, schedule_id, $8::timestamptz, $9::timestamptz, $8::timestamptz, $9::timestamptz, $2::uuid FROM day
  ), part AS (
    UPDATE appointment_segment SET schedule_id = $6::uuid, practitioner_id = $10::uuid, starts_at = $8::timestamptz,
           ends_at = $9::timestamptz, appointment_starts_at = $8::timestamptz
    WHERE organization_id = $1::uuid AND appointment_id = $2::uuid
  ), ${CHANGE(', starts_at = $8::timestamptz, ends_at = $9::timestamptz')}
  SELECT 1 FROM day, changed`,
};

export const FIND_PATIENT = {
  name: 'find-patient',
  text: 'SELECT * FROM patient WHERE phone = $1 AND deleted_at IS NULL FOR KEY SHARE',
};
export const MAKE_PATIENT = {
  name: 'make-patient',
  text: `WITH made AS (
    INSERT INTO patient (organization_id, id, phone, name) VALUES ($1::uuid, $2::uuid, $3::text, $4::text)
    ON CONFLICT (organization_id, phone) WHERE deleted_at IS NULL DO NOTHING RETURNING id
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT $5::uuid, $1::uuid, 'patient.created', id, 1 FROM made)
  SELECT id FROM made`,
};

/**
 * The same search without day rows: the practitioners' hours of every day, their exceptions and the appointments that occupy
 * their time. As it is written where there is no ledger; the grid, the order and the answer are those of `GET /v1/slots`.
 */
export const FROM_RULES = {
  name: 'from-rules',
  text: `
  WITH lane AS (
    SELECT p.id AS practitioner_id, p.schedule_id, s.time_zone, v.duration_minutes * interval '1 minute' AS length
    FROM service v JOIN service_practitioner o ON o.service_id = v.id JOIN practitioner p ON p.id = o.practitioner_id
    JOIN schedule s ON s.id = p.schedule_id WHERE v.id = $1 AND p.deleted_at IS NULL
  ), opening AS (
    SELECT practitioner_id, schedule_id, length, (day + start_minute * interval '1 minute') AT TIME ZONE time_zone AS opens,
           (day + end_minute * interval '1 minute') AT TIME ZONE time_zone AS closes
    FROM lane JOIN schedule_hours h USING (schedule_id),
      LATERAL (SELECT day::timestamp AS day FROM generate_series($2::timestamptz::date, $3::timestamptz::date, interval '1 day') AS day) days
    WHERE extract(isodow FROM day) = weekday
  )
  SELECT practitioner_id, schedule_id, at AS starts_at, at + length AS ends_at
  FROM opening, generate_series(opens, closes - length, length) AS at
  WHERE at >= $2 AND at < $3
    AND NOT EXISTS (
      SELECT 1 FROM schedule_exception e
      WHERE e.schedule_id = opening.schedule_id AND e.kind = 'closed' AND e.starts_at < at + length AND e.ends_at > at)
    AND NOT EXISTS (
      SELECT 1 FROM appointment_segment g JOIN appointment a ON a.organization_id = g.organization_id AND a.id = g.appointment_id
      WHERE g.schedule_id = opening.schedule_id AND g.starts_at < at + length AND g.starts_at > at - interval '1 day' AND g.ends_at > at
        AND a.status IN ('held', 'pending', 'confirmed', 'checked_in') AND (a.expires_at IS NULL OR a.expires_at > now()))
  ORDER BY at, practitioner_id LIMIT $4`,
};

/** A code for a phone: the least that leaves one good code. */
export const STORE_CODE = {
  name: 'store-code',
  text: `INSERT INTO otp_code (organization_id, phone, purpose, code_hash, expires_at)
         VALUES ($1, $2, 'sign_in', $3, clock_timestamp() + interval '5 minutes')
         ON CONFLICT (organization_id, phone, purpose) DO UPDATE
           SET code_hash = excluded.code_hash, tries = 0, created_at = clock_timestamp(), expires_at = excluded.expires_at
         RETURNING expires_at`,
};
