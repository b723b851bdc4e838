import { Module } from '@nestjs/common';
import { AppointmentsModule } from '../appointments';
import { AuthModule } from '../auth';
import { AvailabilityModule } from '../availability';
import { ClinicModule } from '../clinic';
import { AuditLogController } from './audit-log.controller';
import { DemoService } from './demo.service';
import { HealthController } from './health.controller';
import { MetricsController } from './metrics.controller';
import { SetupService } from './setup.service';

/** What people need who run Holdfast. */
@Module({
  imports: [AuthModule, ClinicModule, AvailabilityModule, AppointmentsModule],
  controllers: [AuditLogController, HealthController, MetricsController],
  providers: [DemoService, SetupService],
})
export class OperationsModule {}
