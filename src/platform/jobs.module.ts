import { BullModule } from '@nestjs/bullmq';
import { type DynamicModule, Module } from '@nestjs/common';
import { createPostgresBackend, type QueueOptions, setDefaultBackendFactory } from 'bullmq';
import type { Config } from './config';

/** The schema of BullMQ's own tables, where PostgreSQL stands in for Redis. Exempt from row-level security: ids only. */
export const QUEUE_SCHEMA = 'bullmq';

/**
 * The queues: BullMQ on Redis, or on PostgreSQL where no Redis is given. A queue only delivers; rows decide. So a lost Redis
 * loses time, never work, and only processes that work on jobs open connections for them.
 */
@Module({})
export class JobsModule {
  static forRoot(config: Config): DynamicModule {
    return {
      module: JobsModule,
      global: true,
      imports: [BullModule.forRoot({ connection: connection(config) })],
      exports: [BullModule],
    };
  }
}

function connection(config: Config): QueueOptions['connection'] {
  if (config.redisUrl !== undefined) {
    setDefaultBackendFactory();
    return { url: config.redisUrl, maxRetriesPerRequest: null };
  }
  setDefaultBackendFactory(createPostgresBackend as never);
  // Every queue and worker opens a pool of its own beside a LISTEN connection: two each are enough.
  return {
    connectionString: config.databaseUrl,
    schema: QUEUE_SCHEMA,
    max: 2,
    application_name: 'holdfast jobs',
  };
}
