import { Injectable } from '@nestjs/common';
import { type Call, requireVersion } from '../auth';
import { Ledger } from '../availability';
import {
  Clock,
  Cursors,
  Database,
  DEFAULT_PAGE,
  Idempotency,
  Outbox,
  type Page,
  parseInstant,
  Problem,
  Reply,
} from '../platform';
import type { AppointmentStatus } from './appointment.entities';
import { AppointmentRepository } from './appointment.repository';
import { showAppointment, showHistory } from './appointment.representation';
import { decideTransition } from './transitions.rules';

export interface AppointmentsQuery {
  from?: string;
  to?: string;
  practitionerId?: string;
  patientId?: string;
  status?: string;
  confirmationStatus?: string;
  limit?: number;
  cursor?: string;
}

/** The life of an appointment once it is booked: reading, listing, cancelling. */
@Injectable()
export class AppointmentsService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly outbox: Outbox,
    private readonly clock: Clock,
    private readonly cursors: Cursors,
    private readonly ledger: Ledger,
    private readonly appointments: AppointmentRepository,
  ) {}

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const appointment = await this.appointments.get(tx, id);
      return Reply.ok(showAppointment(appointment), appointment.version);
    });
  }

  list(call: Call, query: AppointmentsQuery): Promise<Page<object>> {
    const { from, to, practitionerId, patientId, status, confirmationStatus } = query;
    const scope = [
      'appointments',
      call.organizationId,
      from,
      to,
      practitionerId,
      patientId,
      status,
      confirmationStatus,
    ].join('/');
    const key = query.cursor === undefined ? undefined : this.cursors.read(scope, query.cursor);
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      const rows = await this.appointments.list(tx, {
        from: instant(from),
        to: instant(to),
        practitionerId,
        patientId,
        statuses: status === undefined ? undefined : (status.split(',') as AppointmentStatus[]),
        confirmationStatus,
        after: key && { startsAt: new Date(key[0]!), id: key[1]! },
        take: limit + 1,
      });
      return this.cursors.page(rows, limit, scope, (row) => [row.startsAt.toISOString(), row.id], showAppointment);
    });
  }

  history(call: Call, id: string, query: { limit?: number; cursor?: string }): Promise<Page<object>> {
    const scope = ['history', call.organizationId, id].join('/');
    const after = query.cursor === undefined ? 0 : Number(this.cursors.read(scope, query.cursor)[0]);
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      await this.appointments.get(tx, id);
      const lines = await this.appointments.historyOf(tx, id, after, limit + 1);
      return this.cursors.page(lines, limit, scope, (line) => [String(line.version)], showHistory);
    });
  }

  /** Cancels, and frees what the appointment occupies: its own claim, never "the slot", which may be somebody else's by then. */
  cancel(call: Call, id: string, reason: string | null): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      const before = await this.appointments.lock(tx, id);
      requireVersion(call, before.version);
      const decision = decideTransition(before.status, 'cancel');
      if (!decision.ok) {
        throw new Problem('invalid_transition', `An appointment that is ${before.status} cannot be cancelled.`, {
          currentStatus: before.status,
        });
      }
      await this.ledger.release(tx, id);
      const after = {
        ...before,
        status: decision.to,
        version: before.version + 1,
        updatedAt: this.clock.date(),
      };
      await this.appointments.update(tx, id, {
        status: after.status,
        version: after.version,
        updatedAt: after.updatedAt,
      });
      await this.appointments.appendHistory(tx, {
        appointmentId: id,
        version: after.version,
        organizationId: call.organizationId,
        action: 'cancel',
        fromStatus: before.status,
        toStatus: after.status,
        actor: call.principalId,
        channel: call.channel,
        reason,
        at: after.updatedAt,
      });
      await this.outbox.append(tx, {
        organizationId: call.organizationId,
        type: 'appointment.cancelled',
        subjectId: id,
        version: after.version,
      });
      return Reply.ok(showAppointment(after), after.version);
    });
  }
}

const instant = (text: string | undefined): Date | undefined =>
  text === undefined ? undefined : new Date(parseInstant(text)!);
