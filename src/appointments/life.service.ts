import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import {
  type BookableService,
  DayGate,
  decideWindow,
  type HeldClaim,
  LanesRepository,
  Ledger,
  type NamedLane,
  visitOf,
} from '../availability';
import { OrganizationService, type PatientRules, PatientsService } from '../clinic';
import { Clock, Idempotency, Metrics, parseInstant, Problem, Reply, showInstant, TryAgain } from '../platform';
import type { AppointmentSegment, AppointmentStatus } from './appointment.entities';
import { AppointmentRepository, type FullAppointment, type Subject } from './appointment.repository';
import { showAppointment } from './appointment.representation';
import { type Change, expiryOf, recordChanges } from './appointment.sql';
import { PatientRulesService } from './patient-rules.service';
import { type LostTime, RefusalsService } from './refusals.service';
import { AppointmentScope } from './scope.service';
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
import {
  type Asked,
  decide,
  expectedTime,
  type NewSegment,
  problemOf,
  reachOf,
  type SegmentRequest,
  segmentsOf,
  timeOf,
  VisitsService,
} from './visits.service';

export interface RescheduleRequest {
  startsAt: string;
  practitionerId?: string | null;
  /** Of a composite service: where and when each of its segments takes place from then on. */
  segments?: SegmentRequest[] | null;
  reason?: string | null;
}

