import { type DynamicModule, Module } from '@nestjs/common';
import { APP_FILTER, APP_PIPE } from '@nestjs/core';
import { AppointmentsJobsModule, AppointmentsModule } from './appointments';
import { AuthJobsModule, AuthModule } from './auth';
import { AvailabilityJobsModule, AvailabilityModule } from './availability';
import { ClinicModule } from './clinic';
import { OperationsModule } from './operations';
import {
  type Config,
  JobsModule,
  type Log,
  PlatformJobsModule,
  PlatformModule,
  ProblemFilter,
  RequestLimitsModule,
  RequestPipe,
} from './platform';

/** The whole house. What each room is for stands in ARCHITECTURE.md. */
@Module({})
export class AppModule {
  static forRoot(config: Config, log: Log): DynamicModule {
    return {
      module: AppModule,
      imports: [
        PlatformModule.forRoot(config, log),
        AuthModule,
        // Behind what authenticates: the limit of a principal needs to know it.
        RequestLimitsModule,
        ClinicModule,
        AvailabilityModule,
        AppointmentsModule,
        OperationsModule,
        // An API process serves requests alone and opens no connection for jobs.
        ...(config.role === 'api'
          ? []
          : [
              JobsModule.forRoot(config),
              PlatformJobsModule,
              AuthJobsModule,
              AvailabilityJobsModule,
              AppointmentsJobsModule,
            ]),
      ],
      providers: [
        { provide: APP_FILTER, useClass: ProblemFilter },
        { provide: APP_PIPE, useClass: RequestPipe },
      ],
    };
  }
}
