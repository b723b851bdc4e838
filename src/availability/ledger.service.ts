import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { coveredBy, type Interval, TryAgain, union } from '../platform';
import { localDays } from './hours.rules';
import {
  type DayKey,
  type FreedClaim,
  type HeldClaim,
  keyOf,
  ScheduleDayRepository,
  stateOf,
} from './ledger.repository';
import type { DayState, Lane, SeatedSession } from './ledger.rules';
import type { Claim, ScheduleDay } from './schedule.entities';
import { planDays, ScheduleRepository } from './schedule.repository';
import { seatsFor } from './seats.rules';
import { SessionsRepository } from './sessions.repository';
import type { Part, Seen, VisitDecision, VisitRefusal } from './visits.rules';

/** A lane, and within which time something on it is wanted. */
export interface Reach {
  lane: Lane;
  during: Interval;
}

export interface NewClaim {
  organizationId: string;
  serviceId: string;
  /** How many can share a session of the service. */
  capacity: number;
  /** The appointment that will occupy the time. */
  holder: string;
  /** From when on it blocks nobody; null for a claim that stays. */
  expiresAt: Date | null;
}

/**
 * The ledger of time: the only way to occupy and to free it. All of it runs in the caller's transaction, takes its locks
 * in the global order (schedules, then day rows), and holds them until that transaction ends.
 */
@Injectable()
export class Ledger {
  constructor(
    private readonly schedules: ScheduleRepository,
    private readonly days: ScheduleDayRepository,
    private readonly sessions: SessionsRepository,
  ) {}

  /**
   * The locking form: locks the days of everything within reach, then lets `choose` decide on them as they are, and claims
   * what it has chosen: all parts, or nothing. So "none is free" is as true as "these are". Whatever the holder occupies
   * already is given up before, and does not stand in its way: one atomic swap, for the caller throws a refusal, and so
   * rolls it back.
   * @param choose pure; is asked a second time when claims that are over were in the way
   * @param looked what {@link look} finds, where the caller has asked already
   */
  async claim(
    tx: EntityManager,
    reaches: readonly Reach[],
    claim: NewClaim,
    choose: (seen: Seen) => VisitDecision,
    own: readonly HeldClaim[] = [],
    looked = this.look(tx, reaches),
  ): Promise<Extract<VisitDecision, { ok: true }> | VisitRefusal> {
    const had = daysOfHeld(own);
    const keys = [...had, ...reaches.flatMap(({ lane, during }) => daysOf(lane, [during]))];
    const { inTheWay, present } = await looked;
    // The days of what is covered were read with it.
    if (own.every((each) => each.covered)) for (const key of had) present.add(keyOf(key));
    for (const { lane, during } of reaches) {
      const expired = inTheWay.filter((each) => each.scheduleId === lane.scheduleId).map(rangeOf);
      // Where several share a schedule, giving a place to one can move others to another place.
      const around = lane.places === 1 ? [] : [await this.days.clusterAround(tx, lane.scheduleId, during)];
      if (around.length + expired.length > 0) keys.push(...daysOf(lane, [...around, ...expired]));
    }
    await this.materialise(tx, claim.organizationId, keys, present);
    let locked = await this.lockWithout(tx, keys, claim.holder, own, had);
    const decision = choose(await this.seen(tx, locked, claim, reaches));
    if (decision.ok) return this.occupy(tx, decision, claim, locked);
    // The zone of a schedule was changed after it was read here: the days are others now.
    if (decision.reason === 'day_missing') throw new TryAgain('the days of a schedule have moved');
    if (decision.reason !== 'taken') return decision;
    // By the clock as it is now, after the wait for the lock: what has expired meanwhile blocks nobody either.
    const expired = await this.expiredWithin(tx, reaches);
    if (expired.length === 0) return decision;
    requireCovered(locked, expired);
    await this.remove(tx, locked, expired);
    locked = await this.days.lock(tx, keys);
    const second = choose(await this.seen(tx, locked, claim, reaches));
    return second.ok ? this.occupy(tx, second, claim, locked) : second;
  }

  /**
   * What a claim wants to know before its locks: which claims that are over are within reach, and which days have rows. Hints
   * both, by single statements: under the locks all of it is found again.
   */
  async look(tx: EntityManager, reaches: readonly Reach[]): Promise<{ inTheWay: Claim[]; present: Set<string> }> {
    const keys = reaches.flatMap(({ lane, during }) => daysOf(lane, [during]));
    const [inTheWay, present] = await Promise.all([this.expiredWithin(tx, reaches), this.days.existing(tx, keys)]);
    return { inTheWay, present };
  }

