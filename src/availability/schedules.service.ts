import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import { LocationsService, OrganizationService } from '../clinic';
import {
  Clock,
  coveredBy,
  Database,
  type FieldError,
  type Interval,
  Log,
  Metrics,
  Outbox,
  Problem,
  Reply,
  showInstant,
  union,
} from '../platform';
import { localDays, startOfDay, type WeeklyHours } from './hours.rules';
import { LanesRepository } from './lanes.repository';
import { ScheduleDayRepository } from './ledger.repository';
import type { Schedule, ScheduleHours } from './schedule.entities';
import { planDays, ScheduleRepository } from './schedule.repository';
import { SessionsRepository } from './sessions.repository';

const DAY = 86_400_000;

export interface HoursInput {
  weekday: number;
  start: string;
  end: string;
  locationId?: string | null;
  validFrom?: string | null;
  validUntil?: string | null;
}

/** An appointment that lies outside open time after a change of the rules. It is not cancelled: people decide that. */
export interface AffectedAppointment {
  id: string;
  startsAt: string;
  endsAt: string;
}

/** The rules of schedules. Every change needs the version it is based on, raises it, and brings the day rows along. */
@Injectable()
export class SchedulesService {
  constructor(
    private readonly database: Database,
    private readonly outbox: Outbox,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly metrics: Metrics,
    private readonly schedules: ScheduleRepository,
    private readonly days: ScheduleDayRepository,
    private readonly sessions: SessionsRepository,
    private readonly lanes: LanesRepository,
    private readonly locations: LocationsService,
    private readonly organization: OrganizationService,
  ) {}

  /** Makes the schedule of a new practitioner or room. Its zone: the one given, else the location's, else the organization's. */
  async open(
    tx: EntityManager,
    organizationId: string,
    from: { timeZone?: string; locationId?: string | null },
  ): Promise<string> {
    const timeZone =
      from.timeZone ??
      (from.locationId ? (await this.locations.find(tx, from.locationId)).timeZone : undefined) ??
      (await this.organization.get(tx, organizationId)).timeZone;
    return this.schedules.insert(tx, organizationId, timeZone, this.clock.date());
  }

  /**
   * Ends a schedule: nothing on it is open any more. Its days are locked when this returns, so who asks then whether
   * something is booked on it gets an answer that stays true.
   */
  async close(tx: EntityManager, id: string): Promise<void> {
    const schedule = await this.schedules.lockForEdit(tx, id);
    await this.schedules.save(tx, {
      ...schedule,
      active: false,
      version: schedule.version + 1,
      updatedAt: this.clock.date(),
    });
    await this.replanFrom(tx, schedule, this.firstDayThatMatters([schedule.timeZone]));
  }

