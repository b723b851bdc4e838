import { type Bound, interval, median, type Range } from './statistics';

export type Unit = 'x' | 'ms' | '/s' | 's' | 'MB' | 'times';

/** One line of the table. */
export interface Figure {
  what: string;
  unit: Unit;
  value: number;
  range: Range;
  bound?: Bound;
  /** How many rounds, pairs or requests it is made of. */
  of: string;
  /** Absolute times and rates beside it. */
  about: string;
}

const atLeast = (value: number, more: Pick<Bound, 'aim' | 'reached'> = {}): Bound => ({
  is: 'at least',
  value,
  ...more,
});
const atMost = (value: number, more: Pick<Bound, 'aim' | 'reached'> = {}): Bound => ({ is: 'at most', value, ...more });
export const bounds = { atLeast, atMost };

/** A figure from rounds of measurement: a statistic of them, and its interval over them. */
export function figureOf<T>(
  rounds: readonly T[],
  statistic: (rounds: readonly T[]) => number,
  rest: Omit<Figure, 'value' | 'range' | 'of'> & { of?: string },
): Figure {
  return { of: `${rounds.length} rounds`, ...rest, value: statistic(rounds), range: interval(rounds, statistic) };
}

/** The middle of the rounds' ratios. */
export const ratioOf = (
  pairs: ReadonlyArray<readonly [number, number]>,
  rest: Omit<Figure, 'value' | 'range' | 'of' | 'unit'>,
): Figure =>
  figureOf(pairs, (some) => median(some.map(([ours, reference]) => ours / reference)), {
    ...rest,
    unit: 'x',
    of: `${pairs.length} pairs`,
  });

export const perSecond = (rates: readonly number[]): string => `${median(rates).toFixed(0)}/s`;
export const ms = (times: readonly number[]): string => `${median(times).toFixed(1)} ms`;
