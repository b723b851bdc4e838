import { coresOf, plainStarts, type Service } from './catalog';
import type { Booking, Change, History, Invocation, Place, SegmentPlace, Span, Wish } from './history';
import { type Life, livesOf, outcomeOf, placeOf, type Stay, staysAt } from './lives';

/** One broken promise. */
export interface Finding {
  check: string;
  detail: string;
}

export const HISTORY_CHECKS = {
  twoAtOnce: 'no two acknowledged bookings held overlapping time at once',
  closed: 'nobody is booked into time that is closed',
  openRefused: 'only time that is closed is refused as outside the hours',
  refusedForNothing: 'every slot_taken had somebody who may have held the time',
  expiredForNothing: 'every hold_expired came after the end of the hold, and had somebody who may have held the time',
  refusedStatus:
    'every invalid_transition names a status that the appointment may have had, and that does not allow it',
  staleForNothing: 'every version_stale had somebody who may have made another version',
  versions: 'every acknowledged change made a version of its own, the next one, based on the one in If-Match',
  transitions: 'every acknowledged change was allowed in the status before it',
  oneEffect: 'one request has one effect, however often it is sent under its key',
  cancelledTwice: 'an appointment was cancelled once at most',
};

/** Rounds use times of their own, so only what belongs to one round needs to be compared. */
export function checkHistory(history: History): { made: number; findings: Finding[] } {
  const all = livesOf(history);
  const lives = Map.groupBy(all, (life) => life.round);
  const byId = new Map(all.flatMap((life) => (life.appointment ? [[life.appointment.id, life] as const] : [])));
  const findings: Finding[] = [];
  let made = 0;
  const check = (name: string, problems: string[]) => {
    made++;
    findings.push(...problems.map((detail) => ({ check: name, detail })));
  };
  for (const ofRound of lives.values()) check(HISTORY_CHECKS.twoAtOnce, twoAtOnce(ofRound));
  for (const life of byId.values()) {
    check(HISTORY_CHECKS.versions, brokenVersions(life));
    check(HISTORY_CHECKS.transitions, forbiddenSteps(life));
    const cancelled = life.steps.filter(({ change }) => change?.action === 'cancel').length;
    const id = life.appointment!.id;
    check(HISTORY_CHECKS.cancelledTwice, cancelled > 1 ? [`${id} was cancelled ${cancelled} times`] : []);
  }
  for (const booking of history.bookings) {
    if (booking.outcome !== 'refused' || booking.code !== 'slot_taken') continue;
    check(HISTORY_CHECKS.refusedForNothing, refusedForNothing(booking, lives.get(booking.round) ?? [], history));
  }
  for (const change of history.changes) {
    const life = byId.get(change.appointmentId);
    if (change.outcome !== 'refused' || !life) continue;
    const others = (lives.get(life.round) ?? []).filter((other) => other !== life);
    if (change.code === 'slot_taken')
      check(HISTORY_CHECKS.refusedForNothing, movedForNothing(change, life, others, history));
    if (change.code === 'hold_expired')
      check(HISTORY_CHECKS.expiredForNothing, expiredForNothing(change, life, others, history));
    if (change.code === 'invalid_transition') check(HISTORY_CHECKS.refusedStatus, wrongStatus(change, life));
    if (change.code === 'version_stale') check(HISTORY_CHECKS.staleForNothing, staleForNothing(change, life));
  }
  check(HISTORY_CHECKS.oneEffect, severalEffects(history));
  if (history.closures.length > 0) {
    const { closed, openRefused } = closedTimes(history, byId);
    check(HISTORY_CHECKS.closed, closed);
    check(HISTORY_CHECKS.openRefused, openRefused);
  }
  return { made, findings };
}

/** Answers to one request that tell of different appointments, or of different changes. */
function severalEffects({ bookings, changes }: History): string[] {
  const effects = [
    ...bookings.map(({ wish, appointment }) => ({ request: wish.requestId, effect: appointment?.id })),
    ...changes.map(({ key, appointment }) => ({
      request: key,
      effect: appointment && `version ${appointment.version} of ${appointment.id}`,
    })),
  ].filter(({ request, effect }) => request !== undefined && effect !== undefined);
  return [...Map.groupBy(effects, ({ request }) => request)].flatMap(([request, made]) => {
    const different = new Set(made.map(({ effect }) => effect));
    return different.size > 1 ? [`${request}: ${[...different].join(' and ')}`] : [];
  });
}

