import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What the clocks were to show at each segment, and in which zone, as it was booked: when a zone changes its rules
 * afterwards, the instant that was booked is another local time. Empty for what was booked before.
 */
export class WallTimes1795316400000 implements MigrationInterface {
  name = 'WallTimes1795316400000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      'ALTER TABLE appointment_segment ADD COLUMN time_zone text, ADD COLUMN local_starts_at timestamp',
    );
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}
