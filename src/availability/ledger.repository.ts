import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, MoreThan, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { type Interval, Problem, toMultirange, toRange } from '../platform';
import { type DayPlan, type ExceptionSpan, type GridInterval, planDay, type WeeklyHours } from './hours.rules';
import type { GridDay } from './slots.rules';
import {
  Claim,
  Schedule,
  ScheduleDay,
  ScheduleException,
  ScheduleHours,
  type StoredGridInterval,
} from './schedule.entities';

/** No claim is longer (a constraint says so): how far before a range a claim may start that still reaches into it. */
export const LONGEST_CLAIM = 72 * 3_600_000;

/** The rules of one schedule, as its day rows are planned from them. */
export interface ScheduleRules {
  timeZone: string;
  hours: WeeklyHours[];
  exceptions: ExceptionSpan[];
}

/** Schedules and their rules. Locks: the schedule's row, which stands before day rows in the global order. */
@Injectable()
export class ScheduleRepository {
  constructor(
    @InjectRepository(Schedule) private readonly schedules: Repository<Schedule>,
    @InjectRepository(ScheduleHours) private readonly hours: Repository<ScheduleHours>,
    @InjectRepository(ScheduleException) private readonly exceptions: Repository<ScheduleException>,
  ) {}

  async insert(tx: EntityManager, organizationId: string, timeZone: string, now: Date): Promise<string> {
    const id = uuidv7();
    await tx
      .withRepository(this.schedules)
      .insert({ id, organizationId, timeZone, active: true, version: 1, createdAt: now, updatedAt: now });
    return id;
  }

  async get(tx: EntityManager, id: string): Promise<Schedule> {
    const schedule = await tx.withRepository(this.schedules).findOneBy({ id, active: true });
    if (!schedule) throw Problem.notFound('schedule');
    return schedule;
  }

  /** Locks a schedule whose rules are about to change: serialises editors, and materialisers of its days. */
  async lockForEdit(tx: EntityManager, id: string): Promise<Schedule> {
    const schedule = await tx
      .withRepository(this.schedules)
      .findOne({ where: { id, active: true }, lock: { mode: 'for_no_key_update' } });
    if (!schedule) throw Problem.notFound('schedule');
    return schedule;
  }

  /** Locks schedules whose days are about to be planned, in the global order: their rules stay as they are until COMMIT. */
  lockForPlanning(tx: EntityManager, ids: readonly string[]): Promise<Schedule[]> {
    return tx.withRepository(this.schedules).find({
      where: { id: In([...ids]) },
      order: { id: 'ASC' },
      lock: { mode: 'pessimistic_read' },
    });
  }

  async save(tx: EntityManager, schedule: Schedule): Promise<void> {
    const { id, ...columns } = schedule;
    await tx.withRepository(this.schedules).update({ id }, columns);
  }

  hoursOf(tx: EntityManager, scheduleId: string): Promise<ScheduleHours[]> {
    return tx
      .withRepository(this.hours)
      .find({ where: { scheduleId }, order: { weekday: 'ASC', startMinute: 'ASC', id: 'ASC' } });
  }

  async replaceHours(tx: EntityManager, schedule: Schedule, hours: readonly WeeklyHours[]): Promise<void> {
    await tx.withRepository(this.hours).delete({ scheduleId: schedule.id });
    await tx.withRepository(this.hours).insert(
      hours.map((each) => ({
        ...each,
        id: uuidv7(),
        organizationId: schedule.organizationId,
        scheduleId: schedule.id,
      })),
    );
  }

  async insertException(tx: EntityManager, exception: ScheduleException): Promise<void> {
    await tx.withRepository(this.exceptions).insert(exception);
  }

  async getException(tx: EntityManager, scheduleId: string, id: string): Promise<ScheduleException> {
    const exception = await tx.withRepository(this.exceptions).findOneBy({ id, scheduleId });
    if (!exception) throw Problem.notFound('exception');
    return exception;
  }

  async deleteException(tx: EntityManager, id: string): Promise<void> {
    await tx.withRepository(this.exceptions).delete({ id });
  }

  listExceptions(
    tx: EntityManager,
    scheduleId: string,
    after: string | undefined,
    take: number,
  ): Promise<ScheduleException[]> {
    return tx.withRepository(this.exceptions).find({
      where: { scheduleId, ...(after ? { id: MoreThan(after) } : {}) },
      order: { id: 'ASC' },
      take,
    });
  }