  /** Whether anything is booked on the schedule from now on. */
  async isInUse(tx: EntityManager, id: string): Promise<boolean> {
    return (await this.days.futureClaims(tx, id, this.clock.now())).length > 0;
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const schedule = await this.schedules.get(tx, id);
      return Reply.ok(await this.show(tx, schedule), schedule.version);
    });
  }

  /** Replaces zone and weekly hours, and the number of places where it is told. */
  setHours(
    call: Call,
    id: string,
    { timeZone, places, hours: input }: { timeZone: string; places?: number; hours: readonly HoursInput[] },
  ): Promise<Reply> {
    const hours = input.map(toHours);
    checkHours(hours);
    return this.editing(
      call,
      this.database.transaction(call.organizationId, async (tx) => {
        const before = await this.schedules.lockForEdit(tx, id);
        requireVersion(call, before.version, { required: true });
        await this.locations.require(
          tx,
          hours.flatMap((each) => each.locationId ?? []),
        );
        const schedule = {
          ...before,
          timeZone,
          places: places ?? before.places,
          version: before.version + 1,
          updatedAt: this.clock.date(),
        };
        await this.schedules.save(tx, schedule);
        await this.schedules.replaceHours(tx, schedule, hours);
        const from = this.firstDayThatMatters([before.timeZone, timeZone]);
        await this.replanFrom(tx, schedule, from);
        const affectedAppointments = await this.affected(tx, schedule);
        await this.announce(tx, schedule, 'schedule.hours_changed', affectedAppointments);
        return Reply.ok({ ...(await this.show(tx, schedule)), affectedAppointments }, schedule.version);
      }),
    );
  }

  /** Counts an edit that lost to another one. */
  async editing<T>(call: Call, edit: Promise<T>): Promise<T> {
    try {
      return await edit;
    } catch (error) {
      if (error instanceof Problem && error.code === 'version_stale') {
        this.metrics.racesCaught.inc({ race: 'version' });
        this.log.event('race_caught', { race: 'version', organizationId: call.organizationId });
      }
      throw error;
    }
  }

  /** Locks a schedule for a change of its rules, and gives it its next version. */
  async edit(tx: EntityManager, call: Call, id: string, exists?: () => Promise<unknown>): Promise<Schedule> {
    const before = await this.schedules.lockForEdit(tx, id);
    // What is not there is told before that the version is missing or old.
    await exists?.();
    requireVersion(call, before.version, { required: true });
    const schedule = { ...before, version: before.version + 1, updatedAt: this.clock.date() };
    await this.schedules.save(tx, schedule);
    return schedule;
  }

  /** Brings the days along when something was opened or closed on a locked schedule, and tells what lies outside now. */
  async applyOpening(
    tx: EntityManager,
    schedule: Schedule,
    span: Interval,
    event = 'schedule.exceptions_changed',
  ): Promise<AffectedAppointment[]> {
    const days = localDays(schedule.timeZone, span);
    await this.replanFrom(tx, schedule, days[0]!, days.at(-1));
    const affected = (await this.affected(tx, schedule)).filter(
      (each) => Date.parse(each.startsAt) < span.end && span.start < Date.parse(each.endsAt),
    );
    await this.announce(tx, schedule, event, affected);
    return affected;
  }

  /** Plans the rows of these days anew; days without a row need nothing, they will be planned from the new rules. */
  private async replanFrom(tx: EntityManager, schedule: Schedule, from: string, to?: string): Promise<void> {
    const locked = await this.days.lockFrom(tx, schedule.id, from, to);
    if (locked.length === 0) return;
    const [current] = await this.schedules.all(tx, [schedule.id]);
    const rules = await this.schedules.rulesOf(tx, [current!], Date.parse(`${from}T00:00:00Z`) - 2 * DAY);
    await this.days.replan(
      tx,
      schedule.id,
      current!.places,
      planDays(
        rules.get(schedule.id)!,
        locked.map((row) => row.day),
      ),
    );
  }

  /** Bookings of the future whose core is not within open time now. */
  private async affected(tx: EntityManager, schedule: Schedule): Promise<AffectedAppointment[]> {
    const claims = await this.days.futureClaims(tx, schedule.id, this.clock.now());
    if (claims.length === 0) return [];
    const days = claims.flatMap((claim) => localDays(schedule.timeZone, coreOf(claim))).sort();
    const [current] = await this.schedules.all(tx, [schedule.id]);
    const rules = await this.schedules.rulesOf(tx, [current!], startOfDay(schedule.timeZone, days[0]!) - 2 * DAY);
    const open = union(planDays(rules.get(schedule.id)!, [...new Set(days)]).flatMap((plan) => plan.open));
    const outside = claims.filter((claim) => !coveredBy(open, coreOf(claim)));
    const seated = await this.sessions.holdersOf(
      tx,
      outside.filter((claim) => claim.shared).map((claim) => claim.holder),
    );
    const affected = outside.flatMap((claim) =>
      (claim.shared ? (seated.get(claim.holder) ?? []) : [claim.holder]).map((id) => ({
        id,
        startsAt: showInstant(claim.coreStartsAt),
        endsAt: showInstant(claim.coreEndsAt),
      })),
    );
    // Several segments of a visit on this schedule are one appointment.
    return [...new Map(affected.map((each) => [each.id, each])).values()];
  }

  private async announce(
    tx: EntityManager,
    schedule: Schedule,
    type: string,
    affected: AffectedAppointment[],
  ): Promise<void> {
    await this.outbox.append(tx, {
      organizationId: schedule.organizationId,
      type,
      subjectId: schedule.id,
      version: schedule.version,
      payload: { affectedAppointmentIds: affected.map((each) => each.id) },
    });
  }

  /** Days that are over are left as they were. Two days of slack serve every zone, and a change of zone. */
  private firstDayThatMatters(timeZones: readonly string[]): string {
    const now = this.clock.now() - 2 * DAY;
    return timeZones.map((zone) => localDays(zone, { start: now, end: now + 1 })[0]!).sort()[0]!;
  }

  private async show(tx: EntityManager, schedule: Schedule) {
    const hours = await this.schedules.hoursOf(tx, schedule.id);
    return {
      id: schedule.id,
      ...(await this.lanes.owner(tx, schedule.id)),
      timeZone: schedule.timeZone,
      places: schedule.places,
      hours: hours.map(showHours),
      createdAt: showInstant(schedule.createdAt),
      updatedAt: showInstant(schedule.updatedAt),
    };
  }
}

