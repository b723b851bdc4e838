import type { AppointmentView, Client } from '../client';
import { type Booking, type Span } from '../history';
import { lapseOf } from '../lives';
import { sleep, type Storm, type StormContext } from '../storm';
import { DAY, MINUTE } from '../catalog';
import { OPEN } from '../world';

const SECONDS = 5;
/** Holds that are over are left alone while there are fewer, so that the sweeper always finds some to meet at. */
const IN_STOCK = 40;
/** The sweeper runs every ten seconds; one that has not come by then is not there. */
const PATIENCE_MS = 25_000;
/** So long without a sweeper, where there is none. */
const WITHOUT_MS = 7_000;

export const sweeper: Storm = {
  name: 'sweeper',
  title: 'the sweeper against everything',
  defaults: { clients: (most) => [Math.min(most, 32)], rounds: 3 },
  refusals: ['slot_taken', 'hold_expired', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => {
    let isSwept = true;
    return ctx.eachRound(async () => {
      isSwept = await underTheSweeper(ctx, isSwept ? PATIENCE_MS : WITHOUT_MS);
    });
  },
};

/** A hold as somebody got it. */
interface Held {
  appointment: AppointmentView;
  booking: Booking;
  lapse: Span;
}

/**
 * Short holds end by the hundred, and until the sweeper has come by, everybody confirms, cancels, moves and takes over
 * what is about to end, or has ended.
 * @returns whether it has come
 */
async function underTheSweeper(ctx: StormContext, patience: number): Promise<boolean> {
  const { world, random, clients } = ctx;
  const day = world.takeDay();
  const slots = (OPEN.until - OPEN.from) / (15 * MINUTE);
  const start = () => day + OPEN.from + random.below(slots - 1) * 15 * MINUTE;
  const held: Held[] = [];
  const standing: AppointmentView[] = [];
  const [watcher, ...actors] = clients as [Client, ...Client[]];
  const watched = await watch(ctx, watcher, day);
  if (!watched) return true;
  const patienceEnds = performance.now() + patience;
  const state = { isSwept: false, isOver: false };

  const watches = async () => {
    while (!state.isSwept && !ctx.isOver && performance.now() < patienceEnds) {
      await sleep(200);
      const now = await ctx.read(watcher, watched);
      state.isSwept = now !== undefined && now.body.version > watched.version;
    }
    // What it had begun it may go on with for a moment.
    await sleep(state.isSwept ? 500 : 0);
    state.isOver = true;
  };
  const acts = async (client: Client) => {
    while (!state.isOver) {
      await sleep(random.below(40));
      const now = performance.now();
      const over = held.filter(({ lapse }) => lapse.until < now);
      const dice = random.next();
      if (standing.length > 0 && dice < 0.15) {
        const [victim] = standing.splice(random.below(standing.length), 1);
        await ctx.act(client, 'cancel', victim!);
      } else if (dice < 0.5 && over.length > IN_STOCK) {
        // Others may take the same one at once.
        const { appointment, booking } = random.pick(over);
        const { wish } = booking;
        if (random.chance(0.75)) {
          const { appointment: confirmed } = await ctx.act(client, 'confirm', appointment);
          if (confirmed) standing.push(confirmed);
        } else {
          const { startsAt, practitioner } = wish;
          const phone = world.phoneOf(client.number);
          const rival = ctx.wish({ service: world.services.plain, practitioner, startsAt, phone });
          const { appointment: booked } = await ctx.book(client, rival);
          if (booked) standing.push(booked);
        }
        drop(held, appointment);
      } else if (dice > 0.9 && held.length > 0) {
        const { appointment } = random.pick(held);
        if (random.chance(0.3)) {
          await ctx.act(client, 'cancel', appointment);
          drop(held, appointment);
        } else {
          const target = { practitionerId: random.pick(world.practitioners).id, startsAt: start() };
          await ctx.act(client, 'reschedule', appointment, { target });
        }
      } else {
        const booking = await hold(ctx, client, start());
        const { appointment } = booking;
        if (appointment) held.push({ appointment, booking, lapse: lapseOf(SECONDS, booking) });
      }
    }
  };
  await ctx.ready(clients);
  await Promise.all([watches(), ...actors.map(acts)]);
  if (state.isSwept) ctx.remark('swept');
  // Elsewhere the process that sweeps may be stopped: nothing relies on it.
  if (ctx.isFresh && !ctx.isOver) {
    ctx.expect('the sweeper writes expiries down', state.isSwept, () => `not within ${patience / 1000} s`);
  }
  return state.isSwept;
}

/** A hold that nobody else touches. */
async function watch(ctx: StormContext, client: Client, day: number): Promise<AppointmentView | undefined> {
  const { world } = ctx;
  const wish = ctx.wish({
    service: world.services.edited,
    practitioner: world.edited,
    startsAt: day + DAY / 2,
    phone: world.phoneOf(client.number),
    hold: { seconds: SECONDS },
  });
  return (await ctx.book(client, wish)).appointment;
}

function hold(ctx: StormContext, client: Client, startsAt: number): Promise<Booking> {
  const { world, random } = ctx;
  const { short, plain } = world.services;
  const wish = ctx.wish({
    service: random.pick([short, short, plain]),
    practitioner: random.pick(world.practitioners),
    startsAt,
    phone: world.phoneOf(client.number),
    hold: { seconds: SECONDS },
  });
  return ctx.book(client, wish);
}

function drop(held: Held[], { id }: AppointmentView): void {
  const index = held.findIndex(({ appointment }) => appointment.id === id);
  if (index >= 0) held.splice(index, 1);
}
