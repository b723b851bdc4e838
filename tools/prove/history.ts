import type { AppointmentView } from './client';
import type { Practitioner, Service } from './catalog';

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

export interface Invocation {
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
  /** Of a composite whose segments are named; else the server plans them. */
  segments?: SegmentPlace[];
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
  /** The Idempotency-Key, of those that send one: several sendings under it are one change. */
  key?: string;
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
  /** Of a composite, in the service's order, where they are known. */
  segments?: SegmentPlace[];
}

/** Where one segment of a composite is, or is wanted. */
export interface SegmentPlace {
  /** A practitioner or a room. */
  resourceId: string;
  startsAt: number;
}

/** Time of one schedule that an edit closed for a while: an exception, or a published slot that was withdrawn. */
export interface Closure {
  resourceId: string;
  time: Span;
  /** On the clients' clock: when it may have been closed, and when it was closed for certain. */
  possible: Span;
  certain: Span;
}

/** [from, until) on the clients' clock, or of the calendar in milliseconds since the epoch. */
export interface Span {
  from: number;
  until: number;
}

export class History {
  readonly bookings: Booking[] = [];
  readonly changes: Change[] = [];
  readonly closures: Closure[] = [];

  get size(): number {
    return this.bookings.length + this.changes.length;
  }

  clear(): void {
    this.bookings.length = 0;
    this.changes.length = 0;
    this.closures.length = 0;
  }
}
