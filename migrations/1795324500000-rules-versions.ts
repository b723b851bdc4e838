import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The versions of an organization's schedules from an index alone. Searches of many schedules ask for their sum: where it is what
 * it was, nobody's rules have changed. Rules change rarely and bookings never write schedules, so the index costs next to nothing.
 */
export class RulesVersions1795324500000 implements MigrationInterface {
  name = 'RulesVersions1795324500000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE INDEX schedule_versions ON schedule (organization_id, version)');
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}
