import type { Client } from '../client';
import { type Booking, type Change, type Span } from '../history';
import { lapseOf } from '../lives';
import { sleep, type Storm, type StormContext } from '../storm';
import { MINUTE, type Practitioner } from '../catalog';

/** The shortest hold that there is. */
const SECONDS = 5;
/** Everybody comes within so long before and after its end. */
const AROUND_MS = 300;
/** Clients around one hold: its holder, and others. */
const AT_ONE = 4;

export const holdExpiry: Storm = {
  name: 'hold-expiry',
  title: 'holds confirmed and taken at their end',
  defaults: { clients: (most) => [Math.min(most, 80)], rounds: 5 },
  refusals: ['slot_taken', 'hold_expired', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound((round) => meetAtTheEnd(ctx, round)),
};

type Answered<T> = T & { answer: { startedAt: number; endedAt: number } };

/** Many holds at once, on times of their own, so that one wait serves them all. */
async function meetAtTheEnd(ctx: StormContext, round: number): Promise<void> {
  const { world, clients } = ctx;
  const count = Math.max(1, Math.floor(clients.length / AT_ONE));
  const windows = Array.from({ length: Math.ceil(count / world.practitioners.length) }, () => world.takeWindow(60));
  await ctx.ready(clients);
  await Promise.all(
    Array.from({ length: count }, (_, number) => {
      const group = clients.filter((_, index) => index % count === number);
      const practitioner = world.practitioners[number % world.practitioners.length]!;
      const startsAt = windows[Math.floor(number / world.practitioners.length)]! + 15 * MINUTE;
      return oneHold(ctx, round + number, group, practitioner, startsAt);
    }),
  );
}

async function oneHold(
  ctx: StormContext,
  variant: number,
  group: Client[],
  practitioner: Practitioner,
  startsAt: number,
): Promise<void> {
  const { world, random } = ctx;
  const { plain, buffered, approval } = world.services;
  const [holder, ...others] = group as [Client, ...Client[]];
  const wish = ctx.wish({
    service: random.pick([plain, plain, buffered, approval]),
    practitioner,
    startsAt,
    phone: world.phoneOf(holder.number),
    hold: { seconds: SECONDS },
  });
  const turns = group.map(() => (random.next() * 2 - 1) * (random.chance(0.5) ? AROUND_MS : AROUND_MS / 10));
  const hold = await ctx.book(holder, wish);
  if (!hold.appointment) return;
  const lapse = lapseOf(SECONDS, hold);
  // Nobody who comes at the end may have to open a connection first.
  await sleep(lapse.from - performance.now() - AROUND_MS - 500);
  await ctx.ready(group);
  if (variant % 3 > 0) await contend(ctx, hold, holder, others, lapse, turns);
  else await takeAfterwards(ctx, hold, holder, variant % 2 === 0 ? others[0] : undefined, lapse);
}

/** The holder confirms while others book or hold what overlaps: whoever comes first, but one of them at most. */
async function contend(
  ctx: StormContext,
  hold: Booking,
  holder: Client,
  others: Client[],
  lapse: Span,
  turns: number[],
): Promise<void> {
  const { random } = ctx;
  const appointment = hold.appointment!;
  const edge = (lapse.from + lapse.until) / 2;
  const twice = random.chance(0.3);
  const confirms: Array<Promise<Answered<Change>>> = [];
  const rivals: Array<Promise<Answered<Booking>>> = [];
  for (const [index, client] of [holder, ...others].entries()) {
    const wish = overlapping(ctx, hold, client, random.chance(0.4));
    const inTurn = sleep(edge + turns[index]! - performance.now());
    if (index === 0 || (twice && index === 1))
      confirms.push(inTurn.then(() => ctx.act(client, 'confirm', appointment)));
    else rivals.push(inTurn.then(() => ctx.book(client, wish)));
  }
  const confirmed = await Promise.all(confirms);
  const taken = await Promise.all(rivals);
  const isConfirmed = confirmed.some(({ outcome }) => outcome === 'ok');
  // A rival's hold can be over in its turn; the record tells about those.
  const isTaken = taken.some(({ outcome, wish }) => outcome === 'ok' && wish.holdSeconds === undefined);
  ctx.expect(
    'at its end a hold is confirmed or its time is booked, not both',
    !(isConfirmed && isTaken),
    () => appointment.id,
  );
  const mayBeConfirmed = confirmed.some(({ outcome }) => outcome !== 'refused');
  if (!mayBeConfirmed) await expectExpired(ctx, hold, holder, lapse);
}

/** Nobody comes before the end is over for certain. Then the time is free, for somebody else or for its holder. */
async function takeAfterwards(
  ctx: StormContext,
  hold: Booking,
  holder: Client,
  other: Client | undefined,
  lapse: Span,
): Promise<void> {
  await expectExpired(ctx, hold, holder, lapse);
  const taken = other && (await ctx.book(other, overlapping(ctx, hold, other, false)));
  if (taken) {
    ctx.expect(
      'a hold past its time blocks nobody',
      taken.outcome !== 'refused' || taken.code === 'busy' || taken.code === 'rate_limited',
      () => `${hold.appointment!.id}: ${taken.code}`,
    );
  }
  const late = await ctx.act(holder, 'confirm', hold.appointment!);
  ctx.expect(
    'a late confirm is served if nobody has the time, and else told 410 hold_expired',
    late.outcome !== 'refused' ||
      late.code === 'busy' ||
      late.code === 'rate_limited' ||
      (late.answer.status === 410 && late.code === 'hold_expired' && taken !== undefined),
    () => `${hold.appointment!.id}: ${late.answer.status} ${late.code ?? ''}`,
  );
}

async function expectExpired(ctx: StormContext, hold: Booking, client: Client, lapse: Span): Promise<void> {
  await sleep(lapse.until - performance.now() + 1);
  const now = await ctx.read(client, hold.appointment!);
  ctx.expect(
    'a hold past its time reads as expired',
    now === undefined || now.body.status === 'expired',
    () => `${hold.appointment!.id}: ${now?.body.status}`,
  );
}

function overlapping(ctx: StormContext, { wish }: Booking, client: Client, holds: boolean) {
  const { random, world } = ctx;
  const { plain, short, buffered } = world.services;
  return ctx.wish({
    service: random.pick([plain, plain, short, buffered]),
    practitioner: wish.practitioner,
    startsAt: wish.startsAt + random.pick([-10, 0, 0, 0, 5]) * MINUTE,
    phone: world.phoneOf(client.number),
    hold: holds ? { seconds: SECONDS } : undefined,
  });
}
