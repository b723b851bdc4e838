import type { Figure } from '../figures';
import type { Flood } from '../load';
import type { Stage } from '../stage';

/** One row of the benchmark, which may give several figures. */
export interface Row {
  name: string;
  about: string;
  /** Whether the short form has it; rows for information alone come with --full or by name. */
  in: 'every form' | 'default' | 'full';
  measure(stage: Stage): Promise<Figure[]>;
}

/** Something that this machine has not: the row is left out, and nothing is missed. */
export class NotMeasured extends Error {}

/** What was refused or broken has no place in a rate: then the measurement itself is wrong. */
export function sound(flood: Flood, what: string): Flood {
  if (flood.failed > 0) throw new Error(`${what}: ${flood.failed} of ${flood.failed + flood.latencies.length} failed.`);
  if (flood.latencies.length === 0) throw new Error(`${what}: nothing was done.`);
  return flood;
}
