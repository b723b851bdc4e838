import type { Answer, Client } from '../client';
import type { Storm, StormContext } from '../storm';

/** As many requests at least, so that a limit of a few is met by few clients, too. */
const REQUESTS = 24;

export const limiter: Storm = {
  name: 'limiter',
  title: 'one phone asks for codes',
  defaults: { clients: (most) => [Math.min(most, 50)], rounds: 4 },
  refusals: [],
  everyProcess: true,
  run: (ctx) => ctx.eachRound(() => meetTheLimit(ctx)),
};

/** Far more requests for one phone than its limit admits, over all processes at once: exactly as many pass as it says. */
async function meetTheLimit(ctx: StormContext): Promise<void> {
  const { world, clients } = ctx;
  const phone = world.newPhone();
  const each = Math.ceil(REQUESTS / clients.length);
  const answers = (
    await ctx.volley(clients, async (client) => {
      const own: Answer[] = [];
      for (let count = 0; count < each; count++) own.push(await askForCode(ctx, client, phone));
      return own;
    })
  ).flat();
  const admitted = answers.filter(({ status }) => status === 202).length;
  const refusals = answers.filter(({ status }) => status === 429);
  if (refusals.length === 0) {
    ctx.expect('codes are limited', !ctx.limitsCodes, () => `${admitted} codes for one phone`);
    ctx.remark('no limit met');
    return;
  }
  // Where another limit stood in the way, of the address for instance, fewer pass.
  const own = refusals.map(ownLimit);
  const limit = own[0]?.count ?? 0;
  const least = own.every(({ isReached }) => isReached) && answers.length === admitted + refusals.length ? limit : 0;
  ctx.expect(
    'a limit admits exactly as many as it says, however many come at once',
    admitted <= limit && admitted >= least,
    () => `${admitted} of ${answers.length} where ${limit} are admitted`,
  );
  ctx.expect(
    'a refusal by a limit says when to come back',
    refusals.every(({ headers }) => Number(headers['retry-after']) > 0),
    () => refusals.map(({ headers }) => headers['retry-after'] ?? 'nothing').join(', '),
  );
  const sent = await ctx.codesTo(phone, admitted);
  ctx.expect(
    'who is refused by a limit has had no effect',
    sent === undefined || sent.length <= admitted,
    () => `${sent?.length} codes were sent, ${admitted} requests admitted`,
  );
}

/** What the limit of the phone says of itself in the headers of a refusal. */
function ownLimit({ headers }: Answer): { count: number; isReached: boolean } {
  const policy = String(headers['ratelimit-policy'] ?? '');
  const state = String(headers['ratelimit'] ?? '');
  return {
    count: Number(/"otp-phone";q=(\d+)/.exec(policy)?.[1] ?? 0),
    isReached: /"otp-phone";r=0/.test(state) && (state.match(/;r=0/g) ?? []).length === 1,
  };
}

export const askForCode = (ctx: StormContext, client: Client, phone: string) =>
  ctx.send(client, 'POST', '/v1/auth/otp', { body: { organizationId: ctx.world.organizationId, phone } });
