import type { AppointmentView, Client } from '../client';
import type { Storm, StormContext } from '../storm';
import { MINUTE, type Practitioner } from '../catalog';

const TURNS = 4;
/** The times that everybody wants, in minutes: fewer than there are clients, and overlapping. */
const SPAN_MINUTES = 120;
const STEP_MINUTES = 10;

export const reschedule: Storm = {
  name: 'reschedule',
  title: 'book against reschedule against cancel',
  defaults: { clients: (most) => [Math.min(most, 40)], rounds: 25 },
  refusals: ['slot_taken', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => moveAround(ctx)),
};

/** Two practitioners, between whom appointments are moved in both directions at once, into each other's time and back. */
async function moveAround(ctx: StormContext): Promise<void> {
  const { world, random, clients } = ctx;
  const pair = random.shuffled(world.practitioners).slice(0, 2);
  const span = world.takeWindow(SPAN_MINUTES + 30);
  const start = () => span + random.below(SPAN_MINUTES / STEP_MINUTES) * STEP_MINUTES * MINUTE;
  const known: AppointmentView[] = [];
  await ctx.ready(clients);

  await swap(ctx, pair, span, known);
  await Promise.all(
    clients.map(async (client) => {
      for (let turn = 0; turn < TURNS; turn++) {
        const victim = known.length > 0 && random.chance(0.7) ? random.pick(known) : undefined;
        if (victim === undefined) {
          const { appointment } = await ctx.book(client, wishAt(ctx, client, random.pick(pair), start()));
          if (appointment) known.push(appointment);
        } else if (random.chance(0.75)) {
          const target = { practitionerId: random.pick([...pair.map(({ id }) => id), undefined]), startsAt: start() };
          await ctx.act(client, 'reschedule', victim, { target });
        } else {
          // Removed after the answer, so that others move and cancel the same one in the meantime.
          await ctx.act(client, 'cancel', victim);
          if (known.includes(victim)) known.splice(known.indexOf(victim), 1);
        }
      }
    }),
  );
}

/** Neighbours of both practitioners change places: each needs the days of both, and meets those who come the other way. */
async function swap(ctx: StormContext, pair: Practitioner[], span: number, known: AppointmentView[]): Promise<void> {
  const { clients } = ctx;
  const count = Math.min(clients.length, (SPAN_MINUTES / 30) * 2);
  const booked = await Promise.all(
    clients.slice(0, count).map(async (client, index) => {
      // In turns here and there, so that the other one's time beside it is free.
      const startsAt = span + Math.floor(index / 2) * 30 * MINUTE + (index % 2) * 15 * MINUTE;
      return (await ctx.book(client, wishAt(ctx, client, pair[index % 2]!, startsAt, 'short'))).appointment;
    }),
  );
  for (let turn = 1; turn <= 2; turn++) {
    await Promise.all(
      booked.map(async (appointment, index) => {
        if (!appointment) return;
        const startsAt = span + Math.floor(index / 2) * 30 * MINUTE + (index % 2) * 15 * MINUTE;
        const target = { practitionerId: pair[(index + turn) % 2]!.id, startsAt };
        const { outcome, code } = await ctx.act(clients[index]!, 'reschedule', appointment, { target });
        ctx.expect(
          'appointments that go past each other do not hinder each other',
          outcome !== 'refused' || code === 'busy' || code === 'rate_limited',
          () => `${appointment.id}: ${code}`,
        );
      }),
    );
  }
  known.push(...booked.flatMap((appointment) => appointment ?? []));
}

function wishAt(
  ctx: StormContext,
  client: Client,
  practitioner: Practitioner,
  startsAt: number,
  length: 'plain' | 'short' = 'plain',
) {
  const { world, random } = ctx;
  const { plain, short, approval } = world.services;
  return ctx.wish({
    service: length === 'short' ? short : random.pick([plain, plain, short, approval]),
    practitioner,
    startsAt,
    phone: world.phoneOf(client.number),
    hold: length === 'plain' && random.chance(0.2) ? true : undefined,
  });
}
