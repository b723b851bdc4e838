import { DataSource } from 'typeorm';
import type { Config } from './config';
import { Database } from './database';
import { Locks } from './locks';
import { Log } from './logging';
import { Metrics } from './metrics';
import { RateLimits } from './rate-limits';
import { connectionOptions } from './schema';

/** Limits and locks of an install, for a program beside it. */
export interface Protections {
  limits: RateLimits;
  locks: Locks;
  /** The door to the database, for writes that a lock fences. */
  database: Database;
  /** Of this program; the install's own processes have theirs. */
  metrics: Metrics;
  close(): Promise<void>;
}

/**
 * Joins the limits and locks of an install from another program, as one more process of it. It must have the install's
 * `DATABASE_URL`, `REDIS_URL` and `SECRET_KEY`, or the two would not count the same.
 */
export async function openProtections(config: Config, log = Log.create(config.logLevel)): Promise<Protections> {
  const dataSource = new DataSource(connectionOptions(config.databaseUrl, config.databasePoolSize));
  await dataSource.initialize();
  const metrics = new Metrics();
  const database = new Database(dataSource, log, metrics);
  const limits = new RateLimits(config, database, log, metrics);
  limits.onModuleInit();
  return {
    limits,
    locks: new Locks(config, database, log, metrics),
    database,
    metrics,
    close: async () => {
      limits.onModuleDestroy();
      await dataSource.destroy();
    },
  };
}
