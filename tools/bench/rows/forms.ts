import { type Figure, perSecond, ratioOf } from '../figures';
import { Crowd, inTurns } from '../load';
import { bareRequest, bareWish, bareWork, booked } from '../requests';
import { daysOf, type Place } from '../stage';
import { type Row, sound } from './row';

/** Why there are two forms of booking and no third: the same writes under three protections, in the bare server. */
export const forms: Row = {
  name: 'forms',
  about: 'guarded statement, locking form and SERIALIZABLE with three retries, in the bare server; no bound',
  in: 'default',
  async measure(stage) {
    const place = await stage.small();
    const url = await stage.reference('references/bare.js', place);
    const crowd = await Crowd.of(url, 16);
    // What is given up after its retries is no booking, so it is not in the rate; the other two forms give up nothing.
    const spread = (path: string) => async () => {
      const flood = await crowd.flood(stage.seconds, bareWork(stage, place, path));
      return path === 'serializable' ? flood : sound(flood, path);
    };
    const days = hotDays(place, await daysOf(place.databaseUrl));
    const hot = (path: string) => async () => {
      const day = days.next().value as HotDay;
      let next = 0;
      const wish = () => ({ ...bareWish(stage, place, seatOf(day, next++)), minutes: HOT_MINUTES });
      return crowd.finish(
        HOT_TIMES,
        booked(() => bareRequest(path, wish())),
      );
    };
    const figures: Figure[] = [];
    for (const [where, make, rounds] of [
      ['distinct days', spread, 12],
      ['one hot day', hot, 8],
    ] as const) {
      for (const path of FORMS) await make(path)();
      const results = await inTurns(stage.rounds(rounds), make('guarded'), make('locking'), make('serializable'));
      const rates = (index: 0 | 1 | 2) => results.map((round) => round[index].perSecond);
      for (const [index, name] of [[1, 'locking form'] as const, [2, 'SERIALIZABLE'] as const]) {
        const lost = results.reduce((sum, round) => sum + round[index].failed, 0);
        figures.push(
          ratioOf(
            results.map((round) => [round[index].perSecond, round[0].perSecond]),
            {
              what: `${name} of the guarded form, ${where}`,
              about: `${perSecond(rates(index))} against ${perSecond(rates(0))}${lost > 0 ? `, ${lost} given up` : ''}`,
            },
          ),
        );
      }
    }
    crowd.close();
    return figures;
  },
};

const FORMS = ['guarded', 'locking', 'serializable'];

export const HOT_MINUTES = 5;
/** The times of one round-the-clock day from one in the morning on, whatever the clocks do that night. */
export const HOT_TIMES = 240;

export interface HotDay {
  id: string;
  scheduleId: string;
  day: string;
  start: Date;
}

/** Empty days of practitioners who are open round the clock and whom nothing else books. */
export function* hotDays(place: Place, days: ReadonlyArray<{ day: string; start: Date }>): Generator<HotDay> {
  for (const lane of place.clinic.lanes.hot) for (const day of days) yield { ...lane, ...day };
}

export const seatOf = ({ id, scheduleId, day, start }: HotDay, index: number) => ({
  id,
  scheduleId,
  day,
  startsAt: new Date(start.getTime() + 3_600_000 + index * HOT_MINUTES * 60_000),
});
