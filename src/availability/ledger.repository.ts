import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, Repository } from 'typeorm';
import { type Interval, toMultirange, toRange } from '../platform';
import {
  ADD_TAKEN,
  CLAIMS_OF,
  DELETE_CLAIMS,
  DELETE_CLAIMS_OF,
  DELETE_CLAIMS_OF_ONE,
  EXISTING_DAY,
  EXISTING_DAYS,
  EXPIRED_CLAIMS,
  EXTEND_CLAIMS,
  INSERT_CLAIMS,
  LOCK_DAY,
  LOCK_DAYS,
  READ_DAYS,
  READ_DAY_AT,
  READ_SOME_DAYS,
  RECOMPUTE_DAY,
  RECOMPUTE_DAYS,
} from './days.sql';
import type { DayPlan, GridInterval } from './hours.rules';
import type { DayState, Published } from './ledger.rules';
import { Claim, ScheduleDay, type StoredGridInterval, type StoredPublished } from './schedule.entities';
import type { GridDay } from './slots.rules';

/** No claim is longer (a constraint says so): how far before a range a claim may start that still reaches into it. */
export const LONGEST_CLAIM = 72 * 3_600_000;

/** One local day of one schedule. */
export interface DayKey {
  scheduleId: string;
  day: string;
}

/** A claim as it was read, not locked: with the zone and the places of its schedule then, and the days it lies on. */
export type HeldClaim = Claim & {
  timeZone: string;
  places: number;
  days: string[];
  /** Whether these days are all that it lies on. If not, some have no row. */
  covered: boolean;
};

/** Where a claim was. */
export type FreedClaim = Pick<Claim, 'scheduleId' | 'startsAt' | 'endsAt'>;

/** Day rows and claims. Locks: day rows, always in the order of (schedule_id, day). */
@Injectable()
export class ScheduleDayRepository {
  constructor(
    @InjectRepository(ScheduleDay) private readonly days: Repository<ScheduleDay>,
    @InjectRepository(Claim) private readonly claims: Repository<Claim>,
  ) {}

  /** Which of these days have rows. */
  async existing(tx: EntityManager, keys: readonly DayKey[]): Promise<Set<string>> {
    const named = inOrder(keys);
    const ask = (query: object, values: unknown[]) => tx.query<DayKey[]>(query as never, values);
    const rows =
      named.length > FEW
        ? await ask(EXISTING_DAYS, columnsOfKeys(named))
        : (await Promise.all(named.map(({ scheduleId, day }) => ask(EXISTING_DAY, [scheduleId, day])))).flat();
    return new Set(rows.map(keyOf));
  }

  /**
   * Locks day rows for a decision on them, in the global order. This is the lock that serialises bookings: whoever comes
   * second waits here and then reads what the first one wrote. A named statement, as all are that most actions need: TypeORM's
   * own are planned anew each time, which costs more than everything else they do.
   */
  lock(tx: EntityManager, keys: readonly DayKey[]): Promise<ScheduleDay[]> {
    return sendLock(tx, keys);
  }

  /**
   * Locks days and gives the claims that a holder has on them another end. What is sent behind the lock begins after any wait
   * for it. @returns the days, and how many claims there are
   */
  async lockAndExtend(
    tx: EntityManager,
    keys: readonly DayKey[],
    holder: string,
    until: Date | null,
  ): Promise<{ locked: ScheduleDay[]; kept: number }> {
    const [locked, [, kept]] = await Promise.all([
      sendLock(tx, keys),
      tx.query<[unknown, number]>(EXTEND_CLAIMS as never, [holder, until]),
    ]);
    return { locked, kept };
  }

  /**
   * Locks days, deletes the claims of holders, and recomputes what is taken on those days that had them: all in one round
   * trip, each statement beginning when the one before is done. The caller looks whether all that is gone lay on these days.
   * @returns the days as they are then, and what is gone
   */
  async lockAndFree(
    tx: EntityManager,
    keys: readonly DayKey[],
    holders: readonly string[],
    had: readonly DayKey[] = keys,
  ): Promise<{ locked: ScheduleDay[]; freed: FreedClaim[] }> {
    const [locked, freed, recomputed] = await Promise.all([
      sendLock(tx, keys),
      sendDelete(tx, holders),
      sendRecompute(tx, had),
    ]);
    const taken = new Map(recomputed.map((row) => [keyOf(row), row.taken]));
    return { locked: locked.map((row) => ({ ...row, taken: taken.get(keyOf(row)) ?? row.taken })), freed };
  }

