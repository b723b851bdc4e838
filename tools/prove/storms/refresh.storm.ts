import type { Client } from '../client';
import type { Storm, StormContext } from '../storm';
import { invite, newEmail, signUpWith } from './invitations.storm';

export const refresh: Storm = {
  name: 'refresh',
  title: 'one refresh token',
  defaults: { clients: (most) => [Math.min(most, 100)], rounds: 8 },
  refusals: ['unauthenticated'],
  everyProcess: true,
  makesAccounts: true,
  run: (ctx) => ctx.eachRound((round) => (round % 2 === 0 ? oneClient(ctx) : severalClients(ctx))),
};

/** One client whose answers are lost asks again and again: all answers are one successor. A copy used later ends all. */
async function oneClient(ctx: StormContext): Promise<void> {
  const { clients } = ctx;
  const first = await signIn(ctx);
  const answers = await ctx.volley(clients, (client) => ask(ctx, client, first, 'one'));
  const good = answers.filter(({ status }) => status === 200);
  const successors = new Set(good.map(tokenOf));
  ctx.expect(
    'a refresh token has one successor, however often it is shown at once',
    successors.size <= 1,
    () => `${successors.size} successors`,
  );
  // Ten seconds of grace, which slow answers may outlast.
  const inTime = answers.every(({ startedAt, endedAt }) => endedAt - startedAt < 8_000);
  const certain = answers.every(({ status }) => status === 200 || status === 401);
  ctx.expect(
    'one client that asks again gets the same answer',
    !certain || !inTime || good.length === answers.length,
    () => `${answers.length - good.length} of ${answers.length} were refused`,
  );
  const [successor] = successors;
  if (successor === undefined) return;
  const next = await ask(ctx, clients[0]!, successor, 'one');
  const copy = await ask(ctx, clients[0]!, first, 'another');
  ctx.expect('a spent refresh token is refused', copy.status !== 200, () => `${copy.status}`);
  await expectEnded(ctx, next.status === 200 ? tokenOf(next) : successor, copy.status === 401);
}

/** Clients that differ show one token at once: it was copied, so one is served at most, and the session ends. */
async function severalClients(ctx: StormContext): Promise<void> {
  const { clients } = ctx;
  const first = await signIn(ctx);
  const answers = await ctx.volley(clients, (client, index) => ask(ctx, client, first, `client ${index}`));
  const good = answers.filter(({ status }) => status === 200);
  const certain = answers.every(({ status }) => status === 200 || status === 401);
  ctx.expect(
    'of several clients that show one refresh token one is served',
    good.length <= 1 && (!certain || good.length === 1),
    () => `${good.length} of ${answers.length}`,
  );
  if (good[0]) await expectEnded(ctx, tokenOf(good[0]), certain && answers.length > 1);
}

async function expectEnded(ctx: StormContext, token: string, isCertain: boolean): Promise<void> {
  const late = await ask(ctx, ctx.clients[0]!, token, 'one');
  ctx.expect(
    'using a spent refresh token ends the session',
    !isCertain || late.status !== 200,
    () => `its successor is answered by ${late.status}`,
  );
  if (isCertain && late.status === 401) ctx.remark('session ended');
}

/** Somebody new, who has just signed in. */
async function signIn(ctx: StormContext): Promise<string> {
  const [client] = ctx.clients;
  const token = await invite(client!, newEmail(ctx));
  return tokenOf(await client!.must('POST', '/v1/auth/sign-up', { body: signUpWith(token) }));
}

const ask = (ctx: StormContext, client: Client, refreshToken: string, agent: string) =>
  ctx.send(client, 'POST', '/v1/auth/refresh', { body: { refreshToken }, headers: { 'user-agent': agent } });

const tokenOf = ({ body }: { body: unknown }): string => (body as { refreshToken: string }).refreshToken;
