import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import {
  type BookableService,
  type Claim,
  DayGate,
  decideClaim,
  decideWindow,
  LanesRepository,
  Ledger,
  type PractitionerLane,
  SlotsService,
  type Span,
  spanOf,
} from '../availability';
import { OrganizationService } from '../clinic';
import { Clock, Idempotency, Metrics, parseInstant, Problem, Reply, showInstant, TryAgain } from '../platform';
import type { AppointmentSegment, AppointmentStatus } from './appointment.entities';
import { AppointmentRepository, type FullAppointment } from './appointment.repository';
import { showAppointment } from './appointment.representation';
import { type Change, recordChanges } from './appointment.sql';
import { PatientRulesService } from './patient-rules.service';
import { RefusalsService } from './refusals.service';
import {
  accepted,
  type Action,
  decideCancellation,
  decideTransition,
  endOfRequest,
  type Standing,
  statusAt,
  type TransitionDecision,
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
      const service = await this.lanes.findService(tx, seen.serviceId);
      if (service) await this.rules.lock(tx, service, seen.patientId);

      const before = await this.appointments.lock(tx, id);
      const from = statusAt(before, before.asOf);
      const origin = before.status === 'expired' ? await this.appointments.statusBefore(tx, before) : before.status;
      const late = from === 'expired' && origin === 'held';
      // That time went by makes nobody's If-Match stale who wants to confirm: nobody else has changed anything.
      requireVersion(call, before.version, {
        also: late && before.status === 'expired' ? before.version - 1 : undefined,
      });
      if (!late) refuse(decideTransition(before, 'confirm', before.asOf), 'confirm');
      if (origin === 'held' && service?.paymentRequired) throw new Problem('payment_required');
      if (origin === 'held' && !service) throw new Problem('hold_expired', 'The service is not offered any more.');

      const standing: Standing =
        origin === 'held'
          ? accepted(service!, before.startsAt.getTime(), before.asOf)
          : { status: 'confirmed', expiresAt: null, pendingUntil: null };
      // A request that nobody could decide on any more, for it would begin before.
      const over = standing.expiresAt !== null && standing.expiresAt.getTime() <= before.asOf;
      if (over || (late && before.startsAt.getTime() <= before.asOf)) {
        throw new Problem('hold_expired', 'The time that was held is over.');
      }
      const claims = await this.ledger.claimsOf(tx, id);
      if (late) {
        if (!(await this.retake(tx, before, service!, standing, claims))) throw new Problem('hold_expired');
      } else if (!(await this.ledger.keep(tx, id, claims, standing.expiresAt))) {
        // It ran out while this waited for a lock, and somebody took the time: decide again on that.
        throw new TryAgain('the time of an appointment was over meanwhile');
      }
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
  ): Promise<boolean> {
    await this.rules.check(tx, service, wishOf(before));
    const { startsAt, endsAt, organizationId, id, segments } = before;
    // What was agreed on is the appointment's own length; the buffers are the service's.
    const span = spanOf(
      { ...service, durationMinutes: (endsAt.getTime() - startsAt.getTime()) / 60_000 },
      startsAt.getTime(),
    );
    const offering = await this.lanes.lanes(tx, service.id);
    const lanes = offering.filter((lane) => lane.scheduleId === segments[0]!.scheduleId);
    if (lanes.length === 0) return false;
    return (await this.ledger.claim(tx, lanes, { organizationId, holder: id, span, expiresAt }, claims)).ok;
  }

  /** Cancels, and frees what the appointment occupies: its own claim, never "the slot", which may be somebody else's by then. */
  cancel(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'cancel', reason, async (tx) => {
      const rule = await this.organization.patientRules(tx, call.organizationId);
      const { before, from, to } = await this.lockFor(tx, call, id, 'cancel');
      const decision = decideCancellation(rule, from, before.startsAt.getTime(), call.role, before.asOf);
      if (!decision.ok) {
        throw new Problem(decision.reason, undefined, { cancellationWindowMinutes: rule.cancellationWindowMinutes });
      }
      await this.ledger.release(tx, [id]);
      return { before, from, after: { status: to, cancellation: decision.kind } };
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
    const lost: { serviceId?: string; practitionerId?: string; startsAt: number; mode?: string } = { startsAt };
    const crowd = [call.organizationId, request.practitionerId ?? id, Math.floor(startsAt / 86_400_000)].join('/');
    const move = async (tx: EntityManager) => {
      const seen = await this.appointments.get(tx, id);
      const service = await this.lanes.service(tx, seen.serviceId, 'for booking');
      const practitionerId = request.practitionerId ?? seen.segments[0]!.practitionerId!;
      const lanes = await this.lanes.lanes(tx, service.id, practitionerId);
      Object.assign(lost, { serviceId: service.id, practitionerId, mode: seen.mode });
      await this.rules.lock(tx, service, seen.patientId);

      const before = await this.appointments.lock(tx, id);
      if (before.segments[0]!.practitionerId !== seen.segments[0]!.practitionerId) {
        throw new TryAgain('the appointment was moved meanwhile');
      }
      requireVersion(call, before.version);
      const window = decideWindow(service, startsAt, this.clock.now());
      if (!window.ok) throw new Problem(window.reason);
      const span = spanOf(service, startsAt);
      const decision = decideTransition(before, 'reschedule', before.asOf);
      if (!decision.ok) {
        await this.requireOpen(tx, lanes, span);
        refuse(decision, 'reschedule');
      }
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
      const claimed = await this.ledger.claim(tx, lanes, claim, own);
      if (!claimed.ok) throw new Problem(claimed.reason === 'taken' ? 'slot_taken' : 'outside_hours');

      const { lane } = claimed;
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

  /** That the rules do not allow a time is told before that the appointment's status does not. */
  private async requireOpen(tx: EntityManager, lanes: PractitionerLane[], span: Span): Promise<void> {
    const days = await this.slots.daysOf(tx, lanes, span.buffered);
    const decision = decideClaim(days.get(lanes[0]!.scheduleId) ?? [], span);
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