  /** Locks the days of a schedule from a date on: for changes of its rules, after the schedule itself was locked. */
  lockFrom(tx: EntityManager, scheduleId: string, from: string, to?: string): Promise<ScheduleDay[]> {
    const query = tx
      .withRepository(this.days)
      .createQueryBuilder('day')
      .where('day.scheduleId = :scheduleId AND day.day >= :from', { scheduleId, from })
      .orderBy('day.day')
      .setLock('for_no_key_update');
    return (to === undefined ? query : query.andWhere('day.day <= :to', { to })).getMany();
  }

  /** Writes days that were missing and tells which; one that a competitor wrote first stays as it is. */
  async insertMissing(
    tx: EntityManager,
    organizationId: string,
    scheduleId: string,
    places: number,
    plans: readonly DayPlan[],
  ): Promise<string[]> {
    const rows = await tx.query<Array<{ day: string }>>(
      `INSERT INTO schedule_day (organization_id, schedule_id, day, covers, open, grid, published, places)
       SELECT $1, $2, day, covers::tstzrange, open::tstzmultirange, grid::jsonb, published::jsonb, $8
       FROM unnest($3::date[], $4::text[], $5::text[], $6::text[], $7::text[]) AS plan (day, covers, open, grid, published)
       ON CONFLICT (schedule_id, day) DO NOTHING RETURNING day`,
      [organizationId, scheduleId, ...columnsOf(plans), places],
    );
    return rows.map((row) => row.day);
  }

  /** Gives locked days new rules, and what is taken with them, for their bounds may have moved. */
  async replan(tx: EntityManager, scheduleId: string, places: number, plans: readonly DayPlan[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day SET covers = plan.covers::tstzrange, open = plan.open::tstzmultirange, grid = plan.grid::jsonb,
                               published = plan.published::jsonb, places = $7, version = version + 1
       FROM unnest($2::date[], $3::text[], $4::text[], $5::text[], $6::text[]) AS plan (day, covers, open, grid, published)
       WHERE schedule_id = $1 AND schedule_day.day = plan.day`,
      [scheduleId, ...columnsOf(plans), places],
    );
    await this.recomputeTaken(
      tx,
      plans.map((plan) => ({ scheduleId, day: plan.day })),
    );
  }

  /**
   * Recomputes what is taken on locked days from the claims that are there. Every removal ends in this: subtracting a range
   * from a set of ranges would also erase what others occupy of it.
   */
  async recomputeTaken(tx: EntityManager, keys: readonly DayKey[]): Promise<void> {
    await sendRecompute(tx, keys);
  }

  /** Tells readers of locked days that a session on them has changed. */
  async touch(tx: EntityManager, keys: readonly DayKey[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day d SET version = version + 1 FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)
       WHERE d.schedule_id = key.schedule_id AND d.day = key.day`,
      [keys.map((key) => key.scheduleId), keys.map((key) => key.day)],
    );
  }

  /** Marks a locked day of one place as taken by one more range. */
  async addTaken(tx: EntityManager, { scheduleId, day }: DayKey, range: Interval): Promise<void> {
    await tx.query(ADD_TAKEN as never, [scheduleId, day, toRange(range)]);
  }

  /** Writes claims on locked days: all of them, or the constraint has the last word and none. */
  async insertClaims(tx: EntityManager, claims: readonly Claim[]): Promise<void> {
    await tx.query(INSERT_CLAIMS as never, [JSON.stringify(claims)]);
  }

  /** The claims of these holders, and those of the sessions in which they have a seat. */
  claimsOf(tx: EntityManager, holders: readonly string[]): Promise<HeldClaim[]> {
    return tx.query<HeldClaim[]>(CLAIMS_OF as never, [holders]);
  }

