import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { type Call, requireVersion } from '../auth';
import {
  type BookableService,
  DayGate,
  decideClaim,
  decideWindow,
  guardedClaimValues,
  isBookable,
  LanesRepository,
  Ledger,
  type PractitionerLane,
  ScheduleDayRepository,
  type SeenDay,
  SlotsService,
  type Span,
  spanOf,
} from '../availability';
import { type PatientFields, PatientsService } from '../clinic';
import {
  Clock,
  ConstraintViolation,
  Cursors,
  Database,
  DEFAULT_PAGE,
  Idempotency,
  Log,
  Metrics,
  Outbox,
  type Page,
  parseInstant,
  Problem,
  Reply,
  showInstant,
  TryAgain,
} from '../platform';
import type { Appointment, AppointmentHistory, AppointmentSegment, AppointmentStatus } from './appointment.entities';
import { AppointmentRepository, type FullAppointment } from './appointment.repository';
import { GUARDED_BOOKING, type NewAppointment, RECORD_BOOKING, recordValues } from './booking.sql';
import { decideTransition } from './transitions.rules';

export interface BookingRequest {
  serviceId: string;
  startsAt: string;
  practitionerId?: string;
  patientId?: string;
  patient?: PatientFields;
  attendeeName?: string | null;
  mode?: string;
  notes?: string | null;
  metadata?: Record<string, unknown>;
}

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

