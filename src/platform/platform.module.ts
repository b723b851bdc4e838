import { type DynamicModule, Global, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { Clock } from './clock';
import { CONFIG, type Config } from './config';
import { Cursors } from './cursor';
import { Database } from './database';
import { Idempotency } from './idempotency';
import { Log } from './logging';
import { Metrics } from './metrics';
import { Outbox } from './outbox';
import './pg-types';
import { SnakeCaseNames } from './snake-case-names';

const PROVIDERS = [Clock, Cursors, Database, Idempotency, Metrics, Outbox];

/** The floor of the house: everything that knows nothing of clinics. The only global module. */
@Global()
@Module({})
export class PlatformModule {
  static forRoot(config: Config, log: Log): DynamicModule {
    return {
      module: PlatformModule,
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: config.databaseUrl,
          applicationName: 'holdfast',
          poolSize: config.databasePoolSize,
          // Waiting for a connection is part of a request's budget; what waits longer is told `busy`.
          connectTimeoutMS: 5_000,
          extra: { keepAlive: true },
          namingStrategy: new SnakeCaseNames(),
          autoLoadEntities: true,
          synchronize: false,
          migrationsRun: false,
          installExtensions: false,
          logging: false,
          // Start brought the database up already; what fails now is to be said at once.
          retryAttempts: 0,
        }),
      ],
      providers: [{ provide: CONFIG, useValue: config }, { provide: Log, useValue: log }, ...PROVIDERS],
      exports: [CONFIG, Log, ...PROVIDERS],
    };
  }
}
