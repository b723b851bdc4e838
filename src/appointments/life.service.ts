import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import {
  type BookableService,
  type Claim,
  DayGate,
  decideClaim,
  decideWindow,
  isBookable,
  LanesRepository,
  Ledger,
  type PractitionerLane,
  SlotsService,
  type Span,
  spanOf,
} from '../availability';
import { OrganizationService, type PatientRules, PatientsService } from '../clinic';
import { Clock, Idempotency, Metrics, parseInstant, Problem, Reply, showInstant, TryAgain } from '../platform';
import type { AppointmentSegment, AppointmentStatus } from './appointment.entities';
import { AppointmentRepository, type FullAppointment } from './appointment.repository';
import { showAppointment } from './appointment.representation';
import { type Change, expiryOf, recordChanges } from './appointment.sql';
import { PatientRulesService } from './patient-rules.service';
import { type LostTime, RefusalsService } from './refusals.service';
import {
  accepted,
  type Action,
  decideCancellation,
  decideTransition,
  endOfRequest,
  type Standing,
  statusAt,
  type TransitionDecision,
  wasRequested,
} from './transitions.rules';

export interface RescheduleRequest {
  startsAt: string;
  practitionerId?: string | null;
  reason?: string | null;
}

/** What an action makes of a locked appointment. */
interface Outcome {
  from: AppointmentStatus;
  after: Change['after'];
  segments?: AppointmentSegment[];
  event?: string;
  details?: Record<string, unknown>;
}

/**
 * What happens to an appointment once it is asked for. Every action locks the appointment, decides on what it is then, and
 * changes it and its claim in one transaction. Two at once: the second one waits, and then finds what the first has left.
 */
@Injectable()
export class LifeService {
  constructor(
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    private readonly metrics: Metrics,
    private readonly gate: DayGate,
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
    private readonly ledger: Ledger,
    private readonly organization: OrganizationService,
    private readonly patients: PatientsService,
    private readonly appointments: AppointmentRepository,
    private readonly rules: PatientRulesService,
    private readonly refusals: RefusalsService,
  ) {}