/** The life of an appointment. */
@Injectable()
export class AppointmentsService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly outbox: Outbox,
    private readonly clock: Clock,
    private readonly cursors: Cursors,
    private readonly log: Log,
    private readonly metrics: Metrics,
    private readonly gate: DayGate,
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
    private readonly days: ScheduleDayRepository,
    private readonly ledger: Ledger,
    private readonly patients: PatientsService,
    private readonly appointments: AppointmentRepository,
  ) {}

  /**
   * Books a time, or says why not: `slot_taken` with up to three alternatives when somebody else has it, 422 when the rules
   * do not allow it. Whatever the concurrency, a time is booked once.
   */
  async book(call: Call, request: BookingRequest): Promise<Reply> {
    const startsAt = parseInstant(request.startsAt)!;
    const crowd = [
      call.organizationId,
      request.practitionerId ?? request.serviceId,
      Math.floor(startsAt / 86_400_000),
    ].join('/');
    try {
      const reply = await this.gate.pass(crowd, () =>
        this.idempotency.transaction(call, (tx, attempt) => this.tryToBook(tx, call, request, startsAt, attempt)),
      );
      if (!reply.stored?.replayed) this.metrics.bookings.inc({ outcome: 'booked' });
      return reply;
    } catch (error) {
      const problem = this.translate(error);
      if (!(problem instanceof Problem)) throw problem;
      this.metrics.bookings.inc({ outcome: problem.code });
      if (problem.code !== 'slot_taken') throw problem;
      const { serviceId, practitionerId, mode } = request;
      const alternatives = await this.slots.alternatives(call, { serviceId, practitionerId, startsAt, mode });
      throw new Problem('slot_taken', 'Somebody else was faster: this time is booked. Please take another one.', {
        alternatives,
      });
    }
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const appointment = await this.appointments.get(tx, id);
      return Reply.ok(show(appointment), appointment.version);
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
      return this.cursors.page(rows, limit, scope, (row) => [row.startsAt.toISOString(), row.id], show);
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
      return Reply.ok(show(after), after.version);
    });
  }

  private async tryToBook(
    tx: EntityManager,
    call: Call,
    request: BookingRequest,
    startsAt: number,
    attempt: number,
  ): Promise<Reply> {
    const service = await this.lanes.service(tx, request.serviceId, 'for booking');
    const lanes = await this.lanes.lanes(tx, service.id, request.practitionerId);
    if (request.patientId) await this.patients.lockForBooking(tx, request.patientId);
    if (request.patient) await this.patients.requireReferences(tx, request.patient);
    const mode = request.mode ?? service.modes[0]!;
    if (!service.modes.includes(mode)) {
      throw Problem.invalid({ pointer: '/mode', detail: `this service is offered as: ${service.modes.join(', ')}` });
    }
    if (!isBookable(service)) throw new Problem('service_not_bookable');
    const window = decideWindow(service, startsAt, this.clock.now());
    if (!window.ok) throw new Problem(window.reason);

    const span = spanOf(service, startsAt);
    const seen = await this.slots.daysOf(tx, lanes, span.buffered);
    const candidates = await this.candidates(tx, lanes, seen, span);
    const patientId =
      request.patientId ?? (await this.patients.upsert(tx, call.organizationId, request.patient!)).patient.id;

    const id = uuidv7();
    const claim = { organizationId: call.organizationId, holder: id, span, expiresAt: null };
    const draft = (lane: PractitionerLane) => this.draft(call, request, { id, service, lane, span, mode, patientId });

    const [first] = candidates;
    const days = seen
      .get(first!.scheduleId)!
      .filter((day) => day.covers.start < span.buffered.end && span.buffered.start < day.covers.end);
    // The guarded form serves one schedule and one day that has its row; the first try of a crowd, mostly the last one too.
    if (
      attempt === 1 &&
      candidates.length === 1 &&
      days.length === 1 &&
      days[0]!.stored &&
      decideClaim(days, span).ok
    ) {
      const { scheduleId } = first!;
      const booking = draft(first!);
      const values = [...guardedClaimValues({ ...claim, scheduleId, day: days[0]!.day }), ...recordValues(booking)];
      const rows = await tx.query<unknown[]>(GUARDED_BOOKING as never, values);
      // Somebody was faster between the reading above and the lock: look again, and lock first this time.
      if (rows.length === 0) {
        this.caught('slot', call);
        throw new TryAgain('the time was taken meanwhile');
      }
      return this.booked(booking, 'guarded');
    }
    const claimed = await this.ledger.claim(tx, candidates, claim);
    if (!claimed.ok) {
      if (claimed.reason === 'taken') this.caught('slot', call);
      throw new Problem(claimed.reason === 'taken' ? 'slot_taken' : 'outside_hours');
    }
    const booking = draft(claimed.lane);
    await tx.query(RECORD_BOOKING as never, recordValues(booking));
    return this.booked(booking, 'locking');
  }

  /**
   * The lanes worth trying: free by what was read, or blocked by nothing but holds that are over. With nobody named, the
   * practitioner with the emptiest day comes first.
   */
  private async candidates(
    tx: EntityManager,
    lanes: readonly PractitionerLane[],
    seen: Map<string, SeenDay[]>,
    span: Span,
  ): Promise<PractitionerLane[]> {
    const decided = lanes
      .map((lane) => ({ lane, days: seen.get(lane.scheduleId) ?? [] }))
      .map(({ lane, days }) => ({
        lane,
        decision: decideClaim(days, span),
        busy: days.flatMap((day) => day.taken).reduce((sum, range) => sum + range.end - range.start, 0),
      }));
    // The zone of a schedule was changed between two of the readings.
    const moved = decided.some(({ decision }) => !decision.ok && decision.reason === 'day_missing');
    if (moved) throw new TryAgain('the days of a schedule have moved');
    const free = decided.filter((each) => each.decision.ok).sort((a, b) => a.busy - b.busy);
    if (free.length > 0) return free.map((each) => each.lane);
    const taken = decided
      .filter((each) => !each.decision.ok && each.decision.reason === 'taken')
      .map((each) => each.lane);
    if (taken.length === 0) throw new Problem('outside_hours');
    const expired = await this.days.expiredClaims(
      tx,
      taken.map((lane) => lane.scheduleId),
      span.buffered,
    );
    const reopened = taken.filter((lane) => expired.some((claim) => claim.scheduleId === lane.scheduleId));
    if (reopened.length === 0) throw new Problem('slot_taken');
    return reopened;
  }

  private draft(
    call: Call,
    request: BookingRequest,
    on: { id: string; service: BookableService; lane: PractitionerLane; span: Span; mode: string; patientId: string },
  ): NewAppointment {
    const now = this.clock.date();
    const [startsAt, endsAt] = [new Date(on.span.core.start), new Date(on.span.core.end)];
    const appointment: Appointment = {
      id: on.id,
      organizationId: call.organizationId,
      status: 'confirmed',
      version: 1,
      serviceId: on.service.id,
      patientId: on.patientId,
      attendeeName: request.attendeeName ?? null,
      startsAt,
      endsAt,
      expiresAt: null,
      mode: on.mode,
      confirmationStatus: 'none',
      source: call.channel,
      notes: request.notes ?? null,
      metadata: request.metadata ?? {},
      createdAt: now,
      updatedAt: now,
    };
    const segment: AppointmentSegment = {
      appointmentId: on.id,
      position: 0,
      organizationId: call.organizationId,
      name: null,
      scheduleId: on.lane.scheduleId,
      practitionerId: on.lane.practitionerId,
      roomId: null,
      startsAt,
      endsAt,
    };
    return { appointment, segments: [segment], actor: call.principalId, channel: call.channel, eventId: uuidv7() };
  }

  private booked({ appointment, segments }: NewAppointment, form: 'guarded' | 'locking'): Reply {
    this.log.debugEvent('appointment_booked', { appointmentId: appointment.id, form });
    return Reply.created('/v1/appointments', show({ ...appointment, segments }), appointment.version);
  }

  private translate(error: unknown): unknown {
    if (error instanceof ConstraintViolation && CLAIM_CONSTRAINTS.includes(error.constraint)) {
      // The day row said free and the claims said taken: the last word held, but a lock was missed or a row has drifted.
      this.metrics.racesCaught.inc({ race: 'exclusion_constraint' });
      this.log.failure('ledger_drift', error, { constraint: error.constraint });
      return new Problem('slot_taken');
    }
    return error;
  }

  private caught(race: 'slot', call: Call): void {
    this.metrics.racesCaught.inc({ race });
    this.log.event('race_caught', { race, organizationId: call.organizationId });
  }
}

