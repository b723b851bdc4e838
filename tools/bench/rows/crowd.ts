import { bounds, type Figure, figureOf, ms } from '../figures';
import { Crowd, repeatedly } from '../load';
import { booked, bookingRequest } from '../requests';
import { withClient } from '../server';
import { daysOf, nextSeat, type Place, type Stage } from '../stage';
import { median, quantile } from '../statistics';
import { HOT_TIMES, type HotDay, hotDays, seatOf } from './forms';
import { type Row, sound } from './row';

/** Everybody wants the same time at the same moment. */
export const oneSlot: Row = {
  name: 'one-slot',
  about: '50 and 200 clients want one time: how long until all of them know who has it',
  in: 'every form',
  async measure(stage) {
    const place = await stage.main();
    const before = await deadlocks(place);
    const figures: Figure[] = [];
    let wrong = 0;
    for (const [clients, most] of [
      [50, 100],
      [200, 250],
    ] as const) {
      const crowd = await Crowd.of(place.app.url, clients);
      await race(stage, place, crowd);
      const rounds = await repeatedly(stage.rounds(30), async () => {
        const result = await race(stage, place, crowd);
        wrong += result.wrong;
        return result.milliseconds;
      });
      crowd.close();
      figures.push(
        figureOf(rounds, (some) => quantile(some, 0.99), {
          what: `${clients} clients, one time: all know, p99`,
          unit: 'ms',
          bound: bounds.atMost(most),
          about: `p50 ${ms(rounds)}`,
        }),
      );
    }
    wrong += (await deadlocks(place)) - before;
    figures.push(
      figureOf([wrong], ([value]) => value!, {
        what: '5xx, deadlocks, rounds without exactly one winner',
        unit: 'times',
        bound: bounds.atMost(0),
        of: 'all rounds',
        about: '',
      }),
    );
    return figures;
  },
};

async function race(stage: Stage, place: Place, crowd: Crowd): Promise<{ milliseconds: number; wrong: number }> {
  const seat = nextSeat(place);
  const requests = crowd.wires.map(() => bookingRequest(stage, place, { seat, keyed: true }));
  const started = performance.now();
  const replies = await Promise.all(crowd.wires.map((wire, index) => wire.send(requests[index]!)));
  const milliseconds = performance.now() - started;
  const winners = replies.filter(({ status }) => status === 201).length;
  const strange = replies.filter(({ status }) => status !== 201 && status !== 409).length;
  return { milliseconds, wrong: strange + (winners === 1 ? 0 : 1) };
}

const deadlocks = (place: Place): Promise<number> =>
  withClient(place.databaseUrl, async (client) => {
    const { rows } = await client.query<{ deadlocks: string }>(
      'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
    );
    return Number(rows[0]!.deadlocks);
  });

/** All of one practitioner's day is booked at once. */
export const hotDay: Row = {
  name: 'hot-day',
  about: "bookings per second when 16 connections book distinct times of one practitioner's one day",
  in: 'default',
  async measure(stage) {
    const place = await stage.main();
    const crowd = await Crowd.of(place.app.url, 16);
    const days = hotDays(place, await daysOf(place.databaseUrl));
    const serviceId = place.clinic.services.hot;
    const book = async () => {
      const day = days.next().value as HotDay;
      let next = 0;
      const work = booked(() => bookingRequest(stage, place, { serviceId, seat: seatOf(day, next++), keyed: true }));
      return sound(await crowd.finish(HOT_TIMES, work), 'bookings of one day').perSecond;
    };
    await book();
    const rates = await repeatedly(stage.rounds(20), book);
    crowd.close();
    return [
      figureOf(rates, median, {
        what: 'bookings of one practitioner-day',
        unit: '/s',
        bound: bounds.atLeast(2 * BEST_OPEN_RIVAL),
        about: 'twice the best open rival: 2 cores, PostgreSQL 15, durable commits',
      }),
    ];
  },
};

/** Bookings per second of one practitioner-day, the best that was measured of other open projects. */
const BEST_OPEN_RIVAL = 194;
