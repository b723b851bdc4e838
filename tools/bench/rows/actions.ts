import { bounds, type Figure, perSecond, ratioOf } from '../figures';
import { Crowd, inTurns, type Work } from '../load';
import { actionRequest, bareRequest, bareWish, bookingRequest, somebody } from '../requests';
import { nextSeat, type Place, type Stage } from '../stage';
import { requestOf, type Wire } from '../wire';
import { type Row, sound } from './row';

const CONNECTIONS = 16;
const LEAST = bounds.atLeast(0.4);

/** What happens to an appointment besides its booking, each against its own bare form. */
export const actions: Row = {
  name: 'actions',
  about: 'hold and confirm, check-in and cancel, reschedule, patient upsert, each against its own bare form',
  in: 'every form',
  async measure(stage) {
    const place = await stage.main();
    const bare = await stage.reference('references/bare.js', place);
    const crowds = { ours: await Crowd.of(place.app.url, CONNECTIONS), bare: await Crowd.of(bare, CONNECTIONS) };
    const figures: Figure[] = [];
    for (const [what, ours, theirs] of sidesOf(stage, place)) {
      const side = (crowd: Crowd, work: Work) => async () => sound(await crowd.flood(stage.seconds, work), what);
      const [a, b] = [side(crowds.ours, ours), side(crowds.bare, theirs)];
      await a();
      await b();
      const rounds = await inTurns(stage.rounds(20), a, b);
      const rates = rounds.map(([x, y]) => [x.perSecond, y.perSecond] as const);
      figures.push(
        ratioOf(rates, {
          what: `${what}, of its bare form`,
          bound: LEAST,
          about: `${perSecond(rates.map(([x]) => x))} against ${perSecond(rates.map(([, y]) => y))}`,
        }),
      );
    }
    for (const crowd of Object.values(crowds)) crowd.close();
    return figures;
  },
};

type Sides = [what: string, ours: Work, bare: Work];

const sidesOf = (stage: Stage, place: Place): Sides[] => [
  [
    'hold, then confirm',
    async (wire) => {
      const held = await wire.send(bookingRequest(stage, place, { hold: true }));
      if (held.status !== 201) return false;
      return (await wire.send(actionRequest(place, idOf(held.text), 'confirm'))).status === 200;
    },
    async (wire) => {
      const held = await wire.send(bareRequest('hold', bareWish(stage, place)));
      return held.status === 201 && (await bareAction(wire, 'confirm', idOf(held.text)));
    },
  ],
  [
    'check-in, then cancel',
    async (wire) => {
      const { id } = place.stock.take();
      const done = await wire.send(actionRequest(place, id, 'check-in'));
      return done.status === 200 && (await wire.send(actionRequest(place, id, 'cancel'))).status === 200;
    },
    async (wire) => {
      const { id } = place.stock.take();
      return (await bareAction(wire, 'check-in', id)) && (await bareAction(wire, 'cancel', id));
    },
  ],
  [
    'reschedule',
    moving(place, async (wire, id) => {
      const seat = nextSeat(place);
      const to = { startsAt: seat.startsAt.toISOString(), practitionerId: seat.id };
      return (await wire.send(actionRequest(place, id, 'reschedule', to))).status === 200;
    }),
    moving(
      place,
      async (wire, id) =>
        (await wire.send(bareRequest('reschedule', { ...bareWish(stage, place), id }))).status === 201,
    ),
  ],
  [
    'patient upsert, every second one new',
    async (wire) => {
      const { status } = await wire.send(requestOf('POST', '/v1/patients', place.headers, patient(stage, place)));
      return status === 200 || status === 201;
    },
    async (wire) => (await wire.send(bareRequest('patient', patient(stage, place)))).status === 201,
  ],
];

/** An appointment for each connection, which it moves again and again. */
function moving(place: Place, move: (wire: Wire, id: string) => Promise<boolean>): Work {
  const ids = new Map<Wire, string>();
  return (wire) => {
    const id = ids.get(wire) ?? place.stock.take().id;
    ids.set(wire, id);
    return move(wire, id);
  };
}

let strangers = 0;

/** A number of no network: what is loaded has others, and each of these comes once. */
const stranger = () => `+4930${30_000_000 + strangers++}`;

function patient(stage: Stage, place: Place) {
  const isNew = stage.random.chance(0.5);
  return { phone: isNew ? stranger() : somebody(stage, place).phone, name: 'Bench' };
}

/** A patient as a booking names one whom nobody knows yet. */
export const newPatient = () => ({ patient: { phone: stranger(), name: 'Bench' } });

const idOf = (text: string): string => (JSON.parse(text) as { id: string }).id;

const bareAction = async (wire: Wire, path: string, id: string) =>
  (await wire.send(bareRequest(path, { id }))).status === 201;
