import { type DynamicModule, Global, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuditTrail } from './audit-trail';
import { Clock } from './clock';
import { CONFIG, type Config } from './config';
import { Cursors } from './cursor';
import { Database } from './database';
import { Idempotency } from './idempotency';
import { Locks } from './locks';
import { Log } from './logging';
import { Metrics } from './metrics';
import { Outbox } from './outbox';
import { RateLimits } from './rate-limits';
import { connectionOptions } from './schema';

const PROVIDERS = [AuditTrail, Clock, Cursors, Database, Idempotency, Locks, Metrics, Outbox, RateLimits];

/** The floor of the house: everything that knows nothing of clinics. The only global module. */
@Global()
@Module({})
export class PlatformModule {
  static forRoot(config: Config, log: Log): DynamicModule {
    return {
      module: PlatformModule,
      imports: [
        TypeOrmModule.forRoot({
          ...connectionOptions(config.databaseUrl, config.databasePoolSize),
          autoLoadEntities: true,
          // Start brought the database up already; what fails now is to be said at once.
          retryAttempts: 0,
        }),
      ],
      providers: [{ provide: CONFIG, useValue: config }, { provide: Log, useValue: log }, ...PROVIDERS],
      exports: [CONFIG, Log, ...PROVIDERS],
    };
  }
}
