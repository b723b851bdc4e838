import type { AppointmentView } from './client';
import type { Practitioner, Service } from './world';

/**
 * What the clients saw, and what can be concluded from that alone, without a look into the database.
 *
 * Every request is kept with its outcome and its times on one monotonic clock. `ok` and `refused` are certain; after
 * `unknown` (a broken connection, a 5xx) the request may or may not have had its effect. The rule of the checker is that of
 * a register: between the end of the answer that says "booked" and the start of the first request to cancel it, the time
 * belonged to that appointment for certain; between the start of the booking and the end of the answer to the cancelling
 * it may have. Certain times of two appointments never meet, and a refusal needs somebody who may have held the time.
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
  body: Record<string, unknown>;
}

export interface Booking extends Invocation {
  wish: Wish;
  /** Where ok. */
  appointment?: AppointmentView;
  /** The answer came from the server's store of answers, not from a new effect. */
  replayed: boolean;
}

export interface Cancellation extends Invocation {
  appointmentId: string;
}

export class History {
  readonly bookings: Booking[] = [];
  readonly cancellations: Cancellation[] = [];

  get size(): number {
    return this.bookings.length + this.cancellations.length;
  }

  clear(): void {
    this.bookings.length = 0;
    this.cancellations.length = 0;
  }
}

/** What one request to book came to: an appointment, or perhaps one. Several answers under one key make one life. */
export interface Life {
  wish: Wish;
  round: number;
  /** Undefined where the outcome is unknown. */
  appointment?: AppointmentView;
  /** Undefined where it was left to the server and its choice is unknown. */
  practitionerId?: string;
  /** Occupied time with buffers, [from, until), milliseconds since the epoch. */
  from: number;
  until: number;
  /** On the clients' clock. */
  possible: { from: number; until: number };
  certain: { from: number; until: number };
  /** By what the clients were told. */
  cancelled: 'yes' | 'no' | 'perhaps';
}

export function livesOf(history: History): Life[] {
  const cancels = Map.groupBy(history.cancellations, (cancellation) => cancellation.appointmentId);
  const lives = new Map<string, Life>();
  const acknowledged = new Set<string>();
  // Of several sendings under one key, any that was not refused may have had the effect.
  const firstSent = new Map<string, number>();
  for (const { outcome, wish, startedAt } of history.bookings) {
    if (outcome === 'refused') continue;
    firstSent.set(wish.requestId, Math.min(startedAt, firstSent.get(wish.requestId) ?? Infinity));
  }
  for (const booking of history.bookings) {
    const { wish, appointment } = booking;
    if (booking.outcome !== 'ok' || appointment === undefined) continue;
    acknowledged.add(wish.requestId);
    const known = lives.get(appointment.id);
    if (known) {
      known.certain.from = Math.min(known.certain.from, booking.endedAt);
      continue;
    }
    const tries = (cancels.get(appointment.id) ?? []).filter((cancellation) => cancellation.outcome !== 'refused');
    const done = tries.filter((cancellation) => cancellation.outcome === 'ok');
    lives.set(appointment.id, {
      ...occupiedTime(wish, Date.parse(appointment.startsAt)),
      wish,
      round: booking.round,
      appointment,
      practitionerId: appointment.segments[0]?.practitionerId ?? undefined,
      possible: {
        from: firstSent.get(wish.requestId) ?? booking.startedAt,
        until: done.length > 0 ? Math.min(...done.map((cancellation) => cancellation.endedAt)) : Infinity,
      },
      certain: {
        from: booking.endedAt,
        until: Math.min(Infinity, ...tries.map((cancellation) => cancellation.startedAt)),
      },
      cancelled: done.length > 0 ? 'yes' : tries.length > 0 ? 'perhaps' : 'no',
    });
  }
  for (const { outcome, wish, round, startedAt } of history.bookings) {
    if (outcome !== 'unknown' || acknowledged.has(wish.requestId)) continue;
    lives.set(`unknown ${wish.requestId}`, {
      ...occupiedTime(wish, wish.startsAt),
      wish,
      round,
      practitionerId: wish.practitioner?.id,
      possible: { from: startedAt, until: Infinity },
      certain: { from: Infinity, until: Infinity },
      cancelled: 'perhaps',
    });
  }
  return [...lives.values()];
}

