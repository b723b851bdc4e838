import { BullModule, InjectQueue, Processor } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Queue } from 'bullmq';
import { Log, RecurringJobs } from '../platform';
import { AppointmentsModule } from './appointments.module';
import { ExpiryService } from './expiry.service';
import { RetentionService } from './retention.service';

const QUEUE = 'appointments';

/** Every ten seconds: expiries are written down. Hourly: what has outlived its use ends. */
// Two at once, so that pruning keeps no sweep waiting.
@Processor(QUEUE, { concurrency: 2 })
class AppointmentsJobs extends RecurringJobs {
  constructor(@InjectQueue(QUEUE) queue: Queue, log: Log, expiry: ExpiryService, retention: RetentionService) {
    super(queue, log, [
      { name: 'sweep-expired', schedule: { every: 10_000 }, run: () => expiry.sweep() },
      { name: 'prune-retention', schedule: { pattern: '23 * * * *' }, run: () => retention.prune() },
    ]);
  }
}

/** What a worker does for appointments. */
@Module({
  imports: [BullModule.registerQueue({ name: QUEUE }), AppointmentsModule],
  providers: [AppointmentsJobs],
})
export class AppointmentsJobsModule {}
