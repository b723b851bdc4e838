import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Interval, Turns } from '../platform';
import { localDays } from './hours.rules';
import type { BookableService } from './lanes.repository';
import { type DayKey, keyOf, type ReadDay, ScheduleDayRepository } from './ledger.repository';
import type { Lane } from './ledger.rules';
import { mayShare, withSessions } from './ledger.service';
import type { SeenDay } from './offers.rules';
import { planDays, ScheduleRepository } from './schedule.repository';
import { SessionsRepository } from './sessions.repository';

const DAY = 86_400_000;

/** A day that was looked at, and which. */
export type NamedDay = SeenDay & DayKey;

/** Days as they are now: from their rows, and from the rules where they have none. Nothing is locked, nothing written. */
@Injectable()
export class SeenDays {
  constructor(
    private readonly days: ScheduleDayRepository,
    private readonly schedules: ScheduleRepository,
    private readonly sessions: SessionsRepository,
  ) {}

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
    return this.withSeats(tx, service, await this.daysOf(tx, lanes, reach, also), reach);
  }

  /** The same days, with the sessions of a service on them where it or what is published has several seats. */
  async withSeats(
    tx: EntityManager,
    service: Pick<BookableService, 'id' | 'capacity'>,
    days: ReadonlyMap<string, SeenDay[]>,
    reach: Interval,
  ): Promise<ReadonlyMap<string, SeenDay[]>> {
    if (!mayShare(service.capacity, days)) return days;
    return withSessions(days, await this.sessions.of(tx, service.id, [...days.keys()], reach));
  }

  /** Some days of schedules as they are now. */
  async some(tx: EntityManager, keys: readonly DayKey[], reach: Interval, turns: Turns): Promise<NamedDay[]> {
    const rows = await this.days.readSome(tx, keys);
    const present = new Set(rows.map(keyOf));
    const missing = keys.filter((key) => !present.has(keyOf(key)));
    return [...rows.map(asSeen), ...(await this.plan(tx, missing, reach, turns))];
  }

  /** The days of the lanes that an interval touches: rows where there are some, else planned from the rules. */
  private async daysOf(
    tx: EntityManager,
    lanes: readonly Lane[],
    reach: Interval,
    { turns = new Turns(), seen }: { turns?: Turns; seen?: ReadDay },
  ): Promise<Map<string, SeenDay[]>> {
    const zones = new Set(lanes.map((lane) => lane.timeZone));
    const calendar = new Map([...zones].map((zone) => [zone, localDays(zone, reach)]));
    const wanted = lanes.map(({ scheduleId, timeZone }) => ({ scheduleId, days: calendar.get(timeZone)! }));
    const dates = [...calendar.values()].flat().sort();
    const [only] = wanted;
    const suffices =
      wanted.length === 1 &&
      only!.days.length === 1 &&
      seen?.day === only!.days[0] &&
      seen?.scheduleId === only!.scheduleId;
    const found: Array<NamedDay> = [];
    const missing: DayKey[] = [];
    for (let first = 0; first < wanted.length; first += LANES_AT_ONCE) {
      const some = wanted.slice(first, first + LANES_AT_ONCE);
      const ids = some.map((each) => each.scheduleId);
      const rows = seen && suffices ? [seen] : await this.days.read(tx, ids, dates[0]!, dates.at(-1)!);
      const present = new Set(rows.map(keyOf));
      found.push(...rows.map(asSeen));
      for (const { scheduleId, days } of some) {
        for (const day of days) if (!present.has(keyOf({ scheduleId, day }))) missing.push({ scheduleId, day });
      }
      if (turns.isOver) await turns.next();
    }
    found.push(...(await this.plan(tx, missing, reach, turns)));
    return Map.groupBy(found, (day) => day.scheduleId);
  }

  /** Days without a row, from the rules as they are. */
  private async plan(
    tx: EntityManager,
    missing: readonly DayKey[],
    reach: Interval,
    turns: Turns,
  ): Promise<Array<NamedDay>> {
    if (missing.length === 0) return [];
    const planned: Array<NamedDay> = [];
    const bySchedule = Map.groupBy(missing, (key) => key.scheduleId);
    const schedules = await this.schedules.all(tx, [...bySchedule.keys()]);
    const rules = await this.schedules.rulesOf(tx, schedules, reach.start - 2 * DAY);
    for (const [scheduleId, keys] of bySchedule) {
      const days = keys.map((key) => key.day);
      for (const plan of planDays(rules.get(scheduleId)!, days))
        planned.push({ ...plan, scheduleId, taken: [], guarded: false });
      if (turns.isOver) await turns.next();
    }
    return planned;
  }
}

/** Of so many schedules days are read at once, so that the event loop is not kept. */
const LANES_AT_ONCE = 100;

const asSeen = (row: ReadDay): NamedDay => ({
  ...row,
  guarded: !row.reopened && row.places === 1 && row.published?.length === 0,
});
