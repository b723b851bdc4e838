import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import {
  type BookableService,
  DayGate,
  decideWindow,
  KnownLanes,
  LanesRepository,
  Ledger,
  localDays,
  mayShare,
  type Part,
  ScheduleDayRepository,
  type SeenDay,
  spanOf,
} from '../availability';
import { CALLER, type PatientFields, PatientsService } from '../clinic';
import { Clock, Idempotency, Log, Metrics, parseInstant, Problem, Reply, TryAgain } from '../platform';
import { APPOINTMENTS } from './appointment.representation';
import { PatientRulesService } from './patient-rules.service';
import { type LostTime, RefusalsService } from './refusals.service';
import { AppointmentScope } from './scope.service';
import { booked, standingOf, type Term } from './transitions.rules';
import { type Guarded, guardedBooking, type NewAppointment, type Person, recordBooking } from './booking.sql';
import {
  type Asked,
  decide,
  inMode,
  problemOf,
  reachOf,
  type SegmentRequest,
  segmentsOf,
  timeOf,
  VisitsService,
} from './visits.service';

export interface BookingRequest {
  serviceId: string;
  startsAt: string;
  practitionerId?: string | null;
  /** Of a composite service: where and when each of its segments takes place. */
  segments?: SegmentRequest[] | null;
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
    private readonly known: KnownLanes,
    private readonly days: ScheduleDayRepository,
    private readonly visits: VisitsService,
    private readonly ledger: Ledger,
    private readonly patients: PatientsService,
    private readonly rules: PatientRulesService,
    private readonly refusals: RefusalsService,
    private readonly scope: AppointmentScope,
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
      const reply = await this.gate.pass(
        crowd,
        async () =>
          // With what was read before, one statement does it all; mostly there is nothing to look at first.
          (await this.bookKnown(call, request, startsAt)) ??
          this.idempotency.transaction(call, async (tx, attempt) =>
            this.scope.requireBooked(tx, call, await this.tryToBook(tx, call, request, lost, attempt)),
          ),
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
    const named = soleNamed(request);
    // What most bookings need to know, in one round trip: single statements that are sent side by side.
    const [service, lane, day, patient] = await Promise.all([
      this.lanes.service(tx, request.serviceId, 'for booking'),
      named === undefined ? undefined : this.lanes.findLane(tx, request.serviceId, named),
      named === undefined ? undefined : this.days.readAt(tx, named, startsAt),
      request.patient ? this.patients.withPhone(tx, request.patient.phone) : undefined,
    ]);
    lost.allowOverlap = service.allowPatientOverlap;
    const mode = request.mode ?? service.modes[0]!;
    const wish = await this.visits.ask(tx, service, {
      startsAt,
      mode,
      practitionerId: request.practitionerId ?? undefined,
      segments: request.segments ?? undefined,
      lane,
    });
    if (lane) this.known.remember(call.organizationId, { service, lane });
    if (request.patientId) await this.patients.lockForBooking(tx, request.patientId);
    if (request.patient) await this.patients.requireReferences(tx, request.patient);
    if (!service.modes.includes(mode)) {
      throw Problem.invalid({ pointer: '/mode', detail: `this service is offered as: ${service.modes.join(', ')}` });
    }
    if (wish.visit.segments.some((segment) => segment.lanes.length === 0))
      throw new Problem('practitioner_not_eligible', 'Nobody offers this service at the moment.');
    const window = decideWindow(service, startsAt, this.clock.now());
    if (!window.ok) throw new Problem(window.reason);

    const seen = await this.visits.look(tx, service, wish, day);
    const asked = inMode(wish, request.mode ?? undefined, service.modes, seen);
    const { first, wanted } = this.candidates(asked, seen, service.capacity, attempt);
    const during = timeOf(first);
    const patientId =
      request.patientId ?? (await this.patients.upsert(tx, call.organizationId, request.patient!, patient)).patient.id;
    const term = booked(service, request.hold ?? false, startsAt);
    await this.rules.check(tx, service, { patientId, during, held: term.status === 'held' });

    const id = uuidv7();
    const { organizationId } = call;
    const draft = (parts: readonly Part[]) =>
      this.draft(call, request, { id, service, parts, mode: asked.visit.mode, term });
    // The guarded form serves one schedule and one day that has its row; the first try of a crowd, mostly the last one too.
    const guardedOn = attempt === 1 && lane ? guardedDay(wanted, first, seen) : undefined;
    if (lane && guardedOn !== undefined) {
      const claim = { organizationId, service, lane, day: guardedOn, span: first[0]!.span, holder: id };
      const booking = draft(first);
      const [guarded] = await tx.query<Guarded[]>(guardedBooking(claim, booking, { patientId }) as never);
      if (guarded?.reply) return this.answer(booking, guarded.reply, 'guarded');
      // Somebody was faster between the reading above and the lock.
      this.refusals.caught('slot_taken', call);
      if (guarded) throw new Problem('slot_taken');
      // Look again, and lock first this time.
      throw new TryAgain('the time was taken meanwhile');
    }
    const { capacity, asOf } = service;
    const { expiresAt } = standingOf(term, asOf);
    const claim = { organizationId, serviceId: service.id, capacity, holder: id, expiresAt };
    const claimed = await this.ledger.claim(tx, reachOf(wanted), claim, (locked) => decide(wanted, locked));
    if (!claimed.ok) {
      if (claimed.reason === 'taken') this.refusals.caught('slot_taken', call);
      // Another set may fit; only when all that could serve were locked is it known that none does.
      if (wanted !== asked && service.composite) throw new TryAgain('the planned set was taken meanwhile');
      throw problemOf(asked, claimed);
    }
    // What was planned under the locks may end later than what was planned before.
    const time = timeOf(claimed.parts);
    const held = term.status === 'held';
    if (time.end > during.end) await this.rules.check(tx, service, { patientId, during: time, held });
    const booking = draft(claimed.parts);
    const [{ reply }] = await tx.query<[{ reply: string }]>(recordBooking(booking, patientId, new Date(asOf)) as never);
    return this.answer(booking, reply, 'locking');
  }

