import { Turns } from './turns';

describe('long work in slices', () => {
  const busy = (milliseconds: number) => {
    for (const since = performance.now(); performance.now() - since < milliseconds;);
  };

  it('is not cut while it is short', () => {
    expect(new Turns().isOver).toBe(false);
  });

  it('lets others that wait have their turn, and then begins a new slice', async () => {
    const turns = new Turns();
    busy(5);
    expect(turns.isOver).toBe(true);
    let others = 0;
    setImmediate(() => others++);
    await turns.next();
    expect([others, turns.isOver]).toEqual([1, false]);
  });
});
