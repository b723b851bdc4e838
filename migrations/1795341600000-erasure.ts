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
