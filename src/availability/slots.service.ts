import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { LocationsService } from '../clinic';
import { Clock, Database, type Interval, parseInstant, Problem, Reply, showInstant } from '../platform';
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
  /** Another one for every other state of the day. */
  tag: string;
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
   * `GET /v1/slots`. The entity tag is made of what the answer was made of: the versions of service and day rows, the seats of
   * sessions; it is weak, for `asOf` is another one in every answer.
   */
  search(call: Call, request: SlotsRequest, ifNoneMatch?: string): Promise<Reply> {
    const window = { start: parseInstant(request.from)!, end: parseInstant(request.to)! };
    if (window.start >= window.end) throw Problem.invalid({ pointer: 'to', detail: 'must be after from' });
    if (window.end - window.start > 62 * DAY)
      throw Problem.invalid({ pointer: 'to', detail: 'must be at most 62 days after from' });
    return this.database.read(call.organizationId, async (tx) => {
      const service = await this.repository.service(tx, request.serviceId);
      const segments = await this.repository.segments(tx, service, request.practitionerId);
      if (request.locationId) await this.locations.find(tx, request.locationId);
      const modes = request.mode === undefined ? service.modes : service.modes.filter((each) => each === request.mode);
      const asOf = this.clock.now();
      const { limit = 100, locationId } = request;
      const state = createHash('sha256');
      state.update(JSON.stringify([service.id, service.version, segments, window, modes, limit, locationId]));
      const search = { service, segments, window, modes, limit, locationId };
      const data = await this.find(tx, search, asOf, (tag) => state.update(tag));
      // Notice and window move with the clock, and with them the first and the last slot.
      state.update(JSON.stringify([data.length, data[0]?.startsAt, data.at(-1)?.startsAt]));
      const etag = `W/"${state.digest('base64url').slice(0, 27)}"`;
      if (matches(ifNoneMatch, etag)) return new Reply(304, undefined, { etag });
      return new Reply(200, { data, asOf: showInstant(asOf) }, { etag });
    });
  }

  /**
   * The first free slots in the order of start and practitioner. Reads a few days at a time until there are enough.
   * @param saw is told of everything that was read
   */
  async find(
    tx: EntityManager,
    search: SlotSearch,
    now: number,
    saw: (tag: string) => void = () => undefined,
  ): Promise<Slot[]> {
    const { limit } = search;
    const { start: from, end: to } = bookableWithin(search, now);
    const found: Slot[] = [];
    for (let start = from, days = 2; start < to && found.length < limit; days *= 2) {
      const window = { start, end: Math.min(to, start + days * DAY) };
      found.push(...(await this.findWithin(tx, search, window, limit - found.length, saw)));
      start = window.end;
    }
    return found.slice(0, limit);
  }

  /** The free slots that are nearest to an instant. Reads the whole window at once. */
  async nearest(tx: EntityManager, search: SlotSearch & { near: number }, now: number): Promise<Slot[]> {
    const window = bookableWithin(search, now);
    if (window.start >= window.end) return [];
    return (await this.findWithin(tx, search, window, search.limit, () => undefined)).slice(0, search.limit);
  }

  private async findWithin(
    tx: EntityManager,
    search: SlotSearch,
    window: Interval,
    limit: number,
    saw: (tag: string) => void,
  ): Promise<Slot[]> {
    const { service, segments, modes, near } = search;
    // Who has to come for every part cannot be had where nobody serves one of them.
    if (modes.length === 0 || segments.some((segment) => segment.lanes.length === 0)) return [];
    const visit = visitOf(service, segments, modes[0]!);
    const reach = {
      start: reachesOf(visit, window.start)[0]!.start,
      end: Math.max(...reachesOf(visit, window.end).map((each) => each.end)),
    };
    const days = await this.look(tx, service, lanesOf(segments), reach);
    for (const day of [...days.values()].flat()) saw(day.tag);
    const ofMode = (mode: string) => this.inMode(tx, search, mode, days, window, limit, saw);
    if (modes.length === 1 || !hasModes(days)) return ofMode(modes[0]!);
    const found = new Map<string, Slot>();
    for (const mode of modes) {
      for (const slot of await ofMode(mode)) if (!found.has(identity(slot))) found.set(identity(slot), slot);
    }
    const startOf = (slot: Slot) => Date.parse(slot.startsAt);
    return [...found.values()].sort(
      (a, b) => inOrder(near)(startOf(a), startOf(b)) || ((a.practitionerId ?? '') < (b.practitionerId ?? '') ? -1 : 1),
    );
  }

  private async inMode(
    tx: EntityManager,
    { service, segments, near, locationId }: SlotSearch,
    mode: string,
    days: ReadonlyMap<string, SeenDay[]>,
    window: Interval,
    limit: number,
    saw: (tag: string) => void,
  ): Promise<Slot[]> {
    const visit = visitOf(service, segments, mode);
    const accepts = (lane: ResourceLane) => (interval: { locationId: string | null }) =>
      locationId === undefined || (interval.locationId ?? lane.locationId) === locationId;
    const order = inOrder(near);
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
      return visitsAt([...new Set(starts)].sort(order), visit, days, limit);
    }
    const starts = segments[0]!.lanes.flatMap((lane) =>
      freeStarts(days.get(lane.scheduleId) ?? [], service, window, accepts(lane), mode).map((at) => ({ at, lane })),
    );
    if (!mayShare(service.capacity, days)) {
      starts.sort((a, b) => order(a.at, b.at) || (a.lane.practitionerId! < b.lane.practitionerId! ? -1 : 1));
      return starts.slice(0, limit).map(({ at, lane }) => showSlot([alone(service, lane, at)], mode, 1));
    }
    const sessions = [...days].flatMap(([scheduleId, own]) =>
      own.flatMap((day) => day.sessions ?? []).map((session) => ({ ...session, scheduleId })),
    );
    saw(JSON.stringify(sessions));
    // A session that has begun to fill is offered, too, while seats are left, on the grid or not.
    const here = await this.whereSessionsAre(tx, locationId === undefined ? [] : sessions);
    const known = new Set(starts.map(({ at, lane }) => `${at}/${lane.scheduleId}`));
    for (const { start: at, scheduleId, seated } of sessions) {
      if (seated === 0 || at < window.start || at >= window.end) continue;
      const lane = segments[0]!.lanes.find((each) => each.scheduleId === scheduleId)!;
      if (known.has(`${at}/${scheduleId}`) || !here(lane, at).some(accepts(lane))) continue;
      known.add(`${at}/${scheduleId}`);
      starts.push({ at, lane });
    }
    starts.sort((a, b) => order(a.at, b.at) || (a.lane.practitionerId! < b.lane.practitionerId! ? -1 : 1));
    return starts.flatMap(({ at, lane }) => {
      const part = alone(service, lane, at);
      const decision = decideClaim(days.get(lane.scheduleId) ?? [], part.span, visit);
      if (!decision.ok) return [];
      return [showSlot([part], mode, decision.capacity - (decision.session?.seated ?? 0))];
    });
  }

  /** The days of lanes as they are now, with the sessions of a service on them and the seats that are occupied now; `seen` in place of a day that was read already. */
  async look(
    tx: EntityManager,
    service: Pick<BookableService, 'id' | 'capacity'>,
    lanes: readonly Lane[],
    reach: Interval,
    seen?: ReadDay,
  ): Promise<ReadonlyMap<string, SeenDay[]>> {
    const days = await this.daysOf(tx, lanes, reach, seen);
    if (!mayShare(service.capacity, days)) return days;
    const ids = lanes.map((lane) => lane.scheduleId);
    return withSessions(days, await this.sessions.of(tx, service.id, ids, reach));
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
    seen?: ReadDay,
  ): Promise<Map<string, SeenDay[]>> {
    const expected = lanes.map((lane) => ({ lane, days: localDays(lane.timeZone, reach) }));
    const all = expected.flatMap((each) => each.days).sort();
    const ids = lanes.map((lane) => lane.scheduleId);
    const suffices = all.length === 1 && seen?.day === all[0] && seen?.scheduleId === ids[0];
    const rows = seen && suffices ? [seen] : await this.days.read(tx, ids, all[0]!, all.at(-1)!);
    const present = new Set(rows.map(keyOf));
    const result = new Map<string, SeenDay[]>();
    for (const row of rows)
      result.set(row.scheduleId, [
        ...(result.get(row.scheduleId) ?? []),
        {
          ...row,
          guarded: !row.reopened && row.places === 1 && row.published?.length === 0,
          // What holds occupied whose time is over is free by the clock alone.
          tag: JSON.stringify([row.scheduleId, row.day, row.version, row.reopened ? row.taken : 0]),
        },
      ]);
    const missing = expected
      .map(({ lane, days }) => ({
        id: lane.scheduleId,
        days: days.filter((day) => !present.has(keyOf({ scheduleId: lane.scheduleId, day }))),
      }))
      .filter((each) => each.days.length > 0);
    if (missing.length > 0) {
      const schedules = await this.schedules.all(
        tx,
        missing.map((each) => each.id),
      );
      const rules = await this.schedules.rulesOf(tx, schedules, reach.start - 2 * DAY);
      for (const { id, days } of missing) {
        const { version } = schedules.find((each) => each.id === id)!;
        const planned = planDays(rules.get(id)!, days).map((plan) => ({
          ...plan,
          taken: [],
          guarded: false,
          tag: JSON.stringify([id, plan.day, 'rules', version]),
        }));
        result.set(id, [...(result.get(id) ?? []), ...planned]);
      }
    }
    return result;
  }
}

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
function visitsAt(
  starts: readonly number[],
  visit: Visit,
  days: ReadonlyMap<string, SeenDay[]>,
  limit: number,
): Slot[] {
  const lead = visit.segments.findIndex((segment) => segment.lanes.some((lane) => lane.practitionerId !== null));
  const found: Slot[] = [];
  for (const at of starts) {
    if (found.length >= limit) break;
    if (!planVisit(visit, at, days).ok) continue;
    const leaders = lead < 0 ? [undefined] : [...visit.segments[lead]!.lanes];
    leaders.sort((a, b) => (a!.practitionerId! < b!.practitionerId! ? -1 : 1));
    for (const leader of leaders) {
      const segments = visit.segments.map((segment, index) =>
        leader && index === lead ? { ...segment, lanes: [leader] } : segment,
      );
      const plan = planVisit({ ...visit, segments }, at, days);
      if (plan.ok) found.push(showSlot(plan.parts, visit.mode, 1));
    }
  }
  return found;
}

