import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What is known of a person can be erased; that he was there stays in the ledger and in the audit trail, without a word about
 * him (see docs/adr/0024).
 *
 * History stays append-only: of a line nothing can be changed but its free text, by nobody but the role that serves an
 * organization, to nothing but null, and only of a patient who is erased.
 */
export class Erasure1795341600000 implements MigrationInterface {
  name = 'Erasure1795341600000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TABLES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const app = `"${`holdfast_app_${database}`.slice(0, 63).replaceAll('"', '""')}"`;
    await runner.query(`
      GRANT UPDATE (reason) ON appointment_history TO ${app};
      CREATE POLICY erasure_only ON appointment_history AS RESTRICTIVE FOR UPDATE TO ${app} USING (true)
        WITH CHECK (reason IS NULL AND EXISTS (
          SELECT FROM appointment a JOIN patient p ON p.organization_id = a.organization_id AND p.id = a.patient_id
          WHERE a.organization_id = appointment_history.organization_id AND a.id = appointment_history.appointment_id
            AND p.erased_at IS NOT NULL));`);
    await runner.query(FUNCTION);
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

const TABLES = `
-- An erased patient is deleted, and nothing is known of him. Nobody can bring any of it back.
ALTER TABLE patient
  ADD COLUMN erased_at timestamptz,
  ALTER COLUMN phone DROP NOT NULL,
  ADD CONSTRAINT patient_has_phone CHECK (phone IS NOT NULL OR erased_at IS NOT NULL),
  ADD CONSTRAINT patient_erased CHECK (erased_at IS NULL OR (deleted_at IS NOT NULL
    AND num_nonnulls(phone, name, email, location_id, locale, notes, verified_at) = 0));

-- Who is forgotten is signed out.
ALTER TABLE auth_session
  DROP CONSTRAINT auth_session_organization_id_phone_identity_id_fkey,
  ADD CONSTRAINT auth_session_phone_identity FOREIGN KEY (organization_id, phone_identity_id)
    REFERENCES phone_identity (organization_id, id) ON DELETE CASCADE;
`;

const FUNCTION = `
CREATE OR REPLACE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
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