  /** What the holder occupies, by itself or in sessions, as it is before any lock on its days. */
  claimsOf(tx: EntityManager, holder: string): Promise<HeldClaim[]> {
    return this.days.claimsOf(tx, [holder]);
  }

  /**
   * Lets the holder keep all that it occupies until another time, or for good (null).
   * @param claims what {@link claimsOf} has found under the holder's own lock
   * @param count of claims and seats that it must have: one for each segment
   * @returns false when some of it is gone, because its time was over and somebody took it
   */
  async keep(
    tx: EntityManager,
    holder: string,
    claims: readonly HeldClaim[],
    count: number,
    until: Date | null,
  ): Promise<boolean> {
    if (claims.length !== count) return false;
    const { locked, kept } = await this.days.lockAndExtend(tx, await this.plannedDays(tx, claims), holder, until);
    requireCovered(locked, claims);
    const seats = claims.some((claim) => claim.shared) ? await this.sessions.extend(tx, holder, until) : 0;
    return kept + seats === count;
  }

  /**
   * Frees everything that the holders occupy. Freeing nothing is no mistake.
   * @param seen what {@link claimsOf} has found under the holders' own locks
   */
  async release(tx: EntityManager, holders: readonly string[], seen?: readonly HeldClaim[]): Promise<void> {
    const claims = seen ?? (await this.days.claimsOf(tx, holders));
    if (claims.length === 0) return;
    const { locked, freed } = await this.days.lockAndFree(tx, await this.plannedDays(tx, claims), holders);
    requireCovered(locked, claims);
    requireCovered(locked, freed);
    if (!claims.some((claim) => claim.shared)) return;
    await this.sessions.leave(tx, holders);
    await this.days.recomputeTaken(tx, locked);
  }

  /** Writes those of the days that have no row yet, from the rules of their schedules, which stay as they are until COMMIT. */
  async materialise(
    tx: EntityManager,
    organizationId: string,
    keys: readonly DayKey[],
    seen?: ReadonlySet<string>,
  ): Promise<number> {
    const unseen = keys.filter((key) => !seen?.has(keyOf(key)));
    const present = await this.days.existing(tx, unseen);
    const missing = unseen.filter((key) => !present.has(keyOf(key)));
    if (missing.length === 0) return 0;
    const schedules = await this.schedules.lockForPlanning(tx, [...new Set(missing.map((key) => key.scheduleId))]);
    const rules = await this.schedules.rulesOf(tx, schedules, earliest(missing));
    for (const { id, places } of schedules) {
      const days = [...new Set(missing.filter((key) => key.scheduleId === id).map((key) => key.day))];
      const plans = planDays(rules.get(id)!, days);
      // Only rows of our own making are recomputed: nobody else sees them yet. One that a competitor made first is his and
      // its bookers'; recomputing it without its lock would bring back claims that are being released right now.
      const made = await this.days.insertMissing(tx, organizationId, id, places, plans);
      await this.days.recomputeTaken(
        tx,
        made.map((day) => ({ scheduleId: id, day })),
      );
    }
    return missing.length;
  }

  /** What is known of locked days, with the sessions of the service on those that share theirs. */
  private async seen(
    tx: EntityManager,
    locked: readonly ScheduleDay[],
    { serviceId, capacity }: NewClaim,
    reaches: readonly Reach[],
  ): Promise<Seen> {
    const states = bySchedule(locked);
    if (!mayShare(capacity, states)) return states;
    const ids = reaches.map(({ lane }) => lane.scheduleId);
    return withSessions(states, await this.sessions.of(tx, serviceId, ids, hull(reaches)));
  }

