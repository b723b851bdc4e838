import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { ClinicRecord } from './records';

/** A company: the tenant. Every other row belongs to exactly one. */
@Entity('organization')
export class Organization {
  @PrimaryColumn('uuid')
  id: string;
  @Column('text')
  name: string;
  @Column('text')
  timeZone: string;
  /** Where a caller belongs who named no branch. */
  @Column('uuid', { nullable: true })
  defaultLocationId: string | null;
  /** Whether a patient may have two appointments at the same time. */
  @Column('boolean', { default: true })
  allowPatientOverlap: boolean;
  /** How many holds a patient may have open at once; null for any number. */
  @Column('integer', { nullable: true })
  maxOpenHolds: number | null;
  /** How long before its start the cancellation of a confirmed appointment begins to be late; null for never. */
  @Column('integer', { nullable: true })
  cancellationWindowMinutes: number | null;
  /** Who may still cancel then. */
  @Column('text', { array: true, default: '{}' })
  lateCancellationRoles: string[];
  /** What such a cancellation is called. */
  @Column('text', { default: 'late_cancellation' })
  lateCancellationKind: string;
  @Column('integer', { default: 1 })
  version: number;
  @Column('timestamptz')
  createdAt: Date;
  @Column('timestamptz')
  updatedAt: Date;
}

abstract class OfOrganization implements ClinicRecord {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('integer', { default: 1 })
  version: number;
  @Column('timestamptz')
  createdAt: Date;
  @Column('timestamptz')
  updatedAt: Date;
  @Column('timestamptz', { nullable: true })
  deletedAt: Date | null;
}

/** A branch. */
@Entity('location')
export class Location extends OfOrganization {
  @Column('text')
  name: string;
  @Column('text')
  timeZone: string;
  @Column('text', { nullable: true })
  address: string | null;
}

/** Somebody whom patients see. */
@Entity('practitioner')
export class Practitioner extends OfOrganization {
  @Column('uuid')
  scheduleId: string;
  @Column('text')
  name: string;
  @Column('uuid', { nullable: true })
  locationId: string | null;
}

/** Somewhere a visit takes place. */
@Entity('room')
export class Room extends OfOrganization {
  @Column('uuid')
  scheduleId: string;
  @Column('text')
  name: string;
  @Column('uuid', { nullable: true })
  locationId: string | null;
}

/** Something that can be booked. */
@Entity('service')
export class Service extends OfOrganization {
  @Column('text')
  name: string;
  @Column('integer')
  durationMinutes: number;
  @Column('integer')
  bufferBeforeMinutes: number;
  @Column('integer')
  bufferAfterMinutes: number;
  @Column('integer', { nullable: true })
  slotIntervalMinutes: number | null;
  @Column('integer')
  capacity: number;
  @Column('boolean')
  requiresConfirmation: boolean;
  @Column('integer', { nullable: true })
  pendingMinutes: number | null;
  @Column('bigint', { nullable: true })
  priceAmount: number | null;
  @Column('text', { nullable: true })
  priceCurrency: string | null;
  @Column('boolean')
  paymentRequired: boolean;
  @Column('integer')
  holdMinutes: number;
  @Column('integer')
  minNoticeMinutes: number;
  @Column('integer')
  maxDaysAhead: number;
  @Column('text', { array: true })
  modes: string[];
}

/** Who offers a service of one segment. */
@Entity('service_practitioner')
export class ServicePractitioner {
  @Column('uuid')
  organizationId: string;
  @PrimaryColumn('uuid')
  serviceId: string;
  @PrimaryColumn('uuid')
  practitionerId: string;
}

/** One part of a composite service, in its order. */
@Entity('service_segment')
export class ServiceSegment {
  @Column('uuid')
  organizationId: string;
  @PrimaryColumn('uuid')
  serviceId: string;
  @PrimaryColumn('smallint')
  position: number;
  @Column('text')
  name: string;
  @Column('integer')
  durationMinutes: number;
  @Column('integer')
  gapAfterMinutes: number;
  /** How much longer than the gap the pause may be. */
  @Column('integer')
  maxWaitMinutes: number;
  /** Begins together with the segment before it. */
  @Column('boolean')
  startsWithPrevious: boolean;
}

/** Who, or which room, can serve a segment. */
@Entity('service_segment_resource')
export class ServiceSegmentResource {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('uuid')
  serviceId: string;
  @Column('smallint')
  position: number;
  @Column('uuid', { nullable: true })
  practitionerId: string | null;
  @Column('uuid', { nullable: true })
  roomId: string | null;
}

export const PATIENT_STATUSES = ['active', 'inactive', 'blocked'] as const;

/** Somebody who is seen. Living ones are unique by phone; families share one, so appointments carry the attendee's name. */
@Entity('patient')
export class Patient extends OfOrganization {
  @Column('text')
  phone: string;
  @Column('text', { nullable: true })
  name: string | null;
  @Column('text', { nullable: true })
  email: string | null;
  @Column('uuid', { nullable: true })
  locationId: string | null;
  @Column('text', { nullable: true })
  locale: string | null;
  @Column('text')
  source: string;
  @Column('text')
  status: (typeof PATIENT_STATUSES)[number];
  @Column('text', { nullable: true })
  notes: string | null;
  @Column('timestamptz', { nullable: true })
  verifiedAt: Date | null;
  /** Since when nothing is known of him; his phone is null from then on, and nobody is shown him. */
  @Column('timestamptz', { nullable: true })
  erasedAt: Date | null;
}
