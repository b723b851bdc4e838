import { BullModule, InjectQueue, Processor, WorkerHost } from '@nestjs/bullmq';
import { Module, type OnApplicationBootstrap } from '@nestjs/common';
import type { Queue } from 'bullmq';
import { Log } from '../platform';
import { AvailabilityModule } from './availability.module';
import { DayPlanner } from './day-planner.service';

const QUEUE = 'availability';
const PLAN_DAYS_AHEAD = 'plan-days-ahead';
/** Low: whatever else a worker has to do comes first. */
const REFRESH = {
  priority: 100,
  removeOnComplete: 50,
  removeOnFail: 200,
  attempts: 3,
  backoff: { type: 'exponential', delay: 5_000 },
};

/** Writes the day rows of the coming weeks before anybody asks for them. Hourly, and once when a worker starts. */
@Processor(QUEUE)
class PlanDaysAhead extends WorkerHost implements OnApplicationBootstrap {
  constructor(
    @InjectQueue(QUEUE) private readonly queue: Queue,
    private readonly planner: DayPlanner,
    private readonly log: Log,
  ) {
    super();
  }

  onApplicationBootstrap(): void {
    // BullMQ connects again by itself; without a listener it would write to the console.
    const unreachable = (error: Error) => this.log.failure('queue_unreachable', error, { queue: QUEUE });
    this.queue.on('error', unreachable);
    this.worker.on('error', unreachable);
    // Not awaited: a worker starts without its queue and finds it when it comes back.
    void this.schedule().catch((error: unknown) =>
      this.log.failure('job_not_scheduled', error, { job: PLAN_DAYS_AHEAD }),
    );
  }

  async process(): Promise<void> {
    await this.planner.planAhead();
  }

  private async schedule(): Promise<void> {
    const template = { name: PLAN_DAYS_AHEAD, opts: REFRESH };
    await this.queue.upsertJobScheduler(PLAN_DAYS_AHEAD, { pattern: '7 * * * *' }, template);
    await this.queue.add(
      PLAN_DAYS_AHEAD,
      {},
      { ...REFRESH, deduplication: { id: PLAN_DAYS_AHEAD, keepLastIfActive: true } },
    );
  }
}

/** What a worker does for availability. */
@Module({
  imports: [BullModule.registerQueue({ name: QUEUE }), AvailabilityModule],
  providers: [PlanDaysAhead],
})
export class AvailabilityJobsModule {}
