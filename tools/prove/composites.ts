import type { Resource, SegmentRule } from './catalog';
import type { Random } from './random';

export type CompositeKey = 'two' | 'three' | 'five';

/** Of two to five segments, whose resources are listed in an order of chance. */
export function composites(
  specialists: Resource[],
  rooms: Resource[],
  random: Random,
): Record<CompositeKey, SegmentRule[]> {
  const segment = (durationMinutes: number, of: Resource[], more: Partial<SegmentRule> = {}): SegmentRule => ({
    name: `${durationMinutes} minutes`,
    durationMinutes,
    gapAfterMinutes: 0,
    maxWaitMinutes: 0,
    startsWithPrevious: false,
    resources: random.shuffled(of),
    ...more,
  });
  const beside = { startsWithPrevious: true };
  return {
    two: [segment(20, specialists, { gapAfterMinutes: 10 }), segment(15, specialists)],
    three: [
      segment(20, specialists.slice(0, 3), { gapAfterMinutes: 5, maxWaitMinutes: 20 }),
      segment(15, rooms),
      segment(15, specialists.slice(1)),
    ],
    five: [
      segment(15, specialists),
      segment(20, rooms, { ...beside, gapAfterMinutes: 5 }),
      segment(15, specialists, { maxWaitMinutes: 10 }),
      segment(15, specialists),
      segment(15, rooms, beside),
    ],
  };
}
