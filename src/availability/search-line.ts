import { setTimeout as pause } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { LIMITS, Problem } from '../platform';
import { DayGate } from './day-gate';

/** So many searches run at once in a process; two keep a processor of PostgreSQL's and this one's busy. */
const WIDTH = 2;
/** So many wait at most: what they ask for takes some milliseconds each, so the last of them still gets its answer in time. */
const LONGEST = 200;
/** For so long a search lets bookings go first, in milliseconds. A choice, not a measured optimum. */
const GIVE_WAY = 10;

/**
 * The line in which searches over everybody who offers a service wait, without a connection, so that they never take what
 * bookings need: few run at once, and each lets bookings that are under way go first for a moment. Searches of one
 * practitioner do not wait here. Manners, not safety; per process.
 */
@Injectable()
export class SearchLine {
  private inside = 0;
  private readonly waiting: Array<() => void> = [];

  constructor(private readonly bookings: DayGate) {}

  /**
   * Runs a search when it is its turn.
   * @throws Problem `busy` when too many wait, or the turn does not come within a request's budget
   */
  async pass<T>(search: () => Promise<T>): Promise<T> {
    if (this.inside < WIDTH) this.inside++;
    else await this.turn();
    try {
      if (this.bookings.isBusy) await pause(GIVE_WAY);
      return await search();
    } finally {
      const next = this.waiting.shift();
      // The place is handed over, so it is never free for one who has not waited.
      if (next) next();
      else this.inside--;
    }
  }

  private turn(): Promise<void> {
    if (this.waiting.length >= LONGEST) throw tooMany();
    return new Promise((resolve, reject) => {
      const enter = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(enter), 1);
        reject(tooMany());
      }, LIMITS.budget);
      this.waiting.push(enter);
    });
  }
}

const tooMany = () =>
  Problem.busy('Too many people are searching at once; please try again, or ask for one practitioner.');
