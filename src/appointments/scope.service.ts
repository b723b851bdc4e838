import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { Database, Problem, type Reply } from '../platform';
import type { AppointmentSegment } from './appointment.entities';
import { AppointmentRepository } from './appointment.repository';
import type { BookingRequest } from './booking.service';

/** What of an appointment says whose it is. */
interface Owned {
  patientId: string;
  segments: ReadonlyArray<Pick<AppointmentSegment, 'practitionerId' | 'roomId'>>;
}

/** An id that nobody has: a list that is limited to it is empty. */
const NOBODY = '00000000-0000-0000-0000-000000000000';

/**
 * Which appointments a caller has to do with: a patient with his own, a practitioner with those that he takes part in, a
 * receptionist of some branches with those that take place there. Others are not there for them. Who is bound to nothing of that
 * costs nothing here.
 */
@Injectable()
export class AppointmentScope {
  constructor(
    private readonly database: Database,
    private readonly appointments: AppointmentRepository,
  ) {}

  /**
   * Refuses an appointment that is none of the caller's, as if it was not there. For a change, under the appointment's lock:
   * with whom it is may have changed since.
   */
  async require(tx: EntityManager, call: Call, appointment: Owned): Promise<void> {
    if (isBound(call) && !(await this.isOwn(tx, call, appointment))) throw Problem.notFound('appointment');
  }

  /** The same before anything else is told of it: a refusal for another reason would show that it is there. */
  async requireSeen(call: Call, id: string): Promise<void> {
    if (!isBound(call)) return;
    await this.database.read(call.organizationId, async (tx) => {
      await this.require(tx, call, await this.appointments.get(tx, id));
    });
  }

  /** Refuses to bring an appointment where it would be none of the caller's any more. */
  async requireWithin(tx: EntityManager, call: Call, after: Owned): Promise<void> {
    if (isBound(call) && !(await this.isOwn(tx, call, after)))
      throw new Problem('forbidden', 'This lies outside of what you have to do with.');
  }

  /** Refuses a booking, not committed yet, that is none of the caller's. */
  async requireBooked(tx: EntityManager, call: Call, reply: Reply): Promise<Reply> {
    if (isBound(call)) {
      const shown = (reply.body ?? JSON.parse(reply.stored!.text)) as {
        patientId: string;
        segments: Array<{ practitionerId?: string; roomId?: string }>;
      };
      const segments = shown.segments.map(({ practitionerId = null, roomId = null }) => ({ practitionerId, roomId }));
      await this.requireWithin(tx, call, { patientId: shown.patientId, segments });
    }
    return reply;
  }

  /** A booking as the caller may ask for it: a patient books for himself, a practitioner with himself unless he takes others along. */
  async narrow(call: Call, request: BookingRequest): Promise<BookingRequest> {
    const { phone, practitionerId } = call;
    if (phone !== undefined) {
      if (request.patientId) {
        const own = await this.database.read(call.organizationId, (tx) => this.patientWith(tx, phone));
        if (request.patientId !== own) throw Problem.notFound('patient');
        return request;
      }
      if (request.patient && request.patient.phone !== phone)
        throw new Problem('forbidden', 'You book under your own phone.');
      return { ...request, patient: { ...request.patient, phone } };
    }
    if (practitionerId !== undefined && !request.practitionerId && !request.segments)
      return { ...request, practitionerId };
    return request;
  }

  /** The filters of a list, within what the caller has to do with. */
  async filter<F extends { patientId?: string; practitionerId?: string }>(
    tx: EntityManager,
    { phone, practitionerId, locationIds }: Call,
    asked: F,
  ): Promise<F & { locationIds?: readonly string[] }> {
    if (phone !== undefined) {
      const own = await this.patientWith(tx, phone);
      return { ...asked, patientId: own && (asked.patientId ?? own) === own ? own : NOBODY };
    }
    if (practitionerId !== undefined) {
      const own = (asked.practitionerId ?? practitionerId) === practitionerId;
      return { ...asked, practitionerId: own ? practitionerId : NOBODY };
    }
    return { ...asked, locationIds };
  }

  private async isOwn(tx: EntityManager, call: Call, { patientId, segments }: Owned): Promise<boolean> {
    const { phone, practitionerId, locationIds } = call;
    if (phone !== undefined) return (await this.patientWith(tx, phone)) === patientId;
    if (practitionerId !== undefined) return segments.some((segment) => segment.practitionerId === practitionerId);
    const ids = segments.map((segment) => segment.practitionerId ?? segment.roomId);
    const [there] = await tx.query<[unknown?]>(THERE as never, [ids, locationIds]);
    return there !== undefined;
  }

  private async patientWith(tx: EntityManager, phone: string): Promise<string | undefined> {
    const [row] = await tx.query<[{ id: string }?]>(PATIENT as never, [phone]);
    return row?.id;
  }
}

const isBound = ({ phone, practitionerId, locationIds }: Call): boolean =>
  phone !== undefined || practitionerId !== undefined || locationIds !== undefined;

const PATIENT = {
  name: 'own-patient',
  text: 'SELECT id FROM patient WHERE phone = $1 AND deleted_at IS NULL',
};
const THERE = {
  name: 'at-branches',
  text: `SELECT 1 FROM practitioner WHERE id = ANY($1::uuid[]) AND location_id = ANY($2::uuid[])
         UNION ALL SELECT 1 FROM room WHERE id = ANY($1::uuid[]) AND location_id = ANY($2::uuid[]) LIMIT 1`,
};
