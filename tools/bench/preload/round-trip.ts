import 'reflect-metadata';
import { Controller, Get, Query } from '@nestjs/common';
import { AppModule } from '../../../src/app.module';
import { type Call, CurrentCall, Permit } from '../../../src/auth';
import { Database, Id, InstantParameter, WholeParameter } from '../../../src/platform';

/**
 * Loaded into the app before it starts: an endpoint that asks the database for 1 and nothing else. All around it is the
 * app's own: router, guard, validation of the same parameters as a search has, one read transaction, filter and answer. So
 * what a search takes beyond it is the search.
 */
class RoundTripQuery {
  @Id()
  serviceId: string;
  @Id({ optional: true })
  practitionerId?: string;
  @InstantParameter()
  from: string;
  @InstantParameter()
  to: string;
  @WholeParameter({ min: 1, max: 1000, optional: true })
  limit?: number;
}

@Controller('v1/bench')
class RoundTripController {
  constructor(private readonly database: Database) {}

  @Get('round-trip')
  @Permit('slots:read')
  read(@CurrentCall() call: Call, @Query() query: RoundTripQuery) {
    return this.database.read(call.organizationId, async (tx) => ({
      data: await tx.query<unknown[]>('SELECT 1 AS one'),
      asked: query.serviceId,
    }));
  }
}

const forRoot = AppModule.forRoot.bind(AppModule);
AppModule.forRoot = (config, log) => ({ ...forRoot(config, log), controllers: [RoundTripController] });
