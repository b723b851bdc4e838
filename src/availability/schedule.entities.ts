import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { Interval } from '../platform';

/** The bookable lane of one practitioner or room. Its version rises with every change of its rules, never with a booking. */
@Entity('schedule')
export class Schedule {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('text')
  timeZone: string;
  /** False once its practitioner or room is gone: it has no open time any more. */
  @Column('boolean')
  active: boolean;
  @Column('integer')
  version: number;
  @Column('timestamptz')
  createdAt: Date;
  @Column('timestamptz')
  updatedAt: Date;
}

/** Weekly opening hours in the schedule's local time. Weekday 1 is Monday (ISO 8601); minutes count from local midnight. */
@Entity('schedule_hours')
export class ScheduleHours {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('uuid')
  scheduleId: string;
  @Column('smallint')
  weekday: number;
  @Column('smallint')
  startMinute: number;
  @Column('smallint')
  endMinute: number;
  @Column('uuid', { nullable: true })
  locationId: string | null;
  @Column('date', { nullable: true })
  validFrom: string | null;
  @Column('date', { nullable: true })
  validUntil: string | null;
}

/** A span that is closed, or open, other than the weekly hours say. Closed wins where both apply. */
@Entity('schedule_exception')
export class ScheduleException {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('uuid')
  scheduleId: string;
  @Column('timestamptz')
  startsAt: Date;
  @Column('timestamptz')
  endsAt: Date;
  @Column('text')
  kind: 'closed' | 'open';
  @Column('text', { nullable: true })
  reason: string | null;
  @Column('timestamptz')
  createdAt: Date;
}

/** An interval whose start anchors the slot grid, as stored: start and end in epoch seconds, location. */
export type StoredGridInterval = [start: number, end: number, locationId: string | null];

/** One local day of a schedule: what bookings lock and what slots are read from. `free` and `bookable` derive themselves. */
@Entity('schedule_day')
export class ScheduleDay {
  @PrimaryColumn('uuid')
  scheduleId: string;
  @PrimaryColumn('date')
  day: string;
  @Column('uuid')
  organizationId: string;
  @Column('tstzrange')
  covers: Interval[];
  @Column('tstzmultirange')
  open: Interval[];
  @Column('tstzmultirange')
  taken: Interval[];
  @Column('jsonb')
  grid: StoredGridInterval[];
  @Column('bigint')
  version: number;
}

/** Occupied time, buffers included; the core is what must lie in open time. The exclusion constraint is on this table. */
@Entity('claim')
export class Claim {
  @PrimaryColumn('uuid')
  scheduleId: string;
  @PrimaryColumn('timestamptz')
  startsAt: Date;
  @PrimaryColumn('smallint')
  seat: number;
  @Column('timestamptz')
  endsAt: Date;
  @Column('timestamptz')
  coreStartsAt: Date;
  @Column('timestamptz')
  coreEndsAt: Date;
  @Column('uuid')
  organizationId: string;
  /** The appointment that occupies the time. */
  @Column('uuid')
  holder: string;
  /** From when on the claim blocks nobody; null for one that stays. */
  @Column('timestamptz', { nullable: true })
  expiresAt: Date | null;
}
