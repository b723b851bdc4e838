import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Interval, statement } from '../platform';

/** Where something may begin: on which of the schedules that were asked about, on which of its days, and not before when. */
export interface Opening {
  index: number;
  day: string;
  at: number;
  /** Whether what begins there can reach into the day before, or into the one after. */
  early: boolean;
  late: boolean;
}

/** From when on anything can begin on some days, and the grids that it lies on: their remainders by the step, in milliseconds. */
export interface Beginnings {
  floor: number | null;
  phases: readonly number[];
}

/** The first instant at or after `from` at which something can begin; Infinity for none, undefined where that is not known. */
export function firstPoint({ floor, phases }: Beginnings, from: number, stepMinutes: number): number | undefined {
  if (floor === null) return undefined;
  const [step, start] = [stepMinutes * 60_000, Math.max(floor, from)];
  if (start === Infinity) return Infinity;
  return Math.min(...phases.map((phase) => phase + Math.ceil((start - phase) / step) * step));
}

export interface OpeningsQuestion {
  /** Schedules as PostgreSQL's array, and how many they are. */
  schedules: { list: string; count: number };
  /** Starts lie in this half-open interval. */
  window: Interval;
  /** The first and the last of the local days that it touches, in whatever zone. */
  days: readonly [first: string, last: string];
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  stepMinutes: number;
  most: number;
}

/** Finds where it is worth looking for a free start among the days of many schedules. */
@Injectable()
export class OpeningsRepository {
  /**
   * The first openings, in the order of time and of the schedules. They are a bound and no answer: nothing begins on another
   * day, nor earlier on these; but it may begin later, or not at all. Where something is published or a hold has lapsed, anything
   * can begin.
   * @returns `complete`: whether the schedules have a row for each day; if not, there may be more
   */
  async find(tx: EntityManager, question: OpeningsQuestion): Promise<{ openings: Opening[]; complete: boolean }> {
    const { schedules, window, days } = question;
    const [row] = await tx.query<[{ covered: number; openings: StoredOpening[] }]>(
      OPENINGS({
        schedules: schedules.list,
        first: days[0],
        last: days[1],
        from: new Date(window.start),
        to: new Date(window.end),
        length: `${question.durationMinutes} minutes`,
        before: `${question.bufferBeforeMinutes} minutes`,
        after: `${question.bufferAfterMinutes} minutes`,
        step: question.stepMinutes * 60,
        most: question.most,
      }) as never,
    );
    return {
      // Down to the millisecond before, should a fraction not have come through whole: later would be wrong.
      openings: row.openings.map(([index, day, at, early, late]) => ({
        index: index - 1,
        day,
        at: Math.floor(at * 1000),
        early,
        late,
      })),
      complete: Math.abs(row.covered * 1000 - schedules.count * (window.end - window.start)) < 0.5,
    };
  }

  /**
   * When the days of schedules begin by their rules alone, whatever is booked. Nothing is known of them (`floor` null) where some
   * have no row, or something is published, whose sessions may begin anywhere.
   */
  async beginnings(
    tx: EntityManager,
    { schedules, days, stepMinutes }: Pick<OpeningsQuestion, 'schedules' | 'days' | 'stepMinutes'>,
  ): Promise<Beginnings> {
    const [row] = await tx.query<[{ rows: number; floor: Date | null; phases: number[]; published: boolean }]>(
      BEGINNINGS({ schedules: schedules.list, first: days[0], last: days[1], step: stepMinutes * 60 }) as never,
    );
    const dates = 1 + (Date.parse(days[1]) - Date.parse(days[0])) / 86_400_000;
    const isKnown = row.rows === schedules.count * dates && !row.published && row.phases.length <= MOST_PHASES;
    return {
      floor: isKnown ? (row.floor?.getTime() ?? Infinity) : null,
      phases: row.phases.map((phase) => Math.round(phase * 1000)),
    };
  }

  /**
   * The sum of the versions of all schedules of the organization. Versions only rise and no schedule is ever deleted: where it
   * is the same, no rule of anybody has changed.
   */
  async rulesVersion(tx: EntityManager): Promise<string> {
    const [row] = await tx.query<[{ version: string }]>(RULES_VERSION({}) as never);
    return row.version;
  }

  /** Which of the schedules lack a row for some of a window. */
  async incomplete(
    tx: EntityManager,
    { schedules, window, days }: Pick<OpeningsQuestion, 'schedules' | 'window' | 'days'>,
  ): Promise<string[]> {
    const rows = await tx.query<Array<{ id: string }>>(
      INCOMPLETE({
        schedules: schedules.list,
        first: days[0],
        last: days[1],
        from: new Date(window.start),
        to: new Date(window.end),
      }) as never,
    );
    return rows.map((row) => row.id);
  }
}

type StoredOpening = [index: number, day: string, at: number, early: boolean, late: boolean];

