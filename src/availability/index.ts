export { AvailabilityJobsModule } from './availability.jobs';
export { AvailabilityModule } from './availability.module';
export { DayGate } from './day-gate';
export { DayPlanner } from './day-planner.service';
export { type ExceptionSpan, type WeeklyHours } from './hours.rules';
export { type BookableService, LanesRepository, type PractitionerLane } from './lanes.repository';
export {
  LONGEST_CLAIM,
  planDays,
  ScheduleDayRepository,
  ScheduleRepository,
  type ScheduleRules,
  storedGrid,
} from './ledger.repository';
export { decideClaim, decideWindow, type Span, spanOf } from './ledger.rules';
export { Ledger } from './ledger.service';
export { GUARDED_CLAIM, GUARDED_CLAIM_PARAMETERS, guardedClaimValues } from './ledger.sql';
export { ResourceLanesService } from './resource-lanes.service';
export type { Claim } from './schedule.entities';
export { SchedulesService } from './schedules.service';
export { isBookable, type SeenDay, type Slot, SlotsService } from './slots.service';
