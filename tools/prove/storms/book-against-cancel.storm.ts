import type { Storm, StormContext } from '../storm';
import { MINUTE } from '../catalog';

const TURNS = 4;

export const bookAgainstCancel: Storm = {
  name: 'book-against-cancel',
  title: 'book against cancel',
  defaults: { clients: (most) => [Math.min(most, 50)] },
  refusals: ['slot_taken', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => bookAndCancel(ctx)),
};

/** Everybody books and cancels around the same minute, often the same appointment at once. */
export async function bookAndCancel(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const { plain } = world.services;
  const practitioner = random.pick(world.practitioners);
  const minute = world.takeWindow(60) + 15 * MINUTE;
  const booked: string[] = [];
  await ctx.ready(clients);
  await Promise.all(
    clients.map(async (client) => {
      for (let turn = 0; turn < TURNS; turn++) {
        const victim = booked.at(-1);
        if (victim !== undefined && random.chance(0.6)) {
          // Removed after the answer, so that others cancel the same one in the meantime.
          const outcome = await ctx.cancel(client, victim);
          if (outcome !== 'unknown' && booked.includes(victim)) booked.splice(booked.indexOf(victim), 1);
          continue;
        }
        // All of these overlap each other, so at most one can be there at any time.
        const startsAt = minute + random.pick([-10, 0, 0, 0, 10]) * MINUTE;
        const wish = ctx.wish({ service: plain, practitioner, startsAt, phone: world.phoneOf(client.number) });
        const { appointment } = await ctx.book(client, wish);
        if (appointment) booked.push(appointment.id);
      }
    }),
  );
  ctx.expect('at the end the time is free or taken once', booked.length <= 1, () => `taken by ${booked.join(' and ')}`);

  // What the record says of the time must be so: free time can be booked, taken time cannot.
  const probe = ctx.wish({ service: plain, practitioner, startsAt: minute, phone: world.phoneOf(0) });
  const { outcome, code } = await ctx.book(clients[0]!, probe);
  const certain = outcome !== 'unknown' && code !== 'busy' && code !== 'rate_limited';
  const expected = booked.length === 0 ? 'ok' : 'refused';
  ctx.expect(
    'freed time can be booked again, taken time cannot',
    !certain || outcome === expected,
    () => `with ${booked.length} appointments there, one more was ${outcome} (${code ?? 'no code'})`,
  );
}
