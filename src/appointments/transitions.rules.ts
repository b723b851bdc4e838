import type { Appointment, AppointmentStatus } from './appointment.entities';

export const ACTIONS = ['confirm', 'cancel', 'reschedule', 'check-in', 'complete', 'no-show'] as const;
export type Action = (typeof ACTIONS)[number];

/** What each action makes of each status; what is not listed is not allowed. The table of the public contract. */
const TRANSITIONS: Record<Action, Partial<Record<AppointmentStatus, AppointmentStatus>>> = {
  confirm: { held: 'confirmed', pending: 'confirmed' },
  cancel: { held: 'cancelled', pending: 'cancelled', confirmed: 'cancelled', checked_in: 'cancelled' },
  reschedule: { held: 'held', pending: 'pending', confirmed: 'confirmed' },
  'check-in': { confirmed: 'checked_in' },
  complete: { confirmed: 'completed', checked_in: 'completed' },
  'no-show': { confirmed: 'no_show' },
};

/** What only the time itself can show: whether the patient came. Not to be said before the appointment begins. */
const FROM_START: Partial<Record<Action, AppointmentStatus>> = { complete: 'confirmed', 'no-show': 'confirmed' };

/** The members of an appointment that its present status is read from. */
export type Stored = Pick<Appointment, 'status' | 'startsAt' | 'expiresAt'>;

/**
 * The status of an appointment at an instant: what is stored, but for a hold or request past its time, which is `expired`
 * from that instant on, whether or not anybody has written it down yet.
 * @param now milliseconds since the epoch, of the database's clock
 */
export const statusAt = ({ status, expiresAt }: Stored, now: number): AppointmentStatus =>
  (status === 'held' || status === 'pending') && expiresAt !== null && expiresAt.getTime() <= now ? 'expired' : status;

/**
 * Whether what expires, or has expired, is a request and not a hold. A request that expired keeps its limit, a hold never
 * had one.
 */
export const wasRequested = ({ status, pendingUntil }: Pick<Appointment, 'status' | 'pendingUntil'>): boolean =>
  status === 'pending' || (status === 'expired' && pendingUntil !== null);

export type TransitionDecision =
  | { ok: true; from: AppointmentStatus; to: AppointmentStatus }
  | { ok: false; from: AppointmentStatus; why: 'status' | 'not_started' };

/** What an action leads to at an instant of the database's clock, or why it is not allowed. */
export function decideTransition(appointment: Stored, action: Action, now: number): TransitionDecision {
  const from = statusAt(appointment, now);
  const to = TRANSITIONS[action][from];
  if (to === undefined) return { ok: false, from, why: 'status' };
  if (FROM_START[action] === from && now < appointment.startsAt.getTime())
    return { ok: false, from, why: 'not_started' };
  return { ok: true, from, to };
}

/** What a service asks for before an appointment is confirmed. */
export interface Terms {
  requiresConfirmation: boolean;
  paymentRequired: boolean;
  /** How long a request may wait to be decided; null for until its start. */
  pendingMinutes: number | null;
  holdMinutes: number;
}

/** A status with what limits it. `expiresAt`: when it stops to occupy time; `pendingUntil`: that, the start left aside. */
export interface Standing {
  status: 'held' | 'pending' | 'confirmed';
  expiresAt: Date | null;
  pendingUntil: Date | null;
}

const MINUTE = 60_000;

/** A status and how long it lasts from whenever it begins: so many milliseconds, and until `latest` at most; null for good. */
export interface Term {
  status: Standing['status'];
  lasts: number | null;
  latest: Date | null;
}

/** What a booking is to be: held where a hold was asked for or a payment is due, else what its patient wants. */
export function booked(terms: Terms, hold: boolean | { seconds: number }, startsAt: number): Term {
  if (hold === false && !terms.paymentRequired) return wanted(terms, startsAt);
  const lasts = typeof hold === 'object' ? hold.seconds * 1000 : terms.holdMinutes * MINUTE;
  return { status: 'held', lasts, latest: null };
}

/** Confirmed, or waiting for the clinic's word where the service asks for it. */
function wanted(terms: Terms, startsAt: number): Term {
  if (!terms.requiresConfirmation) return { status: 'confirmed', lasts: null, latest: null };
  const lasts = terms.pendingMinutes === null ? null : terms.pendingMinutes * MINUTE;
  return { status: 'pending', lasts, latest: new Date(startsAt) };
}

/** How something stands whose term begins now. */
export function standingOf({ status, lasts, latest }: Term, now: number): Standing {
  const end = lasts === null ? null : new Date(now + lasts);
  const pendingUntil = status === 'pending' ? end : null;
  return { status, expiresAt: latest === null ? end : endOfRequest(end, latest.getTime()), pendingUntil };
}

/** How a booking stands that its patient has just confirmed. */
export const accepted = (terms: Terms, startsAt: number, now: number): Standing =>
  standingOf(wanted(terms, startsAt), now);

/** A request ends when nobody has decided it in time, and at its start at the latest. */
export const endOfRequest = (pendingUntil: Date | null, startsAt: number): Date =>
  new Date(Math.min(pendingUntil?.getTime() ?? Infinity, startsAt));

/** The clinic's rule about cancelling. */
export interface CancellationRule {
  cancellationWindowMinutes: number | null;
  lateCancellationRoles: readonly string[];
  lateCancellationKind: string;
}

/** What a cancellation in time is called. */
export const IN_TIME = 'in_time';

/** What a cancellation is called, or that it comes too late for this role. Only what was agreed on can be cancelled late. */
export function decideCancellation(
  rule: CancellationRule,
  from: AppointmentStatus,
  startsAt: number,
  role: string,
  now: number,
): { ok: true; kind: string } | { ok: false; reason: 'cancellation_too_late' } {
  const agreed = from === 'confirmed' || from === 'checked_in';
  const window = rule.cancellationWindowMinutes;
  if (!agreed || window === null || now <= startsAt - window * MINUTE) return { ok: true, kind: IN_TIME };
  if (!rule.lateCancellationRoles.includes(role)) return { ok: false, reason: 'cancellation_too_late' };
  return { ok: true, kind: rule.lateCancellationKind };
}