  /**
   * Books a single segment by what is known of its service and practitioner, without reading anything first: one statement, one
   * round trip. The statement holds what is known against the rows; where it does nothing the reason is for the usual way to
   * find out.
   */
  private async bookKnown(call: Call, request: BookingRequest, startsAt: number): Promise<Reply | undefined> {
    // Whether it is theirs to book is looked up for those who are bound to somebody or some place.
    if (call.practitionerId !== undefined || call.locationIds !== undefined) return undefined;
    const named = soleNamed(request);
    const known = named && this.known.find(call.organizationId, request.serviceId, named);
    if (!known) return undefined;
    const { service, lane } = known;
    const mode = request.mode ?? service.modes[0]!;
    const usual =
      lane.eligible &&
      lane.places === 1 &&
      !service.composite &&
      service.capacity === 1 &&
      service.modes.includes(mode) &&
      // Rules about what a patient may have at once need a look under his lock.
      service.allowPatientOverlap &&
      service.maxOpenHolds === null &&
      decideWindow(service, startsAt, this.clock.now()).ok;
    const person = usual && personOf(request);
    if (!person) return undefined;
    const span = spanOf(service, startsAt);
    const [day, ...others] = localDays(lane.timeZone, span.buffered);
    if (others.length > 0) return undefined;
    const { organizationId } = call;
    const id = uuidv7();
    const parts = [{ name: null, lane, span, capacity: 1 }];
    const term = booked(service, request.hold ?? false, startsAt);
    const booking = this.draft(call, request, { id, service, parts, mode, term });
    const claim = { organizationId, service, lane, day: day!, span, holder: id };
    const [guarded] = await this.idempotency.single<Guarded>(call, guardedBooking(claim, booking, person, call));
    if (guarded?.reply === null) throw new Problem('slot_taken');
    return guarded && this.answer(booking, guarded.reply, 'guarded');
  }

