import type { Cut } from '../client';
import { type Random, subSeed } from '../random';

/** What clients of the storm do, each with its weight. */
const KINDS = {
  book: 28,
  'hold briefly': 14,
  hold: 6,
  confirm: 14,
  move: 14,
  cancel: 12,
  join: 10,
  leave: 5,
  'close time': 3,
  'open time': 3,
  wait: 6,
} as const;

export type Kind = keyof typeof KINDS;

/**
 * One operation with every choice made: what depends on what there is by then (which appointment) is a share of it, so the
 * series of a seed are the same whatever comes of them.
 */
export interface Operation {
  kind: Kind;
  /** Milliseconds before it. */
  pause: number;
  /** At least 0, below 1: which of the services, practitioners, appointments there are. */
  service: number;
  practitioner: number;
  victim: number;
  /** The start, in steps of five minutes from the beginning of the time that all of them want. */
  step: number;
  withKey: boolean;
  withVersion: boolean;
  cut?: Cut;
  /** For the spelling of its request. */
  seed: number;
}

/** Every so many requests one loses its connection. */
const CUT_ONE_IN = 10;

/** The series of one client. */
export function seriesOf(random: Random, length: number, steps: number): Operation[] {
  return Array.from({ length }, () => {
    const kind = weighted(random);
    const isCut = random.below(CUT_ONE_IN) === 0;
    const cut = random.pick<Cut>(['half-way', 'at-answer', { afterMs: 0 }, { afterMs: random.below(40) }]);
    return {
      kind,
      pause: random.below(kind === 'wait' ? 3_000 : 500),
      service: random.next(),
      practitioner: random.next(),
      victim: random.next(),
      step: random.below(steps),
      // What is lost on the way can be asked for again only under a key.
      withKey: random.chance(0.6),
      withVersion: random.chance(0.3),
      cut: isCut ? cut : undefined,
      seed: random.below(2 ** 32),
    };
  });
}

/** A seed for each client, so that the series of one does not depend on how many others there are. */
export const seedOf = (round: number, client: number): number => subSeed(round, 'client', client);

function weighted(random: Random): Kind {
  let left = random.below(Object.values(KINDS).reduce((sum, weight) => sum + weight, 0));
  for (const [kind, weight] of Object.entries(KINDS)) {
    left -= weight;
    if (left < 0) return kind as Kind;
  }
  throw new Error('the weights do not add up');
}
