import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { LocationsService } from '../clinic';
import { Clock, Database, type Interval, parseInstant, Problem, showInstant } from '../platform';
import { type BookableService, LanesRepository, type PractitionerLane } from './lanes.repository';
import { localDays } from './hours.rules';
import { keyOf, planDays, ScheduleDayRepository, ScheduleRepository } from './ledger.repository';
import { bookingWindow, spanOf } from './ledger.rules';
import type { Lane } from './ledger.service';
import { freeStarts, type GridDay } from './slots.rules';

const DAY = 86_400_000;
/** How many are looked for; three are shown. */
const ALTERNATIVES = 8;

/** A time that can be booked, as the API shows it. */
export interface Slot {
  startsAt: string;
  endsAt: string;
  practitionerId: string;
  scheduleId: string;
  mode: string;
  remaining: number;
  segments: Array<{
    name: string | null;
    scheduleId: string;
    practitionerId: string;
    startsAt: string;
    endsAt: string;
  }>;
}

export interface SlotSearch {
  service: BookableService;
  lanes: readonly PractitionerLane[];
  /** Starts lie in this half-open interval. */
  window: Interval;
  mode: string;
  limit: number;
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

/** A day as it was read, not locked. `current`: it has a row, and that row says the same. */
export type SeenDay = GridDay & { current: boolean };

/** Finds free times. Reads day rows, never appointments, and never writes: a day without a row is planned in memory. */
@Injectable()
export class SlotsService {
  private readonly searching = new Map<string, Promise<Slot[]>>();

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly repository: LanesRepository,
    private readonly schedules: ScheduleRepository,
    private readonly days: ScheduleDayRepository,
    private readonly locations: LocationsService,
  ) {}

  /** `GET /v1/slots`. */
  search(call: Call, request: SlotsRequest): Promise<{ data: Slot[]; asOf: string }> {
    const window = { start: parseInstant(request.from)!, end: parseInstant(request.to)! };
    if (window.start >= window.end) throw Problem.invalid({ pointer: 'to', detail: 'must be after from' });
    if (window.end - window.start > 62 * DAY)
      throw Problem.invalid({ pointer: 'to', detail: 'must be at most 62 days after from' });
    return this.database.read(call.organizationId, async (tx) => {
      const service = await this.repository.service(tx, request.serviceId);
      const lanes = await this.repository.lanes(tx, service.id, request.practitionerId);
      if (request.locationId) await this.locations.find(tx, request.locationId);
      const mode = request.mode ?? service.modes[0]!;
      const asOf = this.clock.now();
      const { limit = 100, locationId } = request;
      const offered = service.modes.includes(mode) && isBookable(service);
      const data = offered ? await this.find(tx, { service, lanes, window, mode, limit, locationId }, asOf) : [];
      return { data, asOf: showInstant(asOf) };
    });
  }

  /**
   * Times that can be booked instead of one that was lost: near in time, the same practitioner's first; some more than are
   * shown, for not all may suit. Callers who lost the same time in the same moment share one search.
   */
  alternatives(
    call: Call,
    lost: { serviceId: string; practitionerId?: string; startsAt: number; mode?: string },
  ): Promise<Slot[]> {
    const key = [call.organizationId, lost.serviceId, lost.practitionerId, lost.startsAt, lost.mode].join('/');
    const running = this.searching.get(key);
    if (running) return running;
    const search = this.searchAlternatives(call, lost).finally(() => this.searching.delete(key));
    this.searching.set(key, search);
    return search;
  }

