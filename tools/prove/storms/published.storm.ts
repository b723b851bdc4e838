import { MINUTE } from '../catalog';
import type { Closure } from '../history';
import { sleep, type Storm, type StormContext } from '../storm';
import { PUBLISHED_SEATS } from '../world';

/** Times of one round, and how often each is published and withdrawn. */
const [TIMES, CYCLES] = [3, 3];
const NOON = 12 * 60 * MINUTE;

export const published: Storm = {
  name: 'published',
  title: 'slots published and withdrawn while booked',
  defaults: { clients: (most) => [Math.min(most, 20)], rounds: 25 },
  refusals: ['slot_taken', 'outside_hours', 'invalid_transition'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound(() => publishWhileBooked(ctx)),
};

/** One publishes and withdraws slots outside of the hours, while everybody books in them, changes over and cancels. */
async function publishWhileBooked(ctx: StormContext): Promise<void> {
  const { world, random } = ctx;
  const [editor, ...bookers] = ctx.clients;
  const { published: service } = world.services;
  const practitioner = world.publisher;
  const noon = world.takeDay() + NOON;
  const starts = Array.from({ length: TIMES }, (_, index) => noon + index * 45 * MINUTE);
  const timeAt = (startsAt: number) => ({ from: startsAt, until: startsAt + service.durationMinutes * MINUTE });
  const schedule = `/v1/schedules/${practitioner.scheduleId}`;
  let tag = (await editor!.must('GET', schedule)).headers.etag ?? '';
  const edit = async (method: string, path: string, body?: unknown) => {
    const options = { body, headers: { 'if-match': tag } };
    const answer = await ctx.send(editor!, method, `${schedule}/published-slots${path}`, options, () => 'edited');
    if (answer.outcome !== 'ok') throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 200)}`);
    tag = answer.headers.etag ?? (await editor!.must('GET', schedule)).headers.etag ?? '';
    return answer;
  };

  await ctx.ready(ctx.clients);
  const closures = starts.map((startsAt): Closure => {
    const always = { from: -Infinity, until: Infinity };
    return { resourceId: practitioner.id, time: timeAt(startsAt), possible: { ...always }, certain: { ...always } };
  });
  ctx.history.closures.push(...closures);
  const editing = { done: false };
  const edits = async () => {
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const ids: string[] = [];
      for (const [index, startsAt] of starts.entries()) {
        const { from, until } = timeAt(startsAt);
        const slot = { startsAt: new Date(from).toISOString(), endsAt: new Date(until).toISOString() };
        const answer = await edit('POST', '', { ...slot, capacity: PUBLISHED_SEATS });
        closures[index]!.certain.until = answer.startedAt;
        closures[index]!.possible.until = answer.endedAt;
        ids.push((answer.body as { id: string }).id);
      }
      await sleep(40 + random.below(60));
      for (const [index, id] of ids.entries()) {
        const answer = await edit('DELETE', `/${id}`);
        const closure: Closure = {
          resourceId: practitioner.id,
          time: timeAt(starts[index]!),
          possible: { from: answer.startedAt, until: Infinity },
          certain: { from: answer.endedAt, until: Infinity },
        };
        closures[index] = closure;
        ctx.history.closures.push(closure);
        expectNamed(ctx, answer, closure);
      }
      await sleep(20 + random.below(20));
    }
  };
  await Promise.all([
    edits().finally(() => {
      editing.done = true;
    }),
    ...bookers.map(async (client) => {
      while (!editing.done) {
        const wish = ctx.wish({
          service,
          practitioner,
          startsAt: random.pick(starts),
          phone: world.phoneOf(client.number),
          hold: random.chance(0.2) ? true : undefined,
        });
        const { appointment } = await ctx.book(client, wish);
        if (!appointment) continue;
        if (random.chance(0.3)) {
          await ctx.act(client, 'reschedule', appointment, { target: { startsAt: random.pick(starts) } });
        }
        if (random.chance(0.7)) await ctx.cancel(client, appointment.id);
      }
    }),
  ]);
}

/** Whoever withdraws a slot is told who has booked in it, and none of them loses the time. */
function expectNamed(
  ctx: StormContext,
  { body, startedAt }: { body: unknown; startedAt: number; endedAt: number },
  { time }: Closure,
): void {
  const { affectedAppointments = [] } = body as { affectedAppointments?: Array<{ id: string }> };
  const named = new Set(affectedAppointments.map(({ id }) => id));
  for (const { outcome, wish, appointment, endedAt } of ctx.history.bookings) {
    if (outcome !== 'ok' || wish.startsAt !== time.from || endedAt > startedAt) continue;
    ctx.expect(
      'who withdraws a slot is told who has booked in it (affectedAppointments)',
      named.has(appointment!.id) || ctx.isActedOn(appointment!.id),
      () => `${appointment!.id} at ${appointment!.startsAt} is missing`,
    );
  }
}
