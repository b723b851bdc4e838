import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, Repository } from 'typeorm';
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

const columnsOfKeys = (keys: readonly DayKey[]): string[][] => [
  keys.map((key) => key.scheduleId),
  keys.map((key) => key.day),
];
const KEYS = 'unnest($1::uuid[], $2::date[]) AS key (schedule_id, day)';
const EXISTING_DAY = {
  name: 'existing-day',
  text: 'SELECT schedule_id AS "scheduleId", day FROM schedule_day WHERE schedule_id = $1 AND day = $2',
};
const EXISTING_DAYS = {
  name: 'existing-days',
  text: `SELECT d.schedule_id AS "scheduleId", d.day
         FROM ${KEYS} JOIN schedule_day d ON d.schedule_id = key.schedule_id AND d.day = key.day`,
};
const LOCKED_DAY = `d.schedule_id AS "scheduleId", d.day, d.organization_id AS "organizationId", d.covers, d.open, d.taken, d.grid,
                d.places, d.published, d.version`;
const LOCK_DAY = {
  name: 'lock-day',
  text: `SELECT ${LOCKED_DAY} FROM schedule_day d WHERE d.schedule_id = $1 AND d.day = $2 FOR NO KEY UPDATE OF d`,
};
// The order is that of the locks: rows are locked as they come out of the sort. Keys may be named twice.
const LOCK_DAYS = {
  name: 'lock-days',
  text: `SELECT ${LOCKED_DAY}
         FROM (SELECT DISTINCT schedule_id, day FROM ${KEYS}) key
         JOIN schedule_day d ON d.schedule_id = key.schedule_id AND d.day = key.day
         ORDER BY d.schedule_id, d.day FOR NO KEY UPDATE OF d`,
};
const RECOMPUTED = `
  UPDATE schedule_day d SET version = version + 1, taken = coalesce(${TAKEN_BY('true')}, '{}')`;
const RETURNED = 'RETURNING d.schedule_id AS "scheduleId", d.day, d.taken';
const RECOMPUTE_DAY = {
  name: 'recompute-day',
  text: `${RECOMPUTED} WHERE d.schedule_id = $1 AND d.day = $2 ${RETURNED}`,
};
const RECOMPUTE_DAYS = {
  name: 'recompute-days',
  text: `${RECOMPUTED} FROM ${KEYS} WHERE d.schedule_id = key.schedule_id AND d.day = key.day ${RETURNED}`,
};
const ADD_TAKEN = {
  name: 'add-taken',
  text: `UPDATE schedule_day SET version = version + 1, taken = taken + tstzmultirange(covers * $3::tstzrange)
         WHERE schedule_id = $1 AND day = $2`,
};
const CLAIM = `
  c.schedule_id AS "scheduleId", c.starts_at AS "startsAt", c.seat, c.ends_at AS "endsAt", c.core_starts_at AS "coreStartsAt",
  c.core_ends_at AS "coreEndsAt", c.organization_id AS "organizationId", c.holder, c.shared, c.expires_at AS "expiresAt"`;
// The days whose rows cover a claim; whatever the zone, they are at most one beside those of UTC.
const CLAIMS_OF = {
  name: 'claims-of',
  text: `SELECT ${CLAIM}, s.time_zone AS "timeZone", s.places, known.days, known.covered
         FROM claim c CROSS JOIN LATERAL (
           -- One by one: a plan that takes claims to be many reads all schedules.
           SELECT time_zone, places FROM schedule WHERE id = c.schedule_id OFFSET 0) s CROSS JOIN LATERAL (
           SELECT coalesce(array_agg(d.day::text) FILTER (WHERE lower(d.covers) < c.ends_at AND upper(d.covers) > c.starts_at), '{}') AS days,
                  coalesce(range_agg(d.covers) @> c.during, false) AS covered
           FROM schedule_day d
           WHERE d.schedule_id = c.schedule_id AND d.day BETWEEN c.starts_at::date - 1 AND c.ends_at::date + 1) known
         WHERE c.holder = ANY($1::uuid[] || ARRAY(SELECT session_id FROM attendance WHERE holder = ANY($1::uuid[])))`,
};
const EXTEND_CLAIMS = {
  name: 'extend-claims',
  text: 'UPDATE claim SET expires_at = $2 WHERE holder = $1',
};
const FREED = 'RETURNING schedule_id AS "scheduleId", starts_at AS "startsAt", ends_at AS "endsAt"';
const DELETE_CLAIMS_OF_ONE = {
  name: 'delete-claims-of-one',
  text: `DELETE FROM claim WHERE holder = $1 ${FREED}`,
};
const DELETE_CLAIMS_OF = {
  name: 'delete-claims-of',
  text: `DELETE FROM claim WHERE holder = ANY($1::uuid[]) ${FREED}`,
};
const DELETE_CLAIMS = {
  name: 'delete-claims',
  text: `DELETE FROM claim c USING unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::uuid[]) AS seen (schedule_id, starts_at, seat, holder)
         WHERE c.schedule_id = seen.schedule_id AND c.starts_at = seen.starts_at AND c.seat = seen.seat AND c.holder = seen.holder`,
};
const EXPIRED_CLAIMS = {
  name: 'expired-claims',
  text: `SELECT ${CLAIM} FROM claim c
         WHERE c.schedule_id = ANY($1::uuid[]) AND c.expires_at <= clock_timestamp()
           AND c.starts_at < $3 AND c.ends_at > $2 AND c.starts_at > $4`,
};
const INSERT_CLAIMS = {
  name: 'insert-claims',
  text: `INSERT INTO claim (organization_id, schedule_id, seat, starts_at, ends_at, core_starts_at, core_ends_at, holder, shared, expires_at)
         SELECT "organizationId", "scheduleId", seat, "startsAt", "endsAt", "coreStartsAt", "coreEndsAt", holder, shared, "expiresAt"
         FROM jsonb_to_recordset($1::jsonb) AS c ("organizationId" uuid, "scheduleId" uuid, seat smallint, "startsAt" timestamptz,
           "endsAt" timestamptz, "coreStartsAt" timestamptz, "coreEndsAt" timestamptz, holder uuid, shared boolean, "expiresAt" timestamptz)`,
};

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
const READ_SOME_DAYS = {
  name: 'read-some-days',
  text: daysWhere(
    '(schedule_id, day) IN (SELECT DISTINCT schedule_id, day FROM unnest($1::uuid[], $2::date[]) AS key (schedule_id, day))',
    'grid',
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
