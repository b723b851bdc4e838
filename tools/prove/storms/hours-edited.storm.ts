import type { Answer, Client } from '../client';
import type { Booking, Span } from '../history';
import { sleep, type Storm, type StormContext } from '../storm';
import { MINUTE } from '../catalog';
import { FULL_HOURS, type Hours, weekly } from '../world';

const HOUR = 60 * MINUTE;

export const hoursEdited: Storm = {
  name: 'hours-edited',
  title: 'hours and exceptions edited while booked',
  defaults: { clients: (most) => [Math.min(most, 20)] },
  refusals: ['slot_taken', 'outside_hours', 'invalid_transition', 'version_stale'],
  timeComesBack: true,
  run: (ctx) => ctx.eachRound((round) => editWhileBooked(ctx, round)),
};

/** Days of one round: some of them have no row when the first edit comes, and get it while hours change. */
const DAYS = 3;
/** So long an afternoon stays closed, at least, and a time by an exception. */
const CLOSED_MS = 300;

/** Times that were closed by one edit and opened again by the next; both with the clients' clock. */
interface Closure {
  times: Span[];
  closing: Answer;
  opening?: Answer;
}

/** One editor closes and opens parts of a day, over the weekly hours and by exceptions, while everybody books on it. */
async function editWhileBooked(ctx: StormContext, round: number): Promise<void> {
  const { world, random } = ctx;
  const editor = ctx.clients[0]!;
  const bookers = ctx.clients.slice(1);
  const days = Array.from({ length: DAYS }, () => world.takeDay());
  const schedule = `/v1/schedules/${world.edited.scheduleId}`;
  const tag = new VersionTag(ctx, editor, schedule);
  const hours = (hours: Hours) => tag.edit('PUT', `${schedule}/hours`, { timeZone: 'UTC', hours });
  const pause = (least = 5) => sleep(least + random.below(20));

  await ctx.ready(ctx.clients);
  await tag.read();
  await raceOfEditors(ctx, tag, `${schedule}/hours`);

  const closures: Closure[] = [];
  const edits = async () => {
    await pause();
    // Afternoons close for all weeks.
    const noon = 12 + random.below(6);
    const closing = await hours(weekly('06:00', `${noon}:00`));
    const afternoons = days.map((day) => ({ from: day + noon * HOUR, until: day + 24 * HOUR }));
    const byHours: Closure = { times: afternoons, closing };
    closures.push(byHours);
    await pause(CLOSED_MS);
    byHours.opening = await hours(round % 2 === 0 ? FULL_HOURS : weekly('06:00', '14:00', '14:00', '22:00'));
    await pause();
    // Two hours close on this day alone.
    const from = random.pick(days) + (8 + random.below(12)) * HOUR;
    const added = await tag.edit('POST', `${schedule}/exceptions`, {
      startsAt: new Date(from).toISOString(),
      endsAt: new Date(from + 2 * HOUR).toISOString(),
      kind: 'closed',
      reason: 'prove',
    });
    const byException: Closure = { times: [{ from, until: from + 2 * HOUR }], closing: added };
    closures.push(byException);
    await pause(CLOSED_MS);
    const { id } = added.body as { id: string };
    byException.opening = await tag.edit('DELETE', `${schedule}/exceptions/${id}`);
    await pause();
  };

  const bookings: Booking[] = [];
  const cancelledFrom = new Map<string, number>();
  const editing = { done: false };
  const books = async (client: Client) => {
    while (!editing.done) {
      const startsAt = random.pick(days) + 6 * HOUR + random.below(32) * 30 * MINUTE;
      const { edited } = world.services;
      const wish = ctx.wish({
        service: edited,
        practitioner: world.edited,
        startsAt,
        phone: world.phoneOf(client.number),
      });
      const booking = await ctx.book(client, wish);
      bookings.push(booking);
      // Most go again, so that there is always something to book.
      if (!booking.appointment || random.chance(0.3)) continue;
      cancelledFrom.set(booking.appointment.id, performance.now());
      await ctx.cancel(client, booking.appointment.id);
    }
  };
  await Promise.all([
    edits().finally(() => {
      editing.done = true;
    }),
    ...bookers.map(books),
  ]);
  judgeClosures(ctx, closures, bookings, cancelledFrom);
}

