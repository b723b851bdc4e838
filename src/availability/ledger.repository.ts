import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, Repository } from 'typeorm';
import { type Interval, toMultirange, toRange } from '../platform';
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
    if (keys.length === 0) return;
    await tx.query(
      `UPDATE schedule_day d SET version = version + 1, taken = coalesce(${TAKEN_BY('true')}, '{}')
       FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)
       WHERE d.schedule_id = key.schedule_id AND d.day = key.day`,
      [keys.map((key) => key.scheduleId), keys.map((key) => key.day)],
    );
  }

  /** Tells readers of locked days that a session on them has changed. */
  async touch(tx: EntityManager, keys: readonly DayKey[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day d SET version = version + 1 FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)
       WHERE d.schedule_id = key.schedule_id AND d.day = key.day`,
      [keys.map((key) => key.scheduleId), keys.map((key) => key.day)],
    );
  }

  /** Marks locked days of one place as taken by one more range. */
  async addTaken(tx: EntityManager, scheduleId: string, range: Interval, days: readonly string[]): Promise<void> {
    await tx.query(
      `UPDATE schedule_day SET version = version + 1, taken = taken + tstzmultirange(covers * $2::tstzrange)
       WHERE schedule_id = $1 AND day = ANY($3::date[])`,
      [scheduleId, toRange(range), days],
    );
  }

  /** Writes claims on locked days: all of them, or the constraint has the last word and none. */
  async insertClaims(tx: EntityManager, claims: readonly Claim[]): Promise<void> {
    await tx.withRepository(this.claims).insert([...claims]);
  }

  /** The claims of these holders, and those of the sessions in which they have a seat. */
  claimsOf(tx: EntityManager, holders: readonly string[]): Promise<Claim[]> {
    return tx
      .withRepository(this.claims)
      .createQueryBuilder('claim')
      .where(
        `claim.holder = ANY(:holders::uuid[] || ARRAY(SELECT session_id FROM attendance WHERE holder = ANY(:holders::uuid[])))`,
        { holders },
      )
      .getMany();
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

  /** The same of the one day of a practitioner in which an instant lies, without its grid; undefined where it has no row. */
  async readAt(tx: EntityManager, practitionerId: string, instant: number): Promise<ReadDay | undefined> {
    const at = new Date(instant);
    const [row] = await tx.query<DayRow[]>(READ_DAY_AT as never, [practitionerId, at.toISOString().slice(0, 10), at]);
    return row && fromRow(row);
  }
}

/**
 * What is taken of day row `d` by those of its claims `c` for which a condition holds, or null for nothing: what they occupy
 * together, and where there are more places than one, what so many of them occupy at once.
 */
const TAKEN_BY = (condition: string) => {
  const claims = `claim c WHERE c.schedule_id = d.schedule_id AND c.starts_at < upper(d.covers) AND c.ends_at > lower(d.covers)
    AND c.starts_at > lower(d.covers) - interval '72 hours' AND ${condition}`;
  const [start, end] = ['greatest(c.starts_at, lower(d.covers))', 'least(c.ends_at, upper(d.covers))'];
  return `CASE WHEN d.places = 1 THEN (SELECT range_agg(tstzrange(${start}, ${end})) FROM ${claims})
    ELSE (SELECT range_agg(tstzrange(at, until)) FILTER (WHERE at < until AND occupied >= d.places) FROM (
            SELECT at, lead(at) OVER (ORDER BY at) AS until, sum(change) OVER (ORDER BY at) AS occupied
            FROM (SELECT ${start} AS at, 1 AS change FROM ${claims} UNION ALL SELECT ${end}, -1 FROM ${claims}) edge) piece)
    END`;
};

// Claims that are over are few, for the sweeper removes them: one look at them is all that most searches pay.
const daysWhere = (condition: string, grid: string) => `
  WITH lapsed AS MATERIALIZED (SELECT schedule_id, during FROM claim WHERE expires_at <= statement_timestamp())
  SELECT schedule_id, day, covers, open, places, published, version, reopened,
         CASE WHEN reopened THEN coalesce(${TAKEN_BY('(c.expires_at IS NULL OR c.expires_at > statement_timestamp())')}, '{}')
              ELSE taken END AS taken,
         ${grid} AS grid
  FROM (SELECT *, schedule_id IN (SELECT schedule_id FROM lapsed)
                  AND EXISTS (SELECT 1 FROM lapsed l WHERE l.schedule_id = stored.schedule_id AND l.during && stored.covers) AS reopened
        FROM schedule_day stored WHERE ${condition}) d
  ORDER BY schedule_id, day`;
const READ_DAYS = {
  name: 'read-days',
  text: daysWhere(
    'schedule_id = ANY($1::uuid[]) AND day BETWEEN $2::date AND $3::date',
    `CASE WHEN bookable OR reopened THEN grid ELSE '[]' END`,
  ),
};
// Whatever the zone, the local day is at most one beside that of UTC.
const READ_DAY_AT = {
  name: 'read-day-at',
  text: daysWhere(
    `schedule_id = (SELECT p.schedule_id FROM practitioner p WHERE p.id = $1::uuid)
     AND day BETWEEN $2::date - 1 AND $2::date + 1 AND covers @> $3::timestamptz`,
    `'[]'::jsonb`,
  ),
};

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
