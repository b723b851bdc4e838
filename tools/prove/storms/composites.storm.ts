import { MINUTE, plainStarts, type Service } from '../catalog';
import type { AppointmentView, Client } from '../client';
import type { SegmentPlace } from '../history';
import type { Storm, StormContext } from '../storm';

const TURNS = 4;
/** Starts that everybody wants, in minutes: visits of an hour and more overlap each other in all of it. */
const SPAN_MINUTES = 90;

export const composites: Storm = {
  name: 'composites',
  title: 'composites over practitioners and rooms in any order',
  defaults: { clients: (most) => [Math.min(most, 40)], rounds: 20 },
  refusals: ['slot_taken', 'invalid_transition'],
  everyProcess: true,
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => visitAtOnce(ctx)),
};

/**
 * Visits of two to five segments over the same few practitioners and rooms, named in every order or planned, booked, held,
 * moved and cancelled at once, with single appointments in between: each has all of its segments, or none.
 */
async function visitAtOnce(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const span = world.takeWindow(SPAN_MINUTES + 180);
  const start = () => span + random.below(SPAN_MINUTES / 5) * 5 * MINUTE;
  const known: AppointmentView[] = [];
  const { two, three, five, plain } = world.services;
  const serviceOf = new Map([two, three, five, plain].map((service) => [service.id, service]));
  await ctx.ready(clients);
  await Promise.all(
    clients.map(async (client) => {
      for (let turn = 0; turn < TURNS; turn++) {
        const victim = known.length > 0 && random.chance(0.45) ? random.pick(known) : undefined;
        if (victim === undefined) {
          const { appointment } = await ctx.book(client, wishAt(ctx, client, start()));
          if (appointment) known.push(appointment);
        } else if (random.chance(0.6)) {
          const service = serviceOf.get(victim.serviceId)!;
          const startsAt = start();
          const segments = service.segments && random.chance(0.5) ? named(ctx, service, startsAt) : undefined;
          await ctx.act(client, 'reschedule', victim, { service, target: { startsAt, segments } });
        } else {
          await ctx.act(client, 'cancel', victim);
          if (known.includes(victim)) known.splice(known.indexOf(victim), 1);
        }
      }
    }),
  );
}

function wishAt(ctx: StormContext, client: Client, startsAt: number) {
  const { world, random } = ctx;
  const { two, three, five, plain } = world.services;
  const service = random.pick([two, three, three, five, plain]);
  return ctx.wish({
    service,
    startsAt,
    practitioner: service === plain ? random.pick(two.practitioners) : undefined,
    segments: service.segments && random.chance(0.6) ? named(ctx, service, startsAt) : undefined,
    phone: world.phoneOf(client.number),
    hold: random.chance(0.2) ? true : undefined,
  });
}

/**
 * Every segment named: whoever the service lists for it, no one twice, now and then in another order than the service's, or
 * with a pause of its own. The earliest one starts when the whole does.
 */
function named({ random }: StormContext, service: Service, startsAt: number): SegmentPlace[] {
  const rules = service.segments!;
  const starts = random.chance(0.3) ? reversed(service, startsAt) : plainStarts(service, startsAt);
  const pause = random.chance(0.3) ? random.below(4) * 5 * MINUTE : 0;
  const chosen: SegmentPlace[] = [];
  for (const [index, { resources }] of rules.entries()) {
    const free = resources.filter(({ id }) => !chosen.some(({ resourceId }) => resourceId === id));
    const { id } = random.pick(free.length > 0 ? free : resources);
    chosen.push({ resourceId: id, startsAt: starts[index]! + (starts[index]! > startsAt ? pause : 0) });
  }
  return chosen;
}

/** One after the other, the last segment first. */
function reversed({ segments = [] }: Service, startsAt: number): number[] {
  const starts = new Array<number>(segments.length);
  let next = startsAt;
  for (const [index, { durationMinutes }] of [...segments.entries()].reverse()) {
    starts[index] = next;
    next += durationMinutes * MINUTE;
  }
  return starts;
}
