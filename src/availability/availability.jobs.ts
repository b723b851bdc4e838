import { BullModule, InjectQueue, Processor } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Queue } from 'bullmq';
import { Log, RecurringJobs } from '../platform';
import { AvailabilityModule } from './availability.module';
import { DayPlanner } from './day-planner.service';

const QUEUE = 'availability';

/** Hourly: the day rows of the coming weeks are written before anybody asks for them. */
@Processor(QUEUE)
class AvailabilityJobs extends RecurringJobs {
  constructor(@InjectQueue(QUEUE) queue: Queue, log: Log, planner: DayPlanner) {
    super(queue, log, [
      { name: 'plan-days-ahead', schedule: { pattern: '7 * * * *' }, run: () => planner.planAhead() },
    ]);
  }
}

/** What a worker does for availability. */
@Module({
  imports: [BullModule.registerQueue({ name: QUEUE }), AvailabilityModule],
  providers: [AvailabilityJobs],
})
export class AvailabilityJobsModule {}
