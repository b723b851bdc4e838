import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, LessThan, MoreThan, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { type Interval, Problem } from '../platform';
import { type DayPlan, type ExceptionSpan, planDay, type WeeklyHours } from './hours.rules';
import type { Published } from './ledger.rules';
import { PublishedSlot, Schedule, ScheduleException, ScheduleHours } from './schedule.entities';

/** The rules of one schedule, as its day rows are planned from them. */
export interface ScheduleRules {
  timeZone: string;
  hours: WeeklyHours[];
  exceptions: ExceptionSpan[];
  published: Published[];
  places: number;
}

/** Schedules and their rules. Locks: the schedule's row, which stands before day rows in the global order. */
@Injectable()
export class ScheduleRepository {
  constructor(
    @InjectRepository(Schedule) private readonly schedules: Repository<Schedule>,
    @InjectRepository(ScheduleHours) private readonly hours: Repository<ScheduleHours>,
    @InjectRepository(ScheduleException) private readonly exceptions: Repository<ScheduleException>,
    @InjectRepository(PublishedSlot) private readonly published: Repository<PublishedSlot>,
  ) {}

  async insert(tx: EntityManager, organizationId: string, timeZone: string, now: Date): Promise<string> {
    const id = uuidv7();
    await tx
      .withRepository(this.schedules)
      .insert({ id, organizationId, timeZone, active: true, places: 1, version: 1, createdAt: now, updatedAt: now });
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

  async insertPublished(tx: EntityManager, slot: PublishedSlot): Promise<void> {
    await tx.withRepository(this.published).insert(slot);
  }

  async getPublished(tx: EntityManager, scheduleId: string, id: string): Promise<PublishedSlot> {
    const slot = await tx.withRepository(this.published).findOneBy({ id, scheduleId });
    if (!slot) throw Problem.notFound('published slot');
    return slot;
  }

  async deletePublished(tx: EntityManager, id: string): Promise<void> {
    await tx.withRepository(this.published).delete({ id });
  }

  listPublished(
    tx: EntityManager,
    scheduleId: string,
    after: string | undefined,
    take: number,
  ): Promise<PublishedSlot[]> {
    return tx.withRepository(this.published).find({
      where: { scheduleId, ...(after ? { id: MoreThan(after) } : {}) },
      order: { id: 'ASC' },
      take,
    });
  }

  /** Closed exceptions of schedules that meet an interval. */
  closedWithin(tx: EntityManager, scheduleIds: readonly string[], during: Interval): Promise<ScheduleException[]> {
    return tx.withRepository(this.exceptions).find({
      where: {
        scheduleId: In([...scheduleIds]),
        kind: 'closed',
        startsAt: LessThan(new Date(during.end)),
        endsAt: MoreThan(new Date(during.start)),
      },
      order: { startsAt: 'ASC' },
    });
  }

  /** Whether something is published on a schedule that meets an interval. */
  isPublished(tx: EntityManager, scheduleId: string, during: Interval): Promise<boolean> {
    return tx.withRepository(this.published).existsBy({
      scheduleId,
      startsAt: LessThan(new Date(during.end)),
      endsAt: MoreThan(new Date(during.start)),
    });
  }

  /** The rules of several schedules; exceptions and published slots only where they end after `from`. */
  async rulesOf(tx: EntityManager, schedules: readonly Schedule[], from: number): Promise<Map<string, ScheduleRules>> {
    const scheduleId = In(schedules.map((each) => each.id));
    const hours = await tx.withRepository(this.hours).findBy({ scheduleId });
    const exceptions = await tx
      .withRepository(this.exceptions)
      .findBy({ scheduleId, endsAt: MoreThan(new Date(from)) });
    const published = await tx
      .withRepository(this.published)
      .find({ where: { scheduleId, endsAt: MoreThan(new Date(from)) }, order: { startsAt: 'ASC' } });
    const rules = new Map<string, ScheduleRules>(
      schedules.map(({ id, timeZone, places }) => [id, { timeZone, places, hours: [], exceptions: [], published: [] }]),
    );
    // A schedule whose owner is gone is closed, whatever hours it still has.
    const active = new Set(schedules.filter((each) => each.active).map((each) => each.id));
    for (const each of hours) if (active.has(each.scheduleId)) rules.get(each.scheduleId)?.hours.push(each);
    for (const { scheduleId, startsAt, endsAt, kind } of exceptions) {
      if (active.has(scheduleId))
        rules.get(scheduleId)?.exceptions.push({ start: startsAt.getTime(), end: endsAt.getTime(), kind });
    }
    for (const { scheduleId, startsAt, endsAt, mode, capacity } of published) {
      if (active.has(scheduleId))
        rules.get(scheduleId)?.published.push({ start: startsAt.getTime(), end: endsAt.getTime(), mode, capacity });
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

export const planDays = (rules: ScheduleRules, days: readonly string[]): DayPlan[] =>
  days.map((day) => planDay(rules.timeZone, day, rules.hours, rules.exceptions, rules.published));