/** What an action makes of a locked appointment. */
interface Done {
  before: FullAppointment;
  from: AppointmentStatus;
  after: Change['after'];
  /** In place of those it had. */
  segments?: NewSegment[];
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
    private readonly visits: VisitsService,
    private readonly ledger: Ledger,
    private readonly organization: OrganizationService,
    private readonly patients: PatientsService,
    private readonly appointments: AppointmentRepository,
    private readonly rules: PatientRulesService,
    private readonly refusals: RefusalsService,
    private readonly scope: AppointmentScope,
  ) {}

  /**
   * Confirms a hold (which makes it a request where the service asks for the clinic's word) or a request. A hold that is
   * over takes its time again if that is free, whether or not its expiry is written down; else 410.
   */
  confirm(call: Call, id: string, reason?: string | null): Promise<Reply> {
    const confirm = async (tx: EntityManager, { serviceId, patientId }: Subject): Promise<Done> => {
      // Locked as for a booking, which a late confirm is: neither may be deleted meanwhile.
      const [service, patientIsThere] = await Promise.all([
        this.lanes.findService(tx, serviceId, 'for booking'),
        this.patients.lockLiving(tx, patientId),
      ]);
      if (service) await this.rules.lock(tx, service, patientId);

      const [stored, claims] = await this.lockWithClaims(tx, id);
      const from = statusAt(stored, stored.asOf);
      const late = from === 'expired' && !wasRequested(stored);
      // That time went by makes nobody's If-Match stale who wants to confirm: nobody else has changed anything.
      const swept = stored.status === 'expired';
      requireVersion(call, stored.version, { also: late && swept ? stored.version - 1 : undefined });
      if (!late) refuse(decideTransition(stored, 'confirm', stored.asOf), 'confirm');
      if (from === 'pending' && call.role === 'patient')
        throw new Problem('forbidden', 'The clinic decides on a request.');
      if (late && !(service && patientIsThere)) throw expired('The patient or the service is not there any more.');
      if (from === 'held' && service?.paymentRequired) throw new Problem('payment_required');

      const standing: Standing =
        from === 'pending' || !service
          ? { status: 'confirmed', expiresAt: null, pendingUntil: null }
          : accepted(service, stored.startsAt.getTime(), stored.asOf);
      // A request that nobody could decide on any more, for it would begin before.
      const over = standing.expiresAt !== null && standing.expiresAt.getTime() <= stored.asOf;
      if (over || (late && stored.startsAt.getTime() <= stored.asOf)) throw expired('The time itself is over.');
      if (late) {
        await this.retake(tx, stored, claims, service!, standing);
        // The time would be there, for who pays.
        if (service!.paymentRequired) throw new Problem('payment_required');
      } else if (!(await this.ledger.keep(tx, id, claims, stored.segments.length, standing.expiresAt))) {
        // It ran out while this waited for a lock, and somebody took the time: decide again on that.
        throw new TryAgain('the time of an appointment was over meanwhile');
      }
      const before = late && !swept ? { ...stored, ...(await recordChanges(tx, [expiryOf(stored)]))[0]! } : stored;
      return { before, from, after: standing };
    };
    return this.act(call, id, 'confirm', reason, confirm, (tx) => this.appointments.subjectOf(tx, id));
  }

  /** Claims the time of a hold that is over once more, by the rules of a booking, whether or not its claim is still there. */
  private async retake(
    tx: EntityManager,
    before: FullAppointment,
    left: readonly HeldClaim[],
    service: BookableService,
    { expiresAt }: Standing,
  ): Promise<void> {
    const { organizationId, id } = before;
    await this.rules.check(tx, service, wishOf(before));
    const offered = await this.lanes.segments(tx, service);
    // What was agreed on are the appointment's own times; the buffers are the service's.
    const segments = before.segments.map(({ scheduleId, startsAt, endsAt }, index) => ({
      ...(offered[index] ?? { lanes: [] }),
      durationMinutes: (endsAt.getTime() - startsAt.getTime()) / 60_000,
      lanes: (offered[index]?.lanes ?? []).filter((lane) => lane.scheduleId === scheduleId),
    }));
    if (offered.length !== segments.length || segments.some(({ lanes }) => lanes.length === 0))
      throw expired('The practitioner does not offer this any more.');
    const placements = segments.map(({ lanes }, index) => ({
      lane: lanes[0]!,
      startsAt: before.segments[index]!.startsAt.getTime(),
    }));
    const visit = visitOf(service, segments as Asked['visit']['segments'], before.mode);
    const asked: Asked = { visit, startsAt: before.startsAt.getTime(), placements };
    const { capacity } = service;
    const claim = { organizationId, serviceId: service.id, capacity, holder: id, expiresAt };
    const claimed = await this.ledger.claim(tx, reachOf(asked), claim, (locked) => decide(asked, locked), left);
    if (claimed.ok) return;
    throw expired(claimed.reason === 'taken' ? 'Somebody else has the time by now.' : 'The time is not open any more.');
  }

  /** Cancels, and frees what the appointment occupies: its own claim, never "the slot", which may be somebody else's by then. */
  cancel(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'cancel', reason, async (tx) => {
      const [rule, [before, claims]] = await Promise.all([
        this.organization.patientRules(tx, call.organizationId),
        this.lockWithClaims(tx, id),
      ]);
      const { from, to } = requireAction(call, before, 'cancel');
      const cancellation = this.requireCancellable(call, rule, before);
      await this.ledger.release(tx, [id], claims);
      return { before, from, after: { status: to, cancellation } };
    });
  }

  /** The patient is here. */
  checkIn(call: Call, id: string, reason?: string | null): Promise<Reply> {
    return this.act(call, id, 'check-in', reason, async (tx) => {
      const before = await this.appointments.lock(tx, id);
      const { from, to } = requireAction(call, before, 'check-in');
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
      const [before, claims] = await this.lockWithClaims(tx, id);
      const { from, to } = requireAction(call, before, action);
      await this.ledger.release(tx, [id], claims);
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
    const ahead = (tx: EntityManager) =>
      Promise.all([this.appointments.get(tx, id), this.organization.patientRules(tx, call.organizationId)]);
    const move = async (tx: EntityManager, [seen, rule]: Awaited<ReturnType<typeof ahead>>): Promise<Done> => {
      const named = request.practitionerId ?? undefined;
      const whom = named ?? (seen.segments.length === 1 ? seen.segments[0]!.practitionerId : null);
      const [service, lane] = await Promise.all([
        this.lanes.findService(tx, seen.serviceId, 'for booking'),
        whom === null ? undefined : this.lanes.findLane(tx, seen.serviceId, whom),
      ]);
      Object.assign(lost, {
        serviceId: seen.serviceId,
        practitionerId: named ?? seen.segments.find((segment) => segment.practitionerId !== null)?.practitionerId,
        mode: seen.mode,
        patientId: seen.patientId,
      });
      const asked = service && (await this.whereTo(tx, service, seen, startsAt, request, lane).catch(notEligible));
      if (service) await this.rules.lock(tx, service, seen.patientId);
      lost.allowOverlap = service?.allowPatientOverlap;

      const offered =
        asked && !(asked instanceof Problem) && asked.visit.segments.every((each) => each.lanes.length > 0);
      const looked = offered ? this.ledger.look(tx, reachOf(asked)) : undefined;
      looked?.catch(() => undefined);
      const [before, own] = await this.lockWithClaims(tx, id);
      if (before.segments.some((segment, index) => segment.scheduleId !== seen.segments[index]?.scheduleId)) {
        throw new TryAgain('the appointment was moved meanwhile');
      }
      requireVersion(call, before.version);
      const decision = decideTransition(before, 'reschedule', before.asOf);
      // What the rules do not allow is told before that the status does not; but what is over needs no practitioner.
      if (asked instanceof Problem) throw asked;
      if (!service || !asked?.visit.segments.every((segment) => segment.lanes.length > 0)) {
        refuse(decision, 'reschedule');
        throw new Problem(service ? 'practitioner_not_eligible' : 'service_not_bookable');
      }
      const window = decideWindow(service, startsAt, this.clock.now());
      if (!window.ok) throw new Problem(window.reason);
      if (!decision.ok) await this.requireOpen(tx, service, asked);
      refuse(decision, 'reschedule');
      // Moving away what could not be cancelled any more would be a way round that.
      this.requireCancellable(call, rule, before);
      const { expiresAt: ends, pendingUntil } = before;
      const expiresAt = before.status === 'pending' ? endOfRequest(pendingUntil, startsAt) : ends;
      if (own.length < before.segments.length) throw new TryAgain('the time of an appointment was over meanwhile');
      const { organizationId } = call;
      const claim = { organizationId, serviceId: service.id, capacity: service.capacity, holder: id, expiresAt };
      const wish = wishOf(before);
      const expected = expectedTime(asked);
      await this.rules.check(tx, service, { ...wish, during: expected });
      const claimed = await this.ledger.claim(
        tx,
        reachOf(asked),
        claim,
        (locked) => decide(asked, locked),
        own,
        looked,
      );
      if (!claimed.ok) throw problemOf(asked, claimed);

      const segments = segmentsOf(claimed.parts, id, organizationId);
      const { start, end } = timeOf(claimed.parts);
      if (end > expected.end) await this.rules.check(tx, service, { ...wish, during: { start, end } });
      const after = { startsAt: new Date(start), endsAt: new Date(end), expiresAt };
      const details = { from: placeOf(before, before.segments), to: placeOf(after, segments) };
      return { before, from: before.status, after, segments, details, event: 'appointment.rescheduled' };
    };
    try {
      return await this.gate.pass(crowd, () => this.act(call, id, 'reschedule', request.reason, move, ahead));
    } catch (error) {
      throw await this.refusals.explain(call, error, lost);
    }
  }

  /** Runs one action: once per key, recorded with its line of history, counted. */
  private async act<Read>(
    call: Call,
    id: string,
    action: Action,
    reason: string | null | undefined,
    work: (tx: EntityManager, read: Read) => Promise<Done>,
    ahead?: (tx: EntityManager) => Promise<Read>,
  ): Promise<Reply> {
    try {
      const record = async (tx: EntityManager, _: number, read: Read) => {
        const { before, from, after, segments, event, details = {} } = await work(tx, read);
        await this.scope.require(tx, call, before);
        if (segments) await this.scope.requireWithin(tx, call, { ...before, segments });
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
        const [[changed]] = await Promise.all([
          recordChanges(tx, [change]),
          segments && this.appointments.replaceSegments(tx, before, segments),
        ]);
        const shown = { ...changed!, segments: segments ?? before.segments, asOf: before.asOf };
        return Reply.ok(showAppointment(shown), shown.version);
      };
      await this.scope.requireSeen(call, id);
      const reply = await this.idempotency.transaction(call, record, ahead);
      if (!reply.stored?.replayed) this.metrics.transitions.inc({ action, outcome: 'done' });
      return reply;
    } catch (error) {
      if (error instanceof Problem) this.metrics.transitions.inc({ action, outcome: error.code });
      if (error instanceof Problem) this.refusals.caught(error.code, call, id);
      throw error;
    }
  }

  /** Locks an appointment, and reads behind the lock, in the same round trip, what it occupies. */
  private lockWithClaims(tx: EntityManager, id: string): Promise<[FullAppointment, HeldClaim[]]> {
    return Promise.all([this.appointments.lock(tx, id), this.ledger.claimsOf(tx, id)]);
  }

  /** @returns what a cancellation now would be called */
  private requireCancellable(call: Call, rule: PatientRules, appointment: FullAppointment): string {
    const { status, startsAt, asOf } = appointment;
    const decision = decideCancellation(rule, status, startsAt.getTime(), call.role, asOf);
    if (decision.ok) return decision.kind;
    throw new Problem(decision.reason, undefined, { cancellationWindowMinutes: rule.cancellationWindowMinutes });
  }

  /** Where an appointment is to go: as named, else with whom it is now, as far as they can. */
  private async whereTo(
    tx: EntityManager,
    service: BookableService,
    { segments: present, mode }: FullAppointment,
    startsAt: number,
    { practitionerId, segments }: RescheduleRequest,
    lane: NamedLane | undefined,
  ): Promise<Asked> {
    // Who has it now, if he can have it; nobody needs to ask for the others.
    const whom = practitionerId ?? (!service.composite && lane?.eligible ? lane.practitionerId : null);
    const asked = await this.visits.ask(tx, service, {
      startsAt,
      mode,
      practitionerId: whom ?? undefined,
      segments: segments ?? undefined,
      lane,
    });
    if (segments || (whom && !service.composite)) return asked;
    const isHis = (index: number) => (lane: { scheduleId: string }) => lane.scheduleId === present[index]?.scheduleId;
    return {
      ...asked,
      visit: {
        ...asked.visit,
        segments: asked.visit.segments.map((segment, index) => {
          const his = segment.lanes.filter(isHis(index));
          const others = segment.lanes.filter((lane) => !isHis(index)(lane));
          // The same practitioner, unless somebody else is named; of several segments the others can be served by others.
          return { ...segment, lanes: service.composite ? [...his, ...others] : his };
        }),
      },
    };
  }

  /** That the rules do not allow a time is told before that the appointment's status does not. */
  private async requireOpen(tx: EntityManager, service: BookableService, asked: Asked): Promise<void> {
    const decision = decide(asked, await this.visits.look(tx, service, asked));
    if (!decision.ok && decision.reason !== 'taken' && decision.reason !== 'day_missing')
      throw problemOf(asked, decision);
  }
}

/** Refuses what the appointment, which is locked, does not allow; on the version that the caller has seen. */
function requireAction(call: Call, before: FullAppointment, action: Action) {
  requireVersion(call, before.version);
  return refuse(decideTransition(before, action, before.asOf), action);
}

function refuse(decision: TransitionDecision, action: Action): { from: AppointmentStatus; to: AppointmentStatus } {
  if (decision.ok) return decision;
  const detail =
    decision.why === 'not_started'
      ? `An appointment that has not begun does not allow: ${action}.`
      : `An appointment that is ${decision.from} does not allow: ${action}.`;
  throw new Problem('invalid_transition', detail, { currentStatus: decision.from });
}

/** What the rules do not allow is told after that the version is old. */
function notEligible(error: unknown): Problem {
  if (error instanceof Problem && error.code === 'practitioner_not_eligible') return error;
  throw error;
}

const expired = (why: string): Problem => new Problem('hold_expired', `The hold is over. ${why}`);

const wishOf = (appointment: FullAppointment) => ({
  patientId: appointment.patientId,
  during: { start: appointment.startsAt.getTime(), end: appointment.endsAt.getTime() },
  held: appointment.status === 'held',
  appointmentId: appointment.id,
});

const placeOf = ({ startsAt, endsAt }: { startsAt: Date; endsAt: Date }, segments: readonly AppointmentSegment[]) => ({
  startsAt: showInstant(startsAt),
  endsAt: showInstant(endsAt),
  practitionerId: segments.find((segment) => segment.practitionerId !== null)?.practitionerId ?? null,
  ...(segments.length === 1
    ? {}
    : {
        segments: segments.map((segment) => ({
          name: segment.name,
          ...(segment.roomId === null ? { practitionerId: segment.practitionerId } : { roomId: segment.roomId }),
          startsAt: showInstant(segment.startsAt),
          endsAt: showInstant(segment.endsAt),
        })),
      }),
});