/** Follows the schedule's version from edit to edit: with one editor, no edit is ever based on an old one. */
class VersionTag {
  private tag = '';

  constructor(
    private readonly ctx: StormContext,
    private readonly editor: Client,
    private readonly schedule: string,
  ) {}

  get header() {
    return { 'if-match': this.tag };
  }

  async read(): Promise<void> {
    this.tag = (await this.editor.must('GET', this.schedule)).headers.etag ?? '';
  }

  async edit(method: string, path: string, body?: unknown): Promise<Answer> {
    const answer = await this.ctx.send(this.editor, method, path, { body, headers: this.header });
    this.ctx.expect(
      'an edit based on the present version is accepted: bookings never raise it',
      answer.outcome !== 'refused' || answer.code === 'busy' || answer.code === 'rate_limited',
      () => `${answer.status} ${answer.text.slice(0, 200)}`,
    );
    if (answer.outcome !== 'ok') throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 200)}`);
    if (answer.headers.etag === undefined) await this.read();
    else this.tag = answer.headers.etag;
    return answer;
  }
}

/** Two editors start from one version: one is served, the other is told that it was too late. */
async function raceOfEditors(ctx: StormContext, tag: VersionTag, path: string): Promise<void> {
  const body = { timeZone: 'UTC', hours: FULL_HOURS };
  const options = { body, headers: tag.header };
  const answers = await Promise.all(ctx.clients.slice(0, 2).map((client) => ctx.send(client, 'PUT', path, options)));
  const served = answers.filter(({ outcome }) => outcome === 'ok').length;
  const stale = answers.filter(({ status, code }) => status === 412 && code === 'version_stale').length;
  const certain = answers.every(
    ({ outcome, code }) => outcome !== 'unknown' && code !== 'busy' && code !== 'rate_limited',
  );
  ctx.expect(
    'of two edits of one version, one is made and one is told version_stale',
    !certain || (served === 1 && stale === 1),
    () => answers.map(({ status }) => status).join(' and '),
  );
  await tag.read();
}

function judgeClosures(
  ctx: StormContext,
  closures: Closure[],
  bookings: Booking[],
  cancelledFrom: ReadonlyMap<string, number>,
): void {
  for (const closure of closures) {
    const { closing, opening } = closure;
    for (const time of closure.times) {
      ctx.history.closures.push({
        resourceId: ctx.world.edited.id,
        time,
        possible: { from: closing.startedAt, until: opening?.endedAt ?? Infinity },
        certain: { from: closing.endedAt, until: opening?.startedAt ?? closing.endedAt },
      });
    }
    const affected = new Set(affectedBy(closing));
    const inside = bookings.filter((booking) => overlapsClosure(booking, closure));
    for (const { appointment, endedAt } of inside.filter(({ outcome }) => outcome === 'ok')) {
      const id = appointment!.id;
      const stayed = (cancelledFrom.get(id) ?? Infinity) > closing.endedAt;
      ctx.expect(
        'an edit that closes time names the bookings in it (affectedAppointments)',
        !(endedAt < closing.startedAt && stayed) || affected.has(id),
        () => `${id} at ${appointment!.startsAt} is missing`,
      );
    }
  }
}

const overlapsClosure = ({ wish }: Pick<Booking, 'wish'>, { times }: Closure): boolean =>
  times.some(
    ({ from, until }) => wish.startsAt < until && from < wish.startsAt + wish.service.durationMinutes * MINUTE,
  );

/** Ids, or representations that carry them. */
function affectedBy(edit: Answer): string[] {
  const { affectedAppointments = [] } = edit.body as { affectedAppointments?: Array<string | { id: string }> };
  return affectedAppointments.map((item) => (typeof item === 'string' ? item : item.id));
}
