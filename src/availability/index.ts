export { AlternativesService } from './alternatives.service';
export { AvailabilityJobsModule } from './availability.jobs';
export { AvailabilityModule } from './availability.module';
export { DayGate } from './day-gate';
export { DayPlanner } from './day-planner.service';
export { type ExceptionSpan, instantAt, localDays, localTime, type WeeklyHours } from './hours.rules';
export { KnownLanes } from './known-lanes';
export { LaneLists } from './lane-lists';
export { type BookableService, LanesRepository, type NamedLane } from './lanes.repository';
export {
  type HeldClaim,
  LONGEST_CLAIM,
  type ReadDay,
  ScheduleDayRepository,
  storedGrid,
  storedPublished,
} from './ledger.repository';
export { decideWindow, type Published, spanOf } from './ledger.rules';
export { Ledger, mayShare, type Reach } from './ledger.service';
export { GUARDED_CLAIM, type GuardedClaim, guardedClaimValues, KNOWN_LANE, TIME_IS_TAKEN } from './ledger.sql';
export { ResourceLanesService } from './resource-lanes.service';
export { hasModes, type SeenDay, type Slot, visitOf } from './offers.rules';
export { OpeningsService } from './openings.service';
export { planDays, ScheduleRepository, type ScheduleRules } from './schedule.repository';
export { SchedulesService } from './schedules.service';
export { SlotsService } from './slots.service';
export {
  claimSpans,
  decidePlacements,
  type Part,
  type Placement,
  planVisit,
  reachesOf,
  type ResourceLane,
  type Seen,
  type Visit,
  type VisitDecision,
  type VisitRefusal,
  type VisitSegment,
} from './visits.rules';
