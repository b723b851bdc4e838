import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
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
  type SeenDay,
  SlotsService,
  type Span,
  spanOf,
} from '../availability';
import { type PatientFields, PatientsService } from '../clinic';
import { Clock, Idempotency, Log, Metrics, parseInstant, Problem, Reply, TryAgain } from '../platform';
import type { Appointment, AppointmentSegment } from './appointment.entities';
import { showAppointment } from './appointment.representation';
import { PatientRulesService } from './patient-rules.service';
import { type LostTime, RefusalsService } from './refusals.service';
import { booked, type Standing } from './transitions.rules';
import { GUARDED_BOOKING, type NewAppointment, RECORD_BOOKING, recordValues } from './booking.sql';

export interface BookingRequest {
  serviceId: string;
  startsAt: string;
  practitionerId?: string | null;
  patientId?: string | null;
  patient?: PatientFields | null;
  hold?: boolean | { seconds: number };
  attendeeName?: string | null;
  mode?: string | null;
  notes?: string | null;
  metadata?: Record<string, unknown> | null;
}

/**
 * Booking: check and write in one transaction, under the lock of the days that it concerns. Two forms, one rule: the guarded
 * statement where one schedule and one day are all there is, the locking form for everything else.
 */
@Injectable()
export class BookingService {
  constructor(
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly metrics: Metrics,
    private readonly gate: DayGate,
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
    private readonly ledger: Ledger,
    private readonly patients: PatientsService,
    private readonly rules: PatientRulesService,
    private readonly refusals: RefusalsService,
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
    const lost: LostTime = {
      serviceId: request.serviceId,
      practitionerId: request.practitionerId ?? undefined,
      startsAt,
      mode: request.mode ?? undefined,
      patientId: request.patientId ?? undefined,
      phone: request.patient?.phone,
    };
    try {
      const reply = await this.gate.pass(crowd, () =>
        this.idempotency.transaction(call, (tx, attempt) => this.tryToBook(tx, call, request, lost, attempt)),
      );
      if (!reply.stored?.replayed) this.metrics.bookings.inc({ outcome: 'booked' });
      return reply;
    } catch (error) {
      const problem = await this.refusals.explain(call, error, lost);
      if (problem instanceof Problem) this.metrics.bookings.inc({ outcome: problem.code });
      throw problem;
    }
  }

  private async tryToBook(
    tx: EntityManager,
    call: Call,
    request: BookingRequest,
    lost: LostTime,
    attempt: number,
  ): Promise<Reply> {
    const { startsAt } = lost;
    const service = await this.lanes.service(tx, request.serviceId, 'for booking');
    lost.allowOverlap = service.allowPatientOverlap;
    const lanes = await this.lanes.lanes(tx, service.id, request.practitionerId ?? undefined);
    if (request.patientId) await this.patients.lockForBooking(tx, request.patientId);
    if (request.patient) await this.patients.requireReferences(tx, request.patient);
    const mode = request.mode ?? service.modes[0]!;
    if (!service.modes.includes(mode)) {
      throw Problem.invalid({ pointer: '/mode', detail: `this service is offered as: ${service.modes.join(', ')}` });
    }
    if (!isBookable(service)) throw new Problem('service_not_bookable');
    if (lanes.length === 0) throw new Problem('practitioner_not_eligible', 'Nobody offers this service at the moment.');
    const window = decideWindow(service, startsAt, this.clock.now());
    if (!window.ok) throw new Problem(window.reason);

    const span = spanOf(service, startsAt);
    const seen = await this.slots.daysOf(tx, lanes, span.buffered);
    const candidates = this.candidates(lanes, seen, span);
    const patientId =
      request.patientId ?? (await this.patients.upsert(tx, call.organizationId, request.patient!)).patient.id;
    const standing = booked(service, request.hold ?? false, startsAt, service.asOf);
    await this.rules.check(tx, service, { patientId, during: span.core, held: standing.status === 'held' });

    const id = uuidv7();
    const claim = { organizationId: call.organizationId, holder: id, span, expiresAt: standing.expiresAt };
    const draft = (lane: PractitionerLane) =>
      this.draft(call, request, { id, service, lane, span, mode, patientId, standing });

    const [first] = candidates;
    const days = seen
      .get(first!.scheduleId)!
      .filter((day) => day.covers.start < span.buffered.end && span.buffered.start < day.covers.end);
    // The guarded form serves one schedule and one day that has its row; the first try of a crowd, mostly the last one too.
    if (
      attempt === 1 &&
      candidates.length === 1 &&
      days.length === 1 &&
      days[0]!.current &&
      decideClaim(days, span).ok
    ) {
      const { scheduleId } = first!;
      const booking = draft(first!);
      const values = [...guardedClaimValues({ ...claim, scheduleId, day: days[0]!.day }), ...recordValues(booking)];
      const rows = await tx.query<unknown[]>(GUARDED_BOOKING as never, values);
      // Somebody was faster between the reading above and the lock: look again, and lock first this time.
      if (rows.length === 0) {
        this.refusals.caught('slot_taken', call);
        throw new TryAgain('the time was taken meanwhile');
      }
      return this.answer(booking, 'guarded');
    }
    const claimed = await this.ledger.claim(tx, candidates, claim);
    if (!claimed.ok) {
      if (claimed.reason === 'taken') this.refusals.caught('slot_taken', call);
      throw new Problem(claimed.reason === 'taken' ? 'slot_taken' : 'outside_hours');
    }
    const booking = draft(claimed.lane);
    await tx.query(RECORD_BOOKING as never, recordValues(booking));
    return this.answer(booking, 'locking');
  }

  /** The lanes worth trying: free by what was read. With nobody named, the practitioner with the emptiest day comes first. */
  private candidates(lanes: readonly PractitionerLane[], seen: Map<string, SeenDay[]>, span: Span): PractitionerLane[] {
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
    const taken = decided.some(({ decision }) => !decision.ok && decision.reason === 'taken');
    throw new Problem(taken ? 'slot_taken' : 'outside_hours');
  }

  private draft(
    call: Call,
    request: BookingRequest,
    on: {
      id: string;
      service: BookableService;
      lane: PractitionerLane;
      span: Span;
      mode: string;
      patientId: string;
      standing: Standing;
    },
  ): NewAppointment {
    const [startsAt, endsAt] = [new Date(on.span.core.start), new Date(on.span.core.end)];
    const now = new Date(on.service.asOf);
    const appointment: Appointment = {
      id: on.id,
      organizationId: call.organizationId,
      ...on.standing,
      cancellation: null,
      version: 1,
      serviceId: on.service.id,
      patientId: on.patientId,
      attendeeName: request.attendeeName ?? null,
      startsAt,
      endsAt,
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
      appointmentStartsAt: startsAt,
    };
    return { appointment, segments: [segment], actor: call.principalId, channel: call.channel, eventId: uuidv7() };
  }

  private answer({ appointment, segments }: NewAppointment, form: 'guarded' | 'locking'): Reply {
    this.log.debugEvent('appointment_booked', { appointmentId: appointment.id, form });
    const asOf = appointment.createdAt.getTime();
    return Reply.created('/v1/appointments', showAppointment({ ...appointment, segments, asOf }), appointment.version);
  }
}
