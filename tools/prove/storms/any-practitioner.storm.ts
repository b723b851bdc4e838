import type { Storm, StormContext } from '../storm';
import { MINUTE } from '../catalog';

export const anyPractitioner: Storm = {
  name: 'any-practitioner',
  title: 'any practitioner, fewer free than clients',
  defaults: { clients: (most) => [most] },
  refusals: ['slot_taken'],
  run: (ctx) => ctx.eachRound(() => raceForAnyPractitioner(ctx)),
};

/** Some practitioners of the pool are booked already; everybody wants any of the others at one time. */
export async function raceForAnyPractitioner(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const { pool, plain } = world.services;
  const startsAt = world.takeWindow(30);
  const free = 1 + random.below(pool.practitioners.length);
  const booked = random.shuffled(pool.practitioners).slice(free);
  for (const [index, practitioner] of booked.entries()) {
    // A partial overlap takes a practitioner as well as a whole one.
    const shifted = startsAt + random.pick([-15, 0, 15]) * MINUTE;
    const wish = ctx.wish({ service: plain, practitioner, startsAt: shifted, phone: world.phoneOf(index) });
    const { outcome } = await ctx.book(clients[index % clients.length]!, wish);
    // Then nobody knows how many are free. Whether there was a reason is seen in the record.
    if (outcome !== 'ok') return;
  }
  const wishes = clients.map((client) => ctx.wish({ service: pool, startsAt, phone: world.phoneOf(client.number) }));
  const bookings = await ctx.volley(clients, (client, index) => ctx.book(client, wishes[index]!));
  ctx.expectWinners(bookings, free);
}
