import { setImmediate } from 'node:timers/promises';

/** How long one piece of work may keep the event loop to itself, in milliseconds: bookings wait for no search. */
const SLICE = 3;

/** Cuts long work into slices. Whoever does it asks after each step: `if (turns.isOver) await turns.next()`. */
export class Turns {
  private since = performance.now();

  get isOver(): boolean {
    return performance.now() - this.since > SLICE;
  }

  /** Lets everything else that waits have its turn. */
  async next(): Promise<void> {
    await setImmediate();
    this.since = performance.now();
  }
}
