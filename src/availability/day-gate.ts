import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config, LIMITS, Metrics, Problem } from '../platform';

/**
 * Lets at most half of the connection pool into transactions that contend for one day; the others wait here, in order and
 * without a connection, so that a crowd at one slot keeps nobody else out. This is manners, not safety: the day row's lock
 * decides. Per process.
 */
@Injectable()
export class DayGate {
  private readonly gates = new Map<string, { inside: number; waiting: Array<() => void> }>();
  private readonly width: number;

  constructor(
    @Inject(CONFIG) config: Config,
    private readonly metrics: Metrics,
  ) {
    this.width = Math.max(1, Math.floor(config.databasePoolSize / 2));
  }

  /** Whether bookings are under way in this process. */
  get isBusy(): boolean {
    return this.gates.size > 0;
  }

  /**
   * Runs `work` when it is its turn at `key`.
   * @throws Problem `busy` when the turn does not come within a request's budget
   */
  async pass<T>(key: string, work: () => Promise<T>): Promise<T> {
    const gate = this.gates.get(key) ?? { inside: 0, waiting: [] };
    this.gates.set(key, gate);
    if (gate.inside >= this.width) await this.turn(gate.waiting);
    else gate.inside++;
    try {
      return await work();
    } finally {
      const next = gate.waiting.shift();
      // The place is handed over, so it is never free for one who has not waited.
      if (next) next();
      else if (--gate.inside === 0) this.gates.delete(key);
    }
  }

  private turn(waiting: Array<() => void>): Promise<void> {
    const observe = this.metrics.dayGateSeconds.startTimer();
    return new Promise((resolve, reject) => {
      const enter = () => {
        clearTimeout(timer);
        observe();
        resolve();
      };
      const timer = setTimeout(() => {
        waiting.splice(waiting.indexOf(enter), 1);
        observe();
        reject(Problem.busy('Too many people want this day at once. Nothing was changed; please try again.'));
      }, LIMITS.budget);
      waiting.push(enter);
    });
  }
}
