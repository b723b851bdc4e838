import { MINUTE, resourcesOf, type SegmentRule, type Service } from './catalog';
import type { AppointmentView, SegmentView } from './client';
import type { Place, SegmentPlace, Wish } from './history';

/** Requests and what is asked with them, against the appointments that come of it. */

/** How an appointment stands that was just booked. */
export function standingOf({ service, holdSeconds }: Wish): string {
  if (holdSeconds !== undefined) return 'held';
  return service.requiresConfirmation ? 'pending' : 'confirmed';
}

type Pair = [what: string, is: unknown, expected: unknown];

/**
 * In what an appointment differs from the booking that made it, or from that where it was moved to; the empty list if in
 * nothing.
 */
export function differencesFrom(
  { service, practitioner, startsAt: wanted, segments: named, requestId }: Wish,
  appointment: AppointmentView,
  place: Place = { practitionerId: practitioner?.id, startsAt: wanted, segments: named },
): string[] {
  const { segments } = appointment;
  const pairs: Pair[] = [
    ['startsAt', Date.parse(appointment.startsAt), place.startsAt],
    ['serviceId', appointment.serviceId, service.id],
    ['the request in metadata', appointment.metadata?.['request'], requestId],
    ['segments', segments.length, service.segments?.length ?? 1],
    ...(service.segments ? segmentPairs(service, appointment, place) : simplePairs(service, appointment, place)),
  ];
  const rules = service.segments ?? [{ resources: service.practitioners }];
  const strangers = segments.filter(
    (segment, index) =>
      !rules[index]?.resources.some(
        ({ id, scheduleId }) => id === resourceIdOf(segment) && scheduleId === segment.scheduleId,
      ),
  );
  return [
    ...pairs
      .filter(([, is, expected]) => is !== expected)
      .map(([what, is, expected]) => `${what} is ${String(is)} instead of ${String(expected)}`),
    ...strangers.map((segment) => `${resourceIdOf(segment)} does not offer what it is booked for`),
  ];
}

function simplePairs(service: Service, { endsAt, segments }: AppointmentView, place: Place): Pair[] {
  const practitionerId = segments[0]?.practitionerId;
  return [
    ['endsAt', Date.parse(endsAt), place.startsAt + service.durationMinutes * MINUTE],
    ['practitioner', practitionerId, place.practitionerId ?? practitionerId],
  ];
}

/** Of a composite: each segment has its length, is where it was named or where a plan may have it, and all make the whole. */
function segmentPairs(service: Service, { startsAt, endsAt, segments }: AppointmentView, place: Place): Pair[] {
  const rules = service.segments!;
  const starts = segments.map((segment) => Date.parse(segment.startsAt));
  const pairs: Pair[] = [
    ['the earliest segment', Math.min(...starts), Date.parse(startsAt)],
    ['endsAt', Date.parse(endsAt), Math.max(...segments.map((segment) => Date.parse(segment.endsAt)))],
  ];
  for (const [index, segment] of segments.entries()) {
    const rule = rules[index];
    if (!rule) continue;
    const name = `segment ${index + 1}`;
    pairs.push([`end of ${name}`, Date.parse(segment.endsAt), starts[index]! + rule.durationMinutes * MINUTE]);
    const wanted = place.segments?.[index];
    if (!wanted) continue;
    pairs.push([`start of ${name}`, starts[index], wanted.startsAt]);
    pairs.push([`resource of ${name}`, resourceIdOf(segment), wanted.resourceId]);
  }
  if (!place.segments) pairs.push(['the plan', planBreach(rules, starts), undefined]);
  return pairs;
}

/** What of the service's gaps and waits a plan does not keep to. */
function planBreach(rules: readonly SegmentRule[], starts: readonly number[]): string | undefined {
  let earliest = starts[0]!;
  let latest = earliest;
  let stage = earliest;
  let [ends, wait] = [stage, 0];
  for (const [index, rule] of rules.entries()) {
    const start = starts[index] ?? Number.NaN;
    if (index > 0 && rule.startsWithPrevious) {
      if (start !== stage) return `segment ${index + 1} does not begin with the one before`;
    } else {
      if (index > 0) [earliest, latest] = [ends, ends + wait];
      if (!(start >= earliest && start <= latest)) return `segment ${index + 1} begins too early or too late`;
      [stage, ends, wait] = [start, start, 0];
    }
    ends = Math.max(ends, stage + (rule.durationMinutes + rule.gapAfterMinutes) * MINUTE);
    wait = Math.max(wait, rule.maxWaitMinutes * MINUTE);
  }
  return undefined;
}

const resourceIdOf = ({ practitionerId, roomId }: SegmentView): string | undefined =>
  practitionerId ?? roomId ?? undefined;

/** An instant as RFC 3339 with the given offset, in minutes. */
export function showInstant(instant: number, offset: number): string {
  const local = new Date(instant + offset * MINUTE).toISOString().slice(0, 19);
  if (offset === 0) return `${local}Z`;
  const [hours, minutes] = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60];
  const pad = (value: number) => String(value).padStart(2, '0');
  return `${local}${offset < 0 ? '-' : '+'}${pad(hours)}:${pad(minutes)}`;
}

/** Segments of a composite as the API takes them. */
export const namedSegments = (service: Service, segments: readonly SegmentPlace[]): object[] =>
  segments.map(({ resourceId, startsAt }) => {
    const { kind } = resourcesOf(service).find(({ id }) => id === resourceId)!;
    return { [kind === 'room' ? 'roomId' : 'practitionerId']: resourceId, startsAt: new Date(startsAt).toISOString() };
  });