  /**
   * What is worth locking, by what was read: with nobody named, the practitioners who are free, the one with the emptiest
   * day first; of a visit of several segments the best plan at first, and everybody who could serve when that was lost.
   */
  private candidates(
    asked: Asked,
    seen: ReadonlyMap<string, readonly SeenDay[]>,
    capacity: number,
    attempt: number,
  ): { first: Part[]; wanted: Asked } {
    const sorted: Asked = asked.placements ? asked : { ...asked, visit: emptiestFirst(asked.visit, seen) };
    const { visit } = sorted;
    const decision = decide(sorted, seen);
    // The zone of a schedule was changed between two of the readings.
    if (!decision.ok && decision.reason === 'day_missing') throw new TryAgain('the days of a schedule have moved');
    // Somebody may have opened or left a session between the readings of days and of sessions: then neither told the truth.
    if (!decision.ok && decision.reason === 'taken' && attempt === 1 && mayShare(capacity, seen))
      throw new TryAgain('a session has changed meanwhile');
    if (!decision.ok) throw problemOf(sorted, decision);
    const first = decision.parts;
    if (asked.placements) return { first, wanted: asked };
    if (visit.segments.length > 1) {
      const segments = visit.segments.map((segment, index) => ({ ...segment, lanes: [first[index]!.lane] }));
      return { first, wanted: attempt === 1 ? { ...sorted, visit: { ...visit, segments } } : asked };
    }
    const [segment] = visit.segments;
    const free = segment!.lanes.filter((lane) => {
      const alone = { ...visit, segments: [{ ...segment!, lanes: [lane] }] };
      const own = decide({ ...sorted, visit: alone }, seen);
      return own.ok || own.reason === 'day_missing';
    });
    return { first, wanted: { ...sorted, visit: { ...visit, segments: [{ ...segment!, lanes: free }] } } };
  }

  private draft(
    call: Call,
    request: BookingRequest,
    on: { id: string; service: BookableService; parts: readonly Part[]; mode: string; term: Term },
  ): NewAppointment {
    const { id, term } = on;
    const { start, end } = timeOf(on.parts);
    const appointment = {
      id,
      organizationId: call.organizationId,
      cancellation: null,
      serviceId: on.service.id,
      attendeeName: request.attendeeName ?? null,
      startsAt: new Date(start),
      endsAt: new Date(end),
      mode: on.mode,
      confirmationStatus: 'none',
      source: call.channel,
      notes: request.notes ?? null,
      metadata: request.metadata ?? {},
    };
    const segments = segmentsOf(on.parts, id, call.organizationId);
    return { appointment, term, segments, actor: call.principalId, channel: call.channel, eventId: uuidv7() };
  }

  private answer({ appointment }: NewAppointment, text: string, form: 'guarded' | 'locking'): Reply {
    const { id } = appointment;
    this.log.debugEvent('appointment_booked', { appointmentId: id, form });
    return Reply.createdAs(`${APPOINTMENTS}/${id}`, text);
  }
}

/** The practitioner who is named for the whole of a booking. */
const soleNamed = ({ segments, practitionerId }: BookingRequest): string | undefined =>
  (!segments && practitionerId) || undefined;

/** For whom a booking is, if that can be told without a look; undefined where there may be more to do about him. */
function personOf({ patientId, patient }: BookingRequest): Person | undefined {
  if (patientId) return { patientId };
  // A branch is to be looked up; and callers belong to the default one.
  const { phone, name, email, locale, locationId, source } = patient!;
  if (locationId || source === CALLER) return undefined;
  return { phone, fills: { name: name ?? null, email: email ?? null, locale: locale ?? null } };
}

/** The day on which the guarded form can decide; undefined where more than one schedule or day is concerned, or a session. */
function guardedDay(
  { visit, placements }: Asked,
  first: readonly Part[],
  seen: ReadonlyMap<string, readonly SeenDay[]>,
): string | undefined {
  if (placements || visit.segments.length > 1 || visit.segments[0]!.lanes.length > 1) return undefined;
  const [{ lane, span, capacity }] = first as [Part];
  const days = seen
    .get(lane.scheduleId)!
    .filter((day) => day.covers.start < span.buffered.end && span.buffered.start < day.covers.end);
  return capacity === 1 && days.length === 1 && days[0]!.guarded ? days[0]!.day : undefined;
}

/** The same visit, with those first whose days are the emptiest. */
function emptiestFirst(visit: Asked['visit'], seen: ReadonlyMap<string, readonly SeenDay[]>): Asked['visit'] {
  const busy = new Map(
    [...seen].map(([id, days]) => [
      id,
      days.flatMap((day) => day.taken).reduce((sum, range) => sum + range.end - range.start, 0),
    ]),
  );
  const segments = visit.segments.map((segment) => ({
    ...segment,
    lanes: [...segment.lanes].sort((a, b) => (busy.get(a.scheduleId) ?? 0) - (busy.get(b.scheduleId) ?? 0)),
  }));
  return { ...visit, segments };
}
