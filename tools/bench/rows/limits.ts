import { bounds, ms, perSecond, ratioOf } from '../figures';
import { Crowd, inTurns, type Work } from '../load';
import { startRedis } from '../redis';
import { bareRequest, bookingWork } from '../requests';
import { quantile } from '../statistics';
import { headersOf, requestOf } from '../wire';
import { newPatient } from './actions';
import { type Row, sound } from './row';

/** So high that nobody is refused, and counted all the same. */
const COUNTED = (...names: string[]) => names.map((name) => `${name}=999999/60`).join(',');

/** What it costs to know who calls and to count him, on a Redis: the same bookings by two processes, one of which counts. */
export const guard: Row = {
  name: 'guard',
  about: 'bookings/s with an API key and limits counted on Redis, of those with RATE_LIMITS=off',
  in: 'default',
  async measure(stage) {
    const place = await stage.small();
    const redis = await startRedis();
    stage.atTheEnd(() => redis.stop());
    const settings = { REDIS_URL: redis.url, HOLDFAST_ROLE: 'api' };
    const limited = {
      RATE_LIMITS: 'on',
      RATE_LIMITS_EXEMPT: 'none',
      RATE_LIMIT_OVERRIDES: COUNTED('ip', 'principal'),
    };
    const apps = [
      await stage.another(place, { ...settings, ...limited }),
      await stage.another(place, settings),
    ] as const;
    try {
      const crowds = [await Crowd.of(apps[0].url, 16), await Crowd.of(apps[1].url, 16)] as const;
      const side = (crowd: Crowd) => async () =>
        sound(await crowd.flood(stage.seconds, bookingWork(stage, place)), 'bookings');
      const [on, off] = [side(crowds[0]), side(crowds[1])];
      for (let warmUp = 0; warmUp < 2; warmUp++) {
        await on();
        await off();
      }
      const rates = (await inTurns(stage.rounds(30), on, off)).map(([x, y]) => [x.perSecond, y.perSecond] as const);
      for (const crowd of crowds) crowd.close();
      return [
        ratioOf(rates, {
          what: 'bookings/s with limits on Redis, of those without limits',
          bound: bounds.atLeast(0.85),
          about: `${perSecond(rates.map(([x]) => x))} against ${perSecond(rates.map(([, y]) => y))}`,
        }),
      ];
    } finally {
      for (const app of apps) await app.stop();
    }
  },
};

/** A code for a phone, each time another one, against its one statement; with its four limits in PostgreSQL and without. */
export const otp: Row = {
  name: 'otp',
  about: 'p95 of asking for a code, with limits in PostgreSQL and without, of a bare upsert of the code; no bound',
  in: 'default',
  async measure(stage) {
    const place = await stage.small();
    const bare = await stage.reference('references/bare.js', place);
    const settings = { HOLDFAST_ROLE: 'api', REDIS_URL: '' };
    const limited = {
      RATE_LIMITS: 'on',
      RATE_LIMITS_EXEMPT: 'none',
      RATE_LIMIT_OVERRIDES: COUNTED('ip', 'otp-ip', 'otp-organization', 'otp-installation'),
    };
    const apps = [
      await stage.another(place, { ...settings, ...limited }),
      await stage.another(place, settings),
    ] as const;
    try {
      const { organizationId } = place.clinic;
      const ask: Work = async (wire) => {
        const body = { organizationId, phone: newPatient().patient.phone };
        return (await wire.send(requestOf('POST', '/v1/auth/otp', headersOf({}), body))).status === 202;
      };
      const upsert: Work = async (wire) =>
        (await wire.send(bareRequest('code', { phone: newPatient().patient.phone }))).status === 201;
      const crowds = await Promise.all([apps[0].url, apps[1].url, bare].map((url) => Crowd.of(url, 4)));
      const side = (index: number, work: Work) => async () =>
        quantile(sound(await crowds[index]!.flood(stage.seconds, work), 'codes').latencies, 0.95);
      const [on, off, least] = [side(0, ask), side(1, ask), side(2, upsert)];
      for (const each of [on, off, least]) await each();
      const rounds = await inTurns(stage.rounds(20), on, off, least);
      for (const crowd of crowds) crowd.close();
      const p95 = (index: 0 | 1 | 2) => ms(rounds.map((round) => round[index]));
      return ([0, 1] as const).map((index) =>
        ratioOf(
          rounds.map((round) => [round[index], round[2]]),
          {
            what: `code asked for, ${index === 0 ? 'limits in PostgreSQL' : 'without limits'}: p95, of the bare upsert`,
            about: `${p95(index)} against ${p95(2)}`,
          },
        ),
      );
    } finally {
      for (const app of apps) await app.stop();
    }
  },
};
