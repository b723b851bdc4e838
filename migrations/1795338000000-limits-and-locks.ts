import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The soft protections: sliding windows of limits, and leases on resources. No row of them belongs to an organization: keys
 * name limits and resources of the whole install (those of an organization carry its id, what would name a person is hashed),
 * and a limit is counted before anybody knows who calls. So there is no row-level security on them; privileges are narrow.
 */
export class LimitsAndLocks1795338000000 implements MigrationInterface {
  name = 'LimitsAndLocks1795338000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(TABLES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const [app, system] = ['app', 'system'].map(
      (kind) => `"${`holdfast_${kind}_${database}`.slice(0, 63).replaceAll('"', '""')}"`,
    );
    await runner.query(`
      GRANT SELECT, INSERT, UPDATE, DELETE ON rate_limit, rate_limit_hit, distributed_locks TO ${system};
      GRANT USAGE ON SEQUENCE distributed_locks_fence TO ${system};
      -- A write that is fenced locks the row of its lease, and locking a row takes the privilege to change something of it.
      GRANT SELECT, UPDATE (owner) ON distributed_locks TO ${app};`);
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

const TABLES = `
-- One window of one limit. Its row is what takes are serialised by; next numbers the hits, which are in order of time too.
CREATE TABLE rate_limit (
  key         text PRIMARY KEY,
  next        bigint NOT NULL DEFAULT 1,
  last_hit_at timestamptz NOT NULL DEFAULT '-infinity',
  expires_at  timestamptz NOT NULL
);
CREATE INDEX rate_limit_expiry ON rate_limit (expires_at);

-- What was admitted, one row each. How many lie in the window is a difference of two numbers, not a count of rows.
CREATE TABLE rate_limit_hit (
  key    text NOT NULL REFERENCES rate_limit ON DELETE CASCADE,
  at     timestamptz NOT NULL,
  number bigint NOT NULL,
  PRIMARY KEY (key, at, number)
);

-- Never reset and never cached, so that tokens rise for ever, also when the row of a lock has gone and come back.
CREATE SEQUENCE distributed_locks_fence AS bigint CACHE 1 NO CYCLE;

-- Leases on resources. The unique token makes every acquisition a change of a key: it waits for fenced writes, which hold
-- the row FOR KEY SHARE until they have committed, while a renewal does not.
CREATE TABLE distributed_locks (
  key           text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 200),
  owner         text NOT NULL,
  fencing_token bigint NOT NULL UNIQUE,
  expires_at    timestamptz NOT NULL
);
CREATE INDEX distributed_locks_expiry ON distributed_locks (expires_at);
`;
