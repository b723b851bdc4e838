import { WorkerHost } from '@nestjs/bullmq';
import type { OnApplicationBootstrap } from '@nestjs/common';
import type { Job, Queue } from 'bullmq';
import type { Log } from './logging';

/** Work that comes again and again. It must be safe to run twice, at once and late: the queue delivers, rows decide. */
export interface RecurringJob {
  name: string;
  /** A cron pattern, or an interval in milliseconds. */
  schedule: { pattern: string } | { every: number };
  run: () => Promise<unknown>;
}

/** Low: whatever else a worker has to do comes first. */
const OPTIONS = {
  priority: 100,
  removeOnComplete: 50,
  removeOnFail: 200,
  attempts: 3,
  backoff: { type: 'exponential', delay: 5_000 },
};

/** The recurring jobs of one queue. Schedules them when a worker starts, and runs each once at that time. */
export abstract class RecurringJobs extends WorkerHost implements OnApplicationBootstrap {
  protected constructor(
    private readonly queue: Queue,
    private readonly log: Log,
    private readonly jobs: readonly RecurringJob[],
  ) {
    super();
  }

  onApplicationBootstrap(): void {
    // BullMQ connects again by itself; without a listener it would write to the console.
    const unreachable = (error: Error) => this.log.failure('queue_unreachable', error, { queue: this.queue.name });
    this.queue.on('error', unreachable);
    this.worker.on('error', unreachable);
    for (const job of this.jobs) {
      // Not awaited: a worker starts without its queue and finds it when it comes back.
      void this.schedule(job).catch((error: unknown) =>
        this.log.failure('job_not_scheduled', error, { job: job.name }),
      );
    }
  }

  async process({ name }: Job): Promise<void> {
    const job = this.jobs.find((each) => each.name === name);
    if (!job) throw new Error(`The queue ${this.queue.name} knows no job ${name}.`);
    await job.run();
  }

  private async schedule({ name, schedule }: RecurringJob): Promise<void> {
    await this.queue.upsertJobScheduler(name, schedule, { name, opts: OPTIONS });
    await this.queue.add(name, {}, { ...OPTIONS, deduplication: { id: name, keepLastIfActive: true } });
  }
}