type Lived = Stay & { life: Life };

/** More than there is room for: looked at from every stay, at its beginning on the clock. */
function twoAtOnce(lives: Life[]): string[] {
  const problems: string[] = [];
  const known = lives.flatMap((life) =>
    life.stays
      .filter((stay) => stay.resourceId !== undefined && stay.certain.from < stay.certain.until)
      .map((stay) => ({ life, ...stay })),
  );
  for (const [resourceId, stays] of Map.groupBy(known, (stay) => stay.resourceId)) {
    for (const stay of stays) {
      const there = stays.filter((other) => meet(other.time, stay.time) && contains(other.certain, stay.certain.from));
      const crowd = fullest(there, stay.time);
      if (crowd.size > stay.places) {
        problems.push(`${[...crowd.values()].map(showStay).join(' and ')} of ${resourceId}`);
      }
      const sharers = livesIn(there, stay.session);
      if (sharers > stay.seats) problems.push(`${sharers} in the ${stay.seats} seats of ${showStay(stay)}`);
    }
  }
  return problems;
}

/** The sessions at that point of a time at which there are most of them, each with one of its stays. */
function fullest(stays: readonly Lived[], time: Span): Map<string, Lived> {
  const points = [time.from, ...stays.map((stay) => stay.time.from).filter((point) => contains(time, point))];
  let most = new Map<string, Lived>();
  for (const point of points) {
    const at = stays.filter((stay) => contains(stay.time, point));
    const sessions = new Map(at.map((stay) => [stay.session, stay]));
    if (sessions.size > most.size) most = sessions;
  }
  return most;
}

const livesIn = (stays: readonly Lived[], session: string): number =>
  new Set(stays.filter((stay) => stay.session === session).map(({ life }) => life)).size;

/** Bookings and moves that were made, or refused, in time that was closed meanwhile. */
function closedTimes(history: History, lives: Map<string, Life>): { closed: string[]; openRefused: string[] } {
  const asked = [
    ...history.bookings.map((booking) => ({ ...booking, wish: booking.wish, place: booking.wish })),
    ...history.changes.flatMap((change) => {
      const wish = lives.get(change.appointmentId)?.wish;
      return change.target && wish ? [{ ...change, wish, place: change.target }] : [];
    }),
  ];
  const closed: string[] = [];
  const openRefused: string[] = [];
  for (const { outcome, code, wish, place, appointment, startedAt, endedAt } of asked) {
    const isMade = outcome === 'ok' && appointment !== undefined;
    if (!isMade && code !== 'outside_hours') continue;
    const times = coresOf(wish.service, isMade ? placeOf(appointment) : place);
    const meeting = history.closures.filter(({ resourceId, time }) =>
      times.some((core) => (core.resourceId ?? resourceId) === resourceId && meet(core.time, time)),
    );
    const isClosed = meeting.some(({ certain }) => certain.from < startedAt && endedAt < certain.until);
    if (isMade && isClosed) closed.push(`${appointment.id} at ${appointment.startsAt}`);
    const mayBeClosed = meeting.some(({ possible }) => possible.from < endedAt && startedAt < possible.until);
    if (!isMade && !mayBeClosed) openRefused.push(`${show(place.startsAt)} was refused as outside the hours`);
  }
  return { closed, openRefused };
}

function refusedForNothing(refusal: Booking, lives: Life[], history: History): string[] {
  const { wish } = refusal;
  const { service, startsAt } = wish;
  const isFull = fullness(wish, refusal, lives);
  const mayBeClosed = closedness(history, wish, refusal);
  if (service.segments) {
    const { practitioner, segments } = wish;
    const wanted = { practitionerId: practitioner?.id, startsAt, segments };
    const free = freeSegments(wish, wanted, (place) => isFull(place) || mayBeClosed(place));
    return free ? [`${show(startsAt)} was refused as taken, but nobody held ${showSegments(free)}`] : [];
  }
  // Without a wish for one practitioner all of them must have been taken, or closed.
  const free = (wish.practitioner ? [wish.practitioner] : service.practitioners)
    .map((practitioner) => ({ ...practitioner, place: { practitionerId: practitioner.id, startsAt } }))
    .filter(({ place }) => !isFull(place) && (wish.practitioner !== undefined || !mayBeClosed(place)));
  if (free.length === 0) return [];
  const names = free.map((one) => one.name).join(', ');
  return [`${show(startsAt)} was refused as taken, but nobody held ${names}`];
}

