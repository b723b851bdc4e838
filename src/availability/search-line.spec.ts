import { setImmediate as tick } from 'node:timers/promises';
import type { DayGate } from './day-gate';
import { SearchLine } from './search-line';

const lineBeside = (bookings: { isBusy: boolean }) => new SearchLine(bookings as DayGate);

/** Searches that run until they are told to end. */
function searchers(line: SearchLine) {
  const inside: number[] = [];
  const ends = new Map<number, (error?: Error) => void>();
  return {
    inside,
    come: (name: number): Promise<number> =>
      line.pass(async () => {
        inside.push(name);
        await new Promise<void>((resolve, reject) => {
          ends.set(name, (error) => (error ? reject(error) : resolve()));
        });
        return name;
      }),
    end: async (name: number, error?: Error): Promise<void> => {
      ends.get(name)!(error);
      await tick();
    },
  };
}

describe('the line of searches', () => {
  it('lets two run, and the others follow in their order', async () => {
    const some = searchers(lineBeside({ isBusy: false }));
    const all = [1, 2, 3, 4].map((name) => some.come(name));
    await tick();
    expect(some.inside).toEqual([1, 2]);
    await some.end(2);
    expect(some.inside).toEqual([1, 2, 3]);
    await some.end(1);
    await some.end(3);
    await some.end(4);
    await expect(Promise.all(all)).resolves.toEqual([1, 2, 3, 4]);
  });

  it('goes on after a search that fails', async () => {
    const some = searchers(lineBeside({ isBusy: false }));
    const [first, , third] = [1, 2, 3].map((name) => some.come(name));
    await tick();
    const failed = expect(first).rejects.toThrow('broken');
    await some.end(1, new Error('broken'));
    await failed;
    expect(some.inside).toEqual([1, 2, 3]);
    await some.end(2);
    await some.end(3);
    await expect(third).resolves.toBe(3);
  });

  it('tells who comes when the line is long that it is busy, and when to come again', async () => {
    const some = searchers(lineBeside({ isBusy: false }));
    const all = Array.from({ length: 202 }, (_, name) => some.come(name));
    await expect(some.come(202)).rejects.toMatchObject({ code: 'busy', headers: { 'Retry-After': '1' } });
    for (let name = 0; name < 202; name++) {
      await tick();
      await some.end(name);
    }
    await expect(Promise.all(all)).resolves.toHaveLength(202);
  });

  it('gives bookings that are under way a moment, and no more than that', async () => {
    const bookings = { isBusy: true };
    const some = searchers(lineBeside(bookings));
    const search = some.come(1);
    await tick();
    expect(some.inside).toEqual([]);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(some.inside).toEqual([1]);
    await some.end(1);
    await expect(search).resolves.toBe(1);
  });
});