/** One broken promise. */
export interface Finding {
  check: string;
  detail: string;
}

export const HISTORY_CHECKS = {
  twoAtOnce: 'no two acknowledged bookings held overlapping time at once',
  refusedForNothing: 'every slot_taken had somebody who may have held the time',
  cancelledTwice: 'an appointment was cancelled once at most',
};

/** Rounds use times of their own, so only what belongs to one round needs to be compared. */
export function checkHistory(history: History): { made: number; findings: Finding[] } {
  const lives = Map.groupBy(livesOf(history), (life) => life.round);
  const findings: Finding[] = [];
  let made = 0;
  for (const ofRound of lives.values()) {
    findings.push(...twoAtOnce(ofRound));
    made++;
  }
  for (const booking of history.bookings) {
    if (booking.outcome === 'refused' && booking.code === 'slot_taken') {
      findings.push(...refusedForNothing(booking, lives.get(booking.round) ?? []));
      made++;
    }
  }
  const done = history.cancellations.filter((cancellation) => cancellation.outcome === 'ok');
  for (const [id, answers] of Map.groupBy(done, (cancellation) => cancellation.appointmentId)) {
    made++;
    if (answers.length > 1) {
      findings.push({ check: HISTORY_CHECKS.cancelledTwice, detail: `${id} was cancelled ${answers.length} times` });
    }
  }
  return { made, findings };
}

function twoAtOnce(lives: Life[]): Finding[] {
  const findings: Finding[] = [];
  const known = lives.filter((life) => life.appointment !== undefined && life.practitionerId !== undefined);
  for (const ofPractitioner of Map.groupBy(known, (life) => life.practitionerId).values()) {
    ofPractitioner.sort((a, b) => a.from - b.from);
    for (const [index, life] of ofPractitioner.entries()) {
      for (const other of ofPractitioner.slice(index + 1)) {
        if (other.from >= life.until) break;
        const together = Math.max(life.certain.from, other.certain.from);
        if (together >= Math.min(life.certain.until, other.certain.until)) continue;
        findings.push({
          check: HISTORY_CHECKS.twoAtOnce,
          detail: `${showLife(life)} and ${showLife(other)} of practitioner ${life.practitionerId}`,
        });
      }
    }
  }
  return findings;
}

function refusedForNothing(refusal: Booking, lives: Life[]): Finding[] {
  const { wish } = refusal;
  const wanted = occupiedTime(wish, wish.startsAt);
  const explained = (practitioner: Practitioner) =>
    lives.some(
      (life) =>
        (life.practitionerId ?? practitioner.id) === practitioner.id &&
        life.from < wanted.until &&
        wanted.from < life.until &&
        life.possible.from <= refusal.endedAt &&
        refusal.startedAt <= life.possible.until,
    );
  // Without a wish for one practitioner all of them must have been taken.
  const free = (wish.practitioner ? [wish.practitioner] : wish.service.practitioners).filter((one) => !explained(one));
  if (free.length === 0) return [];
  const at = new Date(wish.startsAt).toISOString();
  const names = free.map((one) => one.name).join(', ');
  return [{ check: HISTORY_CHECKS.refusedForNothing, detail: `${at} was refused as taken, but nobody held ${names}` }];
}

function occupiedTime({ service }: Wish, startsAt: number): { from: number; until: number } {
  return {
    from: startsAt - service.bufferBeforeMinutes * 60_000,
    until: startsAt + (service.durationMinutes + service.bufferAfterMinutes) * 60_000,
  };
}

const showLife = ({ appointment, wish }: Life): string =>
  `${appointment?.id ?? 'an unknown outcome'} (${new Date(wish.startsAt).toISOString()}, ${wish.service.durationMinutes} min)`;
