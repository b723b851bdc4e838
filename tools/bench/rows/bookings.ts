import { bounds, figureOf, ms, perSecond, ratioOf } from '../figures';
import { Crowd, inTurns } from '../load';
import { bareWork, bookingWork } from '../requests';
import { median, quantile } from '../statistics';
import { type Row, sound } from './row';

/** Bookings of distinct times, each under an Idempotency-Key, against the same SQL and against the least that is a booking. */
export const bookings: Row = {
  name: 'bookings',
  about: 'bookings per second at distinct times, 16 and 64 connections, against the same SQL and the barest form',
  in: 'every form',
  async measure(stage) {
    const place = await stage.main();
    const [same, bare] = [
      await stage.reference('references/same-sql.js', place),
      await stage.reference('references/bare.js', place),
    ];
    const figures = [];
    for (const connections of stage.options.form === 'short' ? [16] : [16, 64]) {
      const crowds = {
        ours: await Crowd.of(place.app.url, connections),
        same: await Crowd.of(same, connections),
        bare: await Crowd.of(bare, connections),
      };
      const ours = async (seconds: number) =>
        sound(await crowds.ours.flood(seconds, bookingWork(stage, place, { keyed: true })), 'bookings');
      const theSame = async (seconds: number) =>
        sound(await crowds.same.flood(seconds, bareWork(stage, place, 'book')), 'the same SQL');
      const barest = async (seconds: number) =>
        sound(await crowds.bare.flood(seconds, bareWork(stage, place, 'barest')), 'the barest form');
      const { seconds } = stage;
      for (const side of [ours, theSame, barest]) await side(seconds * 2);
      const rounds = await inTurns(
        stage.rounds(24),
        () => ours(seconds),
        () => theSame(seconds),
        () => barest(seconds),
      );
      const rates = (index: 0 | 1 | 2) => rounds.map((round) => round[index].perSecond);
      const p95s = rounds.map(([{ latencies }]) => quantile(latencies, 0.95));
      const where = `${connections} connections`;
      figures.push(
        ratioOf(
          rounds.map(([a, b]) => [a.perSecond, b.perSecond]),
          {
            what: `of the same SQL, bare, ${where}`,
            bound: bounds.atLeast(0.65, { aim: 0.85 }),
            about: `${perSecond(rates(0))} against ${perSecond(rates(1))}`,
          },
        ),
        ratioOf(
          rounds.map(([a, , b]) => [a.perSecond, b.perSecond]),
          {
            what: `of one bare statement, ${where}`,
            bound: bounds.atLeast(0.45, { reached: 0.24 }),
            about: `${perSecond(rates(0))} against ${perSecond(rates(2))}`,
          },
        ),
      );
      if (connections === 16) {
        figures.push(
          figureOf(p95s, median, {
            what: `p95 of a booking, ${where}`,
            unit: 'ms',
            bound: bounds.atMost(50),
            about: `p50 ${ms(rounds.flatMap(([{ latencies }]) => latencies))}`,
          }),
        );
      }
      for (const crowd of Object.values(crowds)) crowd.close();
    }
    return figures;
  },
};
