import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { coveredBy, type Interval, TryAgain, union } from '../platform';
import { localDays } from './hours.rules';
import { type ClaimDecision, decideClaim, type DayState, type Span } from './ledger.rules';
import { type DayKey, keyOf, planDays, ScheduleDayRepository, ScheduleRepository, stateOf } from './ledger.repository';
import type { Claim, ScheduleDay } from './schedule.entities';

/** A schedule on which a span could be claimed, with the zone it was seen in. */
export interface Lane {
  scheduleId: string;
  timeZone: string;
}

export interface NewClaim {
  organizationId: string;
  /** The appointment that will occupy the time. */
  holder: string;
  span: Span;
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
  ) {}

  /**
   * Claims the span on the first of the lanes, in their order, where it is free: the locking form. Locks the days of all
   * lanes given, so that "none of them is free" is as true as "this one is". Whatever the holder occupies already is given
   * up for it, and does not stand in its way: one atomic swap, for the caller throws a refusal, and so rolls it back.
   * @returns the lane, or why the best of them refused: taken rather than closed
   */
  async claim<L extends Lane>(
    tx: EntityManager,
    lanes: readonly L[],
    claim: NewClaim,
    own: readonly Claim[] = [],
  ): Promise<{ ok: true; lane: L } | { ok: false; reason: 'outside_hours' | 'taken' }> {
    const { span } = claim;
    const scheduleIds = lanes.map((lane) => lane.scheduleId);
    const inTheWay = await this.days.expiredClaims(tx, scheduleIds, span.buffered);
    const ownLanes = await this.lanesOf(tx, own);
    const keys = [
      ...own.flatMap((each) => daysOf(ownLanes.get(each.scheduleId)!, [rangeOf(each)])),
      ...lanes.flatMap((lane) => {
        const expired = inTheWay.filter((each) => each.scheduleId === lane.scheduleId).map(rangeOf);
        return daysOf(lane, [span.buffered, ...expired]);
      }),
    ];
    await this.materialise(tx, claim.organizationId, keys);
    let locked = await this.days.lock(tx, keys);
    if (own.length > 0) {
      requireCovered(locked, own);
      await this.remove(tx, locked, own);
      locked = await this.days.lock(tx, keys);
    }
    const decision = await this.decide(tx, lanes, claim, locked);
    if (decision.ok || decision.reason !== 'taken') return decision;
    // By the clock as it is now, after the wait for the lock: what has expired meanwhile blocks nobody either.
    const expired = await this.days.expiredClaims(tx, scheduleIds, span.buffered);
    if (expired.length === 0) return decision;
    requireCovered(locked, expired);
    await this.remove(tx, locked, expired);
    return this.decide(tx, lanes, claim, await this.days.lock(tx, keys));
  }

  /** What the holder occupies, as it is before any lock on its days. */
  claimsOf(tx: EntityManager, holder: string): Promise<Claim[]> {
    return this.days.claimsOf(tx, [holder]);
  }

  /**
   * Lets the holder keep all that it occupies until another time, or for good (null).
   * @returns false when some of it is gone, because its time was over and somebody took it
   */
  async keep(tx: EntityManager, holder: string, claims: readonly Claim[], until: Date | null): Promise<boolean> {
    if (claims.length === 0) return false;
    await this.lockDaysOf(tx, claims);
    return (await this.days.extend(tx, holder, until)) === claims.length;
  }

  /** Frees everything that the holders occupy. Freeing nothing is no mistake. */
  async release(tx: EntityManager, holders: readonly string[]): Promise<void> {
    const claims = await this.days.claimsOf(tx, holders);
    if (claims.length === 0) return;
    const locked = await this.lockDaysOf(tx, claims);
    await this.days.deleteClaimsOf(tx, holders);
    await this.days.recomputeTaken(tx, locked);
  }

  /** Writes those of the days that have no row yet, from the rules of their schedules, which stay as they are until COMMIT. */
  async materialise(tx: EntityManager, organizationId: string, keys: readonly DayKey[]): Promise<number> {
    const present = await this.days.existing(tx, keys);
    const missing = keys.filter((key) => !present.has(keyOf(key)));
    if (missing.length === 0) return 0;
    const schedules = await this.schedules.lockForPlanning(tx, [...new Set(missing.map((key) => key.scheduleId))]);
    const rules = await this.schedules.rulesOf(tx, schedules, earliest(missing));
    for (const schedule of schedules) {
      const days = missing.filter((key) => key.scheduleId === schedule.id).map((key) => key.day);
      const plans = planDays(rules.get(schedule.id)!, days);
      // Only rows of our own making are recomputed: nobody else sees them yet. One that a competitor made first is his and
      // its bookers'; recomputing it without its lock would bring back claims that are being released right now.
      const made = await this.days.insertMissing(tx, organizationId, schedule.id, plans);
      await this.days.recomputeTaken(
        tx,
        made.map((day) => ({ scheduleId: schedule.id, day })),
      );
    }
    return missing.length;
  }

  private async decide<L extends Lane>(
    tx: EntityManager,
    lanes: readonly L[],
    { organizationId, holder, span, expiresAt }: NewClaim,
    locked: ScheduleDay[],
  ): Promise<{ ok: true; lane: L } | { ok: false; reason: 'outside_hours' | 'taken' }> {
    const rows = bySchedule(locked);
    const decisions: ClaimDecision[] = [];
    for (const lane of lanes) {
      const days = (rows.get(lane.scheduleId) ?? []).filter((row) => touches(stateOf(row), span));
      const decision = decideClaim(days.map(stateOf), span);
      // The zone was changed after it was read here: the days are others now.
      if (!decision.ok && decision.reason === 'day_missing') throw new TryAgain('the days of a schedule have moved');
      decisions.push(decision);
      if (!decision.ok) continue;
      const [core, buffered] = [span.core, span.buffered];
      await this.days.insertClaim(tx, {
        organizationId,
        scheduleId: lane.scheduleId,
        startsAt: new Date(buffered.start),
        endsAt: new Date(buffered.end),
        coreStartsAt: new Date(core.start),
        coreEndsAt: new Date(core.end),
        holder,
        expiresAt,
      });
      await this.days.addTaken(
        tx,
        lane.scheduleId,
        buffered,
        days.map((row) => row.day),
      );
      return { ok: true, lane };
    }
    const taken = decisions.some((decision) => !decision.ok && decision.reason === 'taken');
    return { ok: false, reason: taken ? 'taken' : 'outside_hours' };
  }

  /** Locks the days that an organization's claims lie on: serialises with everybody who decides on these days. */
  private async lockDaysOf(tx: EntityManager, claims: readonly Claim[]): Promise<ScheduleDay[]> {
    const lanes = await this.lanesOf(tx, claims);
    const keys = claims.flatMap((claim) => daysOf(lanes.get(claim.scheduleId)!, [rangeOf(claim)]));
    await this.materialise(tx, claims[0]!.organizationId, keys);
    const locked = await this.days.lock(tx, keys);
    requireCovered(locked, claims);
    return locked;
  }

  /**
   * Deletes claims on locked days: a holder's own that it gives up, or those that are over. Never touches an appointment,
   * which has its own lock, and its place in the order.
   */
  private async remove(tx: EntityManager, locked: ScheduleDay[], claims: readonly Claim[]): Promise<void> {
    const deleted = await this.days.deleteClaims(tx, claims);
    // Expired while this waited for the lock, and taken by somebody: look again.
    if (deleted !== claims.length) throw new TryAgain('a claim has expired meanwhile');
    const touched = new Set(claims.map((claim) => claim.scheduleId));
    await this.days.recomputeTaken(
      tx,
      locked.filter((row) => touched.has(row.scheduleId)),
    );
  }

  private async lanesOf(tx: EntityManager, claims: readonly Claim[]): Promise<Map<string, Lane>> {
    if (claims.length === 0) return new Map();
    const schedules = await this.schedules.all(
      tx,
      claims.map((claim) => claim.scheduleId),
    );
    return new Map(schedules.map((each) => [each.id, { scheduleId: each.id, timeZone: each.timeZone }]));
  }
}

