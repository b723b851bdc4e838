import { Injectable } from '@nestjs/common';

/**
 * "Now" of the process, in milliseconds since the epoch. A port, so that tests can move time. What expires by the ledger
 * (holds) is judged by the database's clock instead, because processes' clocks differ.
 */
@Injectable()
export class Clock {
  now(): number {
    return Date.now();
  }

  /** The same as a Date, as columns want it. */
  date(): Date {
    return new Date(this.now());
  }
}
