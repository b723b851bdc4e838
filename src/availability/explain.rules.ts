import { clip, coveredBy, type Interval, overlaps, showInstant, union } from '../platform';
import { type DayState, decideClaim, type Manner, publishedFor, type Span } from './ledger.rules';

/** Why a time cannot be booked on a schedule, one reason after the other; stable codes, no personal data. */
export interface Reason {
  code:
    | 'practitioner_not_eligible'
    | 'mode_not_offered'
    | 'in_the_past'
    | 'notice_too_short'
    | 'too_far_ahead'
    | 'outside_hours'
    | 'closed_exception'
    | 'published_for_other_mode'
    | 'slot_taken'
    | 'buffer'
    | 'session_full'
    | 'no_fitting_set';
  detail: string;
  /** The time that is in the way, where one is. */
  startsAt?: string;
  endsAt?: string;
}

/** What is known of a schedule around a time. */
export interface Facts {
  days: readonly DayState[];
  /** Closed exceptions that meet the time. */
  closed: readonly Interval[];
  /** What each claim that holds occupies: its time, and its time with buffers. */
  claims: readonly Span[];
  places: number;
}

/** All reasons of one schedule against a span, in the order in which a booking would meet them; none if it can be booked. */
export function explainLane(facts: Facts, span: Span, manner: Manner): Reason[] {
  const decision = decideClaim(facts.days, span, manner);
  if (decision.ok) return [];
  const reasons: Reason[] = [];
  const { core, buffered } = span;
  const closed = facts.closed.filter((each) => overlaps(each, core));
  for (const each of closed) reasons.push(reason('closed_exception', 'It is closed then by an exception.', each));
  const open = union(facts.days.flatMap((day) => day.open));
  if (closed.length === 0 && !coveredBy(open, core)) {
    const part =
      clip(open, core).length > 0 ? 'It does not lie within open time as a whole.' : 'It lies outside open time.';
    reasons.push(reason('outside_hours', part));
  }
  for (const each of publishedFor(facts.days, core)) {
    if (each.mode === null || each.mode === manner.mode) continue;
    reasons.push(reason('published_for_other_mode', `The time is published for ${each.mode}.`, each));
  }
  // Several may be in the way together, where there is more than one place; then each of them is told.
  const full = facts.claims.filter((each) => overlaps(each.buffered, buffered));
  if (full.length < facts.places) return reasons;
  const session = facts.days
    .flatMap((day) => day.sessions ?? [])
    .find((each) => each.start === core.start && each.end === core.end);
  for (const claim of full) {
    if (session && claim.core.start === session.start && claim.core.end === session.end) {
      reasons.push(reason('session_full', 'All seats of the session are taken.', claim.core));
    } else if (overlaps(claim.core, core)) reasons.push(reason('slot_taken', 'The time is booked.', claim.core));
    else reasons.push(reason('buffer', 'The time before or after is kept free for another booking.', claim.buffered));
  }
  return reasons;
}

export const reason = (code: Reason['code'], detail: string, time?: Interval): Reason => ({
  code,
  detail,
  ...(time && { startsAt: showInstant(time.start), endsAt: showInstant(time.end) }),
});
