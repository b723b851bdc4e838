import { Column, Entity, PrimaryColumn } from 'typeorm';

export const STATUSES = [
  'held',
  'pending',
  'confirmed',
  'checked_in',
  'completed',
  'no_show',
  'cancelled',
  'expired',
] as const;
export type AppointmentStatus = (typeof STATUSES)[number];

/** The statuses that occupy time. Which claim occupies it the ledger knows; the status alone frees and takes nothing. */
export const OCCUPYING: readonly AppointmentStatus[] = ['held', 'pending', 'confirmed', 'checked_in'];

/** Somebody sees somebody about something, at a time. Every change raises the version and adds a line of history. */
@Entity('appointment')
export class Appointment {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('text')
  status: AppointmentStatus;
  @Column('integer')
  version: number;
  @Column('uuid')
  serviceId: string;
  @Column('uuid')
  patientId: string;
  /** Who comes, where that is not the patient himself: families share a phone. */
  @Column('text', { nullable: true })
  attendeeName: string | null;
  @Column('timestamptz')
  startsAt: Date;
  @Column('timestamptz')
  endsAt: Date;
  /** When a hold or request stops to occupy its time; what it was, afterwards. */
  @Column('timestamptz', { nullable: true })
  expiresAt: Date | null;
  /** Until when a request may be decided, its start left aside; null for one without a limit that has not expired. */
  @Column('timestamptz', { nullable: true })
  pendingUntil: Date | null;
  /** What a cancellation was: `in_time`, or what the organization calls a late one. */
  @Column('text', { nullable: true })
  cancellation: string | null;
  @Column('text')
  mode: string;
  @Column('text')
  confirmationStatus: string;
  @Column('text')
  source: string;
  @Column('text', { nullable: true })
  notes: string | null;
  @Column('jsonb')
  metadata: Record<string, unknown>;
  @Column('timestamptz')
  createdAt: Date;
  @Column('timestamptz')
  updatedAt: Date;
}

/** One part of an appointment on one schedule. Simple services have one. */
@Entity('appointment_segment')
export class AppointmentSegment {
  @PrimaryColumn('uuid')
  appointmentId: string;
  @PrimaryColumn('smallint')
  position: number;
  @Column('uuid')
  organizationId: string;
  @Column('text', { nullable: true })
  name: string | null;
  @Column('uuid')
  scheduleId: string;
  @Column('uuid', { nullable: true })
  practitionerId: string | null;
  @Column('uuid', { nullable: true })
  roomId: string | null;
  @Column('timestamptz')
  startsAt: Date;
  @Column('timestamptz')
  endsAt: Date;
  /** The start of the whole appointment, by which lists of a practitioner are sorted. */
  @Column('timestamptz')
  appointmentStartsAt: Date;
}

/** Who did what, when, why, through which channel. Append-only: the database lets nobody change it. */
@Entity('appointment_history')
export class AppointmentHistory {
  @PrimaryColumn('uuid')
  appointmentId: string;
  @PrimaryColumn('integer')
  version: number;
  @Column('uuid')
  organizationId: string;
  @Column('text')
  action: string;
  @Column('text', { nullable: true })
  fromStatus: AppointmentStatus | null;
  @Column('text')
  toStatus: AppointmentStatus;
  @Column('text')
  actor: string;
  @Column('text')
  channel: string;
  @Column('text', { nullable: true })
  reason: string | null;
  @Column('jsonb')
  details: Record<string, unknown>;
  @Column('timestamptz')
  at: Date;
}
