import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Everything else that can take time on the one ledger: visits of several segments with pauses and parallel parts, sessions
 * that several patients share, schedules with parallel places, and slots that are published beside the weekly hours.
 */
export class WholeLedger1795320000000 implements MigrationInterface {
  name = 'WholeLedger1795320000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(COLUMNS);
    await runner.query(TABLES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const [app, system] = ['app', 'system'].map(
      (kind) => `"${`holdfast_${kind}_${database}`.slice(0, 63).replaceAll('"', '""')}"`,
    );
    for (const table of ['group_session', 'attendance', 'published_slot']) {
      await runner.query(`
        ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY organization_isolation ON ${table} TO ${app}
          USING (organization_id = NULLIF(current_setting('holdfast.organization_id', true), '')::uuid);
        CREATE POLICY system_access ON ${table} TO ${system} USING (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO ${app}, ${system};`);
    }
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

const COLUMNS = `
-- How many can be seen at once: three chairs are three places. The day row has it from its schedule, as it has its hours.
ALTER TABLE schedule ADD COLUMN places smallint NOT NULL DEFAULT 1 CHECK (places BETWEEN 1 AND 100);
-- published: what of the day's open time was published as slots, [start, end, mode, capacity], epoch seconds.
-- With more than one place, taken is the time at which no place is left.
ALTER TABLE schedule_day
  ADD COLUMN places smallint NOT NULL DEFAULT 1,
  ADD COLUMN published jsonb NOT NULL DEFAULT '[]';
-- Whether the holder is a session, which appointments share.
ALTER TABLE claim ADD COLUMN shared boolean NOT NULL DEFAULT false;
-- How much longer than the gap the pause after a segment may be, and whether it begins together with the one before it.
ALTER TABLE service_segment
  ADD COLUMN max_wait_minutes integer NOT NULL DEFAULT 0 CHECK (max_wait_minutes BETWEEN 0 AND 1440),
  ADD COLUMN starts_with_previous boolean NOT NULL DEFAULT false;
`;

const TABLES = `
-- A session that several appointments share. It is the holder of one claim, and gone when nobody has a seat any more.
CREATE TABLE group_session (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  service_id      uuid NOT NULL,
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  FOREIGN KEY (organization_id, service_id) REFERENCES service (organization_id, id),
  CHECK (starts_at < ends_at)
);
CREATE INDEX group_session_start ON group_session (schedule_id, starts_at);

-- Who has which seat, and until when; null for good. A seat past its time blocks nobody, as a claim does not.
CREATE TABLE attendance (
  organization_id uuid NOT NULL,
  session_id      uuid NOT NULL,
  seat            smallint NOT NULL CHECK (seat >= 1),
  holder          uuid NOT NULL,
  expires_at      timestamptz,
  PRIMARY KEY (organization_id, session_id, seat),
  UNIQUE (organization_id, holder),
  FOREIGN KEY (organization_id, session_id) REFERENCES group_session (organization_id, id)
);

-- A time that somebody has published: open beside the weekly hours, in one mode, for so many patients at once.
CREATE TABLE published_slot (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  schedule_id     uuid NOT NULL,
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  mode            text,
  capacity        integer CHECK (capacity BETWEEN 1 AND 1000),
  published_by    uuid NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, schedule_id) REFERENCES schedule (organization_id, id),
  CHECK (starts_at < ends_at),
  CONSTRAINT published_slot_no_overlap
    EXCLUDE USING gist (schedule_id WITH =, tstzrange(starts_at, ends_at) WITH &&)
);
CREATE INDEX published_slot_schedule ON published_slot (schedule_id, ends_at);
`;
