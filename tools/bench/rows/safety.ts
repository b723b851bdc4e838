import { bounds, figureOf, ms, perSecond, ratioOf, type Figure } from '../figures';
import { Crowd, inTurns } from '../load';
import { actionRequest, bookingRequest, bookingWork, searchRequest, somebody, timed, times } from '../requests';
import { nextSeat, type Place, type Stage } from '../stage';
import { median } from '../statistics';
import { Wire } from '../wire';
import { newPatient } from './actions';
import { type Row, sound } from './row';

/** The same API with everything that protects a time, and with none of it, on two copies of the same data. */
export const safety: Row = {
  name: 'safety',
  about: 'what lock and constraint cost: the same API with them and without, and the patient upsert',
  in: 'default',
  async measure(stage) {
    const [safe, bare] = [await stage.small(), await stage.unprotected()];
    const wires = [await Wire.open(safe.app.url), await Wire.open(bare.app.url)] as const;
    await requireDifference(stage, [safe, wires[0]], [bare, wires[1]]);
    const figures = [
      await throughput(stage, safe, bare),
      await oneLock(stage, [safe, wires[0]], [bare, wires[1]]),
      await severalLocks(stage, [safe, wires[0]], [bare, wires[1]]),
      ...(await upserts(stage, safe, wires[0])),
    ];
    for (const wire of wires) wire.close();
    return figures;
  },
};

type Side = [place: Place, wire: Wire];

/**
 * Without protection a time is booked twice; if it is not, nothing was taken away and nothing is compared. Five minutes later,
 * for two claims with the same start are refused by the primary key, which stays.
 */
async function requireDifference(stage: Stage, ...sides: [Side, Side]): Promise<void> {
  const [once = '', twice = ''] = await Promise.all(
    sides.map(async ([place, wire]) => {
      const seat = nextSeat(place);
      const later = { ...seat, startsAt: new Date(seat.startsAt.getTime() + 300_000) };
      const book = async (at: typeof seat) => (await wire.send(bookingRequest(stage, place, { seat: at }))).status;
      return `${await book(seat)}, ${await book(later)}`;
    }),
  );
  if (once !== '201, 409' || twice !== '201, 201')
    throw new Error(`Two bookings that overlap were answered by ${once} with protection, by ${twice} without.`);
}

async function throughput(stage: Stage, safe: Place, bare: Place): Promise<Figure> {
  const crowds = [await Crowd.of(safe.app.url, 16), await Crowd.of(bare.app.url, 16)] as const;
  const side = (crowd: Crowd, place: Place) => async () =>
    sound(await crowd.flood(stage.seconds, bookingWork(stage, place)), 'bookings');
  const [a, b] = [side(crowds[0], safe), side(crowds[1], bare)];
  for (let warmUp = 0; warmUp < 2; warmUp++) {
    await a();
    await b();
  }
  const rounds = await inTurns(stage.rounds(30), a, b);
  for (const crowd of crowds) crowd.close();
  const rates = rounds.map(([x, y]) => [x.perSecond, y.perSecond] as const);
  return ratioOf(rates, {
    what: 'bookings/s with lock and constraint, of those without',
    bound: bounds.atLeast(0.95, { aim: 1 }),
    about: `${perSecond(rates.map(([x]) => x))} against ${perSecond(rates.map(([, y]) => y))}`,
  });
}

const EACH = 15;

/** Blocks of requests in turns; a figure of how much longer the first of two takes. */
async function difference(
  stage: Stage,
  what: string,
  most: number | undefined,
  first: () => Promise<number[]>,
  second: () => Promise<number[]>,
): Promise<Figure> {
  const blocks = await inTurns(stage.rounds(24), first, second);
  return figureOf(blocks, (some) => median(some.map(([a, b]) => median(a) - median(b))), {
    what,
    unit: 'ms',
    bound: most === undefined ? undefined : bounds.atMost(most),
    about: `${ms(blocks.flatMap(([a]) => a))} against ${ms(blocks.flatMap(([, b]) => b))}`,
  });
}

function oneLock(stage: Stage, ...sides: [Side, Side]): Promise<Figure> {
  const [a, b] = sides.map(
    ([place, wire]) =>
      () =>
        timed(
          wire,
          times(EACH, () => bookingRequest(stage, place)),
          201,
        ),
  );
  return difference(stage, 'one lock and the constraint add', 1, a!, b!);
}

/** A visit of three segments is booked and cancelled again, so that the next one finds the same. */
async function severalLocks(stage: Stage, ...sides: [Side, Side]): Promise<Figure> {
  const [a, b] = await Promise.all(
    sides.map(async ([place, wire], index) => {
      const isSafe = index === 0;
      const serviceId = place.clinic.services.visit;
      const first = async () => {
        const { text } = await wire.send(searchRequest(place, '/v1/slots', { serviceId, days: 14, limit: 1 }));
        const [slot] = (JSON.parse(text) as { data: Array<{ startsAt: string; practitionerId: string }> }).data;
        if (!slot) throw new Error('There is no time for a visit.');
        return { id: slot.practitionerId, startsAt: new Date(slot.startsAt) };
      };
      const seat = await first();
      // Where nothing is marked as taken, what was just booked is offered again.
      const { text } = await wire.send(bookingRequest(stage, place, { serviceId, seat }));
      const isMarked = JSON.stringify(await first()) !== JSON.stringify(seat);
      if (isMarked !== isSafe) throw new Error(`A visit that was booked is ${isMarked ? 'not ' : ''}offered again.`);
      await timed(wire, [actionRequest(place, (JSON.parse(text) as { id: string }).id, 'cancel')], 200);
      return async () => {
        const taken: number[] = [];
        for (let visit = 0; visit < 8; visit++) {
          const sent = performance.now();
          const { status, text } = await wire.send(bookingRequest(stage, place, { serviceId, seat }));
          taken.push(performance.now() - sent);
          if (status !== 201) throw new Error(`A visit was answered by ${status}: ${text.slice(0, 300)}`);
          await timed(wire, [actionRequest(place, (JSON.parse(text) as { id: string }).id, 'cancel')], 200);
        }
        return taken;
      };
    }),
  );
  return difference(stage, 'the locks of a visit of three add', 2, a!, b!);
}

async function upserts(stage: Stage, place: Place, wire: Wire): Promise<Figure[]> {
  const block = (patient: () => object) => () =>
    timed(
      wire,
      times(EACH, () => bookingRequest(stage, place, { patient: patient() })),
      201,
    );
  const byId = block(() => ({ patientId: somebody(stage, place).id }));
  const known = block(() => ({ patient: { phone: somebody(stage, place).phone, name: 'Bench' } }));
  return [
    await difference(stage, 'the patient upsert adds, phone known', 1, known, byId),
    await difference(stage, 'the patient upsert adds, phone new', undefined, block(newPatient), byId),
  ];
}
