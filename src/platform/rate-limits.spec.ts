import fc from 'fast-check';
import { MemoryWindows } from './rate-limits.memory';
import { isTransient, pauseBefore } from './rate-limits.redis';

declare const PROPERTIES: { runs?: number; seed?: number };

describe('windows in memory', () => {
  const ask = (key: string, tokens = 1, count = 3) => ({ key, count, windowSeconds: 10, tokens });
  let now = 0;
  const windowsOf = (subjects?: number) => {
    now = 1_000;
    return new MemoryWindows(() => now, subjects);
  };

  it('admit what a list of all that was admitted would, at any times', () => {
    const call = fc.record({ pause: fc.integer({ min: 0, max: 6_000 }), tokens: fc.integer({ min: 1, max: 4 }) });
    const property = fc.property(fc.array(call, { maxLength: 200 }), (calls) => {
      const windows = windowsOf();
      let admitted: number[] = [];
      for (const { pause, tokens } of calls) {
        now += pause;
        admitted = admitted.filter((at) => at > now - 10_000);
        const fits = admitted.length + tokens <= 3;
        const waitSeconds = fits
          ? 0
          : tokens > 3
            ? 10
            : (admitted[admitted.length + tokens - 4]! + 10_000 - now) / 1_000;
        if (fits) admitted.push(...Array<number>(tokens).fill(now));
        const verdict = windows.take([ask('a', tokens)]);
        expect(verdict).toMatchObject({ allowed: fits, windows: [{ used: admitted.length }] });
        expect(verdict.windows[0]!.waitSeconds).toBeCloseTo(waitSeconds, 6);
      }
    });
    fc.assert(property, { ...(PROPERTIES.runs && { numRuns: PROPERTIES.runs }), seed: PROPERTIES.seed });
  });

  it('give back what somebody else refused, and nothing more', () => {
    const windows = windowsOf();
    windows.take([ask('a')]);
    now += 1;
    windows.take([ask('a', 2), ask('b')]).giveBack();
    expect(windows.take([ask('a', 3)]).allowed).toBe(false);
    expect(windows.take([ask('a', 2)])).toMatchObject({ allowed: true, windows: [{ used: 3 }] });
    expect(windows.take([ask('b', 3)]).allowed).toBe(true);
  });

  it('take from all or none', () => {
    const windows = windowsOf();
    windows.take([ask('full', 3)]);
    expect(windows.take([ask('free'), ask('full')]).allowed).toBe(false);
    expect(windows.take([ask('free', 3)]).allowed).toBe(true);
  });

  it('forget whom they have not seen for longest, when there are too many', () => {
    const windows = windowsOf(2);
    windows.take([ask('a', 3)]);
    windows.take([ask('b', 2)]);
    now += 1;
    windows.take([ask('b', 1)]);
    windows.take([ask('c', 1)]);
    expect(windows.take([ask('b')]).allowed).toBe(false);
    expect(windows.take([ask('a')]).allowed).toBe(true);
  });
});

describe('Redis', () => {
  it.each([
    'LOADING Redis is loading the dataset in memory',
    "READONLY You can't write against a read only replica.",
    'TRYAGAIN Multiple keys request during rehashing of slot',
    'CLUSTERDOWN The cluster is down',
    'Command timed out',
    'Connection is closed.',
    "Stream isn't writeable and enableOfflineQueue options is false",
  ])('is tried again after: %s', (message) => expect(isTransient(new Error(message))).toBe(true));

  it.each([
    'WRONGTYPE Operation against a key holding the wrong kind of value',
    'NOAUTH Authentication required.',
    "OOM command not allowed when used memory > 'maxmemory'.",
    'a mistake that speaks of LOADING',
  ])('is not tried again after: %s', (message) => expect(isTransient(new Error(message))).toBe(false));

  it('is tried again after a broken connection', () =>
    expect(isTransient(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }))).toBe(true));

  it('is tried again after 0.1 to 1 s, later each time, and never at once by all', () => {
    for (let attempt = 1; attempt < 12; attempt++) {
      const pauses = Array.from({ length: 50 }, () => pauseBefore(attempt));
      const longest = Math.min(1_000, 100 * 2 ** attempt);
      for (const pause of pauses) {
        expect(pause).toBeGreaterThanOrEqual(longest / 2);
        expect(pause).toBeLessThanOrEqual(longest);
      }
      expect(new Set(pauses).size).toBeGreaterThan(1);
    }
  });
});
