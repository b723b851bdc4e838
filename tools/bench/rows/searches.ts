import { bounds, type Figure, figureOf, ms, ratioOf } from '../figures';
import { Crowd, inTurns, repeatedly } from '../load';
import {
  bareRequest,
  bookingWork,
  lanesInTurn,
  searchRequest,
  type SearchOptions,
  timed,
  times,
  windowOf,
} from '../requests';
import { type Place, type Stage } from '../stage';
import { median, quantile } from '../statistics';
import { Wire } from '../wire';
import { type Row, sound } from './row';

/** One search against the endpoint that asks for 1, each in turn on one connection. */
async function againstRoundTrip(
  stage: Stage,
  place: Place,
  wire: Wire,
  what: string,
  most: number,
  options: (index: number) => SearchOptions,
): Promise<Figure> {
  const block = (path: string) => () =>
    timed(
      wire,
      times(12, (index) => searchRequest(place, path, options(index))),
      200,
    );
  const [search, one] = [block('/v1/slots'), block('/v1/bench/round-trip')];
  for (let warmUp = 0; warmUp < 4; warmUp++) {
    await search();
    await one();
  }
  await requireSlots(place, wire, options(0));
  const blocks = await inTurns(stage.rounds(24), search, one);
  return ratioOf(
    blocks.map(([a, b]) => [median(a), median(b)]),
    {
      what: `${what}: p50, of SELECT 1`,
      bound: bounds.atMost(most),
      about: `${ms(blocks.flatMap(([a]) => a))} against ${ms(blocks.flatMap(([, b]) => b))}`,
    },
  );
}

interface Slot {
  startsAt: string;
  practitionerId: string;
}

/** A search that finds nothing is fast. */
async function requireSlots(place: Place, wire: Wire, options: SearchOptions): Promise<Slot[]> {
  const { text } = await wire.send(searchRequest(place, '/v1/slots', options));
  const { data } = JSON.parse(text) as { data: Slot[] };
  if (data.length < (options.limit ?? 1)) throw new Error(`A search found ${data.length} slots: ${text.slice(0, 200)}`);
  return data;
}

export const slotsOfOne: Row = {
  name: 'slots-one',
  about: 'GET /v1/slots of one practitioner over 21 days, against SELECT 1 through the same stack',
  in: 'every form',
  async measure(stage) {
    const place = await stage.main();
    const wire = await Wire.open(place.app.url);
    const lanes = lanesInTurn(place.clinic.lanes.consultation, 12);
    const figure = await againstRoundTrip(stage, place, wire, 'one practitioner, 21 days', 4, (index) => ({
      serviceId: place.clinic.services.consultation,
      practitionerId: lanes[index]!.id,
      days: 21,
    }));
    wire.close();
    return [figure];
  },
};

export const slotsOfMany: Row = {
  name: 'slots-many',
  about:
    'the first 10 over 500 practitioners and 14 days; with hardly any time left; against the rules without day rows',
  in: 'default',
  async measure(stage) {
    const place = await stage.main();
    const wire = await Wire.open(place.app.url);
    const { consultation, crowded } = place.clinic.services;
    const options = { serviceId: consultation, days: 14, limit: 10 };
    const figures = [await againstRoundTrip(stage, place, wire, 'first 10 of 500 practitioners', 8, () => options)];
    if (stage.options.form !== 'short') {
      const full = { ...options, serviceId: crowded };
      figures.push(
        await againstRoundTrip(stage, place, wire, 'the same, days 95 % full', 8, () => full),
        await againstRules(stage, place, wire, options),
      );
    }
    wire.close();
    return figures;
  },
};