  /**
   * The claims of a schedule that hang together with an interval: those that overlap it, those that overlap them, and so on.
   * Each is wholly within the interval that is given back with them.
   */
  async clusterAround(
    tx: EntityManager,
    scheduleId: string,
    around: Interval,
  ): Promise<{ claims: Claim[] } & Interval> {
    for (let cluster = { ...around }; ;) {
      const claims = await tx
        .withRepository(this.claims)
        .createQueryBuilder('claim')
        .where('claim.scheduleId = :scheduleId AND claim.startsAt < :end AND claim.startsAt > :earliest', {
          scheduleId,
          end: new Date(cluster.end),
          earliest: new Date(cluster.start - LONGEST_CLAIM),
        })
        .andWhere('claim.endsAt > :start', { start: new Date(cluster.start) })
        .orderBy('claim.startsAt')
        .addOrderBy('claim.seat')
        .getMany();
      const wider = {
        start: Math.min(cluster.start, ...claims.map((each) => each.startsAt.getTime())),
        end: Math.max(cluster.end, ...claims.map((each) => each.endsAt.getTime())),
      };
      if (wider.start === cluster.start && wider.end === cluster.end) return { ...cluster, claims };
      cluster = wider;
    }
  }

  /** Claims past their time, by the database's clock, that a range meets. They block nobody. */
  expiredClaims(tx: EntityManager, scheduleIds: readonly string[], range: Interval): Promise<Claim[]> {
    const [start, end, earliest] = [range.start, range.end, range.start - LONGEST_CLAIM].map((each) => new Date(each));
    return tx.query<Claim[]>(EXPIRED_CLAIMS as never, [scheduleIds, start, end, earliest]);
  }

  /** Deletes claims of the holders that they were seen with, and tells how many; their days must be locked. */
  async deleteClaims(tx: EntityManager, claims: readonly Claim[]): Promise<number> {
    const [, deleted] = await tx.query<[unknown, number]>(DELETE_CLAIMS as never, [
      claims.map((each) => each.scheduleId),
      claims.map((each) => each.startsAt),
      claims.map((each) => each.seat),
      claims.map((each) => each.holder),
    ]);
    return deleted;
  }

  /** Claims of a schedule that hold, and whose core lies in the future, for telling which of them a change of rules leaves outside. */
  futureClaims(tx: EntityManager, scheduleId: string, from: number): Promise<Claim[]> {
    return tx
      .withRepository(this.claims)
      .createQueryBuilder('claim')
      .where('claim.scheduleId = :scheduleId AND claim.startsAt > :earliest AND claim.coreEndsAt > :from', {
        scheduleId,
        from: new Date(from),
        earliest: new Date(from - LONGEST_CLAIM),
      })
      .andWhere('(claim.expiresAt IS NULL OR claim.expiresAt > clock_timestamp())')
      .orderBy('claim.startsAt')
      .getMany();
  }

  /** The claims of schedules that hold and meet an interval. */
  claimsWithin(tx: EntityManager, scheduleIds: readonly string[], during: Interval): Promise<Claim[]> {
    return tx
      .withRepository(this.claims)
      .createQueryBuilder('claim')
      .where('claim.scheduleId IN (:...scheduleIds) AND claim.startsAt < :end AND claim.startsAt > :earliest', {
        scheduleIds,
        end: new Date(during.end),
        earliest: new Date(during.start - LONGEST_CLAIM),
      })
      .andWhere('claim.endsAt > :start AND (claim.expiresAt IS NULL OR claim.expiresAt > statement_timestamp())', {
        start: new Date(during.start),
      })
      .orderBy('claim.startsAt')
      .getMany();
  }

  /**
   * Reads day rows of many schedules, without the grid where no time is left: nothing starts there. What holds occupy whose
   * time is over is read as free; `reopened` says that the row itself does not say so yet.
   */
  async read(tx: EntityManager, scheduleIds: readonly string[], from: string, to: string): Promise<ReadDay[]> {
    const rows = await tx.query<DayRow[]>(READ_DAYS as never, [scheduleIds, from, to]);
    return rows.map(fromRow);
  }

  /** The same of single days of schedules; those without a row are left out. */
  async readSome(tx: EntityManager, keys: readonly DayKey[]): Promise<ReadDay[]> {
    const rows = await tx.query<DayRow[]>(READ_SOME_DAYS as never, columnsOfKeys(keys));
    return rows.map(fromRow);
  }

  /** The same of the one day of a practitioner in which an instant lies, without its grid; undefined where it has no row. */
  async readAt(tx: EntityManager, practitionerId: string, instant: number): Promise<ReadDay | undefined> {
    const at = new Date(instant);
    const [row] = await tx.query<DayRow[]>(READ_DAY_AT as never, [practitionerId, at.toISOString().slice(0, 10), at]);
    return row && fromRow(row);
  }
}

