import { type AppointmentView, type Client, describe, inParallel, listAll, type SlotView } from './client';
import { type Span } from './history';
import { type Finding } from './history-checks';
import { expectedOf, type Life, placeOf, staysAt } from './lives';
import { differencesFrom } from './asked';
import { DAY, MINUTE, type Practitioner, timeOf } from './catalog';
import type { World } from './world';

/**
 * What must be true of an install after every storm, whatever happened in it, as any client can ask it over the API. The
 * same is asked in SQL where the database is at hand (`invariants.sql.ts`); the two share no code with each other or with
 * the app.
 */
export const HTTP_CHECKS = {
  exists: 'every acknowledged booking is there, as it was acknowledged',
  acknowledged: 'every occupying appointment was acknowledged, or its outcome is unknown',
  once: 'one occupying appointment at most for each request',
  overlap: 'no two occupying appointments of a practitioner overlap',
  slots: 'GET /v1/slots offers exactly the free time',
  history: 'the history leads from version 1 to the present version and status',
};

/** Days whose slots are compared after a storm: enough to meet every kind, few enough to be quick. */
const DAYS_COMPARED = 12;
const HISTORIES_READ = 100;
const READERS = 16;

export async function checkOverHttp(
  world: World,
  clients: readonly Client[],
  lives: readonly Life[],
): Promise<{ made: number; findings: Finding[] }> {
  const findings: Finding[] = [];
  let made = 0;
  const check = (name: string, problems: string[]) => {
    made++;
    findings.push(...problems.map((detail) => ({ check: name, detail })));
  };
  const readers = clients.slice(0, READERS);

  const acknowledged = lives.filter((life) => life.appointment !== undefined);
  await inParallel(readers, acknowledged, async (client, life) => {
    const { id } = life.appointment as AppointmentView;
    const answer = await client.request('GET', `/v1/appointments/${id}`);
    if (answer.status !== 200) return check(HTTP_CHECKS.exists, [`${id}: ${describe(answer)}`]);
    const read = { from: answer.startedAt, until: answer.endedAt };
    check(HTTP_CHECKS.exists, differencesFromLife(life, answer.body as AppointmentView, read));
  });

  const occupying = new Map<string, AppointmentView>();
  await inParallel(readers, world.everybody, async (client, practitioner) => {
    for (const appointment of await world.occupying(client, practitioner)) occupying.set(appointment.id, appointment);
  });
  const explained = new Set(lives.map((life) => life.wish.requestId));
  const requests = Map.groupBy(occupying.values(), ({ metadata }) => String(metadata?.['request']));
  for (const [request, appointments] of requests) {
    const shown = appointments.map(({ id, startsAt }) => `${id} at ${startsAt}`);
    check(HTTP_CHECKS.acknowledged, explained.has(request) ? [] : shown);
    check(HTTP_CHECKS.once, shown.length > 1 ? [`${request}: ${shown.join(' and ')}`] : []);
  }
  const times = timesOf(world, [...occupying.values()]);
  for (const [resourceId, ofResource] of Map.groupBy(times, (time) => time.resourceId ?? '')) {
    check(HTTP_CHECKS.overlap, overlaps(resourceId, ofResource));
  }

  const days = [...world.daysUsed].filter((_, index, all) => index % Math.ceil(all.length / DAYS_COMPARED) === 0);
  const pairs = days.flatMap((day) => world.everybody.map((practitioner) => ({ day, practitioner })));
  await inParallel(readers, pairs, async (client, { day, practitioner }) => {
    const taken = times.filter(({ resourceId, time }) => {
      return resourceId === practitioner.id && time.from < day + DAY && time.until > day;
    });
    check(HTTP_CHECKS.slots, await compareSlots(world, client, practitioner, day, taken));
  });

  await inParallel(readers, acknowledged.slice(0, HISTORIES_READ), async (client, { appointment }) => {
    check(HTTP_CHECKS.history, await checkOneHistory(client, (appointment as AppointmentView).id));
  });
  return { made, findings };
}

/** In what an appointment differs, when it is read, from what the clients know of it. */
export function differencesFromLife(life: Life, now: AppointmentView, read: Span): string[] {
  const { states, places } = expectedOf(life, read);
  const show = ({ status, version }: { status: string; version: number }) => `${status}, version ${version}`;
  const inPlace = places.map((place) => differencesFrom(life.wish, now, place)).sort((a, b) => a.length - b.length)[0]!;
  const fits = states.some(({ status, version }) => status === now.status && version === now.version);
  return [...inPlace, ...(fits ? [] : [`${show(now)} instead of ${states.map(show).join(' or ')}`])].map(
    (difference) => `${now.id}: ${difference}`,
  );
}

type Occupied = ReturnType<typeof staysAt>[number] & { id: string };

/** Occupied times with their buffers. */
const timesOf = (world: World, appointments: AppointmentView[]): Occupied[] =>
  appointments.flatMap((appointment) => {
    const service = Object.values(world.services).find(({ id }) => id === appointment.serviceId);
    if (!service) return [];
    const { id } = appointment;
    return staysAt({ service, requestId: id }, placeOf(appointment)).map((stay) => ({ ...stay, id }));
  });