  private async occupy(
    tx: EntityManager,
    decision: Extract<VisitDecision, { ok: true }>,
    claim: NewClaim,
    locked: readonly ScheduleDay[],
  ): Promise<Extract<VisitDecision, { ok: true }>> {
    const claims: Claim[] = [];
    const seats: Array<{ sessionId: string; lane: Lane; span: Interval }> = [];
    for (const part of decision.parts) {
      const { session, capacity, lane, span } = part;
      if (session) {
        seats.push({ sessionId: session.id, lane, span: span.core });
        continue;
      }
      if (capacity === 1) claims.push(toClaim(part, claim, claim.holder));
      else {
        const { organizationId, serviceId } = claim;
        const id = uuidv7();
        const [startsAt, endsAt] = [new Date(span.core.start), new Date(span.core.end)];
        const { scheduleId } = lane;
        await this.sessions.open(tx, { id, organizationId, scheduleId, serviceId, startsAt, endsAt });
        claims.push({ ...toClaim(part, claim, id), shared: true });
        seats.push({ sessionId: id, lane, span: span.core });
      }
    }
    const rowsOf = ({ scheduleId }: Lane, range: Interval) =>
      locked.filter((row) => row.scheduleId === scheduleId && meets(row.covers[0]!, range));
    const places = new Map(locked.map((row) => [row.scheduleId, row.places]));
    const alone = claims.filter((each) => places.get(each.scheduleId) === 1);
    const side = claims.filter((each) => places.get(each.scheduleId) !== 1);
    if (alone.length > 0) {
      // Single statements on rows that are locked: they need no order, and go out together.
      await Promise.all([
        this.days.insertClaims(tx, alone),
        ...alone.flatMap((each) => {
          const range = rangeOf(each);
          const lane = decision.parts.find((part) => part.lane.scheduleId === each.scheduleId)!.lane;
          return rowsOf(lane, range).map((row) => this.days.addTaken(tx, row, range));
        }),
      ]);
    }
    for (const each of side) await this.takePlace(tx, each, places.get(each.scheduleId)!, locked);
    for (const { sessionId, lane, span } of seats) {
      const { organizationId, holder, expiresAt } = claim;
      await this.sessions.join(tx, { organizationId, sessionId, holder, expiresAt });
      await this.days.touch(tx, rowsOf(lane, span));
    }
    return decision;
  }

  /**
   * Gives a claim one of several places. Which one means nothing to anybody, so where the claims that hang together leave no
   * place free for so long, although at no time all are occupied, they are distributed anew.
   */
  private async takePlace(
    tx: EntityManager,
    claim: Claim,
    places: number,
    locked: readonly ScheduleDay[],
  ): Promise<void> {
    const cluster = await this.days.clusterAround(tx, claim.scheduleId, rangeOf(claim));
    requireCovered(locked, cluster.claims);
    const seats = seatsFor(
      cluster.claims.map((each) => ({ ...rangeOf(each), seat: each.seat })),
      rangeOf(claim),
      places,
    );
    const moved = cluster.claims.map((each, index) => ({ ...each, seat: seats.others[index]! }));
    const changed = moved.filter((each, index) => each.seat !== cluster.claims[index]!.seat);
    if (changed.length > 0) {
      const before = cluster.claims.filter((each, index) => each.seat !== seats.others[index]!);
      if ((await this.days.deleteClaims(tx, before)) !== before.length)
        throw new Error('a claim on a locked day is gone');
    }
    await this.days.insertClaims(tx, [...changed, { ...claim, seat: seats.own }]);
    await this.days.recomputeTaken(
      tx,
      locked.filter((row) => row.scheduleId === claim.scheduleId && meets(row.covers[0]!, rangeOf(claim))),
    );
  }

  /** The days that claims of one organization lie on, each of which has its row from now on. */
  private async plannedDays(tx: EntityManager, claims: readonly HeldClaim[]): Promise<DayKey[]> {
    const keys = daysOfHeld(claims);
    if (!claims.every((claim) => claim.covered)) await this.materialise(tx, claims[0]!.organizationId, keys);
    return keys;
  }

  /**
   * Locks days, which serialises with everybody who decides on them, and takes from a holder what it occupies on some of
   * them. @returns the days as they are without that
   */
  private async lockWithout(
    tx: EntityManager,
    keys: readonly DayKey[],
    holder: string,
    own: readonly HeldClaim[],
    had: readonly DayKey[],
  ): Promise<ScheduleDay[]> {
    if (own.length === 0) return this.days.lock(tx, keys);
    const { locked, freed } = await this.days.lockAndFree(tx, keys, [holder], had);
    requireCovered(locked, own);
    const seats = own.filter((claim) => claim.shared);
    // Expired while this waited for the lock, and taken by somebody: look again.
    if (freed.length + seats.length !== own.length) throw new TryAgain('a claim has expired meanwhile');
    if (seats.length === 0) return locked;
    if ((await this.sessions.leave(tx, [holder])) !== seats.length) throw new TryAgain('a seat has expired meanwhile');
    await this.recompute(tx, locked, seats);
    return this.days.lock(tx, keys);
  }

