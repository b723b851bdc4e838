import type { AppointmentView } from './client';
import { MINUTE, type Practitioner, type Service } from './world';

/**
 * What the clients saw, and what can be concluded from that alone, without a look into the database.
 *
 * Every request is kept with its outcome and its times on one monotonic clock. `ok` and `refused` are certain; after
 * `unknown` (a broken connection, a 5xx) the request may or may not have had its effect. The rule of the checker is that of
 * a register: between the end of the answer that says "booked" and the start of the first request to free or move it, the
 * time belonged to that appointment for certain; between the start of the booking and the end of the answer to the freeing
 * it may have. Certain times of two appointments never meet, and a refusal needs somebody who may have held the time.
 *
 * A hold ends by itself. Its length is known, and the server counts it from a moment between the start of the request and
 * the end of the answer, so its end is known that exactly too, without a common clock.
 */
export type Outcome = 'ok' | 'refused' | 'unknown';

interface Invocation {
  round: number;
  outcome: Outcome;
  /** The problem's code where refused. */
  code?: string;
  startedAt: number;
  endedAt: number;
}

/** A booking as a client means it. Sent twice, it is the same request with the same body. */
export interface Wish {
  /** Goes into the appointment's metadata, so that a row can be traced back to its request. */
  requestId: string;
  /** The Idempotency-Key, of those that send one. */
  key?: string;
  service: Service;
  /** Left to the server where undefined. */
  practitioner?: Practitioner;
  /** Milliseconds since the epoch. */
  startsAt: number;
  phone: string;
  /** For so long the time is only held; undefined for a booking. */
  holdSeconds?: number;
  body: Record<string, unknown>;
}

export interface Booking extends Invocation {
  wish: Wish;
  /** Where ok. */
  appointment?: AppointmentView;
  /** The answer came from the server's store of answers, not from a new effect. */
  replayed: boolean;
}

export type Action = 'confirm' | 'cancel' | 'reschedule';

/** What is done to an appointment that is there. */
export interface Change extends Invocation {
  appointmentId: string;
  action: Action;
  /** The version in If-Match, where it was sent. */
  ifMatch?: number;
  /** Of a reschedule: where to. */
  target?: Place;
  /** Where ok. */
  appointment?: AppointmentView;
  /** Of an `invalid_transition`: the status that is said to be the reason. */
  currentStatus?: string;
}

export interface Place {
  practitionerId?: string;
  /** Milliseconds since the epoch. */
  startsAt: number;
}

/** [from, until) on the clients' clock, or of the calendar in milliseconds since the epoch. */
export interface Span {
  from: number;
  until: number;
}

export class History {
  readonly bookings: Booking[] = [];
  readonly changes: Change[] = [];

  get size(): number {
    return this.bookings.length + this.changes.length;
  }

  clear(): void {
    this.bookings.length = 0;
    this.changes.length = 0;
  }
}

/** A place that an appointment occupied for a while. */
export interface Stay {
  /** Undefined where it was left to the server and its choice is unknown. */
  practitionerId?: string;
  /** Occupied time with buffers, milliseconds since the epoch. */
  time: Span;
  /** On the clients' clock: when it may have been there, and when it was there for certain. */
  possible: Span;
  certain: Span;
}

/** What one acknowledged request made of an appointment. */
interface Step {
  version: number;
  status: string;
  place: Place;
  startedAt: number;
  endedAt: number;
  /** When its time is over, if nobody confirms it: at `from` at the earliest, at `until` at the latest. */
  lapse?: Span;
  /** Undefined for the booking itself. */
  change?: Change;
}

/** What one request to book came to: an appointment, or perhaps one. Several answers under one key make one life. */
export interface Life {
  wish: Wish;
  round: number;
  /** As it was booked; undefined where the outcome is unknown. */
  appointment?: AppointmentView;
  /** What was acknowledged, in the order of versions. */
  steps: Step[];
  /** Changes that may or may not have been made. */
  unknown: Change[];
  stays: Stay[];
}

