import type { AppointmentView, Client } from '../client';
import type { Change } from '../history';
import type { Storm, StormContext } from '../storm';

/** Clients that meet at one request. */
const AT_ONCE = 5;

export const twoAdmins: Storm = {
  name: 'two-admins',
  title: 'several admins decide on one request',
  defaults: { clients: (most) => [Math.min(most, 50)], rounds: 60 },
  refusals: ['slot_taken', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound((round) => decideAtOnce(ctx, round % 3)),
};

/** Everybody requests one of a few times, which only one request can have each; then those are decided on, all at once. */
async function decideAtOnce(ctx: StormContext, variant: number): Promise<void> {
  const { world, clients, random } = ctx;
  const startsAt = world.takeWindow(30);
  const count = Math.min(Math.ceil(clients.length / AT_ONCE), world.practitioners.length);
  const practitioners = random.shuffled(world.practitioners).slice(0, count);
  const groups = practitioners.map((practitioner, number) => ({
    practitioner,
    members: clients.filter((_, index) => index % count === number),
  }));
  await ctx.ready(clients);
  await Promise.all(
    groups.map(async ({ practitioner, members }) => {
      const wishes = members.map(({ number }) =>
        ctx.wish({ service: world.services.approval, practitioner, startsAt, phone: world.phoneOf(number) }),
      );
      const requests = await Promise.all(members.map((client, index) => ctx.book(client, wishes[index]!)));
      ctx.expectWinners(requests, 1);
      const pending = requests.find(({ appointment }) => appointment !== undefined)?.appointment;
      if (!pending) return;
      await decide(ctx, members, pending, variant);
    }),
  );
}

async function decide(ctx: StormContext, admins: Client[], pending: AppointmentView, variant: number): Promise<void> {
  const decisions = await Promise.all(
    admins.map((client, index) => {
      const cancels = variant === 1 ? index % 2 === 1 : variant === 2 && index === 0;
      return ctx.act(client, cancels ? 'cancel' : 'confirm', pending);
    }),
  );
  const certain = decisions.every(({ outcome, code }) => outcome !== 'unknown' && code !== 'busy');
  const of = (action: Change['action']) => decisions.filter((decision) => decision.action === action);
  const done = (action: Change['action']) => of(action).filter(({ outcome }) => outcome === 'ok').length;
  const told = () => decisions.map(({ action, answer, code }) => `${action} ${code ?? answer.status}`).join(', ');
  // Whoever confirms may come too late for a cancellation, but nobody can come too late to cancel but for another one.
  const [confirms, cancels] = [done('confirm'), done('cancel')];
  ctx.expect(
    'of several who confirm one request, one is served, and one of those who cancel it',
    confirms <= 1 && cancels <= 1 && (!certain || (of('cancel').length > 0 ? cancels === 1 : confirms === 1)),
    told,
  );
  ctx.expect(
    'whoever came too late is told invalid_transition, and the status that came before',
    decisions.every(
      ({ outcome, code, answer, currentStatus }) =>
        outcome !== 'refused' ||
        code === 'busy' ||
        code === 'rate_limited' ||
        (answer.status === 409 && code === 'invalid_transition' && currentStatus !== undefined),
    ),
    told,
  );
}