const coreOf = (claim: { coreStartsAt: Date; coreEndsAt: Date }): Interval => ({
  start: claim.coreStartsAt.getTime(),
  end: claim.coreEndsAt.getTime(),
});

const minutesOf = (time: string): number => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));

const timeOf = (minutes: number): string =>
  `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`;

const toHours = (input: HoursInput): WeeklyHours => ({
  weekday: input.weekday,
  startMinute: minutesOf(input.start),
  endMinute: minutesOf(input.end),
  locationId: input.locationId ?? null,
  validFrom: input.validFrom ?? null,
  validUntil: input.validUntil ?? null,
});

const showHours = (hours: ScheduleHours) => ({
  weekday: hours.weekday,
  start: timeOf(hours.startMinute),
  end: timeOf(hours.endMinute),
  locationId: hours.locationId,
  validFrom: hours.validFrom,
  validUntil: hours.validUntil,
});

/** What no single row can say: hours that end before they start, or that contradict each other. */
function checkHours(hours: readonly WeeklyHours[]): void {
  const errors: FieldError[] = [];
  hours.forEach((each, index) => {
    const pointer = `/hours/${index}`;
    if (each.startMinute >= each.endMinute) {
      errors.push({
        pointer: `${pointer}/end`,
        detail: 'must be after start; hours past midnight are two entries, the first ending 24:00',
      });
    }
    if (each.validFrom !== null && each.validUntil !== null && each.validUntil < each.validFrom) {
      errors.push({ pointer: `${pointer}/validUntil`, detail: 'must not be before validFrom' });
    }
    const clash = hours.slice(0, index).findIndex((other) => contradict(each, other));
    if (clash >= 0) errors.push({ pointer, detail: `overlaps /hours/${clash}` });
  });
  if (errors.length > 0) throw Problem.invalid(...errors);
}

const contradict = (a: WeeklyHours, b: WeeklyHours): boolean =>
  a.weekday === b.weekday &&
  a.startMinute < b.endMinute &&
  b.startMinute < a.endMinute &&
  (a.validFrom ?? '') <= (b.validUntil ?? '9999-12-31') &&
  (b.validFrom ?? '') <= (a.validUntil ?? '9999-12-31');

/** The years for which a clinic can have plans; beyond them calendars are not what they are now. */
const [EARLIEST, LATEST] = [Date.UTC(1970, 0, 2), Date.UTC(2200, 0, 1)];

export function checkSpan(span: Interval): void {
  const errors: FieldError[] = [];
  if (span.start < EARLIEST) errors.push({ pointer: '/startsAt', detail: 'must not be before 1970' });
  if (span.end > LATEST) errors.push({ pointer: '/endsAt', detail: 'must not be after 2199' });
  if (errors.length > 0) throw Problem.invalid(...errors);
  if (span.start >= span.end) throw Problem.invalid({ pointer: '/endsAt', detail: 'must be after startsAt' });
  if (span.end - span.start > 1096 * DAY)
    throw Problem.invalid({ pointer: '/endsAt', detail: 'must be at most 1096 days after startsAt' });
}
