import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ClinicModule } from '../clinic';
import { AlternativesService } from './alternatives.service';
import {
  PublishedSlotsController,
  ResourceLanesController,
  SchedulesController,
  SlotsController,
} from './availability.controllers';
import { DayGate } from './day-gate';
import { DayPlanner } from './day-planner.service';
import { ExceptionsService } from './exceptions.service';
import { ExplainService } from './explain.service';
import { KnownLanes } from './known-lanes';
import { LaneLists } from './lane-lists';
import { LanesRepository } from './lanes.repository';
import { ScheduleDayRepository } from './ledger.repository';
import { Ledger } from './ledger.service';
import { OffersService } from './offers.service';
import { OpeningsRepository } from './openings.repository';
import { OpeningsService } from './openings.service';
import { PublishedSlotsService } from './published-slots.service';
import { ResourceLanesService } from './resource-lanes.service';
import {
  Attendance,
  Claim,
  GroupSession,
  PublishedSlot,
  Schedule,
  ScheduleDay,
  ScheduleException,
  ScheduleHours,
} from './schedule.entities';
import { ScheduleRepository } from './schedule.repository';
import { ScheduleScope } from './schedule-scope.service';
import { SchedulesService } from './schedules.service';
import { SearchLine } from './search-line';
import { SeenDays } from './seen-days.service';
import { SessionsRepository } from './sessions.repository';
import { SlotsService } from './slots.service';

const PROVIDERS = [
  AlternativesService,
  DayGate,
  DayPlanner,
  ExceptionsService,
  ExplainService,
  KnownLanes,
  LaneLists,
  LanesRepository,
  Ledger,
  OffersService,
  OpeningsRepository,
  OpeningsService,
  PublishedSlotsService,
  ResourceLanesService,
  ScheduleDayRepository,
  ScheduleRepository,
  ScheduleScope,
  SchedulesService,
  SearchLine,
  SeenDays,
  SessionsRepository,
  SlotsService,
];

const ENTITIES = [
  Attendance,
  Claim,
  GroupSession,
  PublishedSlot,
  Schedule,
  ScheduleDay,
  ScheduleException,
  ScheduleHours,
];

/** Owns time: schedules, hours, exceptions, day rows, claims, slots. */
@Module({
  imports: [TypeOrmModule.forFeature(ENTITIES), ClinicModule],
  controllers: [PublishedSlotsController, ResourceLanesController, SchedulesController, SlotsController],
  providers: PROVIDERS,
  exports: PROVIDERS,
})
export class AvailabilityModule {}
