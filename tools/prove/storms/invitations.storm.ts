import { type Client, listAll } from '../client';
import type { Storm, StormContext } from '../storm';

export const invitations: Storm = {
  name: 'invitations',
  title: 'one invitation, one e-mail address',
  // A password takes its time to be hashed, two at a time.
  defaults: { clients: (most) => [Math.min(most, 12)], rounds: 4 },
  refusals: ['already_exists'],
  everyProcess: true,
  makesAccounts: true,
  run: (ctx) => ctx.eachRound((round) => signUpAtOnce(ctx, round % 2 === 0 ? 1 : 2)),
};

/** Several sign up by one invitation, or by two of one e-mail address in different letters: one has the account. */
async function signUpAtOnce(ctx: StormContext, count: 1 | 2): Promise<void> {
  const { clients } = ctx;
  const email = newEmail(ctx);
  const tokens = [await invite(clients[0]!, email)];
  if (count === 2) tokens.push(await invite(clients[0]!, email.toUpperCase()));
  const answers = await ctx.volley(clients, (client, index) =>
    ctx.send(client, 'POST', '/v1/auth/sign-up', { body: signUpWith(tokens[index % count]!) }),
  );
  const made = answers.filter(({ status }) => status === 201).length;
  const certain = answers.every(({ status, code }) => status === 201 || code === 'already_exists');
  ctx.expect(
    'of all who sign up by one invitation, or with one e-mail address, one has the account',
    made <= 1 && (!certain || made === 1),
    () => `${made} were told that they had`,
  );
  const users = await listAll<{ id: string; email: string }>(clients[0]!, '/v1/users', {});
  const own = users.filter((user) => user.email.toLowerCase() === email);
  ctx.expect('one e-mail address is one user', own.length <= 1 && own.length >= made, () => `${own.length} users`);
  for (const { id } of own) await clients[0]!.must('DELETE', `/v1/users/${id}`);
}

let addresses = 0;
/** `example.com` is reserved for examples: nobody reads what is sent there. */
export const newEmail = ({ world }: StormContext): string => `${world.tag}-${addresses++}@example.com`;

/** @returns the token of a new invitation */
export async function invite(client: Client, email: string): Promise<string> {
  const { body } = await client.must('POST', '/v1/invitations', { body: { email, role: 'receptionist' } });
  return (body as { invitationToken: string }).invitationToken;
}

export const signUpWith = (invitationToken: string) => ({
  invitationToken,
  name: 'prove',
  password: 'correct horse battery staple',
});
