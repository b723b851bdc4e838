import type { Storm, StormContext } from '../storm';

/** Up to this many callers for one slot nobody has to be sent away as busy. */
const SERVED_AT_ONCE = 50;

export const oneSlot: Storm = {
  name: 'one-slot',
  title: 'one slot',
  defaults: { clients: (most) => [10, 20, 50, most] },
  refusals: ['slot_taken'],
  run: (ctx) => ctx.eachRound(() => raceForOneSlot(ctx)),
};

/** Everybody wants the same half hour of the same practitioner. */
export async function raceForOneSlot(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const what = {
    service: world.services.plain,
    practitioner: random.pick(world.practitioners),
    startsAt: world.takeWindow(30),
  };
  const wishes = clients.map((client) => ctx.wish({ ...what, phone: world.phoneOf(client.number) }));
  const bookings = await ctx.volley(clients, (client, index) => ctx.book(client, wishes[index]!));
  ctx.expectWinners(bookings, 1);
  const busy = bookings.filter((booking) => booking.code === 'busy').length;
  ctx.expect(
    `nobody is sent away as busy among up to ${SERVED_AT_ONCE} for one slot`,
    busy === 0 || clients.length > SERVED_AT_ONCE,
    () => `${busy} of ${clients.length}`,
  );
}
