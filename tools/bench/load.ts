import { Wire } from './wire';

/** One unit of work on a connection: how many milliseconds it took, or undefined where it did not do what it should. */
export type Work = (wire: Wire) => Promise<boolean>;

export interface Flood {
  perSecond: number;
  /** Milliseconds of each unit that succeeded. */
  latencies: number[];
  failed: number;
}

/** So many connections to one address, opened before anything is measured. */
export class Crowd {
  private constructor(readonly wires: Wire[]) {}

  static async of(url: string, connections: number): Promise<Crowd> {
    return new Crowd(await Promise.all(Array.from({ length: connections }, () => Wire.open(url))));
  }

  /** Keeps all of them busy for so long, each with one unit after the other. */
  async flood(seconds: number, work: Work): Promise<Flood> {
    const started = performance.now();
    const until = started + seconds * 1000;
    return this.run(work, () => performance.now() < until);
  }

  /** Does so many units in all, as fast as they go. */
  async finish(count: number, work: Work): Promise<Flood> {
    let begun = 0;
    return this.run(work, () => begun++ < count);
  }

  close(): void {
    for (const wire of this.wires) wire.close();
  }

  private async run(work: Work, more: () => boolean): Promise<Flood> {
    const latencies: number[] = [];
    let failed = 0;
    const started = performance.now();
    await Promise.all(
      this.wires.map(async (wire) => {
        while (more()) {
          const sent = performance.now();
          if (await work(wire)) latencies.push(performance.now() - sent);
          else failed++;
        }
      }),
    );
    return { perSecond: latencies.length / ((performance.now() - started) / 1000), latencies, failed };
  }
}

/** How often something is measured: what is slow less often, so that the whole ends in time, but never fewer than so often. */
export interface Limits {
  most: number;
  fewest: number;
  milliseconds: number;
}

/**
 * Measures several sides in turns: what the machine does meanwhile meets all of them. The order changes from round to round,
 * so that who comes first or last gains nothing by it.
 */
export async function inTurns<T extends unknown[]>(
  { most, fewest, milliseconds }: Limits,
  ...sides: { [K in keyof T]: () => Promise<T[K]> }
): Promise<T[]> {
  const results: T[] = [];
  const until = performance.now() + milliseconds;
  for (let round = 0; round < most && (round < fewest || performance.now() < until); round++) {
    const order = sides.map((_, index) => index);
    if (round % 2 === 1) order.reverse();
    const result: unknown[] = [];
    for (const index of order) result[index] = await sides[index]!();
    results.push(result as T);
  }
  return results;
}

/** The same with one side. */
export const repeatedly = async <T>(limits: Limits, measure: () => Promise<T>): Promise<T[]> =>
  (await inTurns<[T]>(limits, measure)).map(([result]) => result);
