import type { Ask, Verdict } from './rate-limits.windows';

/** So many subjects are remembered at most; beyond, who was not seen for longest is forgotten. */
const SUBJECTS = 50_000;

/**
 * Sliding windows in the memory of this process: exact here, and unknown to others. What `open` limits are counted by where
 * there is no Redis, because a row written for every request would cost more than most requests do.
 */
export class MemoryWindows {
  /** Times of what was admitted, oldest first; `first` is the index of the oldest that may still count. */
  private readonly windows = new Map<string, { times: number[]; first: number; until: number }>();
  private sweepAt = 0;

  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly subjects = SUBJECTS,
  ) {}

  take(asks: readonly Ask[]): Verdict {
    const now = this.now();
    if (now >= this.sweepAt) this.sweep(now);
    const windows = asks.map((ask) => {
      const window = this.windows.get(ask.key) ?? { times: [], first: 0, until: 0 };
      while (window.first < window.times.length && window.times[window.first]! <= now - ask.windowSeconds * 1_000)
        window.first++;
      // Dropping one by one from the front would move all the others each time.
      if (window.first > 64 && window.first * 2 > window.times.length) {
        window.times = window.times.slice(window.first);
        window.first = 0;
      }
      return window;
    });
    const used = (at: number) => windows[at]!.times.length - windows[at]!.first;
    const allowed = asks.every((ask, at) => used(at) + ask.tokens <= ask.count);
    const views = asks.map((ask, at) => {
      const { times, first } = windows[at]!;
      const secondsUntil = (index: number) => ((times[first + index] ?? now) - now) / 1_000 + ask.windowSeconds;
      const over = used(at) + ask.tokens - ask.count;
      return {
        used: used(at) + (allowed ? ask.tokens : 0),
        waitSeconds: over > 0 ? secondsUntil(over - 1) : 0,
        resetSeconds: secondsUntil(0),
      };
    });
    if (allowed) asks.forEach((ask, at) => this.add(ask, windows[at]!, now));
    return { allowed, windows: views, giveBack: () => this.remove(asks, now) };
  }

  private add(ask: Ask, window: { times: number[]; first: number; until: number }, now: number): void {
    for (let token = 0; token < ask.tokens; token++) window.times.push(now);
    window.until = now + ask.windowSeconds * 1_000;
    // In order of their last use, so that the first one is the one to forget.
    this.windows.delete(ask.key);
    this.windows.set(ask.key, window);
    if (this.windows.size > this.subjects) this.windows.delete(this.windows.keys().next().value!);
  }

  private remove(asks: readonly Ask[], taken: number): void {
    for (const ask of asks) {
      const times = this.windows.get(ask.key)?.times;
      const at = times?.lastIndexOf(taken) ?? -1;
      if (at >= 0) times!.splice(at - ask.tokens + 1, ask.tokens);
    }
  }

  private sweep(now: number): void {
    for (const [key, { until }] of this.windows) if (until <= now) this.windows.delete(key);
    this.sweepAt = now + 60_000;
  }
}
