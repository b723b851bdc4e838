import { MINUTE } from '../catalog';
import type { AppointmentView } from '../client';
import type { Storm, StormContext } from '../storm';
import { PLACES } from '../world';

const TURNS = 4;
const SPAN_MINUTES = 90;

export const places: Storm = {
  name: 'places',
  title: `${PLACES} places side by side`,
  defaults: { clients: (most) => [Math.min(most, 40)], rounds: 25 },
  refusals: ['slot_taken', 'invalid_transition'],
  everyProcess: true,
  timeComesBack: true,
  run: (ctx) => ctx.eachRound((round) => (round % 2 === 0 ? oneTime(ctx) : sideBySide(ctx))),
};

/** Everybody wants one time: as many get it as there are places. */
async function oneTime(ctx: StormContext): Promise<void> {
  const { world, clients } = ctx;
  const what = { service: world.services.seat, practitioner: world.spacious, startsAt: world.takeWindow(30) };
  const wishes = clients.map(({ number }) => ctx.wish({ ...what, phone: world.phoneOf(number) }));
  const bookings = await ctx.volley(clients, (client, index) => ctx.book(client, wishes[index]!));
  ctx.expectWinners(bookings, PLACES);
}

/** Times of two lengths that overlap in every way: there is room wherever fewer are at once than there are places. */
async function sideBySide(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const { seat, seatLong } = world.services;
  const span = world.takeWindow(SPAN_MINUTES + 60);
  const start = () => span + random.below(SPAN_MINUTES / 5) * 5 * MINUTE;
  const known: AppointmentView[] = [];
  await ctx.ready(clients);
  await Promise.all(
    clients.map(async (client) => {
      for (let turn = 0; turn < TURNS; turn++) {
        const victim = known.length > 0 && random.chance(0.5) ? random.pick(known) : undefined;
        if (victim === undefined) {
          const wish = ctx.wish({
            service: random.pick([seat, seatLong]),
            practitioner: world.spacious,
            startsAt: start(),
            phone: world.phoneOf(client.number),
            hold: random.chance(0.2) ? true : undefined,
          });
          const { appointment } = await ctx.book(client, wish);
          if (appointment) known.push(appointment);
        } else if (random.chance(0.5)) {
          await ctx.act(client, 'reschedule', victim, { target: { startsAt: start() } });
        } else {
          await ctx.act(client, 'cancel', victim);
          if (known.includes(victim)) known.splice(known.indexOf(victim), 1);
        }
      }
    }),
  );
}
