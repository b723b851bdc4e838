import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The life of an appointment: holds and requests that expire, what a cancellation was, the rules that bind patients, the
 * indexes that lists, pollers, the sweeper and the pruner walk, and the role that prunes.
 *
 * `holdfast_retention_<db>` may delete what has outlived its use, and nothing else: appointments that expired, and of stored
 * answers and history what is older than a day. So history stays append-only for everybody who serves.
 */
export class AppointmentLife1795312800000 implements MigrationInterface {
  name = 'AppointmentLife1795312800000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(COLUMNS);
    await runner.query(INDEXES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const name = `holdfast_retention_${database}`.slice(0, 63);
    const role = `"${name.replaceAll('"', '""')}"`;
    const found = (await runner.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name])) as unknown[];
    if (found.length === 0) await runner.query(`CREATE ROLE ${role} NOLOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS`);
    await runner.query(`GRANT USAGE ON SCHEMA public TO ${role}`);
    await runner.query(POLICIES.replaceAll('RETENTION', role));
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

/** What the pruner sees, locks and deletes: floors below every setting. It updates nothing, for no row passes the check. */
const POLICIES = `
GRANT SELECT, DELETE ON appointment, appointment_segment, appointment_history, idempotency_key TO RETENTION;
GRANT UPDATE (version) ON appointment TO RETENTION;
CREATE POLICY retention_sees ON appointment FOR SELECT TO RETENTION USING (true);
CREATE POLICY retention_locks ON appointment FOR UPDATE TO RETENTION USING (status = 'expired') WITH CHECK (false);
CREATE POLICY retention_access ON appointment FOR DELETE TO RETENTION USING (status = 'expired');
CREATE POLICY retention_access ON appointment_segment TO RETENTION
  USING (EXISTS (SELECT 1 FROM appointment a WHERE a.id = appointment_id AND a.status = 'expired'));
CREATE POLICY retention_access ON appointment_history TO RETENTION USING (at < now() - interval '1 day');
CREATE POLICY retention_access ON idempotency_key TO RETENTION USING (created_at < now() - interval '24 hours');
`;

const COLUMNS = `
-- Rules that bind patients; all off unless a clinic turns them on.
ALTER TABLE organization
  ADD COLUMN allow_patient_overlap boolean NOT NULL DEFAULT true,
  ADD COLUMN max_open_holds integer CHECK (max_open_holds BETWEEN 1 AND 1000),
  ADD COLUMN cancellation_window_minutes integer CHECK (cancellation_window_minutes BETWEEN 1 AND 525600),
  ADD COLUMN late_cancellation_roles text[] NOT NULL DEFAULT '{practitioner,receptionist,administrator}',
  ADD COLUMN late_cancellation_kind text NOT NULL DEFAULT 'late_cancellation';

-- expires_at     when a hold or request stops to occupy its time
-- pending_until  until when a request may be decided, its start left aside; of what expired: that it was a request
-- cancellation   what a cancellation was: in time, or what the clinic calls a late one
ALTER TABLE appointment
  ADD COLUMN pending_until timestamptz,
  ADD COLUMN cancellation text,
  ADD CONSTRAINT appointment_expires CHECK (status NOT IN ('held', 'pending') OR expires_at IS NOT NULL);
`;

const INDEXES = `
-- Lists by status, and pollers. Not by confirmation status where it says nothing.
CREATE INDEX appointment_status ON appointment (organization_id, status, starts_at, id);
CREATE INDEX appointment_updated ON appointment (organization_id, updated_at, id);
CREATE INDEX appointment_confirmation ON appointment (organization_id, confirmation_status, starts_at, id)
  WHERE confirmation_status <> 'none';

-- What can expire is little at any time: sweeper, pollers and searches look at nothing else.
CREATE INDEX appointment_expiry ON appointment (organization_id, expires_at) WHERE status IN ('held', 'pending');
CREATE INDEX claim_expiry ON claim (organization_id, expires_at) WHERE expires_at IS NOT NULL;

-- Holds that expired, by age, for the pruner.
CREATE INDEX appointment_expired ON appointment (updated_at) WHERE status = 'expired' AND pending_until IS NULL;

-- What else is pruned is old, and lies together: block ranges tell where, and cost writers next to nothing.
CREATE INDEX idempotency_key_age ON idempotency_key USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX appointment_history_age ON appointment_history USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
`;