/** How much of the window days cover, whichever zone they are of. */
const COVERED = 'sum(least(ends, :to::timestamptz) - greatest(begins, :from::timestamptz))';
const WITHIN = 'ends > :from::timestamptz AND begins < :to::timestamptz';

/** The first point of a day's grid at or after the beginning of the window. */
const FIRST_POINT = `
  (SELECT to_timestamp(min(anchor + greatest(0, ceil((date_part('epoch', :from::timestamptz) - anchor) / :step::float8)) * :step::float8))
   FROM (SELECT (hours->>0)::float8 AS anchor FROM jsonb_array_elements(grid) AS hours) points)`;

// Of 500 schedules' days a handful is named: what is free of each is looked at where it lies, and the rest never leaves the
// server. Of each day the first stretch counts in which there is room, or that goes on at midnight. Nothing starts on it before it
// begins; of one that has begun before the window, the grid is asked. unnest() stands in the list of what is selected, where it
// stops when enough is known. The FULL JOIN behind a fence is hashed whatever the planner believes of the length of a list that
// it does not know, and never a loop over two long lists.
const OPENINGS = statement(
  'openings',
  `WITH lapsed AS MATERIALIZED (SELECT schedule_id, during FROM claim WHERE expires_at <= statement_timestamp()),
   own AS MATERIALIZED (
     SELECT * FROM unnest(:schedules::uuid[]) WITH ORDINALITY AS lane (id, index) FULL JOIN (
       SELECT schedule_id, day, lower(covers) AS begins, upper(covers) AS ends, open, free, grid, published <> '[]' AS is_published
       FROM schedule_day WHERE schedule_id = ANY(:schedules::uuid[]) AND day BETWEEN :first::date AND :last::date OFFSET 0
     ) stored ON id = schedule_id OFFSET 0),
   opening AS (
     SELECT index, day, begins, ends, open, at FROM own, LATERAL (
       SELECT at FROM (
         SELECT CASE WHEN lower(stretch) < :from::timestamptz THEN ${FIRST_POINT} ELSE lower(stretch) END AS at, upper(stretch) AS until
         FROM (SELECT unnest(free) AS stretch) every
         WHERE upper(stretch) > :from::timestamptz AND (upper(stretch) - lower(stretch) >= :length::interval OR upper(stretch) = ends)
         OFFSET 0) roomy
       WHERE at + :length::interval <= until OR (at < until AND until = ends) LIMIT 1) earliest
     UNION ALL
     SELECT index, day, begins, ends, open, greatest(lower(open), :from::timestamptz) FROM own WHERE is_published
     UNION ALL
     SELECT index, day, begins, ends, open, greatest(lower(open), :from::timestamptz)
     FROM own JOIN lapsed ON own.schedule_id = lapsed.schedule_id AND during && tstzrange(begins, ends)
   )
   SELECT (SELECT coalesce(date_part('epoch', ${COVERED}), 0) FROM own WHERE ${WITHIN}) AS covered,
          (SELECT coalesce(json_agg(json_build_array(index, day, date_part('epoch', at), lower(open) - :before::interval < begins,
                                                     upper(open) + :after::interval >= ends) ORDER BY at, index, day), '[]')
           FROM (SELECT * FROM opening WHERE at < :to::timestamptz AND ends > :from::timestamptz
                 ORDER BY at, index, day LIMIT :most::integer) first) AS openings`,
);

const INCOMPLETE = statement(
  'incomplete-schedules',
  `SELECT id FROM unnest(:schedules::uuid[]) AS id
   WHERE coalesce((SELECT ${COVERED}
                   FROM (SELECT lower(covers) AS begins, upper(covers) AS ends FROM schedule_day
                         WHERE schedule_id = id AND day BETWEEN :first::date AND :last::date) own
                   WHERE ${WITHIN}), interval '0')
         < :to::timestamptz - :from::timestamptz`,
);

const BEGINNINGS = statement(
  'beginnings',
  `WITH own AS MATERIALIZED (
     SELECT schedule_id, open, grid, published FROM schedule_day
     WHERE schedule_id = ANY(:schedules::uuid[]) AND day BETWEEN :first::date AND :last::date)
   SELECT count(*)::integer AS rows, min(lower(open)) AS floor, coalesce(bool_or(published <> '[]'), false) AS published,
          (SELECT coalesce(array_agg(DISTINCT anchor - floor(anchor / :step::float8) * :step::float8), '{}')
           FROM own, jsonb_array_elements(grid) AS hours, LATERAL (SELECT (hours->>0)::float8 AS anchor) point) AS phases
   FROM own`,
);

const RULES_VERSION = statement('rules-version', 'SELECT coalesce(sum(version), 0)::text AS version FROM schedule');

/** So many different grids are compared; where there are more, an earliest point would tell little. */
const MOST_PHASES = 30;
