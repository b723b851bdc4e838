import { bounds, ratioOf } from './figures';
import { lineOf, table } from './report';

const rounds = Array.from({ length: 20 }, (_, n) => [1_000 + n, 2_000] as const);
const slow = ratioOf(rounds, { what: 'of the reference', bound: bounds.atLeast(0.65), about: '' });
const late = { ...slow, unit: 'ms' as const, bound: bounds.atMost(0.1) };

describe('a line of the table', () => {
  it('is missed where the figure is', () => {
    expect(slow.value).toBeCloseTo(0.505, 2);
    expect(lineOf('row', slow, false, 1).verdict).toBe('missed');
    expect(lineOf('row', slow, true, 1)).toMatchObject({ verdict: 'holds', bound: { value: 0.325 } });
  });

  it('convicts nobody for times on a busy machine, but for ratios', () => {
    expect(lineOf('row', late, false, 1).verdict).toBe('missed');
    expect(lineOf('row', late, false, 0.4)).toMatchObject({ verdict: 'unclear', about: 'the machine was busy' });
    expect(lineOf('row', slow, false, 0.4).verdict).toBe('missed');
    expect(lineOf('row', late, true, 1).verdict).toBe('shown');
  });

  it('is shown with everything that it was judged by', () => {
    const text = table([lineOf('row', slow, false, 1)]);
    expect(text).toMatch(/row +of the reference +0\.5[01] +0\.50–0\.51 +≥ 0\.65 +missed +20 pairs/);
  });
});
