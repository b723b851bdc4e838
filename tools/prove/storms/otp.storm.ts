import type { Client } from '../client';
import type { Storm, StormContext } from '../storm';
import { askForCode } from './limiter.storm';

/** Codes that one phone can ask for, and guesses that one code bears. */
const FEW = 5;
/** More guesses than a code bears, and fewer than a phone may make: the limit must not stand before what is tested. */
const GUESSES = 12;

export const otp: Storm = {
  name: 'otp',
  title: 'one phone, many codes and guesses',
  defaults: { clients: (most) => [Math.min(most, 50)], rounds: 12 },
  refusals: ['unauthenticated'],
  everyProcess: true,
  run: (ctx) => ctx.eachRound((round) => (round % 2 === 0 ? codesAtOnce(ctx) : guessesAtOnce(ctx))),
};

/** Several ask at once: several codes are sent, and one of them is good, once. */
async function codesAtOnce(ctx: StormContext): Promise<void> {
  const { clients } = ctx;
  const phone = ctx.world.newPhone();
  const asked = await ctx.volley(clients.slice(0, FEW), (client) => askForCode(ctx, client, phone));
  const sent = asked.filter(({ status }) => status === 202).length;
  const codes = [...new Set(await ctx.codesTo(phone, sent))];
  // A code that could be read nowhere can only be guessed; and where somebody was refused, nothing is known of the others.
  if (codes.length === 0 || sent < asked.length) return;
  const shown = await ctx.volley(clients.slice(0, codes.length), (client, index) =>
    show(ctx, client, phone, codes[index]!),
  );
  const good = shown.filter(({ status }) => status === 200).length;
  const certain = shown.every(({ status }) => status === 200 || status === 401);
  ctx.expect(
    'of all codes that were sent to a phone one is good',
    good <= 1 && (!certain || good === 1),
    () => `${good} of ${codes.length}`,
  );
  const last = codes[shown.findIndex(({ status }) => status === 200)];
  if (last === undefined) return;
  ctx.remark('a code was good');
  const again = await show(ctx, clients[0]!, phone, last);
  ctx.expect('a code is good once', again.status !== 200, () => `${again.status}`);
}

/** Everybody guesses at once: five guesses are looked at, so the right code is wrong behind them. */
async function guessesAtOnce(ctx: StormContext): Promise<void> {
  const { world, clients, random } = ctx;
  const phone = world.newPhone();
  const { status } = await askForCode(ctx, clients[0]!, phone);
  const [code] = (status === 202 ? await ctx.codesTo(phone, 1) : undefined) ?? [];
  // Known or not: the guesses differ from each other, and from the code.
  const first = code === undefined ? random.below(1_000_000) : Number(code) + 1;
  const each = Math.ceil(GUESSES / clients.length);
  const guessers = code === undefined ? clients : clients.slice(0, GUESSES);
  const guesses = await ctx.volley(guessers, async (client, index) => {
    const own = [];
    for (let count = 0; count < each; count++) {
      const guess = (first + index * each + count) % 1_000_000;
      own.push(await show(ctx, client, phone, String(guess).padStart(6, '0')));
    }
    return own;
  });
  const right = guesses.flat().filter((guess) => guess.status === 200).length;
  ctx.expect('nobody signs in by guessing', right === 0, () => `${right} guesses were right`);
  const looked = guesses.flat().filter((guess) => guess.status === 401).length;
  if (code === undefined || looked < FEW) return;
  const late = await show(ctx, clients[0]!, phone, code);
  ctx.expect(
    'five guesses are looked at: behind them the right code is wrong',
    late.status !== 200,
    () => `${late.status} after ${looked} guesses at once`,
  );
  ctx.remark('guessed in vain');
}

const show = (ctx: StormContext, client: Client, phone: string, code: string) =>
  ctx.send(
    client,
    'POST',
    '/v1/auth/otp/verify',
    { body: { organizationId: ctx.world.organizationId, phone, code } },
    () => 'signed in',
  );