  private searchAlternatives(
    call: Call,
    lost: { serviceId: string; practitionerId?: string; startsAt: number; mode?: string },
  ): Promise<Slot[]> {
    return this.database.read(call.organizationId, async (tx) => {
      const service = await this.repository.service(tx, lost.serviceId);
      const now = this.clock.now();
      const own = await this.repository.lanes(tx, service.id, lost.practitionerId);
      const mode = lost.mode ?? service.modes[0]!;
      const around = { start: lost.startsAt - DAY / 2, end: lost.startsAt + DAY / 2 };
      const distance = (slot: Slot) => Math.abs(Date.parse(slot.startsAt) - lost.startsAt);
      // The search may have begun before the time was lost, so that very time is left out.
      const others = (slots: Slot[]) =>
        slots.filter((slot) => distance(slot) > 0).sort((a, b) => distance(a) - distance(b));
      const near = others(await this.find(tx, { service, lanes: own, window: around, mode, limit: 200 }, now));
      if (near.length >= ALTERNATIVES) return near.slice(0, ALTERNATIVES);
      const all = lost.practitionerId === undefined ? own : await this.repository.lanes(tx, service.id);
      const wide = { start: around.start, end: lost.startsAt + 14 * DAY };
      const far = others(await this.find(tx, { service, lanes: all, window: wide, mode, limit: 200 }, now));
      const known = new Set(near.map(identity));
      return [...near, ...far.filter((slot) => !known.has(identity(slot)))].slice(0, ALTERNATIVES);
    });
  }

  /** The first free slots in the order of start and practitioner. Reads a few days at a time until there are enough. */
  async find(tx: EntityManager, search: SlotSearch, now: number): Promise<Slot[]> {
    const { service, lanes, limit } = search;
    const bookable = bookingWindow(service, now);
    const from = Math.max(search.window.start, bookable.start);
    const to = Math.min(search.window.end, bookable.end + 1);
    const found: Slot[] = [];
    for (let start = from, days = 2; lanes.length > 0 && start < to && found.length < limit; days *= 2) {
      const window = { start, end: Math.min(to, start + days * DAY) };
      found.push(...(await this.findWithin(tx, search, window)));
      start = window.end;
    }
    return found.slice(0, limit);
  }

  private async findWithin(
    tx: EntityManager,
    { service, lanes, mode, locationId }: SlotSearch,
    window: Interval,
  ): Promise<Slot[]> {
    const reach = {
      start: spanOf(service, window.start).buffered.start,
      end: spanOf(service, window.end).buffered.end,
    };
    const days = await this.daysOf(tx, lanes, reach);
    const starts = lanes.flatMap((lane) =>
      freeStarts(
        days.get(lane.scheduleId) ?? [],
        service,
        window,
        (interval) => locationId === undefined || (interval.locationId ?? lane.locationId) === locationId,
      ).map((at) => ({ at, lane })),
    );
    starts.sort((a, b) => a.at - b.at || (a.lane.practitionerId < b.lane.practitionerId ? -1 : 1));
    return starts.map(({ at, lane }) => showSlot(service, lane, mode, at));
  }

  /** The days of the lanes that an interval touches: rows where there are some, else planned from the rules. */
  async daysOf(tx: EntityManager, lanes: readonly Lane[], reach: Interval): Promise<Map<string, SeenDay[]>> {
    const expected = lanes.map((lane) => ({ lane, days: localDays(lane.timeZone, reach) }));
    const all = expected.flatMap((each) => each.days).sort();
    const rows = await this.days.read(
      tx,
      lanes.map((lane) => lane.scheduleId),
      all[0]!,
      all.at(-1)!,
    );
    const present = new Set(rows.map(keyOf));
    const result = new Map<string, SeenDay[]>();
    for (const row of rows)
      result.set(row.scheduleId, [...(result.get(row.scheduleId) ?? []), { ...row, current: !row.reopened }]);
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
        const planned = planDays(rules.get(id)!, days).map((plan) => ({ ...plan, taken: [], current: false }));
        result.set(id, [...(result.get(id) ?? []), ...planned]);
      }
    }
    return result;
  }
}

/** Whether this release can book the service. */
export const isBookable = (service: BookableService): boolean => !service.composite && service.capacity === 1;

const identity = (slot: Slot): string => `${slot.startsAt}/${slot.practitionerId}`;

function showSlot(service: BookableService, lane: PractitionerLane, mode: string, at: number): Slot {
  const { core } = spanOf(service, at);
  const [startsAt, endsAt] = [showInstant(core.start), showInstant(core.end)];
  const { practitionerId, scheduleId } = lane;
  return {
    startsAt,
    endsAt,
    practitionerId,
    scheduleId,
    mode,
    remaining: 1,
    segments: [{ name: null, scheduleId, practitionerId, startsAt, endsAt }],
  };
}
