import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, MoreThan, Repository } from 'typeorm';
import { LONGEST_CLAIM } from '../availability';
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
    const { sql, values } = pageOfIds(filter);
    const keys = await tx.query<Array<{ id: string }>>(sql, values);
    const rows = await tx.withRepository(this.appointments).findBy({ id: In(keys.map((key) => key.id)) });
    const byId = new Map(rows.map((row) => [row.id, row]));
    return this.withSegments(
      tx,
      keys.map((key) => byId.get(key.id)!),
    );
  }

  /** Whether appointments that are still to come depend on a service or patient. */
  async hasFuture(tx: EntityManager, of: { serviceId: string } | { patientId: string }, now: number): Promise<boolean> {
    const column = 'serviceId' in of ? 'serviceId' : 'patientId';
    return tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where(`a.${column} = :id`, { id: 'serviceId' in of ? of.serviceId : of.patientId })
      .andWhere('a.endsAt > :now AND a.startsAt > :earliest AND a.status IN (:...occupying)', {
        now: new Date(now),
        // No appointment is longer than what can be claimed; the index is sorted by starts.
        earliest: new Date(now - LONGEST_CLAIM),
        occupying: OCCUPYING,
      })
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

/**
 * The ids of one page. What bounds the start stands on the index that is walked: of the segments for a practitioner, of the
 * appointments else; the rest filters what comes along. Row comparisons and ranges would not be used under row-level
 * security, plain bounds are.
 */
function pageOfIds(filter: AppointmentFilter): { sql: string; values: unknown[] } {
  const values: unknown[] = [];
  const bind = (value: unknown, type: string): string => `$${values.push(value)}::${type}`;
  const bounds = (start: string, id: string): string[] => {
    const { from, to, after } = filter;
    const last = after && bind(after.startsAt, 'timestamptz');
    return [
      ...(from ? [`${start} >= ${bind(from, 'timestamptz')}`] : []),
      ...(to ? [`${start} < ${bind(to, 'timestamptz')}`] : []),
      ...(after ? [`${start} >= ${last}`, `(${start} > ${last} OR ${id} > ${bind(after.id, 'uuid')})`] : []),
    ];
  };
  const filters = (): string[] => [
    ...(filter.patientId ? [`a.patient_id = ${bind(filter.patientId, 'uuid')}`] : []),
    ...(filter.statuses ? [`a.status = ANY(${bind(filter.statuses, 'text[]')})`] : []),
    ...(filter.confirmationStatus ? [`a.confirmation_status = ${bind(filter.confirmationStatus, 'text')}`] : []),
  ];
  const where = (conditions: string[]): string => (conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : '');
  const limit = () => `LIMIT ${bind(filter.take, 'integer')}`;
  if (filter.practitionerId === undefined) {
    const conditions = [...bounds('a.starts_at', 'a.id'), ...filters()];
    return { sql: `SELECT a.id FROM appointment a ${where(conditions)} ORDER BY a.starts_at, a.id ${limit()}`, values };
  }
  const mine = [
    `practitioner_id = ${bind(filter.practitionerId, 'uuid')}`,
    ...bounds('appointment_starts_at', 'appointment_id'),
  ];
  return {
    sql: `SELECT a.id
          FROM (SELECT DISTINCT appointment_starts_at, appointment_id FROM appointment_segment ${where(mine)}) mine
          JOIN appointment a ON a.id = mine.appointment_id ${where(filters())}
          ORDER BY mine.appointment_starts_at, mine.appointment_id ${limit()}`,
    values,
  };
}