const columnsOfKeys = (keys: readonly DayKey[]): string[][] => [
  keys.map((key) => key.scheduleId),
  keys.map((key) => key.day),
];
/**
 * Up to so many days or holders, one statement for each: PostgreSQL keeps its plan. A plan for lists it makes anew each time,
 * for it takes an unknown list to be long; that is worth it where the list is.
 */
const FEW = 4;

type Recomputed = DayKey & Pick<ScheduleDay, 'taken'>;

/** Sends the locks of days in the global order, all of them before anything that is sent behind this. */
async function sendLock(tx: EntityManager, keys: readonly DayKey[]): Promise<ScheduleDay[]> {
  const named = inOrder(keys);
  if (named.length > FEW) return tx.query<ScheduleDay[]>(LOCK_DAYS as never, columnsOfKeys(named));
  const rows = named.map(({ scheduleId, day }) => tx.query<ScheduleDay[]>(LOCK_DAY as never, [scheduleId, day]));
  return (await Promise.all(rows)).flat();
}

async function sendRecompute(tx: EntityManager, keys: readonly DayKey[]): Promise<Recomputed[]> {
  const named = inOrder(keys);
  const send = (statement: object, values: unknown[]) =>
    tx.query<[Recomputed[], number]>(statement as never, values).then(([rows]) => rows);
  if (named.length > FEW) return send(RECOMPUTE_DAYS, columnsOfKeys(named));
  return (await Promise.all(named.map(({ scheduleId, day }) => send(RECOMPUTE_DAY, [scheduleId, day])))).flat();
}

async function sendDelete(tx: EntityManager, holders: readonly string[]): Promise<FreedClaim[]> {
  const [one, ...others] = holders;
  const [rows] = await (others.length === 0
    ? tx.query<[FreedClaim[], number]>(DELETE_CLAIMS_OF_ONE as never, [one])
    : tx.query<[FreedClaim[], number]>(DELETE_CLAIMS_OF as never, [holders]));
  return rows;
}

/** Each day once, in the order of locks, which is that of PostgreSQL: ids are lower case, and dates as long as each other. */
function inOrder(keys: readonly DayKey[]): DayKey[] {
  const byKey = new Map(keys.map((key) => [keyOf(key), key]));
  return [...byKey.keys()].sort((a, b) => (a < b ? -1 : 1)).map((key) => byKey.get(key)!);
}

/** A day row as it was read, not locked. */
export type ReadDay = GridDay & DayKey & { places: number; version: number; reopened: boolean };

interface DayRow {
  schedule_id: string;
  day: string;
  covers: Interval[];
  open: Interval[];
  taken: Interval[];
  grid: StoredGridInterval[];
  places: number;
  published: StoredPublished[];
  version: number;
  reopened: boolean;
}

const fromRow = (row: DayRow): ReadDay => ({
  reopened: row.reopened,
  places: row.places,
  published: row.published.map(toPublished),
  version: row.version,
  scheduleId: row.schedule_id,
  day: row.day,
  covers: row.covers[0]!,
  open: row.open,
  taken: row.taken,
  grid: row.grid.map(([start, end, locationId]): GridInterval => ({
    start: start * 1000,
    end: end * 1000,
    locationId,
  })),
});

export const keyOf = ({ scheduleId, day }: DayKey): string => `${scheduleId}/${day}`;

/** The state of a locked day, for `decideClaim`. */
export const stateOf = (row: ScheduleDay): DayState => ({
  day: row.day,
  covers: row.covers[0]!,
  open: row.open,
  taken: row.taken,
  published: row.published.map(toPublished),
});

/** The grid as a day row stores it. */
export const storedGrid = (grid: readonly GridInterval[]): StoredGridInterval[] =>
  grid.map(({ start, end, locationId }) => [start / 1000, end / 1000, locationId]);

/** What was published as a day row stores it. */
export const storedPublished = (published: readonly Published[]): StoredPublished[] =>
  published.map(({ start, end, mode, capacity }) => [start / 1000, end / 1000, mode, capacity]);

const toPublished = ([start, end, mode, capacity]: StoredPublished): Published => ({
  start: start * 1000,
  end: end * 1000,
  mode,
  capacity,
});

const columnsOf = (plans: readonly DayPlan[]): string[][] => [
  plans.map((plan) => plan.day),
  plans.map((plan) => toRange(plan.covers)),
  plans.map((plan) => toMultirange(plan.open)),
  plans.map((plan) => JSON.stringify(storedGrid(plan.grid))),
  plans.map((plan) => JSON.stringify(storedPublished(plan.published))),
];
