import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Interval, Turns } from '../platform';
import { localDays } from './hours.rules';
import { decideClaim, type Lane } from './ledger.rules';
import { mayShare } from './ledger.service';
import {
  alone,
  byOrder,
  hasModes,
  inOrder,
  leadOf,
  type Offer,
  type OfferedPart,
  type SeenDay,
  type SlotSearch,
  visitOf,
} from './offers.rules';
import { planDays, ScheduleRepository } from './schedule.repository';
import { freeStarts } from './slots.rules';
import { planVisit, type ResourceLane, type Visit } from './visits.rules';

const DAY = 86_400_000;

/** Says what days that were read have to offer. */
@Injectable()
export class OffersService {
  constructor(private readonly schedules: ScheduleRepository) {}

  /** The slots that the days have, in order; each in the first mode that it can be had in. */
  async on(
    tx: EntityManager,
    search: SlotSearch,
    days: ReadonlyMap<string, SeenDay[]>,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    const { modes, near } = search;
    const ofMode = (mode: string) => this.inMode(tx, search, mode, days, window, limit, turns);
    if (modes.length === 1 || !hasModes(days)) return ofMode(modes[0]!);
    const found = new Map<string, Offer>();
    for (const mode of modes) {
      for (const offer of await ofMode(mode)) {
        const key = `${offer.at}/${leadOf(offer.parts).practitionerId}`;
        if (!found.has(key)) found.set(key, offer);
      }
    }
    return [...found.values()].sort(byOrder(near)).slice(0, limit);
  }

  private async inMode(
    tx: EntityManager,
    { service, segments, near, locationId }: SlotSearch,
    mode: string,
    days: ReadonlyMap<string, SeenDay[]>,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    const visit = visitOf(service, segments, mode);
    const accepts = (lane: ResourceLane) => (interval: { locationId: string | null }) =>
      locationId === undefined || (interval.locationId ?? lane.locationId) === locationId;
    if (service.composite) {
      const timing = {
        ...service,
        bufferBeforeMinutes: 0,
        bufferAfterMinutes: 0,
        durationMinutes: segments[0]!.durationMinutes,
        slotIntervalMinutes: service.slotIntervalMinutes ?? service.durationMinutes,
      };
      const starts = segments[0]!.lanes.flatMap((lane) =>
        freeStarts(days.get(lane.scheduleId) ?? [], timing, window, accepts(lane), mode),
      );
      return visitsAt([...new Set(starts)].sort(inOrder(near)), visit, days, limit, turns);
    }
    const offers: Offer[] = [];
    for (const lane of segments[0]!.lanes) {
      const own = days.get(lane.scheduleId);
      if (own === undefined) continue;
      for (const at of freeStarts(own, service, window, accepts(lane), mode))
        offers.push({ at, parts: [alone(service, lane, at)], mode, remaining: 1 });
      if (turns.isOver) await turns.next();
    }
    if (!mayShare(service.capacity, days)) return offers.sort(byOrder(near)).slice(0, limit);
    const sessions = [...days].flatMap(([scheduleId, own]) =>
      own.flatMap((day) => day.sessions ?? []).map((session) => ({ ...session, scheduleId })),
    );
    // A session that has begun to fill is offered, too, while seats are left, on the grid or not.
    const here = await this.whereSessionsAre(tx, locationId === undefined ? [] : sessions);
    const known = new Set(offers.map(({ at, parts }) => `${at}/${parts[0]!.lane.scheduleId}`));
    for (const { start: at, scheduleId, seated } of sessions) {
      if (seated === 0 || at < window.start || at >= window.end) continue;
      const lane = segments[0]!.lanes.find((each) => each.scheduleId === scheduleId)!;
      if (known.has(`${at}/${scheduleId}`) || !here(lane, at).some(accepts(lane))) continue;
      known.add(`${at}/${scheduleId}`);
      offers.push({ at, parts: [alone(service, lane, at)], mode, remaining: 1 });
    }
    const shared: Offer[] = [];
    for (const offer of offers.sort(byOrder(near))) {
      if (shared.length >= limit) break;
      const [{ lane, span }] = offer.parts as [OfferedPart];
      const decision = decideClaim(days.get(lane.scheduleId) ?? [], span, visit);
      if (decision.ok) shared.push({ ...offer, remaining: decision.capacity - (decision.session?.seated ?? 0) });
      if (turns.isOver) await turns.next();
    }
    return shared;
  }

  /** Tells of the sessions' starts within which hours they lie; from the rules, for a day without time left comes without its grid. */
  private async whereSessionsAre(
    tx: EntityManager,
    sessions: ReadonlyArray<{ scheduleId: string } & Interval>,
  ): Promise<(lane: Lane, at: number) => Array<{ locationId: string | null }>> {
    if (sessions.length === 0) return () => [{ locationId: null }];
    const schedules = await this.schedules.all(tx, [...new Set(sessions.map((each) => each.scheduleId))]);
    const rules = await this.schedules.rulesOf(
      tx,
      schedules,
      Math.min(...sessions.map((each) => each.start)) - 2 * DAY,
    );
    return ({ scheduleId, timeZone }, at) => {
      const plans = planDays(rules.get(scheduleId)!, localDays(timeZone, { start: at, end: at + 1 }));
      const hours = plans.flatMap((plan) => plan.grid).filter((each) => each.start <= at && at < each.end);
      return hours.length > 0 ? hours : [{ locationId: null }];
    };
  }
}

/** The visits that can begin at these instants: one for each practitioner that they can begin with. */
async function visitsAt(
  starts: readonly number[],
  visit: Visit,
  days: ReadonlyMap<string, SeenDay[]>,
  limit: number,
  turns: Turns,
): Promise<Offer[]> {
  const lead = visit.segments.findIndex((segment) => segment.lanes.some((lane) => lane.practitionerId !== null));
  const leaders = lead < 0 ? [undefined] : [...visit.segments[lead]!.lanes];
  leaders.sort((a, b) => (a!.practitionerId! < b!.practitionerId! ? -1 : 1));
  const found: Offer[] = [];
  for (const at of starts) {
    if (found.length >= limit) break;
    if (turns.isOver) await turns.next();
    if (!planVisit(visit, at, days).ok) continue;
    for (const leader of leaders) {
      const segments = visit.segments.map((segment, index) =>
        leader && index === lead ? { ...segment, lanes: [leader] } : segment,
      );
      const plan = planVisit({ ...visit, segments }, at, days);
      if (plan.ok) found.push({ at, parts: plan.parts, mode: visit.mode, remaining: 1 });
    }
  }
  return found.slice(0, limit);
}
