import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, MoreThan, Repository } from 'typeorm';
import { LONGEST_CLAIM } from '../availability';
import { type Interval, Problem } from '../platform';
import {
  Appointment,
  AppointmentHistory,
  AppointmentSegment,
  type AppointmentStatus,
  OCCUPYING,
} from './appointment.entities';
import type { NewSegment } from './visits.service';

/** An appointment with its segments, in their order, at an instant of the database's clock. */
export type FullAppointment = Appointment & {
  segments: AppointmentSegment[];
  /** Milliseconds since the epoch: by this instant it is judged whether its time is over. */
  asOf: number;
};

export interface AppointmentFilter {
  from?: Date;
  to?: Date;
  practitionerId?: string;
  patientId?: string;
  /** Where one of its segments takes place. */
  locationIds?: readonly string[];
  statuses?: AppointmentStatus[];
  confirmationStatus?: string;
  /** Only what changed within this interval, both ends included, and in the order of change. */
  changed?: { since: Date; until: Date };
  /** The key of the last row of the page before: the instant that the list is sorted by, and the id. */
  after?: { at: Date; id: string };
  take: number;
}

/** What an appointment is about. */
export type Subject = Pick<Appointment, 'serviceId' | 'patientId'>;

/** Appointments and what belongs to them. Locks: the appointment's row, which stands before schedules in the global order. */
@Injectable()
export class AppointmentRepository {
  constructor(
    @InjectRepository(Appointment) private readonly appointments: Repository<Appointment>,
    @InjectRepository(AppointmentHistory) private readonly history: Repository<AppointmentHistory>,
  ) {}

  get(tx: EntityManager, id: string): Promise<FullAppointment> {
    return this.full(tx, id, READ_APPOINTMENT);
  }

  /**
   * Locks an appointment for a change: serialises everybody who acts on it, and nobody who only refers to it. A named
   * statement, for TypeORM's own is planned anew each time, which costs more than everything else it does.
   */
  lock(tx: EntityManager, id: string): Promise<FullAppointment> {
    return this.full(tx, id, LOCK_APPOINTMENT);
  }

  /** What an appointment is about, which no change changes. */
  async subjectOf(tx: EntityManager, id: string): Promise<Subject> {
    const [subject] = await tx.query<Subject[]>(READ_SUBJECT as never, [id]);
    if (!subject) throw Problem.notFound('appointment');
    return subject;
  }

  /**
   * Locks holds and requests of an organization whose time is over, the oldest first, leaving out those that somebody else
   * has locked: he decides about them.
   */
  lockOverdue(tx: EntityManager, take: number): Promise<Appointment[]> {
    return tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where(`a.status IN ('held', 'pending') AND a.expiresAt <= statement_timestamp()`)
      .orderBy('a.expiresAt')
      .limit(take)
      .setLock('for_no_key_update')
      .setOnLocked('skip_locked')
      .getMany();
  }

  /** Gives an appointment, which is locked, other segments than it had. */
  async replaceSegments(
    tx: EntityManager,
    { id, segments: before }: FullAppointment,
    segments: readonly NewSegment[],
  ): Promise<void> {
    await Promise.all([
      tx.query(WRITE_SEGMENTS as never, [id, JSON.stringify(segments)]),
      before.length > segments.length && tx.query(DELETE_SEGMENTS as never, [id, segments.length]),
    ]);
  }

  /** How many holds a patient has open. Counts what it should only under the patient's lock. */
  async openHolds(tx: EntityManager, patientId: string): Promise<number> {
    return tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where(`a.patientId = :patientId AND a.status = 'held' AND a.expiresAt > clock_timestamp()`, { patientId })
      .getCount();
  }

  /** When a patient, known by id or phone, has appointments within an interval; but for one of them. */
  async timesOf(
    tx: EntityManager,
    who: { patientId?: string; phone?: string; appointmentId?: string },
    during: Interval,
  ): Promise<Interval[]> {
    const rows = await tx.query<Array<{ starts_at: Date; ends_at: Date }>>(
      `SELECT a.starts_at, a.ends_at FROM patient p JOIN appointment a ON a.patient_id = p.id
       WHERE p.deleted_at IS NULL AND (p.id = $1 OR p.phone = $2) AND a.id IS DISTINCT FROM $3
         AND a.starts_at < $4 AND a.starts_at > $5 AND a.status = ANY($6) AND NOT (${overBy('now()')})`,
      [
        who.patientId ?? null,
        who.phone ?? null,
        who.appointmentId ?? null,
        new Date(during.end),
        new Date(during.start - LONGEST_CLAIM),
        OCCUPYING,
      ],
    );
    return rows.map((row) => ({ start: row.starts_at.getTime(), end: row.ends_at.getTime() }));
  }

