import { MINUTE, resourcesOf, type SegmentRule, type Service } from './catalog';
import type { Answer, AppointmentView, SegmentView } from './client';
import type { Change, Place, SegmentPlace, Wish } from './history';

/** Requests and what is asked with them, against the appointments that come of it. */

/** In what the answer to a booking differs from what was asked for. */
export function bookedOtherwise(wish: Wish, { status, headers }: Answer, appointment: AppointmentView): string[] {
  const differences = differencesFrom(wish, appointment);
  if (status !== 201) differences.push(`status ${status}`);
  if (appointment.status !== standingOf(wish) || appointment.version !== 1)
    differences.push(`${appointment.status}, version ${appointment.version}`);
  if (headers.etag !== '"1"') differences.push(`ETag ${headers.etag ?? 'missing'}`);
  if (!headers.location?.endsWith(`/v1/appointments/${appointment.id}`))
    differences.push(`Location ${headers.location ?? 'missing'}`);
  return differences;
}

/** In what the answer to a change differs from what was asked for. */
export function changedOtherwise({ action, target, ifMatch }: Change, view: AppointmentView, answer: Answer): string[] {
  const differences: string[] = [];
  if (answer.status !== 200) differences.push(`status ${answer.status}`);
  if (action === 'cancel' && view.status !== 'cancelled') differences.push(view.status);
  if (action === 'confirm' && !['confirmed', 'pending'].includes(view.status)) differences.push(view.status);
  if (target && Date.parse(view.startsAt) !== target.startsAt) differences.push(`startsAt is ${view.startsAt}`);
  const isThere = view.segments.some(({ practitionerId }) => practitionerId === target?.practitionerId);
  if (target?.practitionerId && !isThere) differences.push(`not of practitioner ${target.practitionerId}`);
  if (answer.headers.etag !== `"${view.version}"`) differences.push(`ETag ${answer.headers.etag ?? 'missing'}`);
  if (ifMatch !== undefined && view.version <= ifMatch) differences.push(`version ${view.version} of ${ifMatch}`);
  return differences;
}

/** How an appointment stands that was just booked. */
function standingOf({ service, holdSeconds }: Wish): string {
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