const OCCUPYING = ['held', 'pending', 'confirmed', 'checked_in'];
const NEVER: Span = { from: Infinity, until: Infinity };

export function livesOf(history: History): Life[] {
  const changes = Map.groupBy(
    history.changes.filter((change) => change.outcome !== 'refused'),
    (change) => change.appointmentId,
  );
  const lives: Life[] = [];
  // Several sendings under one key are one request: it may have had its effect from the first one on that was not refused.
  const requests = Map.groupBy(
    history.bookings.filter((booking) => booking.outcome !== 'refused'),
    (booking) => booking.wish.requestId,
  );
  for (const sent of requests.values()) {
    const { wish, round } = sent[0]!;
    const startedAt = Math.min(...sent.map((booking) => booking.startedAt));
    const made = Map.groupBy(
      sent.filter((booking) => booking.appointment !== undefined),
      (booking) => booking.appointment!.id,
    );
    for (const [id, answers] of made) {
      const appointment = answers[0]!.appointment!;
      const booked = { startedAt, endedAt: Math.min(...answers.map((booking) => booking.endedAt)) };
      lives.push({ wish, round, appointment, ...lifeOf(wish, appointment, booked, changes.get(id) ?? []) });
    }
    if (made.size > 0) continue;
    const place = { practitionerId: wish.practitioner?.id, startsAt: wish.startsAt };
    const stay = { ...stayAt(wish, place), possible: { from: startedAt, until: Infinity }, certain: NEVER };
    lives.push({ wish, round, steps: [], unknown: [], stays: [stay] });
  }
  return lives;
}

/** When a hold is over that was booked by such a request. The margin is for two clocks that do not run alike. */
export function lapseOf(holdSeconds: number, { startedAt, endedAt }: { startedAt: number; endedAt: number }): Span {
  const length = holdSeconds * 1000;
  const margin = 20 + length / 1000;
  return { from: startedAt + length - margin, until: endedAt + length + margin };
}

function lifeOf(
  wish: Wish,
  appointment: AppointmentView,
  booked: { startedAt: number; endedAt: number },
  changes: Change[],
): Pick<Life, 'steps' | 'unknown' | 'stays'> {
  const lapse = wish.holdSeconds === undefined ? undefined : lapseOf(wish.holdSeconds, booked);
  const stepOf = (view: AppointmentView, times: { startedAt: number; endedAt: number }, change?: Change): Step => ({
    version: view.version,
    status: view.status,
    place: placeOf(view),
    startedAt: times.startedAt,
    endedAt: times.endedAt,
    lapse: view.status === 'held' ? lapse : undefined,
    change,
  });
  const done = changes.filter((change) => change.appointment !== undefined);
  const steps = [
    stepOf(appointment, booked),
    ...done
      .map((change) => stepOf(change.appointment!, change, change))
      .sort((a, b) => a.version - b.version || a.endedAt - b.endedAt),
  ];
  const unknown = changes.filter((change) => change.appointment === undefined);
  const frees = (change: Change | undefined) => change !== undefined && change.action !== 'confirm';
  const stays: Stay[] = [];
  for (const step of steps) {
    if (!OCCUPYING.includes(step.status)) continue;
    const freed = steps.filter((later) => later.version > step.version && frees(later.change));
    const tries = [...freed, ...unknown.filter(frees)];
    stays.push({
      ...stayAt(wish, step.place),
      possible: {
        from: step.startedAt,
        until: Math.min(step.lapse?.until ?? Infinity, ...freed.map((later) => later.endedAt)),
      },
      certain: {
        from: step.endedAt,
        until: Math.min(step.lapse?.from ?? Infinity, ...tries.map((each) => each.startedAt)),
      },
    });
  }
  for (const { action, target, startedAt } of unknown) {
    // A confirm may have kept it wherever it was by then.
    const places = action === 'confirm' ? steps.map((step) => step.place) : target ? [target] : [];
    for (const place of places) {
      stays.push({ ...stayAt(wish, place), possible: { from: startedAt, until: Infinity }, certain: NEVER });
    }
  }
  return { steps, unknown, stays };
}

