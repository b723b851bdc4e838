import { randomBytes } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { hash, verify } from '@node-rs/argon2';
import { CONFIG, type Config, Problem } from '../platform';

/** argon2id by OWASP's minimum: 19 MiB, two passes, one lane; some 30 ms of a core. */
const COST = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/** Hashes run on the pool of threads that files and name look-ups use, too, four of them: two are left to those. */
const AT_ONCE = 2;
/** Who would wait longer than some two seconds is told to come again. */
const WAITING = 100;

/** Passwords are kept as argon2id, and checked a few at a time. */
@Injectable()
export class Passwords {
  private readonly cost: typeof COST;
  private running = 0;
  private readonly waiting: Array<() => void> = [];
  private nobodys?: Promise<string>;

  constructor(@Inject(CONFIG) config: Config) {
    this.cost = { ...COST, ...config.passwordCost };
  }

  hash(password: string): Promise<string> {
    return this.turn(() => hash(password, this.cost));
  }

  /** Whether a password is the right one. Takes as long for an account that does not exist: then no password is. */
  async matches(stored: string | undefined, password: string): Promise<boolean> {
    // Made by the first who asks, whoever that is.
    const nobodys = await (this.nobodys ??= hash(randomBytes(32).toString('base64'), this.cost));
    const against = stored ?? nobodys;
    const right = await this.turn(() => verify(against, password));
    return right && stored !== undefined;
  }

  private async turn<T>(work: () => Promise<T>): Promise<T> {
    if (this.running >= AT_ONCE) {
      if (this.waiting.length >= WAITING) throw Problem.busy('Too many people sign in at once; please try again.');
      // Who goes on was counted by who has made room for him.
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    } else this.running++;
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    }
  }
}
