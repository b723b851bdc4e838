import fc from 'fast-check';
import { seatsFor } from './seats.rules';

interface Seated {
  start: number;
  end: number;
  seat: number;
}

const meet = (a: { start: number; end: number }, b: { start: number; end: number }): boolean =>
  a.start < b.end && b.start < a.end;

/** How many of these there are at once where there are the most. */
const most = (all: ReadonlyArray<{ start: number; end: number }>): number =>
  Math.max(0, ...all.map(({ start }) => all.filter((each) => each.start <= start && start < each.end).length));

describe('which place a claim gets', () => {
  const wish = fc.record({ start: fc.integer({ min: 0, max: 40 }), length: fc.integer({ min: 1, max: 15 }) });
  const wishes = fc.array(
    wish.map(({ start, length }) => ({ start, end: start + length })),
    { minLength: 1, maxLength: 25 },
  );
  const leaving = fc.array(fc.integer({ min: 0, max: 24 }), { maxLength: 8 });

  it('is one that nobody has meanwhile, and one of as many as there are, for whoever finds not all in use at any time', () => {
    let moved = 0;
    fc.assert(
      fc.property(wishes, fc.integer({ min: 1, max: 4 }), leaving, (all, places, leavers) => {
        let seated: Seated[] = [];
        all.forEach((own, index) => {
          if (leavers.includes(index)) seated = seated.slice(1);
          if (most([...seated, own]) > places) return;
          const seats = seatsFor(seated, own, places);
          expect(seats.others).toHaveLength(seated.length);
          const occupied = new Set(seated.filter((each) => meet(each, own)).map((each) => each.seat));
          // Nobody moves without need.
          const stay = occupied.size < places;
          if (stay) expect(seats.others).toEqual(seated.map((each) => each.seat));
          else moved += 1;
          seated = [...seated.map((each, at) => ({ ...each, seat: seats.others[at]! })), { ...own, seat: seats.own }];
          const wrong = seated.filter(
            (each, at) =>
              each.seat < 1 ||
              each.seat > places ||
              seated.some((other, index) => index > at && meet(each, other) && each.seat === other.seat),
          );
          expect(wrong).toEqual([]);
        });
      }),
      { numRuns: 300, seed: 5 },
    );
    // There is need sometimes.
    expect(moved).toBeGreaterThan(4);
  });

  it('is the first that is free', () => {
    const other = { start: 0, end: 10, seat: 1 };
    expect(seatsFor([], { start: 0, end: 10 }, 2)).toEqual({ own: 1, others: [] });
    expect(seatsFor([other], { start: 9, end: 20 }, 2)).toEqual({ own: 2, others: [1] });
    expect(seatsFor([other], { start: 10, end: 20 }, 2)).toEqual({ own: 1, others: [1] });
    expect(seatsFor([{ ...other, seat: 2 }], { start: 0, end: 10 }, 2)).toEqual({ own: 1, others: [2] });
  });

  it('makes others move where no place is free for so long', () => {
    const others = [
      { start: 0, end: 10, seat: 1 },
      { start: 10, end: 20, seat: 2 },
    ];
    const seats = seatsFor(others, { start: 5, end: 15 }, 2);
    expect(seats.own).not.toBe(seats.others[0]);
    expect(seats.own).not.toBe(seats.others[1]);
    expect([seats.own, ...seats.others].every((seat) => seat === 1 || seat === 2)).toBe(true);
  });

  it('goes over the number of places where more of them overlap than there are any more, and never puts two on one', () => {
    const others = [1, 2, 3].map((seat) => ({ start: 0, end: 10, seat }));
    const seats = seatsFor([...others, { start: 10, end: 30, seat: 1 }, { start: 5, end: 20, seat: 4 }], { start: 25, end: 40 }, 2); // prettier-ignore
    expect(seats).toEqual({ own: 2, others: [1, 2, 3, 1, 4] });
  });
});
