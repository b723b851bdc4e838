import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { LocationsService } from '../clinic';
import { Clock, Database, type Interval, parseInstant, Problem, Reply, showInstant, Turns } from '../platform';
import { localDays, startOfDay } from './hours.rules';
import { type LaneList, LaneLists } from './lane-lists';
import { type BookableService, LanesRepository, only } from './lanes.repository';
import {
  bookableWithin,
  cannotBe,
  lanesOf,
  type Offer,
  reachOf,
  showSlots,
  type Slot,
  type SlotSearch,
} from './offers.rules';
import { OffersService } from './offers.service';
import { OpeningsRepository } from './openings.repository';
import { OpeningsService } from './openings.service';
import { SearchLine } from './search-line';
import { SeenDays } from './seen-days.service';
import type { VisitSegment } from './visits.rules';

const DAY = 86_400_000;

export interface SlotsRequest {
  serviceId: string;
  practitionerId?: string;
  locationId?: string;
  mode?: string;
  from: string;
  to: string;
  limit?: number;
}

/** Finds free times. Reads day rows, never appointments, and never writes: a day without a row is planned in memory. */
@Injectable()
export class SlotsService {
  constructor(
    private readonly database: Database,
    private readonly line: SearchLine,
    private readonly clock: Clock,
    private readonly lanes: LanesRepository,
    private readonly lists: LaneLists,
    private readonly rules: OpeningsRepository,
    private readonly openings: OpeningsService,
    private readonly seenDays: SeenDays,
    private readonly offers: OffersService,
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
    const search = () => this.searchNow(call, request, window, ifNoneMatch);
    return request.practitionerId === undefined ? this.line.pass(search) : search();
  }

  private searchNow(call: Call, request: SlotsRequest, window: Interval, ifNoneMatch?: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const { serviceId, practitionerId, locationId, limit = 100 } = request;
      const { service, segments, ...known } = await this.whoServes(tx, request);
      if (locationId) await this.locations.find(tx, locationId);
      const modes = request.mode === undefined ? service.modes : service.modes.filter((each) => each === request.mode);
      const asOf = this.clock.now();
      const found = await this.first(tx, { service, segments, window, modes, limit, locationId }, asOf, known);
      const data = JSON.stringify(found);
      const question = JSON.stringify([serviceId, practitionerId, window, modes, limit, locationId]);
      const etag = `W/"${createHash('sha256').update(question).update(data).digest('base64url').slice(0, 27)}"`;
      if (matches(ifNoneMatch, etag)) return new Reply(304, undefined, { etag });
      const text = `{"data":${data},"asOf":"${showInstant(asOf)}"}`;
      return new Reply(200, undefined, { etag }, { text, replayed: false });
    });
  }

  /**
   * The service and those who can serve it; of a service that many offer, they may be those who could a moment ago, in a list
   * that says where to look.
   */
  private async whoServes(
    tx: EntityManager,
    { serviceId, practitionerId, locationId }: SlotsRequest,
  ): Promise<{ service: BookableService; segments: VisitSegment[]; list?: LaneList; rules?: string }> {
    const isBroad = practitionerId === undefined && locationId === undefined;
    if (isBroad && this.lists.has(serviceId)) {
      const [service, rules] = await Promise.all([this.lanes.service(tx, serviceId), this.rules.rulesVersion(tx)]);
      const list = this.lists.find(service);
      if (list) return { service, segments: [only(service, list.lanes)], list, rules };
    }
    const found = await this.lanes.serviceWithSegments(tx, serviceId, practitionerId);
    const { service, segments } = found;
    const lanes = segments[0]!.lanes;
    if (!isBroad || service.composite || service.capacity > 1 || lanes.length < MANY) return found;
    return { ...found, list: this.lists.remember(service, lanes) };
  }

  /**
   * The first free slots in the order of start and practitioner. Reads a few days at a time until there are enough.
   * @param known those who serve, where they are many and each of them serves alone, and the version of all rules
   */
  private async first(
    tx: EntityManager,
    search: SlotSearch,
    now: number,
    { list, rules }: { list?: LaneList; rules?: string },
  ): Promise<Slot[]> {
    if (cannotBe(search)) return [];
    const found: Offer[] = [];
    const turns = new Turns();
    for (const window of stepsOf(search, bookableWithin(search, now), list)) {
      const wanted = search.limit - found.length;
      const more = list
        ? await this.openings.first(tx, search, list, rules, window, wanted, turns)
        : await this.among(tx, search, window, wanted, turns);
      found.push(...more);
      if (found.length >= search.limit) break;
    }
    return showSlots(found, turns);
  }

  /** The free slots that are nearest to an instant. Reads the whole window at once. */
  async nearest(tx: EntityManager, search: SlotSearch & { near: number }, now: number): Promise<Slot[]> {
    const window = bookableWithin(search, now);
    if (window.start >= window.end || cannotBe(search)) return [];
    const turns = new Turns();
    return showSlots(await this.among(tx, search, window, search.limit, turns), turns);
  }

  /** The first slots of a window, from all days of all lanes. */
  private async among(
    tx: EntityManager,
    search: SlotSearch,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    const days = await this.seenDays.look(tx, search.service, lanesOf(search.segments), reachOf(search, window), {
      turns,
    });
    return this.offers.on(tx, search, days, window, limit, turns);
  }

  /** The days of lanes as they are now; see {@link SeenDays.look}. */
  look(...asked: Parameters<SeenDays['look']>): ReturnType<SeenDays['look']> {
    return this.seenDays.look(...asked);
  }
}

/** So many day rows a search reads at first, and then four times as many; at least one day of each schedule. */
const FEW_ROWS = 64;
/** From so many on who serve alone, openings are asked for; below, reading all days costs no more. */
const MANY = 24;

/** The parts of a window that are searched one after the other, each longer than the one before it. */
function* stepsOf({ segments }: SlotSearch, { start, end }: Interval, list?: LaneList): Generator<Interval> {
  if (!list) {
    const lanes = lanesOf(segments).length;
    for (let days = Math.max(1, Math.floor(FEW_ROWS / lanes)); start < end; days *= 4) {
      const until = Math.min(end, start + days * DAY);
      yield { start, end: until };
      start = until;
    }
    return;
  }
  // From midnight to midnight where most are: a step over it would look at twice as many days.
  const [zone] = list.timeZones as [string];
  const days = start < end ? localDays(zone, { start, end }) : [];
  for (let next = 1, more = 2; start < end; next += more, more *= 2) {
    const until = next < days.length ? startOfDay(zone, days[next]!) : end;
    yield { start, end: until };
    start = until;
  }
}

/** RFC 9110, 13.1.2: entity tags are compared weakly here. */
const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined &&
  (ifNoneMatch.trim() === '*' ||
    ifNoneMatch.split(',').some((each) => each.trim().replace(/^W\//, '') === etag.replace(/^W\//, '')));
