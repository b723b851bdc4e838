import { Injectable } from '@nestjs/common';
import type { Call } from '../auth';
import { Cursors, Database, DEFAULT_PAGE, type Page, parseInstant, Reply, showInstant } from '../platform';
import type { AppointmentStatus } from './appointment.entities';
import { AppointmentRepository, type FullAppointment } from './appointment.repository';
import { changedAt, showAppointment, showHistory } from './appointment.representation';
import { AppointmentScope } from './scope.service';

export interface AppointmentsQuery {
  from?: string;
  to?: string;
  practitionerId?: string;
  patientId?: string;
  status?: string;
  confirmationStatus?: string;
  updatedSince?: string;
  limit?: number;
  cursor?: string;
}

/** Reads appointments: one, a list, a history. */
@Injectable()
export class AppointmentsService {
  constructor(
    private readonly database: Database,
    private readonly cursors: Cursors,
    private readonly appointments: AppointmentRepository,
    private readonly scope: AppointmentScope,
  ) {}

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const appointment = await this.appointments.get(tx, id);
      await this.scope.require(tx, call, appointment);
      return Reply.ok(showAppointment(appointment), appointment.version);
    });
  }

  /**
   * A page, in the order of starts; with `updatedSince` in the order of changes, for pollers: who asks again with its
   * `asOf`, with the latest `updatedAt` that he was shown, or with the time at which he asked, misses nothing. So a poll waits for the changes that
   * have begun before it, and leaves out those that begin after it.
   */
  async list(call: Call, query: AppointmentsQuery): Promise<Page<object> & { asOf?: string }> {
    const { from, to, practitionerId, patientId, status, confirmationStatus, updatedSince } = query;
    const filters = [from, to, practitionerId, patientId, status, confirmationStatus, updatedSince];
    const scope = ['appointments', call.organizationId, ...filters].join('/');
    const key = query.cursor === undefined ? undefined : this.cursors.read(scope, query.cursor);
    const limit = query.limit ?? DEFAULT_PAGE;
    const since = instant(updatedSince);
    // All pages of a poll end where its first one does.
    const until = since && (key ? new Date(key[2]!) : await this.database.settled(call.organizationId));
    return this.database.read(call.organizationId, async (tx) => {
      const rows = await this.appointments.list(tx, {
        from: instant(from),
        to: instant(to),
        ...(await this.scope.filter(tx, call, { practitionerId, patientId })),
        statuses: status === undefined ? undefined : (status.split(',') as AppointmentStatus[]),
        confirmationStatus,
        changed: since && { since, until: until! },
        after: key && { at: new Date(key[0]!), id: key[1]! },
        take: limit + 1,
      });
      const keyOf = (row: FullAppointment) =>
        until ? [changedAt(row).toISOString(), row.id, until.toISOString()] : [row.startsAt.toISOString(), row.id];
      const page = this.cursors.page(rows, limit, scope, keyOf, showAppointment);
      return until ? { ...page, asOf: showInstant(until) } : page;
    });
  }

  history(call: Call, id: string, query: { limit?: number; cursor?: string }): Promise<Page<object>> {
    const scope = ['history', call.organizationId, id].join('/');
    const after = query.cursor === undefined ? 0 : Number(this.cursors.read(scope, query.cursor)[0]);
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      await this.scope.require(tx, call, await this.appointments.get(tx, id));
      const lines = await this.appointments.historyOf(tx, id, after, limit + 1);
      return this.cursors.page(lines, limit, scope, (line) => [String(line.version)], showHistory);
    });
  }
}

const instant = (text: string | undefined): Date | undefined =>
  text === undefined ? undefined : new Date(parseInstant(text)!);