  /** Whether a patient has another appointment within an interval. Sees what it should only under the patient's lock. */
  async isBusy(tx: EntityManager, patientId: string, during: Interval, except?: string): Promise<boolean> {
    const query = tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where('a.patientId = :patientId AND a.startsAt < :end AND a.startsAt > :earliest AND a.endsAt > :start', {
        patientId,
        start: new Date(during.start),
        end: new Date(during.end),
        earliest: new Date(during.start - LONGEST_CLAIM),
      })
      .andWhere(LIVING, { occupying: OCCUPYING });
    return (except === undefined ? query : query.andWhere('a.id <> :except', { except })).getExists();
  }

  historyOf(tx: EntityManager, appointmentId: string, after: number, take: number): Promise<AppointmentHistory[]> {
    return tx
      .withRepository(this.history)
      .find({ where: { appointmentId, version: MoreThan(after) }, order: { version: 'ASC' }, take });
  }

  /** The histories of some appointments. */
  historiesOf(tx: EntityManager, appointmentIds: readonly string[]): Promise<AppointmentHistory[]> {
    return tx
      .withRepository(this.history)
      .find({ where: { appointmentId: In(appointmentIds) }, order: { appointmentId: 'ASC', version: 'ASC' } });
  }

  /** One page, in an order that stands on an index, so that it costs the same wherever it lies. */
  async list(tx: EntityManager, filter: AppointmentFilter): Promise<FullAppointment[]> {
    const { sql, values } = pageOfIds(filter);
    const keys = await tx.query<Array<{ id: string }>>(sql, values);
    if (keys.length === 0) return [];
    const rows = await tx.withRepository(this.appointments).findBy({ id: In(keys.map((key) => key.id)) });
    const byId = new Map(rows.map((row) => [row.id, row]));
    return this.withSegments(
      tx,
      keys.map((key) => byId.get(key.id)!),
      // What the page was selected by, it is shown by: the read's own moment, or the end of the interval asked for.
      filter.changed?.until ?? 'now()',
    );
  }

  /**
   * Takes what people wrote out of all appointments of a patient, who is erased, and out of their histories. Their versions
   * stay: nothing has happened to them. Locks them in the order of their ids, so that whoever is just writing is waited for.
   */
  async eraseTexts(tx: EntityManager, patientId: string): Promise<void> {
    await tx.query('SELECT 1 FROM appointment WHERE patient_id = $1 ORDER BY id FOR NO KEY UPDATE', [patientId]);
    await tx.query(
      `UPDATE appointment SET attendee_name = NULL, notes = NULL, metadata = '{}'
       WHERE patient_id = $1 AND (attendee_name IS NOT NULL OR notes IS NOT NULL OR metadata <> '{}')`,
      [patientId],
    );
    await tx.query(
      `UPDATE appointment_history h SET reason = NULL FROM appointment a
       WHERE a.patient_id = $1 AND h.organization_id = a.organization_id AND h.appointment_id = a.id AND h.reason IS NOT NULL`,
      [patientId],
    );
  }

  /** Whether appointments that are still to come depend on a service or patient. */
  async hasFuture(tx: EntityManager, of: { serviceId: string } | { patientId: string }, now: number): Promise<boolean> {
    const column = 'serviceId' in of ? 'serviceId' : 'patientId';
    return tx
      .withRepository(this.appointments)
      .createQueryBuilder('a')
      .where(`a.${column} = :id`, { id: 'serviceId' in of ? of.serviceId : of.patientId })
      .andWhere('a.endsAt > :now AND a.startsAt > :earliest', {
        now: new Date(now),
        // No appointment is longer than what can be claimed; the index is sorted by starts.
        earliest: new Date(now - LONGEST_CLAIM),
      })
      .andWhere(LIVING, { occupying: OCCUPYING })
      .getExists();
  }

  /**
   * One appointment with its segments and the moment. The segments are a statement of their own, sent behind the first: it
   * begins after any wait for the lock, and so sees what the holder before has made of them.
   */
  private async full(tx: EntityManager, id: string, first: typeof READ_APPOINTMENT): Promise<FullAppointment> {
    const [[appointment], rows] = await Promise.all([
      tx.query<Appointment[]>(first as never, [id]),
      tx.query<Array<AppointmentSegment & { asOf: Date }>>(READ_SEGMENTS as never, [id]),
    ]);
    if (!appointment) throw Problem.notFound('appointment');
    return { ...appointment, segments: rows.map(({ asOf: _, ...row }) => row), asOf: rows[0]!.asOf.getTime() };
  }

