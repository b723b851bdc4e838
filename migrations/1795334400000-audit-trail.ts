import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The audit trail: who changed what and when, of every organization, as a chain of hashes.
 *
 * Triggers write each change down in its own transaction, into `audit_pending`; no code can forget to. Behind the commit it
 * is moved into `audit_log`, where each entry carries the hash of the one before it (see `platform/audit-trail.ts`). So a
 * booking waits for no chain. Nobody may change or delete an entry of the log, by privilege; who owns the database can, and
 * `doctor` sees that he did. Ids and names of actions alone: nothing about anybody's health, no name, no phone.
 */
export class AuditTrail1795334400000 implements MigrationInterface {
  name = 'AuditTrail1795334400000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TABLES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const [app, system] = ['app', 'system'].map(
      (kind) => `"${`holdfast_${kind}_${database}`.slice(0, 63).replaceAll('"', '""')}"`,
    );
    for (const table of ['audit_pending', 'audit_log', 'audit_head']) {
      await runner.query(`
        ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY organization_isolation ON ${table} TO ${app}
          USING (organization_id = NULLIF(current_setting('holdfast.organization_id', true), '')::uuid);
        CREATE POLICY system_access ON ${table} TO ${system} USING (true);`);
    }
    await runner.query(`
      GRANT SELECT, INSERT ON audit_pending TO ${app};
      GRANT SELECT ON audit_log, audit_head TO ${app};
      GRANT SELECT, INSERT, DELETE ON audit_pending TO ${system};
      GRANT SELECT, INSERT ON audit_log TO ${system};
      GRANT SELECT, INSERT, UPDATE ON audit_head TO ${system};`);
    await runner.query(FUNCTIONS);
    for (const [table, id] of Object.entries(AUDITED)) {
      await runner.query(
        `CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW EXECUTE FUNCTION audit_change('${id}')`,
      );
    }
    await runner.query(
      'CREATE TRIGGER audited AFTER INSERT ON appointment_history FOR EACH ROW EXECUTE FUNCTION audit_appointment()',
    );
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

/** Tables whose changes are written down, and the column of the id. Appointments are by their history, which knows the action. */
const AUDITED = {
  organization: 'id',
  location: 'id',
  practitioner: 'id',
  room: 'id',
  service: 'id',
  patient: 'id',
  schedule: 'id',
  schedule_exception: 'id',
  published_slot: 'id',
  api_key: 'id',
  membership: 'user_id',
  invitation: 'id',
};

const TABLES = `
-- What is not in the log yet, in no order. Without index and keys: it holds few rows, all of them are read, and bookings write
-- them.
CREATE TABLE audit_pending (
  organization_id uuid NOT NULL,
  at              timestamptz NOT NULL,
  actor           text NOT NULL,
  action          text NOT NULL,
  entity          text NOT NULL,
  entity_id       uuid NOT NULL,
  version         integer,
  request_id      text
);

-- seq runs from 1 without a gap; hash is SHA-256 over the hash before and the entry.
CREATE TABLE audit_log (
  organization_id uuid NOT NULL REFERENCES organization,
  seq             bigint NOT NULL,
  at              timestamptz NOT NULL,
  actor           text NOT NULL,
  action          text NOT NULL,
  entity          text NOT NULL,
  entity_id       uuid NOT NULL,
  version         integer,
  request_id      text,
  hash            bytea NOT NULL,
  PRIMARY KEY (organization_id, seq)
);
CREATE INDEX audit_log_entity ON audit_log (organization_id, entity_id, seq);
CREATE INDEX audit_log_actor ON audit_log (organization_id, actor, seq);
CREATE INDEX audit_log_at ON audit_log (organization_id, at);

-- The last entry of each log, sealed with a key that the database does not have: it shows that the end was cut off.
CREATE TABLE audit_head (
  organization_id uuid PRIMARY KEY REFERENCES organization,
  seq             bigint NOT NULL,
  hash            bytea NOT NULL,
  seal            bytea NOT NULL
);
`;

const FUNCTIONS = `
CREATE FUNCTION audit_appointment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit_pending (organization_id, at, actor, action, entity, entity_id, version, request_id)
  VALUES (NEW.organization_id, date_trunc('milliseconds', NEW.at), NEW.actor, NEW.action, 'appointment', NEW.appointment_id,
          NEW.version, NULLIF(current_setting('holdfast.request_id', true), ''));
  RETURN NULL;
END $$;

CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  -- What changes without anybody's doing is not told.
  before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - '{last_used_at,updated_at}'::text[] END;
  present jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - '{last_used_at,updated_at}'::text[] END;
  told jsonb := coalesce(present, before);
BEGIN
  IF before = present THEN RETURN NULL; END IF;
  INSERT INTO audit_pending (organization_id, at, actor, action, entity, entity_id, version, request_id)
  VALUES (
    coalesce(told ->> 'organization_id', told ->> 'id')::uuid, date_trunc('milliseconds', clock_timestamp()),
    coalesce(NULLIF(current_setting('holdfast.actor', true), ''), 'system'),
    CASE WHEN before IS NULL THEN 'create'
         WHEN before ->> 'erased_at' IS NULL AND present ->> 'erased_at' IS NOT NULL THEN 'erase'
         WHEN present IS NULL OR (before ->> 'deleted_at' IS NULL AND present ->> 'deleted_at' IS NOT NULL) THEN 'delete'
         WHEN before ->> 'revoked_at' IS NULL AND present ->> 'revoked_at' IS NOT NULL THEN 'revoke'
         ELSE 'update' END,
    TG_TABLE_NAME, (told ->> TG_ARGV[0])::uuid, (told ->> 'version')::integer,
    NULLIF(current_setting('holdfast.request_id', true), ''));
  RETURN NULL;
END $$;
`;