/** What stands behind the day row's lock: the exclusion constraint, and the key that the same start violates first. */
const CLAIM_CONSTRAINTS = ['claim_no_overlap', 'claim_pkey'];

const instant = (text: string | undefined): Date | undefined =>
  text === undefined ? undefined : new Date(parseInstant(text)!);

const show = (appointment: FullAppointment) => ({
  id: appointment.id,
  status: appointment.status,
  version: appointment.version,
  serviceId: appointment.serviceId,
  patientId: appointment.patientId,
  attendeeName: appointment.attendeeName,
  startsAt: showInstant(appointment.startsAt),
  endsAt: showInstant(appointment.endsAt),
  holdExpiresAt: appointment.status === 'held' && appointment.expiresAt ? showInstant(appointment.expiresAt) : null,
  mode: appointment.mode,
  segments: appointment.segments.map((segment) => ({
    name: segment.name,
    scheduleId: segment.scheduleId,
    ...(segment.roomId === null ? { practitionerId: segment.practitionerId } : { roomId: segment.roomId }),
    startsAt: showInstant(segment.startsAt),
    endsAt: showInstant(segment.endsAt),
  })),
  confirmationStatus: appointment.confirmationStatus,
  payment: null,
  source: appointment.source,
  notes: appointment.notes,
  metadata: appointment.metadata,
  createdAt: showInstant(appointment.createdAt),
  updatedAt: showInstant(appointment.updatedAt),
});

const showHistory = (line: AppointmentHistory) => ({
  version: line.version,
  action: line.action,
  fromStatus: line.fromStatus,
  toStatus: line.toStatus,
  actor: line.actor,
  channel: line.channel,
  reason: line.reason,
  at: showInstant(line.at),
});