  /** Adds the segments, and the moment of a read. */
  private async withSegments(
    tx: EntityManager,
    appointments: Appointment[],
    moment: 'now()' | Date,
  ): Promise<FullAppointment[]> {
    const rows = await tx.query<Array<AppointmentSegment & { asOf: Date }>>(
      `SELECT ${SEGMENT}, ${moment instanceof Date ? '$2::timestamptz' : moment} AS "asOf"
       FROM appointment_segment WHERE appointment_id = ANY($1::uuid[]) ORDER BY appointment_id, position`,
      [appointments.map((each) => each.id), ...(moment instanceof Date ? [moment] : [])],
    );
    const asOf = rows[0]!.asOf.getTime();
    const segments = new Map<string, AppointmentSegment[]>();
    for (const { asOf: _, ...row } of rows) {
      const of = segments.get(row.appointmentId);
      if (of) of.push(row);
      else segments.set(row.appointmentId, [row]);
    }
    return appointments.map((each) => ({ ...each, segments: segments.get(each.id) ?? [], asOf }));
  }
}

const APPOINTMENT = `
  SELECT id, organization_id AS "organizationId", status, version, service_id AS "serviceId", patient_id AS "patientId",
         attendee_name AS "attendeeName", starts_at AS "startsAt", ends_at AS "endsAt", expires_at AS "expiresAt",
         pending_until AS "pendingUntil", cancellation, mode, confirmation_status AS "confirmationStatus", source, notes, metadata,
         created_at AS "createdAt", updated_at AS "updatedAt"
  FROM appointment WHERE id = $1`;
const SEGMENT = `
  appointment_id AS "appointmentId", position, organization_id AS "organizationId", name, schedule_id AS "scheduleId",
  practitioner_id AS "practitionerId", room_id AS "roomId", starts_at AS "startsAt", ends_at AS "endsAt",
  appointment_starts_at AS "appointmentStartsAt"`;
const READ_APPOINTMENT = { name: 'read-appointment', text: APPOINTMENT };
const LOCK_APPOINTMENT = { name: 'lock-appointment', text: `${APPOINTMENT} FOR NO KEY UPDATE` };
const READ_SUBJECT = {
  name: 'read-subject',
  text: 'SELECT service_id AS "serviceId", patient_id AS "patientId" FROM appointment WHERE id = $1',
};
const READ_SEGMENTS = {
  name: 'read-segments',
  text: `SELECT ${SEGMENT}, clock_timestamp() AS "asOf" FROM appointment_segment WHERE appointment_id = $1 ORDER BY position`,
};
const DELETE_SEGMENTS = {
  name: 'delete-segments',
  text: 'DELETE FROM appointment_segment WHERE appointment_id = $1 AND position >= $2',
};
// In place where there is one: what a move leaves as it was (the practitioner mostly) is then not checked anew.
const WRITE_SEGMENTS = {
  name: 'write-segments',
  text: `
  INSERT INTO appointment_segment (organization_id, appointment_id, position, name, schedule_id, practitioner_id, room_id,
                                   starts_at, ends_at, appointment_starts_at, time_zone, local_starts_at)
  SELECT part."organizationId", $1, part.position, part.name, part."scheduleId", part."practitionerId", part."roomId",
         part."startsAt", part."endsAt", part."appointmentStartsAt", part."timeZone", part."localStartsAt"
  FROM jsonb_to_recordset($2::jsonb) AS part ("organizationId" uuid, position smallint, name text, "scheduleId" uuid,
    "practitionerId" uuid, "roomId" uuid, "startsAt" timestamptz, "endsAt" timestamptz,
    "appointmentStartsAt" timestamptz, "timeZone" text, "localStartsAt" timestamp)
  ON CONFLICT (organization_id, appointment_id, position) DO UPDATE
    SET name = excluded.name, schedule_id = excluded.schedule_id, practitioner_id = excluded.practitioner_id,
        room_id = excluded.room_id, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
        appointment_starts_at = excluded.appointment_starts_at, time_zone = excluded.time_zone,
        local_starts_at = excluded.local_starts_at`,
};

/** That an appointment `a` occupies its time now: an occupying status, and not a hold or request whose time is over. */
const LIVING = `a.status IN (:...occupying)
  AND (a.status NOT IN ('held', 'pending') OR a.expiresAt > clock_timestamp())`;

/** That the time of appointment `a` is over at an instant; it is `expired` then. States `statusAt` in SQL. */
const overBy = (instant: string) => `a.status IN ('held', 'pending') AND a.expires_at <= ${instant}`;

/**
 * The ids of one page: the union of walks, each along an index in the order of the list (of a practitioner's segments, of a
 * patient's appointments, of one status, of starts or changes) with the other filters on what comes along. One walk a
 * status, so that a rare one is found at once and a frequent one is not sorted. Row comparisons and ranges would not be used
 * under row-level security, plain bounds are.
 */
