import type { Storm } from '../storm';
import { MINUTE } from '../catalog';

const SPAN_MINUTES = 120;

/**
 * Different starts, lengths and buffers that overlap without being equal: what a unique key on the start lets through.
 * Many may win; that they do not overlap, and that nobody was refused without reason, is checked from the record.
 */
export const overlapping: Storm = {
  name: 'overlapping',
  title: 'overlapping starts and lengths',
  defaults: { clients: (most) => [most] },
  refusals: ['slot_taken'],
  run: (ctx) =>
    ctx.eachRound(async () => {
      const { world, random, clients } = ctx;
      const { plain, short, long, buffered } = world.services;
      const practitioner = random.pick(world.practitioners);
      const span = world.takeWindow(SPAN_MINUTES + long.durationMinutes);
      const wishes = clients.map((client) =>
        ctx.wish({
          service: random.pick([plain, short, long, buffered]),
          practitioner,
          startsAt: span + random.below(SPAN_MINUTES / 5) * 5 * MINUTE,
          phone: world.phoneOf(client.number),
        }),
      );
      const bookings = await ctx.volley(clients, (client, index) => ctx.book(client, wishes[index]!));
      ctx.expect(
        'somebody wins',
        bookings.some(({ outcome, code }) => outcome !== 'refused' || code === 'busy' || code === 'rate_limited'),
        () => 'all were refused',
      );
    }),
};