/** Refuses to go on when the zone of a schedule was changed after the days of these claims were worked out. */
function requireCovered(locked: readonly ScheduleDay[], claims: readonly Claim[]): void {
  for (const claim of claims) {
    const covers = union(locked.filter((row) => row.scheduleId === claim.scheduleId).map((row) => row.covers[0]!));
    if (!coveredBy(covers, rangeOf(claim))) throw new TryAgain('the days of a schedule have moved');
  }
}

const rangeOf = (claim: Claim): Interval => ({ start: claim.startsAt.getTime(), end: claim.endsAt.getTime() });

const touches = (day: DayState, span: Span): boolean =>
  day.covers.start < span.buffered.end && span.buffered.start < day.covers.end;

const daysOf = (lane: Lane, ranges: readonly Interval[]): DayKey[] => {
  const days = new Set(ranges.flatMap((range) => localDays(lane.timeZone, range)));
  return [...days].map((day) => ({ scheduleId: lane.scheduleId, day }));
};

/** An instant before the first of the days, whatever the zone. */
const earliest = (keys: readonly DayKey[]): number =>
  Math.min(...keys.map((key) => Date.parse(`${key.day}T00:00:00Z`))) - 86_400_000;

function bySchedule(rows: readonly ScheduleDay[]): Map<string, ScheduleDay[]> {
  const result = new Map<string, ScheduleDay[]>();
  for (const row of rows) result.set(row.scheduleId, [...(result.get(row.scheduleId) ?? []), row]);
  return result;
}
