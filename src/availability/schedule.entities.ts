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
  /** How many can be seen at once. */
  @Column('smallint')
  places: number;
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

/** A time that somebody has published beside the weekly hours, for so many patients at once, or as many as the service says. */
@Entity('published_slot')
export class PublishedSlot {
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
  /** Null for every mode of the service. */
  @Column('text', { nullable: true })
  mode: string | null;
  @Column('integer', { nullable: true })
  capacity: number | null;
  /** The principal who did it. */
  @Column('uuid')
  publishedBy: string;
  @Column('timestamptz')
  createdAt: Date;
}

/** A published slot as a day row has it: start and end in epoch seconds, mode, capacity. */
export type StoredPublished = [start: number, end: number, mode: string | null, capacity: number | null];

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
  /** How many claims may overlap, from the schedule. */
  @Column('smallint')
  places: number;
  @Column('jsonb')
  published: StoredPublished[];
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
  /** The appointment that occupies the time, or the session that appointments share. */
  @Column('uuid')
  holder: string;
  /** Whether the holder is a session. */
  @Column('boolean')
  shared: boolean;
  /** From when on the claim blocks nobody; null for one that stays. */
  @Column('timestamptz', { nullable: true })
  expiresAt: Date | null;
}

/** One session of a service that several appointments share: the holder of one claim. */
@Entity('group_session')
export class GroupSession {
  @PrimaryColumn('uuid')
  id: string;
  @Column('uuid')
  organizationId: string;
  @Column('uuid')
  scheduleId: string;
  @Column('uuid')
  serviceId: string;
  @Column('timestamptz')
  startsAt: Date;
  @Column('timestamptz')
  endsAt: Date;
}

/** A seat of a session, and the appointment that has it. */
@Entity('attendance')
export class Attendance {
  @PrimaryColumn('uuid')
  sessionId: string;
  @PrimaryColumn('smallint')
  seat: number;
  @Column('uuid')
  organizationId: string;
  @Column('uuid')
  holder: string;
  /** From when on the seat is free again; null for one that stays. */
  @Column('timestamptz', { nullable: true })
  expiresAt: Date | null;
}
