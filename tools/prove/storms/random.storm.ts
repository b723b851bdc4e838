import { MINUTE, type Practitioner } from '../catalog';
import type { AppointmentView, Client } from '../client';
import type { Closure, Wish } from '../history';
import { Random } from '../random';
import { sleep, type Storm, type StormContext } from '../storm';
import { type Operation, seedOf, seriesOf } from './random-plan';

const OPERATIONS = 14;
/** Everybody wants the same four hours, and sessions begin at few of their times. */
const [FROM, STEPS, STEP] = [9 * 60 * MINUTE, 48, 5 * MINUTE];
const SECONDS = 5;
/** The latest that clients know of is as much as they choose from: older ones are mostly cancelled. */
const REMEMBERED = 60;

export const randomSeries: Storm = {
  name: 'random',
  title: 'random series, connections cut',
  defaults: { clients: (most) => [Math.min(most, 64)], rounds: 6 },
  refusals: [
    ...['slot_taken', 'outside_hours', 'invalid_transition', 'hold_expired', 'version_stale', 'request_in_progress'],
  ],
  everyProcess: true,
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => seriesOfAll(ctx)),
};

/** What the clients of one round share. */
interface Scene {
  day: number;
  practitioners: Practitioner[];
  known: AppointmentView[];
  closed: Array<{ practitioner: Practitioner; id: string; closure: Closure }>;
}

/** Every client goes its own way for a while: what it does is the seed's choice, what comes of it the race's. */
async function seriesOfAll(ctx: StormContext): Promise<void> {
  const { world, clients } = ctx;
  const seed = ctx.random.below(2 ** 32);
  const scene: Scene = {
    day: world.takeDay(),
    practitioners: world.services.pool.practitioners,
    known: [],
    closed: [],
  };
  await ctx.ready(clients);
  await Promise.all(
    clients.map(async (client) => {
      for (const operation of seriesOf(new Random(seedOf(seed, client.number)), OPERATIONS, STEPS)) {
        await sleep(operation.pause);
        if (ctx.isOver) return;
        await perform(ctx, scene, client, operation);
      }
    }),
  );
  for (const practitioner of scene.practitioners) await world.removeExceptions(clients[0]!, practitioner);
}

async function perform(ctx: StormContext, scene: Scene, client: Client, operation: Operation): Promise<void> {
  const { kind } = operation;
  if (kind === 'wait') return;
  if (kind === 'close time') return closeTime(ctx, scene, client, operation);
  if (kind === 'open time') return openTime(ctx, scene, client, operation);
  if (kind === 'confirm' || kind === 'move' || kind === 'cancel' || kind === 'leave') {
    return act(ctx, scene, client, operation, kind);
  }
  await book(ctx, scene, client, operation, kind);
}

type Booking = 'book' | 'hold' | 'hold briefly' | 'join';
type Action = 'confirm' | 'move' | 'cancel' | 'leave';

/** Whose service it is: of those who offer it alone, the one who does; of the others any of these few, or nobody is named. */
function asked(ctx: StormContext, scene: Scene, { kind, service, practitioner }: Operation) {
  const { plain, short, buffered, approval, pool, two, three, seat, group } = ctx.world.services;
  const chosen =
    kind === 'join'
      ? group
      : choose([plain, plain, plain, short, short, buffered, buffered, approval, pool, two, three, seat], service);
  const isOneOfFew = [plain, short, buffered, approval].includes(chosen);
  if (isOneOfFew) return { service: chosen, practitioner: choose(scene.practitioners, practitioner) };
  return { service: chosen, practitioner: chosen.segments || chosen === pool ? undefined : chosen.practitioners[0] };
}

async function book(
  ctx: StormContext,
  scene: Scene,
  client: Client,
  operation: Operation,
  kind: Booking,
): Promise<void> {
  const hold = { book: undefined, join: undefined, hold: true as const, 'hold briefly': { seconds: SECONDS } }[kind];
  const what = {
    ...asked(ctx, scene, operation),
    startsAt: startOf(scene, operation),
    phone: ctx.world.phoneOf(client.number),
    hold: kind === 'join' && operation.service < 0.4 ? { seconds: SECONDS } : hold,
  };
  const drawn = ctx.wish(what, new Random(operation.seed));
  const wish: Wish = { ...drawn, key: operation.withKey ? drawn.requestId : undefined };
  let { outcome, appointment, code } = await ctx.book(client, wish, { cut: operation.cut });
  for (let again = 1; wish.key !== undefined && isOpen(outcome, code) && again <= 5; again++) {
    await sleep(20 * again);
    ({ outcome, appointment, code } = await ctx.book(client, wish));
    if (outcome === 'ok') ctx.remark('learnt from the key');
  }
  if (appointment) remember(scene, appointment);
}