  /** The rules of several schedules; exceptions only where they end after `from`. */
  async rulesOf(tx: EntityManager, schedules: readonly Schedule[], from: number): Promise<Map<string, ScheduleRules>> {
    const scheduleId = In(schedules.map((each) => each.id));
    const hours = await tx.withRepository(this.hours).findBy({ scheduleId });
    const exceptions = await tx
      .withRepository(this.exceptions)
      .findBy({ scheduleId, endsAt: MoreThan(new Date(from)) });
    const rules = new Map<string, ScheduleRules>(
      schedules.map((each) => [each.id, { timeZone: each.timeZone, hours: [], exceptions: [] }]),
    );
    // A schedule whose owner is gone is closed, whatever hours it still has.
    const active = new Set(schedules.filter((each) => each.active).map((each) => each.id));
    for (const each of hours) if (active.has(each.scheduleId)) rules.get(each.scheduleId)?.hours.push(each);
    for (const { scheduleId, startsAt, endsAt, kind } of exceptions) {
      if (active.has(scheduleId))
        rules.get(scheduleId)?.exceptions.push({ start: startsAt.getTime(), end: endsAt.getTime(), kind });
    }
    return rules;
  }

  all(tx: EntityManager, ids: readonly string[]): Promise<Schedule[]> {
    return tx.withRepository(this.schedules).findBy({ id: In([...ids]) });
  }

  /** Whether weekly hours of a living schedule name this location. */
  async usesLocation(tx: EntityManager, locationId: string): Promise<boolean> {
    const [row] = await tx.query<Array<{ used: boolean }>>(
      `SELECT EXISTS (SELECT 1 FROM schedule_hours h JOIN schedule s ON s.id = h.schedule_id
                      WHERE h.location_id = $1 AND s.active) AS used`,
      [locationId],
    );
    return row!.used;
  }
}

/** One local day of one schedule. */
export interface DayKey {
  scheduleId: string;
  day: string;
}

/** Day rows and claims. Locks: day rows, always in the order of (schedule_id, day). */
@Injectable()
export class ScheduleDayRepository {
  constructor(
    @InjectRepository(ScheduleDay) private readonly days: Repository<ScheduleDay>,
    @InjectRepository(Claim) private readonly claims: Repository<Claim>,
  ) {}

  /** Which of these days have rows. */
  async existing(tx: EntityManager, keys: readonly DayKey[]): Promise<Set<string>> {
    if (keys.length === 0) return new Set();
    const rows = await tx.withRepository(this.days).find({
      select: { scheduleId: true, day: true },
      where: keys.map(({ scheduleId, day }) => ({ scheduleId, day })),
    });
    return new Set(rows.map(keyOf));
  }

  /**
   * Locks day rows for a decision on them, in the global order. This is the lock that serialises bookings: whoever comes
   * second waits here and then reads what the first one wrote.
   */
  lock(tx: EntityManager, keys: readonly DayKey[]): Promise<ScheduleDay[]> {
    return tx.withRepository(this.days).find({
      where: keys.map(({ scheduleId, day }) => ({ scheduleId, day })),
      order: { scheduleId: 'ASC', day: 'ASC' },
      lock: { mode: 'for_no_key_update' },
    });
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
    plans: readonly DayPlan[],
  ): Promise<string[]> {
    const rows = await tx.query<Array<{ day: string }>>(
      `INSERT INTO schedule_day (organization_id, schedule_id, day, covers, open, grid)
       SELECT $1, $2, day, covers::tstzrange, open::tstzmultirange, grid::jsonb
       FROM unnest($3::date[], $4::text[], $5::text[], $6::text[]) AS plan (day, covers, open, grid)
       ON CONFLICT (schedule_id, day) DO NOTHING RETURNING day`,
      [organizationId, scheduleId, ...columnsOf(plans)],
    );
    return rows.map((row) => row.day);
  }

