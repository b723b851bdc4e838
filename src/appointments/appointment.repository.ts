import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Brackets, type EntityManager, In, MoreThan, Repository } from 'typeorm';
import { Problem } from '../platform';
import {
  Appointment,
  AppointmentHistory,
  AppointmentSegment,
  type AppointmentStatus,
  OCCUPYING,
} from './appointment.entities';

/** An appointment with its segments, in their order. */
export type FullAppointment = Appointment & { segments: AppointmentSegment[] };

export interface AppointmentFilter {
  from?: Date;
  to?: Date;
  practitionerId?: string;
  patientId?: string;
  statuses?: AppointmentStatus[];
  confirmationStatus?: string;
  /** The key of the last row of the page before. */
  after?: { startsAt: Date; id: string };
  take: number;
}

/** Appointments and what belongs to them. Locks: the appointment's row, which stands before schedules in the global order. */
@Injectable()
export class AppointmentRepository {
  constructor(
    @InjectRepository(Appointment) private readonly appointments: Repository<Appointment>,
    @InjectRepository(AppointmentSegment) private readonly segments: Repository<AppointmentSegment>,
    @InjectRepository(AppointmentHistory) private readonly history: Repository<AppointmentHistory>,
  ) {}

  async get(tx: EntityManager, id: string): Promise<FullAppointment> {
    const appointment = await tx.withRepository(this.appointments).findOneBy({ id });
    if (!appointment) throw Problem.notFound('appointment');
    return (await this.withSegments(tx, [appointment]))[0]!;
  }

  /** Locks an appointment for a change: serialises everybody who acts on it, and nobody who only refers to it. */
  async lock(tx: EntityManager, id: string): Promise<FullAppointment> {
    const appointment = await tx
      .withRepository(this.appointments)
      .findOne({ where: { id }, lock: { mode: 'for_no_key_update' } });
    if (!appointment) throw Problem.notFound('appointment');
    return (await this.withSegments(tx, [appointment]))[0]!;
  }

  async update(tx: EntityManager, id: string, changes: Partial<Omit<Appointment, 'metadata'>>): Promise<void> {
    await tx.withRepository(this.appointments).update({ id }, changes);
  }

  async appendHistory(tx: EntityManager, line: Omit<AppointmentHistory, 'details'>): Promise<void> {
    await tx.withRepository(this.history).insert({ ...line, details: {} });
  }

  historyOf(tx: EntityManager, appointmentId: string, after: number, take: number): Promise<AppointmentHistory[]> {
    return tx
      .withRepository(this.history)
      .find({ where: { appointmentId, version: MoreThan(after) }, order: { version: 'ASC' }, take });
  }

  /** In the order of start and id, so that a page costs the same wherever it lies. */
  async list(tx: EntityManager, filter: AppointmentFilter): Promise<FullAppointment[]> {
    const query = tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .orderBy('a.startsAt')
      .addOrderBy('a.id')
      .take(filter.take);
    if (filter.from) query.andWhere('a.startsAt >= :from', { from: filter.from });
    if (filter.to) query.andWhere('a.startsAt < :to', { to: filter.to });
    if (filter.patientId) query.andWhere('a.patientId = :patientId', { patientId: filter.patientId });
    if (filter.statuses) query.andWhere('a.status IN (:...statuses)', { statuses: filter.statuses });
    if (filter.confirmationStatus)
      query.andWhere('a.confirmationStatus = :confirmation', { confirmation: filter.confirmationStatus });
    if (filter.practitionerId) {
      query.andWhere(
        `EXISTS (SELECT 1 FROM appointment_segment s WHERE s.organization_id = a.organization_id AND s.appointment_id = a.id
                   AND s.practitioner_id = :practitionerId)`,
        { practitionerId: filter.practitionerId },
      );
    }
    const after = filter.after;
    if (after) {
      // Two plain bounds beside the row comparison: under row-level security only they can bound the index scan.
      query
        .andWhere('a.startsAt >= :lastStart', { lastStart: after.startsAt })
        .andWhere(
          new Brackets((either) =>
            either.where('a.startsAt > :lastStart').orWhere('a.id > :lastId', { lastId: after.id }),
          ),
        );
    }
    return this.withSegments(tx, await query.getMany());
  }

  /** Whether appointments that are still to come depend on a service or patient. */
  async hasFuture(tx: EntityManager, of: { serviceId: string } | { patientId: string }, now: number): Promise<boolean> {
    const column = 'serviceId' in of ? 'serviceId' : 'patientId';
    return tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where(`a.${column} = :id`, { id: 'serviceId' in of ? of.serviceId : of.patientId })
      .andWhere('a.endsAt > :now AND a.status IN (:...occupying)', { now: new Date(now), occupying: OCCUPYING })
      .getExists();
  }

  private async withSegments(tx: EntityManager, appointments: Appointment[]): Promise<FullAppointment[]> {
    if (appointments.length === 0) return [];
    const rows = await tx
      .withRepository(this.segments)
      .find({ where: { appointmentId: In(appointments.map((each) => each.id)) }, order: { position: 'ASC' } });
    return appointments.map((each) => ({ ...each, segments: rows.filter((row) => row.appointmentId === each.id) }));
  }
}
