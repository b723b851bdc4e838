import { setImmediate as tick } from 'node:timers/promises';
import { type Config, LIMITS, Metrics } from '../platform';
import { DayGate } from './day-gate';

const gateFor = (databasePoolSize: number) => new DayGate({ databasePoolSize } as Config, new Metrics());

/** Works that stay inside until they are told to go. */
function crowd(gate: DayGate) {
  const inside: string[] = [];
  const done: string[] = [];
  const leave = new Map<string, (error?: Error) => void>();
  return {
    inside,
    done,
    come: (name: string, key = 'a day'): Promise<string> =>
      gate
        .pass(key, async () => {
          inside.push(name);
          await new Promise<void>((resolve, reject) => {
            leave.set(name, (error) => (error ? reject(error) : resolve()));
          });
          return name;
        })
        .finally(() => {
          inside.splice(inside.indexOf(name), inside.includes(name) ? 1 : 0);
          done.push(name);
        }),
    go: async (name: string, error?: Error): Promise<void> => {
      leave.get(name)!(error);
      await tick();
    },
  };
}

describe('the gate to a day', () => {
  it('lets half of the pool in, and the others in their order', async () => {
    const people = crowd(gateFor(5));
    const all = ['a', 'b', 'c', 'd', 'e'].map((name) => people.come(name));
    await tick();
    expect(people.inside).toEqual(['a', 'b']);
    await people.go('b');
    expect(people.inside).toEqual(['a', 'c']);
    await people.go('a');
    expect(people.inside).toEqual(['c', 'd']);
    await people.go('c');
    await people.go('d');
    await people.go('e');
    await expect(Promise.all(all)).resolves.toEqual(['a', 'b', 'c', 'd', 'e']);
  });

  it('lets at least one in, however small the pool', async () => {
    const people = crowd(gateFor(1));
    const both = [people.come('a'), people.come('b')];
    await tick();
    expect(people.inside).toEqual(['a']);
    await people.go('a');
    expect(people.inside).toEqual(['b']);
    await people.go('b');
    await Promise.all(both);
  });

  it('of another day is open', async () => {
    const people = crowd(gateFor(4));
    const all = [people.come('a'), people.come('b'), people.come('c'), people.come('d', 'another day')];
    await tick();
    expect(people.inside).toEqual(['a', 'b', 'd']);
    for (const name of ['a', 'b', 'c', 'd']) await people.go(name);
    await Promise.all(all);
  });

  it('hands the place on when the work fails', async () => {
    const people = crowd(gateFor(2));
    const failing = people.come('a');
    const next = people.come('b');
    await tick();
    const refused = expect(failing).rejects.toThrow('no luck');
    await people.go('a', new Error('no luck'));
    await refused;
    expect(people.inside).toEqual(['b']);
    await people.go('b');
    await expect(next).resolves.toBe('b');
  });

  it('lets nobody overtake those who wait', async () => {
    const people = crowd(gateFor(2));
    const all = [people.come('a'), people.come('b')];
    await tick();
    await people.go('a');
    all.push(people.come('c'));
    await tick();
    expect(people.inside).toEqual(['b']);
    await people.go('b');
    await people.go('c');
    await Promise.all(all);
  });

  it('never lets in more than its width, whatever happens', async () => {
    const gate = gateFor(6);
    let inside = 0;
    let most = 0;
    const works = Array.from({ length: 200 }, (_, index) =>
      gate
        .pass(index % 5 === 0 ? 'another day' : 'a day', async () => {
          if (index % 5 !== 0) most = Math.max(most, ++inside);
          for (let turn = 0; turn < index % 7; turn++) await tick();
          if (index % 5 !== 0) inside--;
          if (index % 11 === 0) throw new Error('no luck');
        })
        .catch((error: Error) => expect(error.message).toBe('no luck')),
    );
    await Promise.all(works);
    expect(most).toBe(3);
  });

  describe('when the wait is too long', () => {
    beforeEach(() => {
      jest.useFakeTimers({ doNotFake: ['setImmediate', 'performance', 'hrtime', 'nextTick'] });
    });
    afterEach(() => {
      jest.useRealTimers();
    });

    it('says so after the budget of a request, and keeps the order of the others', async () => {
      const people = crowd(gateFor(2));
      const first = people.come('a');
      const impatient = people.come('b');
      const refused = expect(impatient).rejects.toMatchObject({ code: 'busy', headers: { 'Retry-After': '1' } });
      jest.advanceTimersByTime(LIMITS.budget - 1);
      const late = people.come('c');
      await tick();
      expect(people.done).toEqual([]);
      jest.advanceTimersByTime(1);
      await refused;
      expect(people.inside).toEqual(['a']);

      await people.go('a');
      await first;
      expect(people.inside).toEqual(['c']);
      await people.go('c');
      await expect(late).resolves.toBe('c');
    });

    it('does not count the one who went against those who come', async () => {
      const people = crowd(gateFor(2));
      const first = people.come('a');
      const refused = expect(people.come('b')).rejects.toMatchObject({ code: 'busy' });
      jest.advanceTimersByTime(LIMITS.budget);
      await refused;
      await people.go('a');
      await first;

      const after = [people.come('d'), people.come('e')];
      await tick();
      expect(people.inside).toEqual(['d']);
      await people.go('d');
      await people.go('e');
      await Promise.all(after);
    });

    it('does not end work that has come in, nor the wait of somebody behind it', async () => {
      const people = crowd(gateFor(2));
      const all = [people.come('a'), people.come('b')];
      await tick();
      await people.go('a');
      jest.advanceTimersByTime(100);
      all.push(people.come('c'));
      // The time at which the second would have given up, had it not come in.
      jest.advanceTimersByTime(LIMITS.budget - 50);
      await tick();
      expect(people.inside).toEqual(['b']);
      await people.go('b');
      expect(people.inside).toEqual(['c']);
      await people.go('c');
      await expect(Promise.all(all)).resolves.toEqual(['a', 'b', 'c']);
    });
  });
});
