import { Injectable } from '@nestjs/common';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import {
  Clock,
  Cursors,
  Database,
  DEFAULT_PAGE,
  Idempotency,
  type ListQuery,
  type Page,
  parseInstant,
  Reply,
  showInstant,
} from '../platform';
import type { ScheduleException } from './schedule.entities';
import { ScheduleRepository } from './schedule.repository';
import { checkSpan, SchedulesService } from './schedules.service';

export interface ExceptionInput {
  startsAt: string;
  endsAt: string;
  kind: 'closed' | 'open';
  reason?: string | null;
}

/** Spans that are closed, or open, other than the weekly hours of a schedule say. Each is a rule of it, with its version. */
@Injectable()
export class ExceptionsService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    private readonly cursors: Cursors,
    private readonly schedules: ScheduleRepository,
    private readonly rules: SchedulesService,
  ) {}

  add(call: Call, id: string, input: ExceptionInput): Promise<Reply> {
    const span = { start: parseInstant(input.startsAt)!, end: parseInstant(input.endsAt)! };
    checkSpan(span);
    return this.rules.editing(
      call,
      this.idempotency.transaction(call, async (tx) => {
        const schedule = await this.rules.edit(tx, call, id);
        const exception: ScheduleException = {
          id: uuidv7(),
          organizationId: call.organizationId,
          scheduleId: id,
          startsAt: new Date(span.start),
          endsAt: new Date(span.end),
          kind: input.kind,
          reason: input.reason ?? null,
          createdAt: this.clock.date(),
        };
        await this.schedules.insertException(tx, exception);
        const affectedAppointments = await this.rules.applyOpening(tx, schedule, span);
        const reply = { ...showException(exception), affectedAppointments };
        return Reply.created(`/v1/schedules/${id}/exceptions`, reply, schedule.version);
      }),
    );
  }

  remove(call: Call, id: string, exceptionId: string): Promise<Reply> {
    return this.rules.editing(
      call,
      this.database.transaction(call.organizationId, async (tx) => {
        const find = () => this.schedules.getException(tx, id, exceptionId);
        const schedule = await this.rules.edit(tx, call, id, find);
        const exception = await find();
        await this.schedules.deleteException(tx, exceptionId);
        const span = { start: exception.startsAt.getTime(), end: exception.endsAt.getTime() };
        const affectedAppointments = await this.rules.applyOpening(tx, schedule, span);
        return Reply.ok({ ...showException(exception), affectedAppointments }, schedule.version);
      }),
    );
  }

  get(call: Call, id: string, exceptionId: string) {
    return this.database.read(call.organizationId, async (tx) => {
      await this.schedules.get(tx, id);
      return showException(await this.schedules.getException(tx, id, exceptionId));
    });
  }

  list(call: Call, id: string, query: ListQuery): Promise<Reply<Page<object>>> {
    const scope = `exceptions/${call.organizationId}/${id}`;
    const after = query.cursor === undefined ? undefined : this.cursors.read(scope, query.cursor)[0];
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      const schedule = await this.schedules.get(tx, id);
      const rows = await this.schedules.listExceptions(tx, id, after, limit + 1);
      return Reply.ok(
        this.cursors.page(rows, limit, scope, (row) => [row.id], showException),
        schedule.version,
      );
    });
  }
}

const showException = (exception: ScheduleException) => ({
  id: exception.id,
  startsAt: showInstant(exception.startsAt),
  endsAt: showInstant(exception.endsAt),
  kind: exception.kind,
  reason: exception.reason,
  createdAt: showInstant(exception.createdAt),
});
