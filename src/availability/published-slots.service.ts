import { Injectable } from '@nestjs/common';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import {
  Clock,
  ConstraintViolation,
  Cursors,
  Database,
  DEFAULT_PAGE,
  Idempotency,
  type ListQuery,
  type Page,
  parseInstant,
  Problem,
  Reply,
  showInstant,
} from '../platform';
import type { PublishedSlot } from './schedule.entities';
import { ScheduleRepository } from './schedule.repository';
import { checkSpan, SchedulesService } from './schedules.service';

const DAY = 86_400_000;

export interface PublishedSlotInput {
  startsAt: string;
  endsAt: string;
  mode?: string | null;
  capacity?: number | null;
}

/**
 * Times that are published beside the weekly hours: booked like any other, in the mode and by as many patients as was
 * published. Each is a rule of its schedule: publishing and withdrawing need its version and raise it, and lock what an edit
 * of hours locks. What is booked stays when its slot is withdrawn.
 */
@Injectable()
export class PublishedSlotsService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    private readonly cursors: Cursors,
    private readonly repository: ScheduleRepository,
    private readonly schedules: SchedulesService,
  ) {}

  async publish(call: Call, scheduleId: string, input: PublishedSlotInput): Promise<Reply> {
    const span = { start: parseInstant(input.startsAt)!, end: parseInstant(input.endsAt)! };
    checkSpan(span);
    if (span.end - span.start > DAY)
      throw Problem.invalid({ pointer: '/endsAt', detail: 'must be at most 24 hours after startsAt' });
    const publish = this.idempotency.transaction(call, async (tx) => {
      const schedule = await this.schedules.edit(tx, call, scheduleId);
      // Under the schedule's lock; the constraint stands behind it.
      if (await this.repository.isPublished(tx, scheduleId, span)) throw published();
      const slot: PublishedSlot = {
        id: uuidv7(),
        organizationId: call.organizationId,
        scheduleId,
        startsAt: new Date(span.start),
        endsAt: new Date(span.end),
        mode: input.mode ?? null,
        capacity: input.capacity ?? null,
        publishedBy: call.principalId,
        createdAt: this.clock.date(),
      };
      await this.repository.insertPublished(tx, slot);
      const affectedAppointments = await this.schedules.applyOpening(tx, schedule, span, 'schedule.slot_published');
      const body = { ...showPublished(slot), affectedAppointments };
      return Reply.created(`/v1/schedules/${scheduleId}/published-slots`, body, schedule.version);
    });
    try {
      return await this.schedules.editing(call, publish);
    } catch (error) {
      if (error instanceof ConstraintViolation && error.constraint === 'published_slot_no_overlap') throw published();
      throw error;
    }
  }

  withdraw(call: Call, scheduleId: string, id: string): Promise<Reply> {
    return this.schedules.editing(
      call,
      this.database.transaction(call.organizationId, async (tx) => {
        const find = () => this.repository.getPublished(tx, scheduleId, id);
        const schedule = await this.schedules.edit(tx, call, scheduleId, find);
        const slot = await find();
        await this.repository.deletePublished(tx, id);
        const span = { start: slot.startsAt.getTime(), end: slot.endsAt.getTime() };
        const affectedAppointments = await this.schedules.applyOpening(tx, schedule, span, 'schedule.slot_withdrawn');
        return Reply.ok({ ...showPublished(slot), affectedAppointments }, schedule.version);
      }),
    );
  }

  get(call: Call, scheduleId: string, id: string) {
    return this.database.read(call.organizationId, async (tx) => {
      await this.repository.get(tx, scheduleId);
      return showPublished(await this.repository.getPublished(tx, scheduleId, id));
    });
  }

  list(call: Call, scheduleId: string, query: ListQuery): Promise<Reply<Page<object>>> {
    const scope = `published-slots/${call.organizationId}/${scheduleId}`;
    const after = query.cursor === undefined ? undefined : this.cursors.read(scope, query.cursor)[0];
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      const schedule = await this.repository.get(tx, scheduleId);
      const rows = await this.repository.listPublished(tx, scheduleId, after, limit + 1);
      return Reply.ok(
        this.cursors.page(rows, limit, scope, (row) => [row.id], showPublished),
        schedule.version,
      );
    });
  }
}

const published = (): Problem =>
  new Problem('already_exists', 'A slot is published on this schedule that overlaps this one.');

const showPublished = (slot: PublishedSlot) => ({
  id: slot.id,
  startsAt: showInstant(slot.startsAt),
  endsAt: showInstant(slot.endsAt),
  mode: slot.mode,
  capacity: slot.capacity,
  publishedBy: slot.publishedBy,
  createdAt: showInstant(slot.createdAt),
});
