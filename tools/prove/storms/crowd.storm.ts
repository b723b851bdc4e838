import { MINUTE } from '../catalog';
import type { Answer, Client } from '../client';
import { Random } from '../random';
import { sleep, type Storm, type StormContext } from '../storm';
import { FULL_DAY_MINUTES, OPEN } from '../world';
import { seedOf } from './random-plan';

/** All clients together send about so many requests a second, or two each where they are few. */
const RATE = 100;
const SHORTEST_PAUSE_MS = 500;
const SHORTEST_MS = 3_000;

/**
 * A crowd that stays: every client keeps its one connection open for all of the time that `--minutes` gives, and asks, books,
 * reads and cancels at a modest rate. Nobody is dropped, and nobody is told of a failure: busy is the worst there is.
 */
export const crowd: Storm = {
  name: 'crowd',
  title: 'a crowd with open connections',
  defaults: { clients: (most) => [most] },
  refusals: ['slot_taken', 'invalid_transition'],
  everyProcess: true,
  byTheClock: true,
  timeComesBack: true,
  run: (ctx) => {
    const connections = new Map<Client, number>();
    return ctx.eachRound(() => stay(ctx, connections));
  },
};

/** A part of it, on a day of its own. */
async function stay(ctx: StormContext, connections: Map<Client, number>): Promise<void> {
  const { world, clients } = ctx;
  const pause = Math.max(SHORTEST_PAUSE_MS, (clients.length / RATE) * 1000);
  const day = world.takeDay();
  const seed = ctx.random.below(2 ** 32);
  if (connections.size === 0) {
    await ctx.ready(clients);
    for (const client of clients) connections.set(client, client.connections);
  }
  // The server closes what is idle for long: between two parts everything is checked, and a client may rest in both.
  const showUp = (client: Client) => client.request('GET', '/health/live', { isOpen: true });
  await Promise.all(clients.map(showUp));
  const endsAt = performance.now() + Math.max(SHORTEST_MS, 2 * pause);
  await Promise.all(
    clients.map(async (client) => {
      const random = new Random(seedOf(seed, client.number));
      const booked: string[] = [];
      for (;;) {
        await sleep(2 * pause * random.next());
        if (performance.now() >= endsAt || ctx.isOver) break;
        await oneRequest(ctx, client, random, day, booked);
      }
      await showUp(client);
      const opened = client.connections - connections.get(client)!;
      ctx.expect('a connection stays open as long as its client does', opened === 0, () => `${opened} opened anew`);
    }),
  );
}

async function oneRequest(
  ctx: StormContext,
  client: Client,
  random: Random,
  day: number,
  booked: string[],
): Promise<void> {
  const { world } = ctx;
  const { plain } = world.services;
  const practitioner = random.pick(world.practitioners);
  const startsAt = day + OPEN.from + random.below(FULL_DAY_MINUTES / 30) * 30 * MINUTE;
  const dice = random.next();
  if (dice < 0.35) {
    const query = new URLSearchParams({
      serviceId: plain.id,
      practitionerId: practitioner.id,
      from: new Date(startsAt).toISOString(),
      to: new Date(startsAt + 4 * 60 * MINUTE).toISOString(),
    });
    served(ctx, await ctx.send(client, 'GET', `/v1/slots?${query.toString()}`, { isOpen: true }, () => 'searched'));
  } else if (dice < 0.5 && booked.length > 0) {
    const path = `/v1/appointments/${random.pick(booked)}`;
    served(ctx, await ctx.send(client, 'GET', path, { isOpen: true }, () => 'read'));
  } else if (dice < 0.65 && booked.length > 0) {
    const { answer } = await ctx.act(client, 'cancel', { id: booked.pop()! }, { isOpen: true, random });
    served(ctx, answer);
  } else {
    const wish = ctx.wish({ service: plain, practitioner, startsAt, phone: world.phoneOf(client.number) }, random);
    const { appointment, answer } = await ctx.book(client, wish, { isOpen: true });
    served(ctx, answer);
    if (appointment) booked.push(appointment.id);
  }
}

function served(ctx: StormContext, answer: Answer): void {
  ctx.expect('nobody who stays is cut off', answer.status !== 0, () => answer.error ?? '');
}