  /**
   * Deletes claims on locked days that are over. Never touches an appointment, which has its own lock, and its place in the
   * order.
   */
  private async remove(tx: EntityManager, locked: ScheduleDay[], claims: readonly Claim[]): Promise<void> {
    const deleted = await this.days.deleteClaims(tx, claims);
    // Expired while this waited for the lock, and taken by somebody: look again.
    if (deleted !== claims.length) throw new TryAgain('a claim has expired meanwhile');
    const ended = claims.filter((claim) => claim.shared).map((claim) => claim.holder);
    if (ended.length > 0) await this.sessions.end(tx, ended);
    await this.recompute(tx, locked, claims);
  }

  private recompute(tx: EntityManager, locked: ScheduleDay[], claims: readonly Claim[]): Promise<void> {
    const touched = new Set(claims.map((claim) => claim.scheduleId));
    return this.days.recomputeTaken(
      tx,
      locked.filter((row) => touched.has(row.scheduleId)),
    );
  }

  private async expiredWithin(tx: EntityManager, reaches: readonly Reach[]): Promise<Claim[]> {
    const ids = reaches.map(({ lane }) => lane.scheduleId);
    const found = await this.days.expiredClaims(tx, ids, hull(reaches));
    return found.filter((claim) =>
      reaches.some(({ lane, during }) => lane.scheduleId === claim.scheduleId && meets(during, rangeOf(claim))),
    );
  }
}

/** Whether there can be sessions at all: most services have none. */
export const mayShare = (capacity: number, seen: Seen): boolean =>
  capacity > 1 || [...seen.values()].flat().some((day) => day.published?.some((each) => (each.capacity ?? 1) > 1));

/** Adds to the days of each schedule the sessions that begin on it. */
export function withSessions<D extends DayState>(
  seen: ReadonlyMap<string, D[]>,
  sessions: ReadonlyArray<SeatedSession & { scheduleId: string }>,
): ReadonlyMap<string, D[]> {
  const byId = Map.groupBy(sessions, (session) => session.scheduleId);
  return new Map(
    [...seen].map(([id, days]) => {
      const own = byId.get(id);
      return [id, own ? days.map((day, index) => (index === 0 ? { ...day, sessions: own } : day)) : days];
    }),
  );
}

/** Refuses to go on when the zone of a schedule was changed after the days of these claims were worked out. */
function requireCovered(locked: readonly ScheduleDay[], claims: readonly FreedClaim[]): void {
  for (const claim of claims) {
    const covers = union(locked.filter((row) => row.scheduleId === claim.scheduleId).map((row) => row.covers[0]!));
    if (!coveredBy(covers, rangeOf(claim))) throw new TryAgain('the days of a schedule have moved');
  }
}

const toClaim = ({ lane, span }: Part, { organizationId, expiresAt }: NewClaim, holder: string): Claim => ({
  organizationId,
  scheduleId: lane.scheduleId,
  seat: 1,
  startsAt: new Date(span.buffered.start),
  endsAt: new Date(span.buffered.end),
  coreStartsAt: new Date(span.core.start),
  coreEndsAt: new Date(span.core.end),
  holder,
  shared: false,
  expiresAt,
});

const rangeOf = (claim: FreedClaim): Interval => ({ start: claim.startsAt.getTime(), end: claim.endsAt.getTime() });

const meets = (a: Interval, b: Interval): boolean => a.start < b.end && b.start < a.end;

const hull = (reaches: readonly Reach[]): Interval => ({
  start: Math.min(...reaches.map(({ during }) => during.start)),
  end: Math.max(...reaches.map(({ during }) => during.end)),
});

const daysOf = (lane: Lane, ranges: readonly Interval[]): DayKey[] => {
  const days = new Set(ranges.flatMap((range) => localDays(lane.timeZone, range)));
  return [...days].map((day) => ({ scheduleId: lane.scheduleId, day }));
};

/** The days that claims lie on: as their rows say, or by the zone of their schedule where some have no row yet. */
const daysOfHeld = (claims: readonly HeldClaim[]): DayKey[] =>
  claims.flatMap((claim) =>
    claim.covered ? claim.days.map((day) => ({ scheduleId: claim.scheduleId, day })) : daysOf(claim, [rangeOf(claim)]),
  );

/** An instant before the first of the days, whatever the zone. */
const earliest = (keys: readonly DayKey[]): number =>
  Math.min(...keys.map((key) => Date.parse(`${key.day}T00:00:00Z`))) - 86_400_000;

function bySchedule(rows: readonly ScheduleDay[]): Map<string, DayState[]> {
  const result = new Map<string, DayState[]>();
  for (const row of rows) result.set(row.scheduleId, [...(result.get(row.scheduleId) ?? []), stateOf(row)]);
  return result;
}
