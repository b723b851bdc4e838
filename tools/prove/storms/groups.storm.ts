import { MINUTE } from '../catalog';
import type { AppointmentView } from '../client';
import type { Storm, StormContext } from '../storm';
import { SEATS } from '../world';

const TURNS = 4;
/** Sessions of one time, of neighbours, and of times that overlap. */
const STARTS = [0, 0, 0, 15, 35, 50];

export const groups: Storm = {
  name: 'groups',
  title: `sessions of ${SEATS} with ${SEATS * 3} clients and more`,
  defaults: { clients: (most) => [...new Set([Math.min(most, SEATS * 3), Math.min(most, 40)])], rounds: 25 },
  refusals: ['slot_taken', 'invalid_transition'],
  everyProcess: true,
  timeComesBack: true,
  run: (ctx) => ctx.eachRound((round) => (round % 2 === 0 ? oneSession(ctx) : comeAndGo(ctx))),
};

/** Three times as many as there are seats, all at once; whoever leaves makes room for one. */
async function oneSession(ctx: StormContext): Promise<void> {
  const { world, clients } = ctx;
  const startsAt = world.takeWindow(30);
  const members = clients.slice(0, SEATS * 3);
  const wish = (number: number) =>
    ctx.wish({ service: world.services.group, practitioner: world.host, startsAt, phone: world.phoneOf(number) });
  const wishes = members.map(({ number }) => wish(number));
  const bookings = await ctx.volley(members, (client, index) => ctx.book(client, wishes[index]!));
  ctx.expectWinners(bookings, SEATS);
  const seated = bookings.flatMap(({ appointment }) => appointment ?? []);
  const leaving = seated.slice(0, 2);
  const left = await Promise.all(leaving.map((appointment, index) => ctx.cancel(members[index]!, appointment.id)));
  const again = members.map(({ number }) => wish(number));
  const second = await ctx.volley(members, (client, index) => ctx.book(client, again[index]!));
  if (seated.length === SEATS && left.every((outcome) => outcome === 'ok')) ctx.expectWinners(second, left.length);
}

/** Joining, holding, leaving and changing over between sessions that are neighbours or in each other's way. */
async function comeAndGo(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const { group, alone } = world.services;
  const span = world.takeWindow(90);
  const start = () => span + random.pick(STARTS) * MINUTE;
  const known: AppointmentView[] = [];
  await ctx.ready(clients);
  await Promise.all(
    clients.map(async (client) => {
      for (let turn = 0; turn < TURNS; turn++) {
        const victim = known.length > 0 && random.chance(0.5) ? random.pick(known) : undefined;
        if (victim === undefined) {
          const wish = ctx.wish({
            service: random.chance(0.9) ? group : alone,
            practitioner: world.host,
            startsAt: start(),
            phone: world.phoneOf(client.number),
            hold: random.chance(0.3) ? true : undefined,
          });
          const { appointment } = await ctx.book(client, wish);
          if (appointment) known.push(appointment);
        } else if (random.chance(0.4)) {
          await ctx.act(client, 'reschedule', victim, { target: { startsAt: start() } });
        } else if (victim.status === 'held' && random.chance(0.3)) {
          await ctx.act(client, 'confirm', victim);
        } else {
          await ctx.act(client, 'cancel', victim);
          if (known.includes(victim)) known.splice(known.indexOf(victim), 1);
        }
      }
    }),
  );
}
