import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The first schema: who (organization, location, practitioner, room, service, patient), when (schedule, hours,
 * exceptions, day rows, claims) and what (appointment, segments, history, outbox, idempotency, API keys).
 *
 * Two roles without login are made beside it; their names carry the database's name, because roles belong to the whole
 * cluster. Every query of Holdfast runs as one of them (see `platform/database.ts`):
 *  - `holdfast_app_<db>` sees the rows of the organization set for the transaction, and nothing else;
 *  - `holdfast_system_<db>` sees all organizations, for the few works that cross them.
 * Neither owns a table, neither can bypass row-level security.
 */
export class Foundation1795305600000 implements MigrationInterface {
  name = 'Foundation1795305600000';

  async up(runner: QueryRunner): Promise<void> {
    const roles = await ensureRoles(runner);
    await runner.query(TABLES);
    for (const table of TABLES_OF_AN_ORGANIZATION) {
      const key = table === 'organization' ? 'id' : 'organization_id';
      await runner.query(`
        ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY organization_isolation ON ${table} TO ${roles.app}
          USING (${key} = NULLIF(current_setting('holdfast.organization_id', true), '')::uuid);
        CREATE POLICY system_access ON ${table} TO ${roles.system} USING (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO ${roles.app}, ${roles.system};`);
    }
    // History is append-only by privilege, whatever the code above it does. Row locks are not needed on it either.
    await runner.query(`REVOKE UPDATE, DELETE ON appointment_history FROM ${roles.app}, ${roles.system}`);
    // An organization is made and removed by the system alone.
    await runner.query(`REVOKE INSERT, DELETE ON organization FROM ${roles.app}`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

async function ensureRoles(runner: QueryRunner): Promise<{ app: string; system: string }> {
  const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
  const quoted = { app: '', system: '' };
  for (const kind of ['app', 'system'] as const) {
    const name = `holdfast_${kind}_${database}`.slice(0, 63);
    quoted[kind] = `"${name.replaceAll('"', '""')}"`;
    const found = (await runner.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name])) as unknown[];
    if (found.length === 0) await runner.query(`CREATE ROLE ${quoted[kind]} NOLOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS`);
    await runner.query(`GRANT USAGE ON SCHEMA public TO ${quoted[kind]}`);
  }
  return quoted;
}

const TABLES_OF_AN_ORGANIZATION = [
  'organization',
  'api_key',
  'location',
  'schedule',
  'schedule_hours',
  'schedule_exception',
  'schedule_day',
  'claim',
  'practitioner',
  'room',
  'service',
  'service_practitioner',
  'service_segment',
  'service_segment_resource',
  'patient',
  'appointment',
  'appointment_segment',
  'appointment_history',
  'outbox_event',
  'idempotency_key',
];

const TABLES = `
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE organization (
  id                  uuid PRIMARY KEY,
  name                text NOT NULL,
  time_zone           text NOT NULL,
  default_location_id uuid,
  version             integer NOT NULL DEFAULT 1,
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now()
);

-- Only a SHA-256 of the key is kept; the prefix lets people recognise it. Found by the hash, before the organization is known.
CREATE TABLE api_key (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  name            text NOT NULL,
  role            text NOT NULL CHECK (role IN ('practitioner', 'receptionist', 'administrator', 'operator')),
  prefix          text NOT NULL,
  key_hash        bytea NOT NULL UNIQUE,
  created_at      timestamptz NOT NULL DEFAULT now(),
  revoked_at      timestamptz,
  PRIMARY KEY (organization_id, id)
);

CREATE TABLE location (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  name            text NOT NULL,
  time_zone       text NOT NULL,
  address         text,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  PRIMARY KEY (organization_id, id)
);
ALTER TABLE organization ADD FOREIGN KEY (id, default_location_id) REFERENCES location (organization_id, id);

-- The bookable lane of one practitioner or room.
CREATE TABLE schedule (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  time_zone       text NOT NULL,
  active          boolean NOT NULL DEFAULT true,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id)
);

-- Weekly opening hours in the schedule's local time; minutes since local midnight, 1440 is the end of the day.
CREATE TABLE schedule_hours (
  organization_id uuid NOT NULL,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  weekday         smallint NOT NULL CHECK (weekday BETWEEN 1 AND 7),
  start_minute    smallint NOT NULL CHECK (start_minute BETWEEN 0 AND 1439),
  end_minute      smallint NOT NULL CHECK (end_minute BETWEEN 1 AND 1440),
  location_id     uuid,
  valid_from      date,
  valid_until     date,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  FOREIGN KEY (organization_id, location_id) REFERENCES location (organization_id, id),
  CHECK (start_minute < end_minute),
  CHECK (valid_from <= valid_until)
);
CREATE INDEX schedule_hours_schedule ON schedule_hours (schedule_id);

CREATE TABLE schedule_exception (
  organization_id uuid NOT NULL,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('closed', 'open')),
  reason          text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  CHECK (starts_at < ends_at)
);
CREATE INDEX schedule_exception_schedule ON schedule_exception (schedule_id, ends_at);

-- One local day of one schedule: the row that bookings lock, and the read model of free time.
--   covers    the local day as instants          grid  the intervals [start, end, locationId] whose starts anchor the slot grid,
--   open      when it may be booked                    epoch seconds; derived from the same sources as open
--   taken     what claims and busy times occupy   free, bookable   derived, never written
-- Bookings change taken alone, which no index holds: most of them are HOT updates, for which room is left on the page.
CREATE TABLE schedule_day (
  organization_id uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  day             date NOT NULL,
  covers          tstzrange NOT NULL,
  open            tstzmultirange NOT NULL,
  taken           tstzmultirange NOT NULL DEFAULT '{}',
  free            tstzmultirange NOT NULL GENERATED ALWAYS AS (open - taken) STORED,
  bookable        boolean NOT NULL GENERATED ALWAYS AS (NOT isempty(open - taken)) STORED,
  grid            jsonb NOT NULL DEFAULT '[]',
  version         bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (schedule_id, day),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id)
) WITH (fillfactor = 70);
CREATE INDEX schedule_day_bookable ON schedule_day (organization_id, day, schedule_id) WHERE bookable;

-- The truth about occupied time: from starts_at to ends_at with buffers, the core being what must lie in open time. A released claim is deleted, so the exclusion constraint needs no
-- predicate and no status can slip past it. The primary key doubles as the btree bound of every read: range operators are
-- not leakproof, so under row-level security they cannot use the GiST index.
CREATE TABLE claim (
  organization_id uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  seat            smallint NOT NULL DEFAULT 1 CHECK (seat >= 1),
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  during          tstzrange NOT NULL GENERATED ALWAYS AS (tstzrange(starts_at, ends_at, '[)')) STORED,
  core_starts_at  timestamptz NOT NULL,
  core_ends_at    timestamptz NOT NULL,
  holder          uuid NOT NULL,
  expires_at      timestamptz,
  PRIMARY KEY (schedule_id, starts_at, seat),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  CHECK (starts_at < ends_at),
  CHECK (ends_at - starts_at <= interval '72 hours'),
  CHECK (starts_at <= core_starts_at AND core_starts_at < core_ends_at AND core_ends_at <= ends_at),
  CONSTRAINT claim_no_overlap EXCLUDE USING gist (schedule_id WITH =, seat WITH =, during WITH &&)
);
CREATE INDEX claim_holder ON claim (holder);

CREATE TABLE practitioner (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  name            text NOT NULL,
  location_id     uuid,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  PRIMARY KEY (organization_id, id),
  UNIQUE (organization_id, schedule_id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  FOREIGN KEY (organization_id, location_id) REFERENCES location (organization_id, id)
);

CREATE TABLE room (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  name            text NOT NULL,
  location_id     uuid,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  PRIMARY KEY (organization_id, id),
  UNIQUE (organization_id, schedule_id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  FOREIGN KEY (organization_id, location_id) REFERENCES location (organization_id, id)
);

CREATE TABLE service (
  organization_id       uuid NOT NULL REFERENCES organization,
  id                    uuid NOT NULL,
  name                  text NOT NULL,
  duration_minutes      integer NOT NULL CHECK (duration_minutes BETWEEN 1 AND 1440),
  buffer_before_minutes integer NOT NULL DEFAULT 0 CHECK (buffer_before_minutes BETWEEN 0 AND 720),
  buffer_after_minutes  integer NOT NULL DEFAULT 0 CHECK (buffer_after_minutes BETWEEN 0 AND 720),
  slot_interval_minutes integer CHECK (slot_interval_minutes BETWEEN 1 AND 1440),
  capacity              integer NOT NULL DEFAULT 1 CHECK (capacity BETWEEN 1 AND 1000),
  requires_confirmation boolean NOT NULL DEFAULT false,
  pending_minutes       integer CHECK (pending_minutes BETWEEN 1 AND 525600),
  price_amount          bigint CHECK (price_amount >= 0),
  price_currency        text CHECK (price_currency ~ '^[A-Z]{3}$'),
  payment_required      boolean NOT NULL DEFAULT false,
  hold_minutes          integer NOT NULL DEFAULT 10 CHECK (hold_minutes BETWEEN 1 AND 60),
  min_notice_minutes    integer NOT NULL DEFAULT 0 CHECK (min_notice_minutes BETWEEN 0 AND 525600),
  max_days_ahead        integer NOT NULL DEFAULT 90 CHECK (max_days_ahead BETWEEN 1 AND 1095),
  modes                 text[] NOT NULL DEFAULT '{in_person}' CHECK (cardinality(modes) > 0),
  version               integer NOT NULL DEFAULT 1,
  created_at            timestamptz NOT NULL DEFAULT now(),
  updated_at            timestamptz NOT NULL DEFAULT now(),
  deleted_at            timestamptz,
  PRIMARY KEY (organization_id, id),
  CHECK ((price_amount IS NULL) = (price_currency IS NULL))
);

CREATE TABLE service_practitioner (
  organization_id uuid NOT NULL,
  service_id      uuid NOT NULL,
  practitioner_id uuid NOT NULL,
  PRIMARY KEY (organization_id, service_id, practitioner_id),
  FOREIGN KEY (organization_id, service_id) REFERENCES service (organization_id, id),
  FOREIGN KEY (organization_id, practitioner_id) REFERENCES practitioner (organization_id, id)
);
CREATE INDEX service_practitioner_practitioner ON service_practitioner (practitioner_id);

CREATE TABLE service_segment (
  organization_id   uuid NOT NULL,
  service_id        uuid NOT NULL,
  position          smallint NOT NULL,
  name              text NOT NULL,
  duration_minutes  integer NOT NULL CHECK (duration_minutes BETWEEN 1 AND 1440),
  gap_after_minutes integer NOT NULL DEFAULT 0 CHECK (gap_after_minutes BETWEEN 0 AND 1440),
  PRIMARY KEY (organization_id, service_id, position),
  FOREIGN KEY (organization_id, service_id) REFERENCES service (organization_id, id)
);

CREATE TABLE service_segment_resource (
  organization_id uuid NOT NULL,
  id              uuid NOT NULL,
  service_id      uuid NOT NULL,
  position        smallint NOT NULL,
  practitioner_id uuid,
  room_id         uuid,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, service_id, position) REFERENCES service_segment (organization_id, service_id, position),
  FOREIGN KEY (organization_id, practitioner_id) REFERENCES practitioner (organization_id, id),
  FOREIGN KEY (organization_id, room_id) REFERENCES room (organization_id, id),
  CHECK (num_nonnulls(practitioner_id, room_id) = 1)
);
CREATE INDEX service_segment_resource_segment ON service_segment_resource (service_id, position);

CREATE TABLE patient (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  phone           text NOT NULL CHECK (phone ~ '^\\+[1-9][0-9]{5,14}$'),
  name            text,
  email           text,
  location_id     uuid,
  locale          text,
  source          text NOT NULL DEFAULT 'api',
  status          text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'blocked')),
  notes           text,
  verified_at     timestamptz,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, location_id) REFERENCES location (organization_id, id)
);
-- One living patient per phone. A deleted one blocks nobody, which is why this is an index with a predicate.
CREATE UNIQUE INDEX patient_phone ON patient (organization_id, phone) WHERE deleted_at IS NULL;

CREATE TABLE appointment (
  organization_id     uuid NOT NULL REFERENCES organization,
  id                  uuid NOT NULL,
  status              text NOT NULL CHECK (status IN
    ('held', 'pending', 'confirmed', 'checked_in', 'completed', 'no_show', 'cancelled', 'expired')),
  version             integer NOT NULL DEFAULT 1,
  service_id          uuid NOT NULL,
  patient_id          uuid NOT NULL,
  attendee_name       text,
  starts_at           timestamptz NOT NULL,
  ends_at             timestamptz NOT NULL,
  expires_at          timestamptz,
  mode                text NOT NULL,
  confirmation_status text NOT NULL DEFAULT 'none',
  source              text NOT NULL DEFAULT 'api',
  notes               text,
  metadata            jsonb NOT NULL DEFAULT '{}',
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, service_id) REFERENCES service (organization_id, id),
  FOREIGN KEY (organization_id, patient_id) REFERENCES patient (organization_id, id),
  CHECK (starts_at < ends_at)
) WITH (fillfactor = 85);
CREATE INDEX appointment_start ON appointment (organization_id, starts_at, id);
CREATE INDEX appointment_patient ON appointment (organization_id, patient_id, starts_at, id);
CREATE INDEX appointment_service ON appointment (organization_id, service_id, starts_at);

CREATE TABLE appointment_segment (
  organization_id uuid NOT NULL,
  appointment_id  uuid NOT NULL,
  position        smallint NOT NULL,
  name            text,
  schedule_id     uuid NOT NULL,
  practitioner_id uuid,
  room_id         uuid,
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  -- The appointment's own start, by which lists of a practitioner are sorted.
  appointment_starts_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, appointment_id, position),
  FOREIGN KEY (organization_id, appointment_id) REFERENCES appointment (organization_id, id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  FOREIGN KEY (organization_id, practitioner_id) REFERENCES practitioner (organization_id, id),
  FOREIGN KEY (organization_id, room_id) REFERENCES room (organization_id, id),
  CHECK (num_nonnulls(practitioner_id, room_id) = 1),
  CHECK (starts_at < ends_at)
);
CREATE INDEX appointment_segment_schedule ON appointment_segment (schedule_id, starts_at);
CREATE INDEX appointment_segment_practitioner
  ON appointment_segment (organization_id, practitioner_id, appointment_starts_at, appointment_id);

-- Who did what, when, from which version to which. Folding it gives the appointment's present state.
CREATE TABLE appointment_history (
  organization_id uuid NOT NULL,
  appointment_id  uuid NOT NULL,
  version         integer NOT NULL,
  action          text NOT NULL,
  from_status     text,
  to_status       text NOT NULL,
  actor           text NOT NULL,
  channel         text NOT NULL,
  reason          text,
  details         jsonb NOT NULL DEFAULT '{}',
  at              timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (organization_id, appointment_id, version),
  FOREIGN KEY (organization_id, appointment_id) REFERENCES appointment (organization_id, id)
);

-- Written in the transaction of the change that it tells of; ids and version only, subscribers read the rest again.
CREATE TABLE outbox_event (
  id              uuid PRIMARY KEY,
  organization_id uuid NOT NULL REFERENCES organization,
  type            text NOT NULL,
  subject_id      uuid NOT NULL,
  version         integer NOT NULL,
  payload         jsonb NOT NULL DEFAULT '{}',
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  published_at    timestamptz
);
CREATE INDEX outbox_event_unpublished ON outbox_event (created_at) WHERE published_at IS NULL;

-- A 2xx answer to a POST under an Idempotency-Key, stored in the transaction of its effect.
CREATE TABLE idempotency_key (
  organization_id uuid NOT NULL REFERENCES organization,
  principal       uuid NOT NULL,
  key             text NOT NULL CHECK (length(key) <= 255),
  fingerprint     bytea NOT NULL,
  status          smallint NOT NULL,
  body            text NOT NULL,
  location        text,
  etag            text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, principal, key)
);
`;
