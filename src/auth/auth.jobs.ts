import { BullModule, InjectQueue, Processor } from '@nestjs/bullmq';
import { Module } from '@nestjs/common';
import type { Queue } from 'bullmq';
import { Log, RecurringJobs } from '../platform';
import { AuthModule } from './auth.module';
import { IdentityCleanUp } from './clean-up.service';
import { SigningKeys } from './signing-keys';

const QUEUE = 'auth';

/** Every ten minutes: what is over goes. Hourly: the next signing key is made in time. */
@Processor(QUEUE)
class AuthJobs extends RecurringJobs {
  constructor(@InjectQueue(QUEUE) queue: Queue, log: Log, cleanUp: IdentityCleanUp, keys: SigningKeys) {
    super(queue, log, [
      { name: 'clean-identities', schedule: { every: 600_000 }, run: () => cleanUp.run() },
      { name: 'renew-signing-keys', schedule: { pattern: '41 * * * *' }, run: () => keys.renew() },
    ]);
  }
}

/** What a worker does for identities. */
@Module({
  imports: [BullModule.registerQueue({ name: QUEUE }), AuthModule],
  providers: [AuthJobs],
})
export class AuthJobsModule {}
