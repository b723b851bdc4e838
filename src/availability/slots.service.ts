import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { LocationsService } from '../clinic';
import { Clock, Database, type Interval, parseInstant, Problem, Reply, showInstant, Turns } from '../platform';
import { localDays } from './hours.rules';
import { type BookableService, LanesRepository } from './lanes.repository';
import { keyOf, type ReadDay, ScheduleDayRepository } from './ledger.repository';
import { bookingWindow, decideClaim, type Lane, spanOf } from './ledger.rules';
import { mayShare, withSessions } from './ledger.service';
import { planDays, ScheduleRepository } from './schedule.repository';
import { SessionsRepository } from './sessions.repository';
import { freeStarts, type GridDay } from './slots.rules';
import {
  type Part,
  planVisit,
  reachesOf,
  type ResourceLane,
  type Seen,
  type Visit,
  type VisitSegment,
} from './visits.rules';

const DAY = 86_400_000;

/** A time that can be booked, as the API shows it. */
export interface Slot {
  startsAt: string;
  endsAt: string;
  /** Whom the visit begins with; null where rooms are all it takes. */
  practitionerId: string | null;
  scheduleId: string;
  mode: string;
  /** How many can still have this time. */
  remaining: number;
  segments: Array<
    { name: string | null; scheduleId: string; startsAt: string; endsAt: string } & (
      { practitionerId: string } | { roomId: string }
    )
  >;
}

export interface SlotSearch {
  service: BookableService;
  segments: readonly VisitSegment[];
  /** Starts lie in this half-open interval. */
  window: Interval;
  /** The first of these that the time is open for; more than one matters only where something is published. */
  modes: readonly string[];
  limit: number;
  /** The nearest to this instant come first, and not the earliest. */
  near?: number;
  locationId?: string;
}

export interface SlotsRequest {
  serviceId: string;
  practitionerId?: string;
  locationId?: string;
  mode?: string;
  from: string;
  to: string;
  limit?: number;
}

/** A day as it was read, not locked. */
export type SeenDay = GridDay & {
  /** It has a row, that row says the same, and the guarded form of booking can decide on it. */
  guarded: boolean;
};

