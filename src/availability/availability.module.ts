import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ClinicModule } from '../clinic';
import { ResourceLanesController, SchedulesController, SlotsController } from './availability.controllers';
import { DayGate } from './day-gate';
import { DayPlanner } from './day-planner.service';
import { LanesRepository } from './lanes.repository';
import { ScheduleDayRepository, ScheduleRepository } from './ledger.repository';
import { Ledger } from './ledger.service';
import { ResourceLanesService } from './resource-lanes.service';
import { Claim, Schedule, ScheduleDay, ScheduleException, ScheduleHours } from './schedule.entities';
import { SchedulesService } from './schedules.service';
import { SlotsService } from './slots.service';

const PROVIDERS = [
  DayGate,
  DayPlanner,
  LanesRepository,
  Ledger,
  ResourceLanesService,
  ScheduleDayRepository,
  ScheduleRepository,
  SchedulesService,
  SlotsService,
];

/** Owns time: schedules, hours, exceptions, day rows, claims, slots. */
@Module({
  imports: [TypeOrmModule.forFeature([Claim, Schedule, ScheduleDay, ScheduleException, ScheduleHours]), ClinicModule],
  controllers: [ResourceLanesController, SchedulesController, SlotsController],
  providers: PROVIDERS,
  exports: PROVIDERS,
})
export class AvailabilityModule {}
