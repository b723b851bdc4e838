import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Interval, Turns } from '../platform';
import { localDays } from './hours.rules';
import { type LaneList, LaneLists } from './lane-lists';
import { type BookableService, LanesRepository, only } from './lanes.repository';
import { type DayKey, keyOf } from './ledger.repository';
import { byOrder, leadOf, type Offer, reachOf, type SeenDay, type SlotSearch } from './offers.rules';
import { OffersService } from './offers.service';
import { firstPoint, type Opening, OpeningsRepository } from './openings.repository';
import { SeenDays } from './seen-days.service';
import type { ResourceLane } from './visits.rules';

/** Finds the first slots of a service that many offer, each of them alone, without a look at each of their days. */
@Injectable()
export class OpeningsService {
  constructor(
    private readonly openings: OpeningsRepository,
    private readonly lanes: LanesRepository,
    private readonly lists: LaneLists,
    private readonly seenDays: SeenDays,
    private readonly offers: OffersService,
  ) {}

  /**
   * The first slots of a window, in the order of start and practitioner. Goes through the practitioners part by part: once enough
   * have been found that begin as early as anything can, what the others have comes later, or after them.
   * @param rules what {@link OpeningsRepository.rulesVersion} has told in this transaction
   */
  async first(
    tx: EntityManager,
    search: SlotSearch,
    list: LaneList,
    rules: string | undefined,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    const earliest = await this.earliest(tx, search.service, list, rules, window);
    if (earliest !== undefined && earliest >= window.end) return [];
    // Of each only one start is the earliest: a part that is shorter than what is wanted never suffices.
    if (earliest === undefined || limit > list.parts[0]!.lanes.length)
      return this.among(tx, search, list, window, limit, turns);
    const found: Offer[] = [];
    for (const part of list.parts) {
      found.push(...(await this.among(tx, search, part, window, limit, turns)));
      found.sort(byOrder(undefined));
      if (found.length >= limit && found[limit - 1]!.at <= earliest) break;
    }
    return found.slice(0, limit);
  }

  /**
   * The earliest start that the rules of all of them allow, however much is booked; undefined where that is not known. Found out
   * once for a window's days, and true until somebody's rules change.
   */
  private async earliest(
    tx: EntityManager,
    service: BookableService,
    list: LaneList,
    rules: string | undefined,
    window: Interval,
  ): Promise<number | undefined> {
    if (rules === undefined || list.parts.length === 1) return undefined;
    const question = questionOf(service, list, window);
    const key = question.days.join('/');
    let known = list.beginnings.get(key);
    if (known?.rules !== rules) {
      known = { rules, ...(await this.openings.beginnings(tx, question)) };
      if (list.beginnings.size >= MOST_WINDOWS) list.beginnings.clear();
      list.beginnings.set(key, known);
    }
    return firstPoint(known, window.start, question.stepMinutes);
  }

