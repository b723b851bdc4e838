import { type AppointmentView, type Client, describe, inParallel, listAll, type SlotView } from './client';
import { type Span } from './history';
import { type Finding } from './history-checks';
import { expectedOf, type Life } from './lives';
import { differencesFrom } from './asked';
import { DAY, MINUTE, type Practitioner } from './catalog';
import { OPEN, type World } from './world';

/**
 * What must be true of an install after every storm, whatever happened in it, as any client can ask it over the API. The
 * same is asked in SQL where the database is at hand (`invariants.sql.ts`); the two share no code with each other or with
 * the app.
 */
export const HTTP_CHECKS = {
  exists: 'every acknowledged booking is there, as it was acknowledged',
  acknowledged: 'every occupying appointment was acknowledged, or its outcome is unknown',
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

  const occupying = new Map<Practitioner, AppointmentView[]>();
  await inParallel(readers, world.everybody, async (client, practitioner) => {
    occupying.set(practitioner, await world.occupying(client, practitioner));
  });
  const explained = new Set(lives.map((life) => life.wish.requestId));
  for (const [practitioner, appointments] of occupying) {
    check(
      HTTP_CHECKS.acknowledged,
      appointments
        .filter(({ metadata }) => !explained.has(String(metadata?.['request'])))
        .map(({ id, startsAt }) => `${id} at ${startsAt} of ${practitioner.name}`),
    );
    check(HTTP_CHECKS.overlap, overlaps(timesOf(world, appointments)));
  }

  const days = [...world.daysUsed].filter((_, index, all) => index % Math.ceil(all.length / DAYS_COMPARED) === 0);
  const pairs = days.flatMap((day) => [...occupying.keys()].map((practitioner) => ({ day, practitioner })));
  await inParallel(readers, pairs, async (client, { day, practitioner }) => {
    check(HTTP_CHECKS.slots, await compareSlots(world, client, practitioner, day, occupying.get(practitioner) ?? []));
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

/** Occupied time with buffers, by its start. */
function timesOf(world: World, appointments: AppointmentView[]): Array<{ id: string; from: number; until: number }> {
  return appointments
    .map((appointment) => {
      const service = Object.values(world.services).find(({ id }) => id === appointment.serviceId);
      return {
        id: appointment.id,
        from: Date.parse(appointment.startsAt) - (service?.bufferBeforeMinutes ?? 0) * MINUTE,
        until: Date.parse(appointment.endsAt) + (service?.bufferAfterMinutes ?? 0) * MINUTE,
      };
    })
    .sort((a, b) => a.from - b.from);
}

function overlaps(times: Array<{ id: string; from: number; until: number }>): string[] {
  let latest = times[0];
  return times.slice(1).flatMap((time) => {
    const before = latest;
    if (latest === undefined || time.until > latest.until) latest = time;
    return before !== undefined && time.from < before.until
      ? [`${before.id} and ${time.id} at ${new Date(time.from).toISOString()}`]
      : [];
  });
}

/** The grid of the open hours without what is occupied, against what is offered. */
async function compareSlots(
  world: World,
  client: Client,
  practitioner: Practitioner,
  day: number,
  appointments: AppointmentView[],
): Promise<string[]> {
  const service = practitioner === world.edited ? world.services.edited : world.services.plain;
  const step = service.slotIntervalMinutes * MINUTE;
  const taken = timesOf(world, appointments).filter(({ from, until }) => from < day + DAY && until > day);
  const expected = new Set<number>();
  for (let start = day + OPEN.from; start + service.durationMinutes * MINUTE <= day + OPEN.until; start += step) {
    const from = start - service.bufferBeforeMinutes * MINUTE;
    const until = start + (service.durationMinutes + service.bufferAfterMinutes) * MINUTE;
    if (!taken.some((time) => time.from < until && from < time.until)) expected.add(start);
  }
  const query = new URLSearchParams({
    serviceId: service.id,
    practitionerId: practitioner.id,
    from: new Date(day).toISOString(),
    to: new Date(day + DAY).toISOString(),
    limit: '1000',
  });
  const { body } = await client.must('GET', `/v1/slots?${query.toString()}`);
  const offered = new Set((body as { data: SlotView[] }).data.map((slot) => Date.parse(slot.startsAt)));
  const show = (instant: number) => `${new Date(instant).toISOString()} of ${practitioner.name}`;
  return [
    ...[...offered].filter((start) => !expected.has(start)).map((start) => `${show(start)} is offered, but taken`),
    ...[...expected].filter((start) => !offered.has(start)).map((start) => `${show(start)} is free, but not offered`),
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
