import type { AppointmentView } from './client';
import { resourcesOf, runsOf, type Service, timeOf } from './catalog';
import { type Action, type Change, type History, type Place, type Span, type Wish } from './history';

/**
 * What became of every request to book, as far as the record of it tells: the places that the appointment had, when it may
 * have had them, and when it had them for certain. The rule is told in `history.ts`.
 */

/** A place that an appointment occupied for a while. */
export interface Stay {
  /** Undefined where it was left to the server and its choice is unknown. */
  resourceId?: string;
  /** How many bookings the schedule takes at once. */
  places: number;
  /** Who may have one time together: stays with equal sessions take one place, and a seat each. */
  session: string;
  seats: number;
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
      const acted = onePerKey(changes.get(id) ?? []);
      lives.push({ wish, round, appointment, ...lifeOf(wish, appointment, booked, acted) });
    }
    if (made.size > 0) continue;
    const { practitioner, startsAt, segments } = wish;
    const place = { practitionerId: practitioner?.id, startsAt, segments };
    const stays = staysAt(wish, place).map((stay) => ({
      ...stay,
      possible: { from: startedAt, until: Infinity },
      certain: NEVER,
    }));
    lives.push({ wish, round, steps: [], unknown: [], stays });
  }
  return lives;
}

/** Sent again under its key, a change whose outcome was unknown is made once, and known once one answer is. */
function onePerKey(changes: Change[]): Change[] {
  const sendings = Map.groupBy(changes, (change, index) => change.key ?? index);
  return [...sendings.values()].map((sent) => {
    const startedAt = Math.min(...sent.map((change) => change.startedAt));
    const done = sent.filter(({ outcome }) => outcome === 'ok').sort((a, b) => a.endedAt - b.endedAt)[0];
    return { ...(done ?? sent[0]!), startedAt };
  });
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
    const possible = {
      from: step.startedAt,
      until: Math.min(step.lapse?.until ?? Infinity, ...freed.map((later) => later.endedAt)),
    };
    const certain = {
      from: step.endedAt,
      until: Math.min(step.lapse?.from ?? Infinity, ...tries.map((each) => each.startedAt)),
    };
    stays.push(...staysAt(wish, step.place).map((stay) => ({ ...stay, possible, certain })));
  }
  for (const { action, target, startedAt } of unknown) {
    // A confirm may have kept it wherever it was by then.
    const places = action === 'confirm' ? steps.map((step) => step.place) : target ? [target] : [];
    const possible = { from: startedAt, until: Infinity };
    for (const place of places) {
      stays.push(...staysAt(wish, place).map((stay) => ({ ...stay, possible, certain: NEVER })));
    }
  }
  return { steps, unknown, stays };
}

export const placeOf = ({ segments, startsAt }: AppointmentView): Place => ({
  practitionerId: segments[0]?.practitionerId ?? undefined,
  startsAt: Date.parse(startsAt),
  segments:
    segments.length > 1
      ? segments.map((segment) => ({
          resourceId: segment.practitionerId ?? segment.roomId ?? '',
          startsAt: Date.parse(segment.startsAt),
        }))
      : undefined,
});

/** What a booking occupies, as far as it is known, by its wish or by where it is. */
export function staysAt(
  { service, requestId }: Pick<Wish, 'service' | 'requestId'>,
  place: Place,
): Array<Omit<Stay, 'possible' | 'certain'>> {
  const placesOf = (id: string | undefined) => resourcesOf(service).find((one) => one.id === id)?.places ?? 1;
  const alone = { session: requestId, seats: 1 };
  if (service.segments) {
    if (place.segments) {
      return runsOf(service, place.segments).map((run) => ({ ...run, ...alone, places: placesOf(run.resourceId) }));
    }
    // Somewhere, and at some time between its start and its latest end.
    const waits = service.segments.reduce((sum, segment) => sum + segment.maxWaitMinutes, 0);
    const longest = { ...service, durationMinutes: service.durationMinutes + waits };
    return [{ time: timeOf(longest, place.startsAt), ...alone, places: 1 }];
  }
  const { practitionerId, startsAt } = place;
  const seats = service.publishedSeats ?? service.capacity;
  const session = seats > 1 ? `${service.id} ${startsAt}` : requestId;
  return [
    { resourceId: practitionerId, time: timeOf(service, startsAt), session, seats, places: placesOf(practitionerId) },
  ];
}

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