  /** Gives locked days new rules, and what is taken with them, for their bounds may have moved. */
  async replan(tx: EntityManager, scheduleId: string, plans: readonly DayPlan[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day SET covers = plan.covers::tstzrange, open = plan.open::tstzmultirange, grid = plan.grid::jsonb,
                               version = version + 1
       FROM unnest($2::date[], $3::text[], $4::text[], $5::text[]) AS plan (day, covers, open, grid)
       WHERE schedule_id = $1 AND schedule_day.day = plan.day`,
      [scheduleId, ...columnsOf(plans)],
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
    if (keys.length === 0) return;
    await tx.query(
      `UPDATE schedule_day d SET version = version + 1, taken = coalesce(${TAKEN_BY('true')}, '{}')
       FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)
       WHERE d.schedule_id = key.schedule_id AND d.day = key.day`,
      [keys.map((key) => key.scheduleId), keys.map((key) => key.day)],
    );
  }

  /** Marks locked days as taken by one more range. */
  async addTaken(tx: EntityManager, scheduleId: string, range: Interval, days: readonly string[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day SET version = version + 1, taken = taken + tstzmultirange(covers * $2::tstzrange)
       WHERE schedule_id = $1 AND day = ANY($3::date[])`,
      [scheduleId, toRange(range), days],
    );
  }

  async insertClaim(tx: EntityManager, claim: Omit<Claim, 'seat'>): Promise<void> {
    await tx.withRepository(this.claims).insert({ ...claim, seat: 1 });
  }

  claimsOf(tx: EntityManager, holders: readonly string[]): Promise<Claim[]> {
    return tx.withRepository(this.claims).findBy({ holder: In([...holders]) });
  }

  async deleteClaimsOf(tx: EntityManager, holders: readonly string[]): Promise<void> {
    await tx.withRepository(this.claims).delete({ holder: In([...holders]) });
  }

  /** Gives all claims of a holder another end, and tells how many there are. */
  async extend(tx: EntityManager, holder: string, until: Date | null): Promise<number> {
    const result = await tx.withRepository(this.claims).update({ holder }, { expiresAt: until });
    return result.affected ?? 0;
  }

  /** Claims past their time, by the database's clock, that a range meets. They block nobody. */
  expiredClaims(tx: EntityManager, scheduleIds: readonly string[], range: Interval): Promise<Claim[]> {
    return tx
      .withRepository(this.claims)
      .createQueryBuilder('claim')
      .where('claim.scheduleId IN (:...scheduleIds) AND claim.expiresAt <= clock_timestamp()', { scheduleIds })
      .andWhere('claim.startsAt < :end AND claim.endsAt > :start AND claim.startsAt > :earliest', {
        start: new Date(range.start),
        end: new Date(range.end),
        earliest: new Date(range.start - LONGEST_CLAIM),
      })
      .getMany();
  }

  /** Deletes claims of the holders that they were seen with, and tells how many; their days must be locked. */
  async deleteClaims(tx: EntityManager, claims: readonly Claim[]): Promise<number> {
    const result = await tx
      .withRepository(this.claims)
      .createQueryBuilder()
      .delete()
      .where(claims.map(({ scheduleId, startsAt, seat, holder }) => ({ scheduleId, startsAt, seat, holder })))
      .execute();
    return result.affected ?? 0;
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

  /**
   * Reads day rows of many schedules, without the grid where no time is left: nothing starts there. What holds occupy whose
   * time is over is read as free; `reopened` says that the row itself does not say so yet.
   */
  async read(
    tx: EntityManager,
    scheduleIds: readonly string[],
    from: string,
    to: string,
  ): Promise<Array<GridDay & DayKey & { reopened: boolean }>> {
    const rows = await tx.query<DayRow[]>({ name: 'read-days', text: READ_DAYS } as never, [scheduleIds, from, to]);
    return rows.map(fromRow);
  }
}

/** What the claims of day row `d` occupy of it, or null for nothing; those for which a condition on claim `c` holds. */
const TAKEN_BY = (condition: string) => `(
  SELECT range_agg(tstzrange(greatest(c.starts_at, lower(d.covers)), least(c.ends_at, upper(d.covers)))) FROM claim c
  WHERE c.schedule_id = d.schedule_id AND c.starts_at < upper(d.covers) AND c.ends_at > lower(d.covers)
    AND c.starts_at > lower(d.covers) - interval '72 hours' AND ${condition})`;

// Claims that are over are few, for the sweeper removes them: one look at them is all that most searches pay.
const READ_DAYS = `
  WITH lapsed AS MATERIALIZED (SELECT schedule_id, during FROM claim WHERE expires_at <= statement_timestamp())
  SELECT schedule_id, day, covers, open, reopened,
         CASE WHEN reopened THEN coalesce(${TAKEN_BY('(c.expires_at IS NULL OR c.expires_at > statement_timestamp())')}, '{}')
              ELSE taken END AS taken,
         CASE WHEN bookable OR reopened THEN grid ELSE '[]' END AS grid
  FROM (SELECT *, schedule_id IN (SELECT schedule_id FROM lapsed)
                  AND EXISTS (SELECT 1 FROM lapsed l WHERE l.schedule_id = stored.schedule_id AND l.during && stored.covers) AS reopened
        FROM schedule_day stored
        WHERE schedule_id = ANY($1::uuid[]) AND day BETWEEN $2::date AND $3::date) d
  ORDER BY schedule_id, day`;

interface DayRow {
  schedule_id: string;
  day: string;
  covers: Interval[];
  open: Interval[];
  taken: Interval[];
  grid: StoredGridInterval[];
  reopened: boolean;
}

const fromRow = (row: DayRow): GridDay & DayKey & { reopened: boolean } => ({
  reopened: row.reopened,
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
export const stateOf = (row: ScheduleDay) => ({
  day: row.day,
  covers: row.covers[0]!,
  open: row.open,
  taken: row.taken,
});

export const planDays = (rules: ScheduleRules, days: readonly string[]): DayPlan[] =>
  days.map((day) => planDay(rules.timeZone, day, rules.hours, rules.exceptions));

/** The grid as a day row stores it. */
export const storedGrid = (grid: readonly GridInterval[]): StoredGridInterval[] =>
  grid.map(({ start, end, locationId }) => [start / 1000, end / 1000, locationId]);

const columnsOf = (plans: readonly DayPlan[]): string[][] => [
  plans.map((plan) => plan.day),
  plans.map((plan) => toRange(plan.covers)),
  plans.map((plan) => toMultirange(plan.open)),
  plans.map((plan) => JSON.stringify(storedGrid(plan.grid))),
];