const atOneOf = (locations: string): string =>
  `EXISTS (SELECT 1 FROM appointment_segment b LEFT JOIN practitioner p ON p.id = b.practitioner_id LEFT JOIN room r ON r.id = b.room_id
     WHERE b.appointment_id = a.id AND coalesce(p.location_id, r.location_id) = ANY(${locations}))`;

function pageOfIds(filter: AppointmentFilter): { sql: string; values: unknown[] } {
  const values: unknown[] = [];
  const bind = (value: unknown, type: string): string => `$${values.push(value)}::${type}`;
  const { from, to, practitionerId, patientId, locationIds, statuses, confirmationStatus, changed, after } = filter;
  const take = bind(filter.take, 'integer');
  const last = after && { at: bind(after.at, 'timestamptz'), id: bind(after.id, 'uuid') };
  const between = changed && { since: bind(changed.since, 'timestamptz'), until: bind(changed.until, 'timestamptz') };
  const practitioner = practitionerId && bind(practitionerId, 'uuid');
  const over = overBy(between?.until ?? 'now()');

  // A patient has few appointments: walking his is better than walking a practitioner's.
  const along = practitioner && patientId === undefined && !changed ? 'segments' : 'appointments';
  const [source, startsAt, id] =
    along === 'segments'
      ? [
          'appointment_segment s JOIN appointment a ON a.id = s.appointment_id',
          's.appointment_starts_at',
          's.appointment_id',
        ]
      : ['appointment a', 'a.starts_at', 'a.id'];
  const practitionerIs =
    along === 'segments'
      ? // His first segment stands for the appointment.
        `s.practitioner_id = ${practitioner} AND NOT EXISTS (SELECT 1 FROM appointment_segment e
           WHERE e.appointment_id = s.appointment_id AND e.practitioner_id = s.practitioner_id AND e.position < s.position)`
      : `EXISTS (SELECT 1 FROM appointment_segment s WHERE s.appointment_id = a.id AND s.practitioner_id = ${practitioner})`;
  const filters = [
    from && `${startsAt} >= ${bind(from, 'timestamptz')}`,
    to && `${startsAt} < ${bind(to, 'timestamptz')}`,
    practitioner && practitionerIs,
    patientId && `a.patient_id = ${bind(patientId, 'uuid')}`,
    locationIds && atOneOf(bind(locationIds, 'uuid[]')),
    confirmationStatus && `a.confirmation_status = ${bind(confirmationStatus, 'text')}`,
  ];
  const walk = (at: string, ...conditions: Array<string | undefined>): string => {
    const next = last && `${at} >= ${last.at} AND (${at} > ${last.at} OR ${id} > ${last.id})`;
    const all = [...conditions, ...filters, next].filter(Boolean);
    return `(SELECT ${at} AS at, a.id FROM ${source} ${all.length > 0 ? `WHERE ${all.join(' AND ')}` : ''}
             ORDER BY ${at}, ${id} LIMIT ${take})`;
  };
  const walks = (): string[] => {
    const anyOf = () => `ANY(${bind(statuses, 'text[]')})`;
    if (between) {
      const within = (column: string) => `${column} >= ${between.since} AND ${column} <= ${between.until}`;
      // What somebody has changed, and what time alone has: a hold that is over changed when it was.
      const changes = walk(
        'a.updated_at',
        within('a.updated_at'),
        `NOT (${over})`,
        statuses && `a.status = ${anyOf()}`,
      );
      const ends = walk('a.expires_at', within('a.expires_at'), over);
      return statuses && !statuses.includes('expired') ? [changes] : [changes, ends];
    }
    if (!statuses) return [walk(startsAt)];
    if (patientId !== undefined) {
      return [walk(startsAt, `CASE WHEN ${over} THEN 'expired' ELSE a.status END = ${anyOf()}`)];
    }
    // A hold that is over is stored as held and listed as expired.
    const expired = statuses.includes('expired');
    const stored = new Set(expired ? [...statuses, 'held', 'pending'] : statuses);
    return [...stored].map((status) => {
      const is = `a.status = ${bind(status, 'text')}`;
      if (status !== 'held' && status !== 'pending') return walk(startsAt, is);
      const living = statuses.includes(status);
      if (living && expired) return walk(startsAt, is);
      return walk(startsAt, is, `a.expires_at ${living ? '>' : '<='} now()`);
    });
  };
  return { sql: `SELECT id FROM (${walks().join(' UNION ALL ')}) page ORDER BY at, id LIMIT ${take}`, values };
}
