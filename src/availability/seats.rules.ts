import { type Interval, overlaps } from '../platform';

/**
 * Which of several places a new claim gets, and where the others go: they stay where they are if one place is free for all
 * of its time, else all are distributed anew, in the order of their beginnings. That needs no more places than overlap at
 * once at any time (the chromatic number of an interval graph is its clique number).
 * @param others claims that hang together, with everything that overlaps any of them
 */
export function seatsFor(
  others: ReadonlyArray<Interval & { seat: number }>,
  own: Interval,
  places: number,
): { own: number; others: number[] } {
  const occupied = new Set(others.filter((each) => overlaps(each, own)).map((each) => each.seat));
  const free = Array.from({ length: places }, (_, index) => index + 1).find((seat) => !occupied.has(seat));
  if (free !== undefined) return { own: free, others: others.map((each) => each.seat) };
  const all = [...others, own];
  const seats = new Array<number>(all.length);
  const freeFrom: number[] = [];
  for (const index of [...all.keys()].sort((a, b) => all[a]!.start - all[b]!.start || all[a]!.end - all[b]!.end)) {
    const { start, end } = all[index]!;
    let seat = freeFrom.findIndex((until) => until <= start);
    if (seat < 0) seat = freeFrom.length;
    freeFrom[seat] = end;
    seats[index] = seat + 1;
  }
  return { own: seats.pop()!, others: seats };
}