function movedForNothing(refusal: Change, { wish, steps }: Life, others: Life[], history: History): string[] {
  const { appointmentId, target } = refusal;
  if (!target) return [`${appointmentId}: ${refusal.action} was refused as taken`];
  const isFull = fullness(wish, refusal, others);
  const said = `${appointmentId} was not moved to ${show(target.startsAt)} as it is taken, but nobody else held it`;
  if (wish.service.segments) {
    const mayBeClosed = closedness(history, wish, refusal);
    return freeSegments(wish, target, (place) => isFull(place) || mayBeClosed(place)) ? [said] : [];
  }
  // Without a wish for another practitioner it is the one that it had, whenever that was.
  const wanted = target.practitionerId ? [target.practitionerId] : steps.map(({ place }) => place.practitionerId!);
  return wanted.some((id) => isFull({ practitionerId: id, startsAt: target.startsAt })) ? [] : [said];
}

function expiredForNothing(refusal: Change, { wish, steps }: Life, others: Life[], history: History): string[] {
  const { appointmentId } = refusal;
  const [{ lapse } = {}] = steps;
  if (!lapse || refusal.endedAt < lapse.from) return [`${appointmentId} was refused as expired before its end`];
  const held = steps.filter((step) => step.status === 'held');
  const isFull = fullness(wish, refusal, others);
  const mayBeClosed = closedness(history, wish, refusal);
  return held.some(({ place }) => isFull(place) || mayBeClosed(place))
    ? []
    : [`${appointmentId} was refused as expired, but nobody else held ${show(held[0]!.place.startsAt)}`];
}

/** Whether others may have had all the room there is somewhere in a place, while the request was refused. */
function fullness(wish: Wish, refusal: Invocation, others: Life[]): (place: Place) => boolean {
  const stays = others.flatMap((life) =>
    life.stays
      .filter(({ possible }) => possible.from <= refusal.endedAt && refusal.startedAt <= possible.until)
      .map((stay) => ({ life, ...stay })),
  );
  return (place) =>
    staysAt(wish, place).some(({ resourceId, time, session, seats, places }) => {
      const meeting = stays.filter((stay) => (stay.resourceId ?? resourceId) === resourceId && meet(stay.time, time));
      if (seats > 1 && livesIn(meeting, session) >= seats) return true;
      const rest = meeting.filter((stay) => stay.session !== session);
      return fullest(rest, time).size >= places;
    });
}

/** Whether some of a place may have been closed while the request was refused. */
function closedness(history: History, { service }: Wish, refusal: Invocation): (place: Place) => boolean {
  return (place) =>
    coresOf(service, place).some((core) =>
      history.closures.some(
        ({ resourceId, time, possible }) =>
          resourceId === (core.resourceId ?? resourceId) &&
          meet(core.time, time) &&
          possible.from < refusal.endedAt &&
          refusal.startedAt < possible.until,
      ),
    );
}

/** A way to serve a composite at once, without waiting, in which everything was free for certain; undefined if there is none. */
function freeSegments(wish: Wish, wanted: Place, isFull: (place: Place) => boolean): SegmentPlace[] | undefined {
  const { startsAt, segments, practitionerId: preferred } = wanted;
  const { service } = wish;
  if (segments) return isFull({ startsAt, segments }) ? undefined : segments;
  const starts = plainStarts(service, startsAt);
  let ways: SegmentPlace[][] = [[]];
  for (const [index, { resources }] of service.segments!.entries()) {
    const eligible = resources.some(({ id }) => id === preferred)
      ? resources.filter(({ id }) => id === preferred)
      : resources;
    ways = ways.flatMap((way) => eligible.map(({ id }) => [...way, { resourceId: id, startsAt: starts[index]! }]));
  }
  return ways.find((way) => !overlapsItself(service, way) && !isFull({ startsAt, segments: way }));
}