/** Finds free times. Reads day rows, never appointments, and never writes: a day without a row is planned in memory. */
@Injectable()
export class SlotsService {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly repository: LanesRepository,
    private readonly schedules: ScheduleRepository,
    private readonly days: ScheduleDayRepository,
    private readonly sessions: SessionsRepository,
    private readonly locations: LocationsService,
  ) {}

  /**
   * `GET /v1/slots`. The entity tag is made of question and answer; it is weak, for `asOf` is another one in every answer.
   */
  search(call: Call, request: SlotsRequest, ifNoneMatch?: string): Promise<Reply> {
    const window = { start: parseInstant(request.from)!, end: parseInstant(request.to)! };
    if (window.start >= window.end) throw Problem.invalid({ pointer: 'to', detail: 'must be after from' });
    if (window.end - window.start > 62 * DAY)
      throw Problem.invalid({ pointer: 'to', detail: 'must be at most 62 days after from' });
    return this.database.read(call.organizationId, async (tx) => {
      const { serviceId, practitionerId, locationId, limit = 100 } = request;
      const { service, segments } = await this.repository.serviceWithSegments(tx, serviceId, practitionerId);
      if (locationId) await this.locations.find(tx, locationId);
      const modes = request.mode === undefined ? service.modes : service.modes.filter((each) => each === request.mode);
      const asOf = this.clock.now();
      const data = JSON.stringify(await this.find(tx, { service, segments, window, modes, limit, locationId }, asOf));
      const question = JSON.stringify([service.id, practitionerId, window, modes, limit, locationId]);
      const etag = `W/"${createHash('sha256').update(question).update(data).digest('base64url').slice(0, 27)}"`;
      if (matches(ifNoneMatch, etag)) return new Reply(304, undefined, { etag });
      const text = `{"data":${data},"asOf":"${showInstant(asOf)}"}`;
      return new Reply(200, undefined, { etag }, { text, replayed: false });
    });
  }

  /** The first free slots in the order of start and practitioner. Reads a few days at a time until there are enough. */
  async find(tx: EntityManager, search: SlotSearch, now: number): Promise<Slot[]> {
    const { start: from, end: to } = bookableWithin(search, now);
    const found: Offer[] = [];
    const turns = new Turns();
    const lanes = lanesOf(search.segments).length;
    for (let start = from, days = Math.max(1, Math.floor(FEW_ROWS / lanes)); start < to; days *= 4) {
      const window = { start, end: Math.min(to, start + days * DAY) };
      found.push(...(await this.findWithin(tx, search, window, search.limit - found.length, turns)));
      if (found.length >= search.limit) break;
      start = window.end;
    }
    return showSlots(found, turns);
  }

  /** The free slots that are nearest to an instant. Reads the whole window at once. */
  async nearest(tx: EntityManager, search: SlotSearch & { near: number }, now: number): Promise<Slot[]> {
    const window = bookableWithin(search, now);
    if (window.start >= window.end) return [];
    const turns = new Turns();
    return showSlots(await this.findWithin(tx, search, window, search.limit, turns), turns);
  }

  private async findWithin(
    tx: EntityManager,
    search: SlotSearch,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    if (cannotBe(search)) return [];
    const days = await this.look(tx, search.service, lanesOf(search.segments), reachOf(search, window), { turns });
    return this.offersOn(tx, search, days, window, limit, turns);
  }

  /** The slots that the days have, in order; each in the first mode that it can be had in. */
  private async offersOn(
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

  /**
   * The days of lanes as they are now, with the sessions of a service on them and the seats that are occupied now.
   * @param also `seen` in place of a day that was read already
   */
  async look(
    tx: EntityManager,
    service: Pick<BookableService, 'id' | 'capacity'>,
    lanes: readonly Lane[],
    reach: Interval,
    also: { turns?: Turns; seen?: ReadDay } = {},
  ): Promise<ReadonlyMap<string, SeenDay[]>> {
    const days = await this.daysOf(tx, lanes, reach, also);
    if (!mayShare(service.capacity, days)) return days;
    return withSessions(days, await this.sessions.of(tx, service.id, [...days.keys()], reach));
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

  /** The days of the lanes that an interval touches: rows where there are some, else planned from the rules. */
  private async daysOf(
    tx: EntityManager,
    lanes: readonly Lane[],
    reach: Interval,
    { turns = new Turns(), seen }: { turns?: Turns; seen?: ReadDay },
  ): Promise<Map<string, SeenDay[]>> {
    const calendar = daysByZone(lanes, reach);
    const wanted = lanes.map(({ scheduleId, timeZone }) => ({ scheduleId, days: calendar.get(timeZone)! }));
    const dates = [...calendar.values()].flat().sort();
    const [only] = wanted;
    const suffices =
      wanted.length === 1 &&
      only!.days.length === 1 &&
      seen?.day === only!.days[0] &&
      seen?.scheduleId === only!.scheduleId;
    const result = new Map<string, SeenDay[]>();
    const add = (scheduleId: string, day: SeenDay) => {
      const own = result.get(scheduleId);
      if (own) own.push(day);
      else result.set(scheduleId, [day]);
    };
    const missing: Array<{ scheduleId: string; days: string[] }> = [];
    for (let first = 0; first < wanted.length; first += LANES_AT_ONCE) {
      const some = wanted.slice(first, first + LANES_AT_ONCE);
      const ids = some.map((each) => each.scheduleId);
      const rows = seen && suffices ? [seen] : await this.days.read(tx, ids, dates[0]!, dates.at(-1)!);
      const present = new Set(rows.map(keyOf));
      for (const row of rows)
        add(row.scheduleId, { ...row, guarded: !row.reopened && row.places === 1 && row.published?.length === 0 });
      for (const { scheduleId, days } of some) {
        const without = days.filter((day) => !present.has(keyOf({ scheduleId, day })));
        if (without.length > 0) missing.push({ scheduleId, days: without });
      }
      if (turns.isOver) await turns.next();
    }
    if (missing.length > 0) {
      const schedules = await this.schedules.all(
        tx,
        missing.map((each) => each.scheduleId),
      );
      const rules = await this.schedules.rulesOf(tx, schedules, reach.start - 2 * DAY);
      for (const { scheduleId, days } of missing) {
        for (const plan of planDays(rules.get(scheduleId)!, days))
          add(scheduleId, { ...plan, taken: [], guarded: false });
        if (turns.isOver) await turns.next();
      }
    }
    return result;
  }
}

/** So many day rows a search reads at first, and then four times as many; at least one day of each schedule. */
const FEW_ROWS = 64;
/** Of so many schedules days are read at once, so that the event loop is not kept. */
const LANES_AT_ONCE = 100;

/** A free start that was found, before it is shown. */
interface Offer {
  at: number;
  parts: readonly OfferedPart[];
  mode: string;
  remaining: number;
}

type OfferedPart = Pick<Part, 'name' | 'lane' | 'span'>;

/** Whether nothing can be found: who has to come for every part cannot be had where nobody serves one of them. */
const cannotBe = ({ modes, segments }: SlotSearch): boolean =>
  modes.length === 0 || segments.some((segment) => segment.lanes.length === 0);

/** The time that anything of what begins within a window can lie in. */
function reachOf({ service, segments, modes }: SlotSearch, window: Interval): Interval {
  const visit = visitOf(service, segments, modes[0]!);
  const [first] = reachesOf(visit, window.start);
  return { start: first!.start, end: Math.max(...reachesOf(visit, window.end).map((each) => each.end)) };
}

/** The local days that an interval touches, by time zone. */
const daysByZone = (lanes: readonly Lane[], reach: Interval): Map<string, string[]> => {
  const zones = new Set(lanes.map((lane) => lane.timeZone));
  return new Map([...zones].map((zone) => [zone, localDays(zone, reach)]));
};

/** A service as the visit that it takes, with those who can serve it. */
export const visitOf = (service: BookableService, segments: readonly VisitSegment[], mode: string): Visit => ({
  segments,
  mode,
  capacity: service.capacity,
  bufferBeforeMinutes: service.bufferBeforeMinutes,
  bufferAfterMinutes: service.bufferAfterMinutes,
});

/** Whether something is published for one mode alone. */
export const hasModes = (days: Seen): boolean =>
  [...days.values()].flat().some((day) => day.published?.some((each) => each.mode !== null));

const inOrder =
  (near: number | undefined) =>
  (a: number, b: number): number =>
    near === undefined ? a - b : Math.abs(a - near) - Math.abs(b - near);

/** By start, or by how near it is, and by practitioner. */
const byOrder = (near: number | undefined) => {
  const order = inOrder(near);
  return (a: Offer, b: Offer): number =>
    order(a.at, b.at) || ((leadOf(a.parts).practitionerId ?? '') < (leadOf(b.parts).practitionerId ?? '') ? -1 : 1);
};

/** What of a search's window notice and days ahead allow. */
function bookableWithin({ service, window }: SlotSearch, now: number): Interval {
  const bookable = bookingWindow(service, now);
  return { start: Math.max(window.start, bookable.start), end: Math.min(window.end, bookable.end + 1) };
}

/** Every lane of a visit once. */
export const lanesOf = (segments: readonly VisitSegment[]): ResourceLane[] => [
  ...new Map(segments.flatMap((segment) => segment.lanes).map((lane) => [lane.scheduleId, lane])).values(),
];

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

export const identity = (slot: Slot): string => `${slot.startsAt}/${slot.practitionerId}`;

const alone = (service: BookableService, lane: ResourceLane, at: number) => ({
  name: null,
  lane,
  span: spanOf(service, at),
});

/** Whom the visit begins with; where rooms are all it takes, the first of them. */
const leadOf = (parts: readonly OfferedPart[]): ResourceLane =>
  (parts.find(({ lane }) => lane.practitionerId !== null) ?? parts[0]!).lane;

async function showSlots(offers: readonly Offer[], turns: Turns): Promise<Slot[]> {
  const slots: Slot[] = [];
  for (const offer of offers) {
    slots.push(showSlot(offer));
    if (turns.isOver) await turns.next();
  }
  return slots;
}

function showSlot({ parts, mode, remaining }: Offer): Slot {
  const { practitionerId, scheduleId } = leadOf(parts);
  const segments = parts.map(({ name, lane, span: { core } }) => ({
    name,
    scheduleId: lane.scheduleId,
    ...(lane.practitionerId === null ? { roomId: lane.roomId! } : { practitionerId: lane.practitionerId }),
    startsAt: showInstant(core.start),
    endsAt: showInstant(core.end),
  }));
  const [only] = segments;
  const alone = segments.length === 1;
  return {
    startsAt: alone ? only!.startsAt : showInstant(Math.min(...parts.map(({ span }) => span.core.start))),
    endsAt: alone ? only!.endsAt : showInstant(Math.max(...parts.map(({ span }) => span.core.end))),
    practitionerId,
    scheduleId,
    mode,
    remaining,
    segments,
  };
}

/** RFC 9110, 13.1.2: entity tags are compared weakly here. */
const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined &&
  (ifNoneMatch.trim() === '*' ||
    ifNoneMatch.split(',').some((each) => each.trim().replace(/^W\//, '') === etag.replace(/^W\//, '')));
