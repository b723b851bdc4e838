import type { AppointmentView, Client } from '../client';
import { MINUTE, type Practitioner } from '../catalog';
import type { Storm, StormContext } from '../storm';

/** Clients that hold one ETag; changes of one appointment, one after the other. */
const AT_ONCE = 6;
const TURNS = 4;

export const oneEtag: Storm = {
  name: 'one-etag',
  title: 'confirm, cancel, reschedule under one ETag',
  defaults: { clients: (most) => [Math.min(most, 48)], rounds: 60 },
  refusals: ['version_stale'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => changeUnderOneTag(ctx)),
};

/** Groups of clients have read one version of an appointment each, and all change it at once: one is in time. */
async function changeUnderOneTag(ctx: StormContext): Promise<void> {
  const { world, clients } = ctx;
  const startsAt = world.takeWindow(120);
  const count = Math.min(Math.ceil(clients.length / AT_ONCE), world.practitioners.length);
  await ctx.ready(clients);
  await Promise.all(
    world.practitioners.slice(0, count).map((practitioner, number) => {
      const members = clients.filter((_, index) => index % count === number);
      return changeTogether(ctx, members, practitioner, startsAt);
    }),
  );
}

async function changeTogether(ctx: StormContext, members: Client[], practitioner: Practitioner, startsAt: number) {
  const { world, random } = ctx;
  const { plain, approval } = world.services;
  const wish = ctx.wish({
    service: random.pick([plain, approval]),
    practitioner,
    startsAt,
    phone: world.phoneOf(members[0]!.number),
    hold: random.chance(0.5) ? true : undefined,
  });
  let now: AppointmentView | undefined = (await ctx.book(members[0]!, wish)).appointment;
  for (let turn = 0; turn < TURNS && now; turn++) {
    now = await oneTurn(ctx, members, now, startsAt, turn === TURNS - 1);
  }
}

/** @returns what the one who was in time has made of it, if it can be changed again */
async function oneTurn(
  ctx: StormContext,
  members: Client[],
  read: AppointmentView,
  base: number,
  isLast: boolean,
): Promise<AppointmentView | undefined> {
  const { random } = ctx;
  const ifMatch = read.version;
  const changes = await Promise.all(
    members.map((client, index) => {
      const mayConfirm = read.status !== 'confirmed' && index % 3 === 0;
      if (mayConfirm) return ctx.act(client, 'confirm', read, { ifMatch });
      if (index % 3 === 1 && (isLast || random.chance(0.3))) return ctx.act(client, 'cancel', read, { ifMatch });
      const target = { startsAt: base + random.below(10) * 10 * MINUTE };
      return ctx.act(client, 'reschedule', read, { ifMatch, target });
    }),
  );
  const served = changes.filter(({ outcome }) => outcome === 'ok');
  const certain = changes.every(
    ({ outcome, code }) => outcome !== 'unknown' && code !== 'busy' && code !== 'rate_limited',
  );
  const told = () => changes.map(({ action, answer, code }) => `${action} ${code ?? answer.status}`).join(', ');
  ctx.expect(
    'of all changes under one ETag one is served, and all others are told 412 version_stale',
    served.length <= 1 &&
      (!certain || served.length === 1) &&
      changes.every(({ code, answer }) => code !== 'version_stale' || answer.status === 412) &&
      (!certain || changes.every(({ outcome, code }) => outcome === 'ok' || code === 'version_stale')),
    told,
  );
  const after = served[0]?.appointment;
  ctx.expect(
    'the one change under an ETag raises the version by one',
    after === undefined || after.version === ifMatch + 1,
    () => `${after?.version} of ${ifMatch}`,
  );
  return after?.status === 'cancelled' ? undefined : after;
}