export const placeOf = (view: AppointmentView): Place => ({
  practitionerId: view.segments[0]?.practitionerId ?? undefined,
  startsAt: Date.parse(view.startsAt),
});

const stayAt = ({ service }: Wish, { practitionerId, startsAt }: Place): Pick<Stay, 'practitionerId' | 'time'> => ({
  practitionerId,
  time: {
    from: startsAt - service.bufferBeforeMinutes * MINUTE,
    until: startsAt + (service.durationMinutes + service.bufferAfterMinutes) * MINUTE,
  },
});

/** What an action makes of a status; undefined where it is not allowed. `expired` here is a hold that is over. */
export function outcomeOf(action: Action, from: string, service: Service): string | undefined {
  if (action === 'confirm') {
    if (from === 'held' || from === 'expired') return service.requiresConfirmation ? 'pending' : 'confirmed';
    return from === 'pending' ? 'confirmed' : undefined;
  }
  if (!OCCUPYING.includes(from)) return undefined;
  return action === 'cancel' ? 'cancelled' : from;
}

/** A status and a version that an appointment may have. */
export interface State {
  status: string;
  version: number;
}

/** Where and how an appointment may be, read at such a time, by what the clients know of it. */
export function expectedOf(life: Life, read: Span): { states: State[]; places: Place[] } {
  const last = life.steps.at(-1)!;
  const states: State[] = [];
  const add = (status: string, version: number) => {
    if (!states.some((state) => state.status === status && state.version === version)) states.push({ status, version });
    if (status !== 'held' || states.some((state) => state.status === 'expired' && state.version === version)) return;
    const lapse = life.steps[0]!.lapse;
    // Over, and written down or not yet.
    if (lapse && read.until >= lapse.from)
      states.push({ status: 'expired', version }, { status: 'expired', version: version + 1 });
  };
  add(last.status, last.version);
  for (let possible = 0; possible < life.unknown.length; possible++) {
    for (const { action } of life.unknown) {
      for (const state of [...states]) {
        const next = outcomeOf(action, state.status, life.wish.service);
        if (next !== undefined && state.version < last.version + life.unknown.length + 1) add(next, state.version + 1);
      }
    }
  }
  const lapsed = last.lapse && read.from > last.lapse.until;
  return {
    states: lapsed ? states.filter((state) => state.status !== 'held') : states,
    places: [last.place, ...life.unknown.flatMap(({ target }) => target ?? [])],
  };
}

/** One broken promise. */
export interface Finding {
  check: string;
  detail: string;
}

export const HISTORY_CHECKS = {
  twoAtOnce: 'no two acknowledged bookings held overlapping time at once',
  refusedForNothing: 'every slot_taken had somebody who may have held the time',
  expiredForNothing: 'every hold_expired came after the end of the hold, and had somebody who may have held the time',
  refusedStatus:
    'every invalid_transition names a status that the appointment may have had, and that does not allow it',
  staleForNothing: 'every version_stale had somebody who may have made another version',
  versions: 'every acknowledged change made a version of its own, the next one, based on the one in If-Match',
  transitions: 'every acknowledged change was allowed in the status before it',
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
    check(HISTORY_CHECKS.refusedForNothing, refusedForNothing(booking, lives.get(booking.round) ?? []));
  }
  for (const change of history.changes) {
    const life = byId.get(change.appointmentId);
    if (change.outcome !== 'refused' || !life) continue;
    const others = (lives.get(life.round) ?? []).filter((other) => other !== life);
    if (change.code === 'slot_taken') check(HISTORY_CHECKS.refusedForNothing, movedForNothing(change, life, others));
    if (change.code === 'hold_expired')
      check(HISTORY_CHECKS.expiredForNothing, expiredForNothing(change, life, others));
    if (change.code === 'invalid_transition') check(HISTORY_CHECKS.refusedStatus, wrongStatus(change, life));
    if (change.code === 'version_stale') check(HISTORY_CHECKS.staleForNothing, staleForNothing(change, life));
  }
  return { made, findings };
}

