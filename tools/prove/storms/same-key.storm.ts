import type { Answer } from '../client';
import type { Booking } from '../history';
import type { Storm, StormContext } from '../storm';
import { MINUTE } from '../catalog';

const COPIES = 10;

export const sameKey: Storm = {
  name: 'same-key',
  title: 'one Idempotency-Key, 10 times at once',
  defaults: { clients: (most) => [Math.min(most, COPIES)] },
  refusals: ['request_in_progress', 'idempotency_key_reused'],
  run: (ctx) => ctx.eachRound((round) => repeatUnderOneKey(ctx, round)),
};

type Answered = Booking & { answer: Answer };

/** One request many times at once under one key; in every second round some send another body under that key. */
export async function repeatUnderOneKey(ctx: StormContext, round: number): Promise<void> {
  const { world, random } = ctx;
  const clients = ctx.clients.slice(0, COPIES);
  const span = world.takeWindow(60);
  const what = { service: world.services.plain, practitioner: random.pick(world.practitioners) };
  const first = { ...ctx.wish({ ...what, startsAt: span, phone: world.phoneOf(0) }) };
  first.key = first.requestId;
  // Half of them spell the key as the structured field that the draft standard makes of it.
  const quoted = { ...first, key: `"${first.key}"` };
  const other = { ...ctx.wish({ ...what, startsAt: span + 30 * MINUTE, phone: world.phoneOf(1) }), key: first.key };
  const sent = clients.map((_, index) =>
    round % 2 === 1 && index % 3 === 2 ? other : index % 2 === 0 ? first : quoted,
  );
  const bookings = await ctx.volley(clients, (client, index) => ctx.book(client, sent[index]!));

  const won = bookings.filter((booking) => booking.outcome === 'ok');
  const fresh = won.filter((booking) => !booking.replayed);
  const unknown = bookings.some((booking) => booking.outcome === 'unknown');
  const ids = new Set(won.map((booking) => booking.appointment?.id));
  ctx.expect('one key has one effect', ids.size <= 1 && fresh.length <= 1, () => `${ids.size} appointments`);
  if (won.length === 0) {
    ctx.expect('one of the requests under a key is served', unknown || bookings.some(isBusy), () => 'all were refused');
    return;
  }
  const winner = (fresh[0] ?? won[0]) as Answered;
  const isWinners = (booking: Booking) => booking.wish.requestId === winner.wish.requestId;
  for (const booking of bookings) {
    if (booking.outcome === 'ok') expectSameAnswer(ctx, winner, booking);
    else {
      const fits = booking.code === 'request_in_progress' || isBusy(booking) || booking.outcome === 'unknown';
      ctx.expect(
        'under a key, the same request is never told that it is another one, and another one never served',
        fits || (booking.code === 'idempotency_key_reused') === !isWinners(booking),
        () => `${booking.code} for ${isWinners(booking) ? 'the same request' : 'another request'}`,
      );
    }
  }

  const again = await ctx.book(clients[0]!, winner.wish);
  if (!isBusy(again) && again.outcome !== 'unknown') {
    ctx.expect('a key is replayed afterwards', again.replayed, () => `${again.answer.status} ${again.code ?? ''}`);
    if (again.outcome === 'ok') expectSameAnswer(ctx, winner, again);
  }
  const misused = await ctx.book(clients[0]!, winner.wish.requestId === first.requestId ? other : first);
  ctx.expect(
    'another body under a used key is refused with 422 idempotency_key_reused',
    isBusy(misused) || (misused.answer.status === 422 && misused.code === 'idempotency_key_reused'),
    () => `${misused.answer.status} ${misused.code ?? ''}`,
  );
}

function expectSameAnswer(ctx: StormContext, winner: Answered, { answer, replayed }: Answered): void {
  const differs = (['location', 'etag'] as const).filter(
    (name) => answer.headers[name] !== winner.answer.headers[name],
  );
  if (answer.status !== winner.answer.status) differs.push('etag');
  ctx.expect(
    'all answers under one key are equal, byte by byte',
    answer.status === 201 && answer.text === winner.answer.text && differs.length === 0,
    () => `${replayed ? 'replay' : 'first'}: ${differs.join(', ') || answer.text.slice(0, 200)}`,
  );
}

const isBusy = ({ code }: Booking): boolean => code === 'busy' || code === 'rate_limited';