  /**
   * The same of all on a list, from few days: PostgreSQL names the openings, and of these as many are read as it takes, the
   * earliest first. What was found before the next opening is final, for nothing else begins before it.
   */
  private async among(
    tx: EntityManager,
    search: SlotSearch,
    list: LaneList,
    window: Interval,
    limit: number,
    turns: Turns,
  ): Promise<Offer[]> {
    const { service } = search;
    const reach = reachOf(search, window);
    const question = questionOf(service, list, window);
    let most = Math.max(FEW_OPENINGS, 3 * limit);
    const asked = await this.openings.find(tx, { ...question, most });
    let { openings } = asked;
    const lanes: ResourceLane[] = [];
    const days = new Map<string, SeenDay[]>();
    if (!asked.complete) {
      // What has no row is not among the openings: the days of these schedules are looked at one and all.
      const without = await this.openings.incomplete(tx, question);
      lanes.push(...(await this.lanes.lanesAmong(tx, service.id, without)));
      for (const [scheduleId, own] of await this.seenDays.look(tx, service, lanes, reach, { turns }))
        days.set(scheduleId, own);
    }
    const whole = new Set(days.keys());
    const read = new Set<string>();
    for (let some = limit + SPARE; ; some *= 2) {
      if (some >= openings.length && openings.length === most)
        ({ openings } = await this.openings.find(tx, { ...question, most: (most = 4 * some) }));
      const keys = keysAround(openings.slice(0, some), list, service, reach).filter(
        (key) => !whole.has(key.scheduleId) && !read.has(keyOf(key)),
      );
      for (const key of keys) read.add(keyOf(key));
      const ids = [...new Set(keys.map((key) => key.scheduleId))];
      const [rows, those] =
        keys.length === 0
          ? [[], []]
          : await Promise.all([this.seenDays.some(tx, keys, reach, turns), this.lanes.lanesAmong(tx, service.id, ids)]);
      if (those.some((lane) => list.zoneOf.get(lane.scheduleId) !== lane.timeZone)) {
        // Somebody has moved to another zone since: his days are others than those that were named.
        this.lists.forget(service.id);
        const all = await this.lanes.lanesAmong(
          tx,
          service.id,
          list.lanes.map((lane) => lane.scheduleId),
        );
        const seen = await this.seenDays.look(tx, service, all, reach, { turns });
        return this.offers.on(tx, { ...search, segments: [only(service, all)] }, seen, window, limit, turns);
      }
      lanes.push(...those.filter((lane) => !days.has(lane.scheduleId)));
      // A new list each time: what is known of a list of days is kept with it.
      for (const [scheduleId, own] of Map.groupBy(rows, (row) => row.scheduleId))
        days.set(scheduleId, [...(days.get(scheduleId) ?? []), ...own]);
      const seen = await this.seenDays.withSeats(tx, service, days, reach);
      const offers = await this.offers.on(
        tx,
        { ...search, segments: [only(service, lanes)] },
        seen,
        window,
        limit,
        turns,
      );
      const next = openings[some];
      if (next === undefined || (offers.length >= limit && !precedes(next, offers.at(-1)!, list))) return offers;
    }
  }
}

/** So many openings are asked for at least; they cost less than another question. */
const FEW_OPENINGS = 64;
/** So many openings more than slots are wanted are read at first, for some lead to nothing. */
const SPARE = 2;
/** Of so many windows' days it is remembered when they begin. */
const MOST_WINDOWS = 100;

function questionOf(service: BookableService, { schedules, timeZones }: LaneList, window: Interval) {
  const dates = timeZones.flatMap((zone) => localDays(zone, window)).sort();
  return {
    schedules,
    window,
    days: [dates[0]!, dates.at(-1)!] as const,
    durationMinutes: service.durationMinutes,
    bufferBeforeMinutes: service.bufferBeforeMinutes,
    bufferAfterMinutes: service.bufferAfterMinutes,
    stepMinutes: service.slotIntervalMinutes ?? service.durationMinutes,
  };
}

/** The days of openings, with those beside them into which what begins there can reach. */
function keysAround(
  openings: readonly Opening[],
  { lanes, timeZones }: LaneList,
  { bufferBeforeMinutes, durationMinutes, bufferAfterMinutes }: BookableService,
  reach: Interval,
): DayKey[] {
  // A day has 23 hours at least.
  const reached = (minutes: number) => (minutes === 0 ? 0 : 1 + Math.floor(minutes / (23 * 60)));
  const [before, after] = [reached(bufferBeforeMinutes), reached(durationMinutes + bufferAfterMinutes)];
  const calendar = new Map(timeZones.map((zone) => [zone, localDays(zone, reach)]));
  const keys = new Map<string, DayKey>();
  for (const { index, day, early, late } of openings) {
    const { scheduleId, timeZone } = lanes[index]!;
    const days = calendar.get(timeZone)!;
    const at = days.indexOf(day);
    const beside = at < 0 ? [day] : days.slice(Math.max(0, at - (early ? before : 0)), at + 1 + (late ? after : 0));
    for (const each of beside) keys.set(keyOf({ scheduleId, day: each }), { scheduleId, day: each });
  }
  return [...keys.values()];
}

/** Whether something that begins at an opening can come before an offer. */
const precedes = ({ at, index }: Opening, offer: Offer, { lanes }: LaneList): boolean =>
  at < offer.at || (at === offer.at && lanes[index]!.practitionerId! < leadOf(offer.parts).practitionerId!);