function twoAtOnce(lives: Life[]): string[] {
  const problems: string[] = [];
  const known = lives.flatMap((life) =>
    life.stays
      .filter((stay) => stay.practitionerId !== undefined && stay.certain.from < stay.certain.until)
      .map((stay) => ({ life, ...stay })),
  );
  for (const ofPractitioner of Map.groupBy(known, (stay) => stay.practitionerId).values()) {
    ofPractitioner.sort((a, b) => a.time.from - b.time.from);
    for (const [index, stay] of ofPractitioner.entries()) {
      for (const other of ofPractitioner.slice(index + 1)) {
        if (other.time.from >= stay.time.until) break;
        if (other.life === stay.life || !meet(stay.certain, other.certain)) continue;
        problems.push(`${showStay(stay)} and ${showStay(other)} of practitioner ${stay.practitionerId}`);
      }
    }
  }
  return problems;
}

function refusedForNothing(refusal: Booking, lives: Life[]): string[] {
  const { wish } = refusal;
  const { time } = stayAt(wish, wish);
  // Without a wish for one practitioner all of them must have been taken.
  const free = (wish.practitioner ? [wish.practitioner] : wish.service.practitioners).filter(
    ({ id }) => !mayBeHeld(id, time, refusal, lives),
  );
  if (free.length === 0) return [];
  const names = free.map((one) => one.name).join(', ');
  return [`${show(wish.startsAt)} was refused as taken, but nobody held ${names}`];
}

function movedForNothing(refusal: Change, { wish, steps }: Life, others: Life[]): string[] {
  const { appointmentId, target } = refusal;
  if (!target) return [`${appointmentId}: ${refusal.action} was refused as taken`];
  // Without a wish for another practitioner it is the one that it had, whenever that was.
  const wanted = target.practitionerId ? [target.practitionerId] : steps.map(({ place }) => place.practitionerId!);
  if (wanted.some((id) => mayBeHeld(id, stayAt(wish, target).time, refusal, others))) return [];
  return [`${appointmentId} was not moved to ${show(target.startsAt)} as it is taken, but nobody else held it`];
}

function expiredForNothing(refusal: Change, { wish, steps }: Life, others: Life[]): string[] {
  const { appointmentId } = refusal;
  const [{ lapse } = {}] = steps;
  if (!lapse || refusal.endedAt < lapse.from) return [`${appointmentId} was refused as expired before its end`];
  const held = steps.filter((step) => step.status === 'held');
  const taken = held.some(({ place }) => mayBeHeld(place.practitionerId!, stayAt(wish, place).time, refusal, others));
  return taken
    ? []
    : [`${appointmentId} was refused as expired, but nobody else held ${show(held[0]!.place.startsAt)}`];
}

/** Whether somebody of these may have held the time while the request was refused. */
const mayBeHeld = (practitionerId: string, time: Span, refusal: Invocation, lives: Life[]): boolean =>
  lives.some(({ stays }) =>
    stays.some(
      (stay) =>
        (stay.practitionerId ?? practitionerId) === practitionerId &&
        meet(stay.time, time) &&
        stay.possible.from <= refusal.endedAt &&
        refusal.startedAt <= stay.possible.until,
    ),
  );

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

const meet = (a: Span, b: Span): boolean => Math.max(a.from, b.from) < Math.min(a.until, b.until);

const show = (instant: number): string => new Date(instant).toISOString();

const showStay = ({ life, time }: Stay & { life: Life }): string =>
  `${life.appointment?.id ?? 'an unknown outcome'} (${show(time.from)} to ${show(time.until).slice(11, 16)}, buffers included)`;