/** Sessions that occupy an instant, with those who are in them. */
const sessionsAt = (times: readonly Occupied[], instant: number): Map<string, Occupied[]> =>
  Map.groupBy(
    times.filter(({ time }) => time.from <= instant && instant < time.until),
    ({ session }) => session,
  );

function overlaps(resourceId: string, times: readonly Occupied[]): string[] {
  return times.flatMap(({ time, places }) => {
    const sessions = sessionsAt(times, time.from);
    const overfull = [...sessions.values()].filter(
      (members) => new Set(members.map(({ id }) => id)).size > members[0]!.seats,
    );
    if (sessions.size <= places && overfull.length === 0) return [];
    const ids = [...sessions.values()].flat().map(({ id }) => id);
    return [`${ids.join(' and ')} on ${resourceId} at ${new Date(time.from).toISOString()}`];
  });
}

/** The grid of the open hours without what is occupied, against what is offered. */
async function compareSlots(
  world: World,
  client: Client,
  practitioner: Practitioner,
  day: number,
  taken: readonly Occupied[],
): Promise<string[]> {
  const { service, open } = world.searchOf(practitioner);
  const step = service.slotIntervalMinutes * MINUTE;
  const expected = new Map<number, number>();
  const remainingAt = (start: number): number => {
    const time = timeOf(service, start);
    const session = `${service.id} ${start}`;
    const seated = new Set(taken.filter((other) => other.session === session).map(({ id }) => id)).size;
    if (seated > 0) return service.capacity - seated;
    const points = [time.from, ...taken.map((other) => other.time.from)];
    const isFree = points.every(
      (point) => point < time.from || point >= time.until || sessionsAt(taken, point).size < practitioner.places,
    );
    return isFree ? service.capacity : 0;
  };
  const expect = (start: number) => {
    if (remainingAt(start) > 0) expected.set(start, remainingAt(start));
  };
  for (let start = day + open.from; start + service.durationMinutes * MINUTE <= day + open.until; start += step) {
    expect(start);
  }
  // A session that has begun to fill is offered wherever it lies.
  if (service.capacity > 1) {
    const prefix = `${service.id} `;
    for (const { session } of taken) if (session.startsWith(prefix)) expect(Number(session.slice(prefix.length)));
  }
  const query = new URLSearchParams({
    serviceId: service.id,
    practitionerId: practitioner.id,
    from: new Date(day).toISOString(),
    to: new Date(day + DAY).toISOString(),
    limit: '1000',
  });
  const { body } = await client.must('GET', `/v1/slots?${query.toString()}`);
  const { data } = body as { data: SlotView[] };
  const offered = new Map(data.map((slot) => [Date.parse(slot.startsAt), slot.remaining ?? 1]));
  const show = (instant: number) => `${new Date(instant).toISOString()} of ${practitioner.name}`;
  return [
    ...[...offered.keys()]
      .filter((start) => !expected.has(start))
      .map((start) => `${show(start)} is offered, but taken`),
    ...[...expected].flatMap(([start, remaining]) => {
      if (!offered.has(start)) return [`${show(start)} is free, but not offered`];
      if (service.capacity === 1 || offered.get(start) === remaining) return [];
      return [`${show(start)} has ${remaining} seats left, but ${offered.get(start)} are offered`];
    }),
  ];
}

interface HistoryEntry {
  version: number;
  action?: string;
  fromStatus: string | null;
  toStatus: string;
}

async function checkOneHistory(client: Client, id: string): Promise<string[]> {
  const path = `/v1/appointments/${id}`;
  const before = await client.request('GET', path);
  // What is missing altogether is said by the check for that.
  if (before.status !== 200) return [];
  const entries = await listAll<HistoryEntry>(client, `${path}/history`, {});
  entries.sort((a, b) => a.version - b.version);
  const now = before.body as AppointmentView;
  const last = entries.at(-1);
  const broken =
    entries.length !== now.version ||
    !(last?.toStatus === now.status || (now.status === 'expired' && mayLapse(last?.toStatus))) ||
    entries.some((entry, index) => {
      const from = entries[index - 1]?.toStatus ?? null;
      // That a hold was over when it was confirmed need not have been written down before.
      const late = entry.action === 'confirm' && entry.fromStatus === 'expired' && mayLapse(from);
      return entry.version !== index + 1 || !(entry.fromStatus === from || late);
    });
  if (!broken) return [];
  // An expiry that was written down between the two readings.
  const { body } = await client.request('GET', path);
  if ((body as AppointmentView).version !== now.version) return checkOneHistory(client, id);
  const shown = entries
    .map(({ version, fromStatus, toStatus }) => `${version}: ${fromStatus} -> ${toStatus}`)
    .join(', ');
  return [`${id} is ${now.status}, version ${now.version}, with the history [${shown}]`];
}

const mayLapse = (status: string | null | undefined): boolean => status === 'held' || status === 'pending';