  /**
   * Confirms a hold (which makes it a request where the service asks for the clinic's word) or a request. A hold that is
   * over takes its time again if that is free, whether or not its expiry is written down; else 410.
   */
  confirm(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'confirm', reason, async (tx) => {
      const seen = await this.appointments.get(tx, id);
      // Locked as for a booking, which a late confirm is: neither may be deleted meanwhile.
      const service = await this.lanes.findService(tx, seen.serviceId, 'for booking');
      const patientIsThere = await this.patients.lockLiving(tx, seen.patientId);
      if (service) await this.rules.lock(tx, service, seen.patientId);

      const stored = await this.appointments.lock(tx, id);
      const from = statusAt(stored, stored.asOf);
      const late = from === 'expired' && !wasRequested(stored);
      // That time went by makes nobody's If-Match stale who wants to confirm: nobody else has changed anything.
      const swept = stored.status === 'expired';
      requireVersion(call, stored.version, { also: late && swept ? stored.version - 1 : undefined });
      if (!late) refuse(decideTransition(stored, 'confirm', stored.asOf), 'confirm');
      if (late && !(service && patientIsThere)) throw expired('The patient or the service is not there any more.');
      if (from === 'held' && service?.paymentRequired) throw new Problem('payment_required');

      const standing: Standing =
        from === 'pending' || !service
          ? { status: 'confirmed', expiresAt: null, pendingUntil: null }
          : accepted(service, stored.startsAt.getTime(), stored.asOf);
      // A request that nobody could decide on any more, for it would begin before.
      const over = standing.expiresAt !== null && standing.expiresAt.getTime() <= stored.asOf;
      if (over || (late && stored.startsAt.getTime() <= stored.asOf)) throw expired('The time itself is over.');
      const claims = await this.ledger.claimsOf(tx, id);
      if (late) {
        await this.retake(tx, stored, service!, standing, claims);
        // The time would be there, for who pays.
        if (service!.paymentRequired) throw new Problem('payment_required');
      } else if (!(await this.ledger.keep(tx, id, claims, standing.expiresAt))) {
        // It ran out while this waited for a lock, and somebody took the time: decide again on that.
        throw new TryAgain('the time of an appointment was over meanwhile');
      }
      const before = late && !swept ? { ...stored, ...(await recordChanges(tx, [expiryOf(stored)]))[0]! } : stored;
      return { before, from, after: standing };
    });
  }

  /** Claims the time of a hold that is over once more, by the rules of a booking, whether or not its claim is still there. */
  private async retake(
    tx: EntityManager,
    before: FullAppointment,
    service: BookableService,
    { expiresAt }: Standing,
    claims: Claim[],
  ): Promise<void> {
    const { startsAt, endsAt, organizationId, id, segments } = before;
    await this.rules.check(tx, service, wishOf(before));
    const lane = await this.lanes.findLane(tx, service.id, segments[0]!.practitionerId!);
    if (!lane?.eligible || !isBookable(service)) throw expired('The practitioner does not offer this any more.');
    // What was agreed on is the appointment's own length; the buffers are the service's.
    const durationMinutes = (endsAt.getTime() - startsAt.getTime()) / 60_000;
    const span = spanOf({ ...service, durationMinutes }, startsAt.getTime());
    const claimed = await this.ledger.claim(tx, [lane], { organizationId, holder: id, span, expiresAt }, claims);
    if (claimed.ok) return;
    throw expired(claimed.reason === 'taken' ? 'Somebody else has the time by now.' : 'The time is not open any more.');
  }

  /** Cancels, and frees what the appointment occupies: its own claim, never "the slot", which may be somebody else's by then. */
  cancel(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'cancel', reason, async (tx) => {
      const rule = await this.organization.patientRules(tx, call.organizationId);
      const { before, from, to } = await this.lockFor(tx, call, id, 'cancel');
      const cancellation = this.requireCancellable(call, rule, before);
      await this.ledger.release(tx, [id]);
      return { before, from, after: { status: to, cancellation } };
    });
  }

  /** The patient is here. */
  checkIn(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'check-in', reason, async (tx) => {
      const { before, from, to } = await this.lockFor(tx, call, id, 'check-in');
      return { before, from, after: { status: to } };
    });
  }

  /** It took place, and is over: what is left of its time is free. */
  complete(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.end(call, id, 'complete', reason);
  }

  /** The patient did not come. */
  noShow(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.end(call, id, 'no-show', reason);
  }

  private end(call: Call, id: string, action: 'complete' | 'no-show', reason?: string | null): Promise<Reply> {
    return this.act(call, id, action, reason, async (tx) => {
      const { before, from, to } = await this.lockFor(tx, call, id, action);
      await this.ledger.release(tx, [id]);
      return { before, from, after: { status: to } };
    });
  }

  /**
   * Moves an appointment to another time, practitioner, or both: one swap, so that it never has both times and never
   * neither. What it occupies itself is not in its way.
   */
  async reschedule(call: Call, id: string, request: RescheduleRequest): Promise<Reply> {
    const startsAt = parseInstant(request.startsAt)!;
    const lost: LostTime = { startsAt, appointmentId: id };
    const crowd = [call.organizationId, request.practitionerId ?? id, Math.floor(startsAt / 86_400_000)].join('/');
    const move = async (tx: EntityManager) => {
      const seen = await this.appointments.get(tx, id);
      const service = await this.lanes.findService(tx, seen.serviceId, 'for booking');
      const practitionerId = request.practitionerId ?? seen.segments[0]!.practitionerId!;
      const lane = await this.lanes.findLane(tx, seen.serviceId, practitionerId);
      if (request.practitionerId && !lane) throw Problem.notFound('practitioner');
      Object.assign(lost, { serviceId: seen.serviceId, practitionerId, mode: seen.mode, patientId: seen.patientId });
      if (service) await this.rules.lock(tx, service, seen.patientId);
      lost.allowOverlap = service?.allowPatientOverlap;
      const rule = await this.organization.patientRules(tx, call.organizationId);

      const before = await this.appointments.lock(tx, id);
      if (!request.practitionerId && before.segments[0]!.practitionerId !== practitionerId) {
        throw new TryAgain('the appointment was moved meanwhile');
      }
      requireVersion(call, before.version);
      const decision = decideTransition(before, 'reschedule', before.asOf);
      // What the rules do not allow is told before that the status does not; but what is over needs no practitioner.
      if (!service || !lane) {
        refuse(decision, 'reschedule');
        throw new Problem(service ? 'practitioner_not_eligible' : 'service_not_bookable');
      }
      if (!isBookable(service)) throw new Problem('service_not_bookable');
      if (!lane.eligible) throw new Problem('practitioner_not_eligible');
      const window = decideWindow(service, startsAt, this.clock.now());
      if (!window.ok) throw new Problem(window.reason);
      const span = spanOf(service, startsAt);
      if (!decision.ok) await this.requireOpen(tx, lane, span);
      refuse(decision, 'reschedule');
      // Moving away what could not be cancelled any more would be a way round that.
      this.requireCancellable(call, rule, before);
      const { expiresAt, pendingUntil } = before;
      const after = {
        startsAt: new Date(span.core.start),
        endsAt: new Date(span.core.end),
        expiresAt: before.status === 'pending' ? endOfRequest(pendingUntil, startsAt) : expiresAt,
      };
      await this.rules.check(tx, service, { ...wishOf(before), during: span.core });
      const own = await this.ledger.claimsOf(tx, id);
      if (own.length === 0) throw new TryAgain('the time of an appointment was over meanwhile');
      const claim = { organizationId: call.organizationId, holder: id, span, expiresAt: after.expiresAt };
      const claimed = await this.ledger.claim(tx, [lane], claim, own);
      if (!claimed.ok) throw new Problem(claimed.reason === 'taken' ? 'slot_taken' : 'outside_hours');

      const segment = {
        ...before.segments[0]!,
        scheduleId: lane.scheduleId,
        practitionerId: lane.practitionerId,
        startsAt: after.startsAt,
        endsAt: after.endsAt,
        appointmentStartsAt: after.startsAt,
      };
      await this.appointments.moveSegment(tx, segment);
      const details = { from: placeOf(before.segments[0]!), to: placeOf(segment) };
      return { before, from: before.status, after, segments: [segment], details, event: 'appointment.rescheduled' };
    };
    try {
      return await this.gate.pass(crowd, () => this.act(call, id, 'reschedule', request.reason, move));
    } catch (error) {
      throw await this.refusals.explain(call, error, lost);
    }
  }

  /** Runs one action: once per key, recorded with its line of history, counted. */
  private async act(
    call: Call,
    id: string,
    action: Action,
    reason: string | null | undefined,
    work: (tx: EntityManager) => Promise<Outcome & { before: FullAppointment }>,
  ): Promise<Reply> {
    try {
      const reply = await this.idempotency.transaction(call, async (tx) => {
        const { before, from, after, segments = before.segments, event, details = {} } = await work(tx);
        const change: Change = {
          before,
          after,
          from,
          action,
          event: event ?? `appointment.${after.status ?? before.status}`,
          actor: call.principalId,
          channel: call.channel,
          reason: reason ?? null,
          details,
        };
        const [changed] = await recordChanges(tx, [change]);
        return Reply.ok(showAppointment({ ...changed!, segments, asOf: before.asOf }), changed!.version);
      });
      if (!reply.stored?.replayed) this.metrics.transitions.inc({ action, outcome: 'done' });
      return reply;
    } catch (error) {
      if (error instanceof Problem) this.metrics.transitions.inc({ action, outcome: error.code });
      if (error instanceof Problem) this.refusals.caught(error.code, call, id);
      throw error;
    }
  }

  private async lockFor(tx: EntityManager, call: Call, id: string, action: Action) {
    const before = await this.appointments.lock(tx, id);
    requireVersion(call, before.version);
    return { before, ...refuse(decideTransition(before, action, before.asOf), action) };
  }

  /** @returns what a cancellation now would be called */
  private requireCancellable(call: Call, rule: PatientRules, appointment: FullAppointment): string {
    const { status, startsAt, asOf } = appointment;
    const decision = decideCancellation(rule, status, startsAt.getTime(), call.role, asOf);
    if (decision.ok) return decision.kind;
    throw new Problem(decision.reason, undefined, { cancellationWindowMinutes: rule.cancellationWindowMinutes });
  }

  /** That the rules do not allow a time is told before that the appointment's status does not. */
  private async requireOpen(tx: EntityManager, lane: PractitionerLane, span: Span): Promise<void> {
    const days = await this.slots.daysOf(tx, [lane], span.buffered);
    const decision = decideClaim(days.get(lane.scheduleId) ?? [], span);
    if (!decision.ok && decision.reason === 'outside_hours') throw new Problem('outside_hours');
  }
}

function refuse(decision: TransitionDecision, action: Action): { from: AppointmentStatus; to: AppointmentStatus } {
  if (decision.ok) return decision;
  const detail =
    decision.why === 'not_started'
      ? `An appointment that has not begun does not allow: ${action}.`
      : `An appointment that is ${decision.from} does not allow: ${action}.`;
  throw new Problem('invalid_transition', detail, { currentStatus: decision.from });
}

const expired = (why: string): Problem => new Problem('hold_expired', `The hold is over. ${why}`);

const wishOf = (appointment: FullAppointment) => ({
  patientId: appointment.patientId,
  during: { start: appointment.startsAt.getTime(), end: appointment.endsAt.getTime() },
  held: appointment.status === 'held',
  appointmentId: appointment.id,
});

const placeOf = ({ startsAt, endsAt, practitionerId }: AppointmentSegment) => ({
  startsAt: showInstant(startsAt),
  endsAt: showInstant(endsAt),
  practitionerId,
});
