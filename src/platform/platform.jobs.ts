import { BullModule, InjectQueue, Processor } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Queue } from 'bullmq';
import { AuditTrail } from './audit-trail';
import { CleanUp } from './clean-up';
import { Log } from './logging';
import { RecurringJobs } from './recurring-jobs';

const QUEUE = 'platform';

/** Every five minutes: what is over of limits and locks is deleted. Every five seconds: the audit trail is chained. */
@Processor(QUEUE)
class PlatformJobs extends RecurringJobs {
  constructor(@InjectQueue(QUEUE) queue: Queue, log: Log, cleanUp: CleanUp, trail: AuditTrail) {
    super(queue, log, [
      { name: 'clean-up-limits-and-locks', schedule: { pattern: '*/5 * * * *' }, run: () => cleanUp.run() },
      { name: 'chain-audit-trail', schedule: { every: 5_000 }, run: () => trail.chain() },
    ]);
  }
}

/** What a worker does for the floor of the house. */
@Module({
  imports: [BullModule.registerQueue({ name: QUEUE })],
  providers: [CleanUp, PlatformJobs],
})
export class PlatformJobsModule {}