export const identity = (slot: Slot): string => `${slot.startsAt}/${slot.practitionerId}`;

const alone = (service: BookableService, lane: ResourceLane, at: number) => ({
  name: null,
  lane,
  span: spanOf(service, at),
});

function showSlot(parts: ReadonlyArray<Pick<Part, 'name' | 'lane' | 'span'>>, mode: string, remaining: number): Slot {
  const lead = parts.find(({ lane }) => lane.practitionerId !== null) ?? parts[0]!;
  return {
    startsAt: showInstant(Math.min(...parts.map(({ span }) => span.core.start))),
    endsAt: showInstant(Math.max(...parts.map(({ span }) => span.core.end))),
    practitionerId: lead.lane.practitionerId,
    scheduleId: lead.lane.scheduleId,
    mode,
    remaining,
    segments: parts.map(({ name, lane: { scheduleId, practitionerId, roomId }, span: { core } }) => ({
      name,
      scheduleId,
      ...(practitionerId === null ? { roomId: roomId! } : { practitionerId }),
      startsAt: showInstant(core.start),
      endsAt: showInstant(core.end),
    })),
  };
}

/** RFC 9110, 13.1.2: entity tags are compared weakly here. */
const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined &&
  (ifNoneMatch.trim() === '*' ||
    ifNoneMatch.split(',').some((each) => each.trim().replace(/^W\//, '') === etag.replace(/^W\//, '')));
