import { Random } from '../prove/random';

/** Where a figure has to lie: a ratio or rate at least so high, a time or ratio at most so high. */
export interface Bound {
  is: 'at least' | 'at most';
  value: number;
  /** What is hoped for beyond it; shown, never judged. */
  aim?: number;
  /** What this release reaches where it does not reach the bound: the short form, which looks for falls, judges by this. */
  reached?: number;
}

/** The middle 95 % of what repeating the measurement would give. */
export interface Range {
  low: number;
  high: number;
}

export type Verdict = 'holds' | 'missed' | 'unclear' | 'shown';

const RESAMPLES = 2_000;

export const median = (numbers: readonly number[]): number => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

/** The smallest number that a share of the numbers does not exceed. */
export const quantile = (numbers: readonly number[], share: number): number =>
  [...numbers].sort((a, b) => a - b)[Math.max(0, Math.ceil(numbers.length * share) - 1)]!;

/**
 * 95 % interval of a statistic by bootstrap over whole rounds: what was measured together stays together, so that the noise
 * of the machine, which lasts longer than a request, is in it. Seeded: the same rounds give the same interval.
 */
export function interval<T>(rounds: readonly T[], statistic: (rounds: readonly T[]) => number, seed = 1): Range {
  if (rounds.length === 0) throw new Error('Nothing was measured.');
  const random = new Random(seed);
  const values = Array.from({ length: RESAMPLES }, () => statistic(rounds.map(() => random.pick(rounds))));
  values.sort((a, b) => a - b);
  return { low: values[Math.floor(RESAMPLES * 0.025)]!, high: values[Math.ceil(RESAMPLES * 0.975) - 1]! };
}

/**
 * Missed only when the whole interval lies beyond the bound, held only when none of it does. What is no number was not
 * measured, and holds nothing.
 */
export function judge(range: Range, bound: Bound | undefined): Verdict {
  if (![range.low, range.high].every(Number.isFinite)) return 'missed';
  if (!bound) return 'shown';
  const [best, worst] = bound.is === 'at least' ? [range.high, range.low] : [range.low, range.high];
  const within = (value: number) => (bound.is === 'at least' ? value >= bound.value : value <= bound.value);
  if (within(worst)) return 'holds';
  return within(best) ? 'unclear' : 'missed';
}

/** Half as good: the only bound that few pairs on a strange machine can be held to. */
export function half(bound: Bound | undefined): Bound | undefined {
  if (!bound) return undefined;
  const { is, value, reached = value } = bound;
  return { is, value: is === 'at least' ? reached / 2 : reached * 2 };
}
