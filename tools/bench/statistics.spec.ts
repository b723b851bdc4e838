import { half, interval, judge, median, quantile } from './statistics';

const pairs = (ratio: number, noise: number) => Array.from({ length: 24 }, (_, n) => ratio + noise * Math.sin(n * 7));

describe('the middle and the ends of numbers', () => {
  it('does not need them in order', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(quantile([5, 1, 4, 2, 3], 0.99)).toBe(5);
    expect(quantile([5, 1, 4, 2, 3], 0.2)).toBe(1);
    // As a string of digits 10 would come before 9.
    expect(quantile([10, 9, 100], 0.5)).toBe(10);
  });
});

describe('the interval of a figure', () => {
  it('holds the figure, is the same for the same rounds, and wider the more they differ', () => {
    const [quiet, loud] = [pairs(0.8, 0.02), pairs(0.8, 0.3)];
    const [narrow, wide] = [interval(quiet, median), interval(loud, median)];
    expect(narrow.low).toBeLessThanOrEqual(median(quiet));
    expect(narrow.high).toBeGreaterThanOrEqual(median(quiet));
    expect(interval(quiet, median)).toEqual(narrow);
    expect(wide.high - wide.low).toBeGreaterThan(5 * (narrow.high - narrow.low));
  });

  it('covers the truth about as often as it says', () => {
    let state = 12345;
    const uniform = () => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
    let covered = 0;
    for (let run = 0; run < 60; run++) {
      const rounds = Array.from({ length: 20 }, uniform);
      const { low, high } = interval(rounds, median, run);
      if (low <= 0.5 && 0.5 <= high) covered++;
    }
    expect(covered).toBeGreaterThanOrEqual(51);
    expect(covered).toBeLessThan(60);
  });

  it('of nothing is none', () => {
    expect(() => interval([], median)).toThrow('Nothing was measured.');
  });
});

describe('the verdict', () => {
  const least = { is: 'at least', value: 0.65, aim: 0.85 } as const;
  const most = { is: 'at most', value: 50 } as const;

  it.each([
    [{ low: 0.7, high: 0.8 }, least, 'holds'],
    [{ low: 0.6, high: 0.7 }, least, 'unclear'],
    [{ low: 0.5, high: 0.64 }, least, 'missed'],
    [{ low: 0.65, high: 0.65 }, least, 'holds'],
    [{ low: 20, high: 50 }, most, 'holds'],
    [{ low: 40, high: 60 }, most, 'unclear'],
    [{ low: 51, high: 60 }, most, 'missed'],
    [{ low: 51, high: 60 }, undefined, 'shown'],
    [{ low: Number.NaN, high: Number.NaN }, least, 'missed'],
    [{ low: 0, high: Infinity }, undefined, 'missed'],
  ] as const)('%j against %j: %s', (range, bound, verdict) => {
    expect(judge(range, bound)).toBe(verdict);
  });

  it('of the short form is made at half of the bound', () => {
    expect(half(least)).toEqual({ is: 'at least', value: 0.325 });
    expect(half(most)).toEqual({ is: 'at most', value: 100 });
    expect(half(undefined)).toBeUndefined();
    expect(half({ ...least, reached: 0.4 })).toEqual({ is: 'at least', value: 0.2 });
    expect(judge({ low: 0.3, high: 0.32 }, half(least))).toBe('missed');
    expect(judge({ low: 0.33, high: 0.4 }, half(least))).toBe('holds');
  });
});
