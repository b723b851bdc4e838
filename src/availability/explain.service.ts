import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { Clock, Database, parseInstant, Problem, showInstant } from '../platform';
import { explainLane, type Facts, reason, type Reason } from './explain.rules';
import { type BookableService, LanesRepository } from './lanes.repository';
import { ScheduleDayRepository } from './ledger.repository';
import { bookingWindow, decideWindow, spanOf } from './ledger.rules';
import { ScheduleRepository } from './schedule.repository';
import { hasModes, lanesOf, visitOf } from './offers.rules';
import { SlotsService } from './slots.service';
import { planVisit, reachesOf, type ResourceLane, segmentStarts, type Visit } from './visits.rules';

export interface ExplainRequest {
  serviceId: string;
  startsAt: string;
  practitionerId?: string;
  mode?: string;
}

interface LaneExplanation {
  practitionerId?: string;
  roomId?: string;
  scheduleId: string;
  bookable: boolean;
  reasons: Reason[];
}

/**
 * Says why a time can or cannot be booked: reason by reason, for each practitioner or room that could serve. Reads what a
 * booking reads and decides by the same rules. Tells when something is booked, never by whom or for what.
 */
@Injectable()
export class ExplainService {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
    private readonly schedules: ScheduleRepository,
    private readonly days: ScheduleDayRepository,
  ) {}

  explain(call: Call, request: ExplainRequest) {
    const startsAt = parseInstant(request.startsAt)!;
    return this.database.read(call.organizationId, async (tx) => {
      const service = await this.lanes.service(tx, request.serviceId);
      const now = this.clock.now();
      const first = request.mode ?? service.modes[0]!;
      const reasons = this.ofService(service, first, startsAt, now);
      const segments = await this.lanes.segments(tx, service, request.practitionerId).catch((error: unknown) => {
        if (!(error instanceof Problem) || error.code !== 'practitioner_not_eligible') throw error;
        reasons.unshift(reason('practitioner_not_eligible', 'This practitioner does not offer the service.'));
        return [];
      });
      if (segments.some((segment) => segment.lanes.length === 0))
        reasons.push(reason('practitioner_not_eligible', 'Nobody offers this service at the moment.'));
      const asked = visitOf(service, segments, first);
      const facts = segments.length === 0 ? undefined : await this.factsOf(tx, service, asked, startsAt);
      const modes = request.mode === undefined && facts && hasModes(facts.seen) ? service.modes : [first];
      const able = modes.find((each) => facts && planVisit({ ...asked, mode: each }, startsAt, facts.seen).ok);
      const [fits, mode] = [able !== undefined, able ?? first];
      const visit = { ...asked, mode };
      const starts = segmentStarts(visit, startsAt);
      const explained = segments.map(({ name, durationMinutes, lanes }, index) => {
        const span = spanOf({ ...service, durationMinutes }, starts[index]!);
        const candidates = lanes.map((lane) => showLane(lane, explainLane(facts!.of(lane), span, visit)));
        return { name, startsAt: showInstant(span.core.start), endsAt: showInstant(span.core.end), candidates };
      });
      if (!fits) reasons.push(...explained.flatMap(({ candidates }) => againstAll(candidates)));
      if (!fits && reasons.length === 0)
        reasons.push(reason('no_fitting_set', 'Each segment could be had by itself, but not one after the other.'));
      return {
        serviceId: service.id,
        startsAt: showInstant(startsAt),
        mode,
        bookable: reasons.length === 0,
        reasons,
        segments: explained,
        asOf: showInstant(now),
      };
    });
  }

  /** What is against it whoever serves. */
  private ofService(service: BookableService, mode: string, startsAt: number, now: number): Reason[] {
    const reasons: Reason[] = [];
    if (!service.modes.includes(mode))
      reasons.push(reason('mode_not_offered', `The service is offered as: ${service.modes.join(', ')}.`));
    const window = decideWindow(service, startsAt, now);
    if (window.ok) return reasons;
    const { start, end } = bookingWindow(service, now);
    const details = {
      in_the_past: 'The time is over.',
      notice_too_short: `It can be booked from ${showInstant(start)} on.`,
      too_far_ahead: `It can be booked until ${showInstant(end)}.`,
    };
    return [...reasons, reason(window.reason, details[window.reason])];
  }

  /** What is known of everybody who could serve, around the time of the visit. */
  private async factsOf(tx: EntityManager, service: BookableService, visit: Visit, startsAt: number) {
    const reaches = reachesOf(visit, startsAt);
    const during = {
      start: Math.min(...reaches.map((each) => each.start)),
      end: Math.max(...reaches.map((each) => each.end)),
    };
    const lanes = lanesOf(visit.segments);
    const ids = lanes.map((lane) => lane.scheduleId);
    const seen = await this.slots.look(tx, service, lanes, during);
    const closed = await this.schedules.closedWithin(tx, ids, during);
    const claims = await this.days.claimsWithin(tx, ids, during);
    const of = ({ scheduleId, places }: ResourceLane): Facts => ({
      days: seen.get(scheduleId)!,
      places,
      closed: closed
        .filter((each) => each.scheduleId === scheduleId)
        .map((each) => ({ start: each.startsAt.getTime(), end: each.endsAt.getTime() })),
      claims: claims
        .filter((each) => each.scheduleId === scheduleId)
        .map((each) => ({
          core: { start: each.coreStartsAt.getTime(), end: each.coreEndsAt.getTime() },
          buffered: { start: each.startsAt.getTime(), end: each.endsAt.getTime() },
        })),
    });
    return { seen, of };
  }
}

const showLane = ({ practitionerId, roomId, scheduleId }: ResourceLane, reasons: Reason[]): LaneExplanation => ({
  ...(roomId === null ? { practitionerId: practitionerId! } : { roomId }),
  scheduleId,
  bookable: reasons.length === 0,
  reasons,
});

/** What is against a segment: nothing while one of them can serve, else what is against each of them. */
const againstAll = (candidates: readonly LaneExplanation[]) =>
  candidates.some((each) => each.bookable)
    ? []
    : candidates.flatMap(({ bookable: _, reasons, ...who }) => reasons.map((each) => ({ ...each, ...who })));