/** How much longer the same answer takes without day rows, from one SQL query over hours, exceptions and appointments. */
async function againstRules(stage: Stage, place: Place, wire: Wire, options: SearchOptions): Promise<Figure> {
  const bare = await Wire.open(await stage.reference('references/bare.js', place));
  const { serviceId, limit } = options;
  const asked = bareRequest('from-rules', { serviceId, limit, ...windowOf(options.days) });
  const found = (JSON.parse((await bare.send(asked)).text) as { data?: Array<Record<string, string>> }).data ?? [];
  const show = (slots: Array<[startsAt: string, practitionerId: string]>) =>
    JSON.stringify(slots.map(([at, id]) => [Date.parse(at), id]));
  const ours = (await requireSlots(place, wire, options)).map((slot) => [slot.startsAt, slot.practitionerId] as const);
  const theirs = found.map((slot) => [slot['starts_at']!, slot['practitioner_id']!] as const);
  if (show(ours as never) !== show(theirs as never)) throw new Error('Day rows and rules give different slots.');
  const blocks = await inTurns(
    stage.rounds(20),
    () =>
      timed(
        bare,
        times(2, () => asked),
        201,
      ),
    () =>
      timed(
        wire,
        times(8, () => searchRequest(place, '/v1/slots', options)),
        200,
      ),
  );
  bare.close();
  return ratioOf(
    blocks.map(([rules, rows]) => [median(rules), median(rows)]),
    {
      what: 'faster than the same answer from the rules',
      bound: bounds.atLeast(20),
      about: `${ms(blocks.flatMap(([, rows]) => rows))} against ${ms(blocks.flatMap(([rules]) => rules))}`,
    },
  );
}

export const visits: Row = {
  name: 'visits',
  about: 'planning a visit of 3 segments with 8 practitioners and 4 rooms over 14 days, the first 10',
  in: 'default',
  async measure(stage) {
    const place = await stage.main();
    const wire = await Wire.open(place.app.url);
    const options = { serviceId: place.clinic.services.visit, days: 14, limit: 10 };
    await requireSlots(place, wire, options);
    const block = () =>
      timed(
        wire,
        times(20, () => searchRequest(place, '/v1/slots', options)),
        200,
      );
    for (let warmUp = 0; warmUp < 3; warmUp++) await block();
    const rounds = await repeatedly(stage.rounds(12), block);
    wire.close();
    return [
      figureOf(rounds, (some) => quantile(some.flat(), 0.95), {
        what: 'planning a visit of three, p95',
        unit: 'ms',
        bound: bounds.atMost(25),
        about: `p50 ${ms(rounds.flat())}`,
      }),
    ];
  },
};

export const searchBeside: Row = {
  name: 'beside',
  about: 'p95 of a booking while a search over 500 practitioners never stops, against without it',
  in: 'default',
  async measure(stage) {
    const place = await stage.main();
    const crowd = await Crowd.of(place.app.url, 4);
    const searcher = await Wire.open(place.app.url);
    const search = searchRequest(place, '/v1/slots', {
      serviceId: place.clinic.services.consultation,
      days: 14,
      limit: 10,
    });
    const book = async () => sound(await crowd.flood(0.8, bookingWork(stage, place, { keyed: true })), 'bookings');
    let searches = 0;
    const beside = async () => {
      const over = new AbortController();
      const searching = (async () => {
        for (; !over.signal.aborted; searches++) await timed(searcher, [search], 200);
      })();
      const flood = await book();
      over.abort();
      await searching;
      return flood;
    };
    await book();
    await beside();
    searches = 0;
    const rounds = await inTurns(stage.rounds(20), beside, book);
    crowd.close();
    searcher.close();
    const p95s = rounds.map(([a, b]) => [quantile(a.latencies, 0.95), quantile(b.latencies, 0.95)] as const);
    return [
      ratioOf(p95s, {
        what: 'p95 of a booking beside a search without end',
        bound: bounds.atMost(1.5),
        about: `${ms(p95s.map(([a]) => a))} against ${ms(p95s.map(([, b]) => b))}, ${(searches / rounds.length / 0.8).toFixed(0)} searches/s`,
      }),
    ];
  },
};