function overlapsItself(service: Service, segments: SegmentPlace[]): boolean {
  const cores = coresOf(service, { startsAt: segments[0]!.startsAt, segments });
  return cores.some((core, index) =>
    cores.slice(index + 1).some((other) => other.resourceId === core.resourceId && meet(other.time, core.time)),
  );
}

function wrongStatus(refusal: Change, life: Life): string[] {
  const { action, appointmentId, currentStatus = 'nothing' } = refusal;
  const { steps, unknown, wish } = life;
  // A confirm takes a hold that is over once more, or says that it has expired.
  const allows = outcomeOf(action, currentStatus, wish.service) !== undefined;
  const reached = steps.some(
    (step, index) =>
      step.status === currentStatus &&
      step.startedAt <= refusal.endedAt &&
      refusal.startedAt <= (steps[index + 1]?.endedAt ?? Infinity),
  );
  const lapsed = currentStatus === 'expired' && steps.some(({ lapse }) => lapse && lapse.from <= refusal.endedAt);
  if (!allows && (reached || lapsed || unknown.length > 0)) return [];
  return [`${appointmentId}: ${action} was refused because it is ${currentStatus}`];
}

function staleForNothing(refusal: Change, { steps, unknown }: Life): string[] {
  const { appointmentId, ifMatch } = refusal;
  const other = steps.some(
    (step, index) =>
      step.version !== ifMatch &&
      step.startedAt <= refusal.endedAt &&
      refusal.startedAt <= (steps[index + 1]?.endedAt ?? Infinity),
  );
  const swept = steps.some(({ lapse }) => lapse && lapse.from <= refusal.endedAt);
  if (ifMatch !== undefined && (other || swept || unknown.length > 0)) return [];
  return [`${appointmentId}: ${refusal.action} with version ${ifMatch} was refused as stale`];
}

function brokenVersions({ appointment, steps, unknown }: Life): string[] {
  const problems: string[] = [];
  for (const [index, step] of steps.entries()) {
    const before = steps[index - 1];
    if (!before) continue;
    const { action, ifMatch } = step.change!;
    // The sweeper's version lies between a hold and the confirm that comes after its end.
    const swept = action === 'confirm' && before.lapse !== undefined && step.endedAt >= before.lapse.from ? 1 : 0;
    const rise = step.version - before.version;
    const said = `${action} made version ${step.version} of version ${before.version}`;
    if (rise < 1 || rise > 1 + swept + unknown.length) problems.push(said);
    if (step.endedAt < before.startedAt) problems.push(`${said}, which came later`);
    // Expiry makes nobody's version old who wants to confirm.
    if (ifMatch !== undefined && ![1, 1 + swept].includes(step.version - ifMatch)) {
      problems.push(`${said} under If-Match ${ifMatch}`);
    }
  }
  return problems.map((problem) => `${appointment!.id}: ${problem}`);
}

function forbiddenSteps({ appointment, steps, unknown, wish }: Life): string[] {
  // What lay between two acknowledged changes is not known then.
  if (unknown.length > 0) return [];
  return steps.flatMap((step, index) => {
    const before = steps[index - 1];
    if (!before || step.version <= before.version) return [];
    const { action, startedAt } = step.change!;
    const over = before.lapse !== undefined && startedAt > before.lapse.until;
    const due = over && action !== 'confirm' ? undefined : outcomeOf(action, before.status, wish.service);
    if (due === step.status) return [];
    return [`${appointment!.id}: ${action} made ${step.status} of ${over ? 'a hold past its time' : before.status}`];
  });
}

const contains = (span: Span, point: number): boolean => span.from <= point && point < span.until;

const meet = (a: Span, b: Span): boolean => Math.max(a.from, b.from) < Math.min(a.until, b.until);

const show = (instant: number): string => new Date(instant).toISOString();

const showSegments = (segments: SegmentPlace[]): string =>
  segments.map(({ resourceId, startsAt }) => `${resourceId} at ${show(startsAt)}`).join(', ');

const showStay = ({ life, time }: Lived): string =>
  `${life.appointment?.id ?? 'an unknown outcome'} (${show(time.from)} to ${show(time.until).slice(11, 16)}, buffers included)`;
