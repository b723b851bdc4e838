import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config, Log } from '../platform';

/** A secret on its way to the one person who shall have it. */
export interface Delivery {
  purpose: 'sign_in' | 'invitation' | 'password_reset';
  /** A phone in E.164, or an e-mail address. */
  to: string;
  secret: string;
  organizationId?: string;
}

/** How secrets reach people: codes their phone, links their mail. The one place that sees them besides who made them. */
export abstract class CodeDelivery {
  /** Called once what the secret is for is stored. A failure is the caller's to log, not the requester's to learn. */
  abstract deliver(delivery: Delivery): Promise<void>;
}

/** For development, where no channel is connected: the log. Silent about secrets unless the settings ask for them. */
@Injectable()
export class LoggedDelivery extends CodeDelivery {
  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly log: Log,
  ) {
    super();
  }

  deliver({ purpose, to, secret }: Delivery): Promise<void> {
    if (this.config.logCodes) this.log.warning('development_code', { purpose, to, secret, never: 'in production' });
    else this.log.warning('code_not_delivered', { purpose, why: 'no channel is connected, and LOG_CODES is off' });
    return Promise.resolve();
  }
}