/** Confirms, moves or cancels one of the appointments that somebody has made here, or tries to. */
async function act(ctx: StormContext, scene: Scene, client: Client, operation: Operation, kind: Action): Promise<void> {
  const { group, pool } = ctx.world.services;
  const inSession = (appointment: AppointmentView) => appointment.serviceId === group.id;
  const victim = choose(kind === 'leave' ? scene.known.filter(inSession) : scene.known, operation.victim);
  if (!victim) return;
  const action = ({ confirm: 'confirm', move: 'reschedule', cancel: 'cancel', leave: 'cancel' } as const)[kind];
  // Only some of the services are offered by all of them.
  const isPooled = pool.practitioners.some(({ id }) => id === victim.segments[0]?.practitionerId);
  const stays = operation.practitioner < 0.3 || !isPooled || victim.segments.length > 1;
  const target = {
    practitionerId: stays ? undefined : choose(scene.practitioners, operation.practitioner).id,
    startsAt: startOf(scene, operation),
  };
  const options = {
    target: action === 'reschedule' ? target : undefined,
    ifMatch: operation.withVersion ? victim.version : undefined,
    key: operation.withKey ? ctx.world.newRequestId() : undefined,
    random: new Random(operation.seed),
  };
  let { outcome, code, appointment } = await ctx.act(client, action, victim, { ...options, cut: operation.cut });
  for (let again = 1; options.key !== undefined && isOpen(outcome, code) && again <= 5; again++) {
    await sleep(20 * again);
    ({ outcome, code, appointment } = await ctx.act(client, action, victim, options));
    if (outcome === 'ok') ctx.remark('learnt from the key');
  }
  if (!appointment) return;
  forget(scene, appointment);
  if (appointment.status !== 'cancelled') remember(scene, appointment);
}

/** Nobody knows whether it was done, or whether it will be. */
const isOpen = (outcome: string, code: string | undefined): boolean =>
  outcome === 'unknown' || code === 'request_in_progress';

async function closeTime(ctx: StormContext, scene: Scene, client: Client, operation: Operation): Promise<void> {
  const practitioner = choose(scene.practitioners, operation.practitioner);
  const from = startOf(scene, operation);
  const time = { from, until: from + 60 * MINUTE };
  const answer = await edit(ctx, client, practitioner, operation, 'POST', '', {
    startsAt: new Date(time.from).toISOString(),
    endsAt: new Date(time.until).toISOString(),
    kind: 'closed',
    reason: 'prove',
  });
  if (!answer || answer.outcome === 'refused') return;
  const { outcome, startedAt, endedAt } = answer;
  const closure = {
    resourceId: practitioner.id,
    time,
    possible: { from: startedAt, until: Infinity },
    certain: { from: outcome === 'ok' ? endedAt : Infinity, until: Infinity },
  };
  ctx.history.closures.push(closure);
  if (outcome === 'ok') scene.closed.push({ practitioner, id: (answer.body as { id: string }).id, closure });
}

async function openTime(ctx: StormContext, scene: Scene, client: Client, operation: Operation): Promise<void> {
  const chosen = choose(scene.closed, operation.victim);
  if (!chosen) return;
  const { practitioner, id, closure } = chosen;
  scene.closed.splice(scene.closed.indexOf(chosen), 1);
  const answer = await edit(ctx, client, practitioner, operation, 'DELETE', `/${id}`);
  if (answer === undefined || answer.outcome === 'refused') {
    scene.closed.push(chosen);
    return;
  }
  // From here on nobody can rely on it that it is closed; that it is open is known with the answer.
  closure.certain.until = answer.startedAt;
  if (answer.outcome === 'ok') closure.possible.until = answer.endedAt;
}

/** Based on the version of this moment; another edit may come in between. */
async function edit(
  ctx: StormContext,
  client: Client,
  { scheduleId }: Practitioner,
  { cut }: Operation,
  method: string,
  path: string,
  body?: unknown,
) {
  const schedule = `/v1/schedules/${scheduleId}`;
  const { headers } = await client.must('GET', schedule);
  const options = { body, headers: { 'if-match': headers.etag ?? '' }, cut };
  return ctx.send(client, method, `${schedule}/exceptions${path}`, options, () => 'edited');
}

const startOf = ({ day }: Scene, { kind, step }: Operation): number =>
  day + FROM + (kind === 'join' ? step - (step % 8) + (step % 2) * 3 : step) * STEP;

function choose<T>(choices: readonly T[], share: number): T {
  return choices[Math.floor(share * choices.length)] as T;
}

function remember({ known }: Scene, appointment: AppointmentView): void {
  known.push(appointment);
  if (known.length > REMEMBERED) known.shift();
}

function forget(scene: Scene, { id }: AppointmentView): void {
  scene.known = scene.known.filter((other) => other.id !== id);
}
