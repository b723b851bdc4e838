import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AuthModule } from '../auth';
import { AvailabilityModule } from '../availability';
import { ClinicModule } from '../clinic';
import { Appointment, AppointmentHistory, AppointmentSegment } from './appointment.entities';
import { AppointmentRepository } from './appointment.repository';
import { AppointmentsController, PrivacyController, RetirementController } from './appointments.controllers';
import { AppointmentsService } from './appointments.service';
import { BookingService } from './booking.service';
import { ExpiryService } from './expiry.service';
import { LifeService } from './life.service';
import { PatientRulesService } from './patient-rules.service';
import { PrivacyService } from './privacy.service';
import { RefusalsService } from './refusals.service';
import { RetentionService } from './retention.service';
import { RetirementService } from './retirement.service';
import { AppointmentScope } from './scope.service';
import { VisitsService } from './visits.service';

/** Owns the life of an appointment, from booking to its end. */
@Module({
  imports: [
    TypeOrmModule.forFeature([Appointment, AppointmentHistory, AppointmentSegment]),
    AuthModule,
    AvailabilityModule,
    ClinicModule,
  ],
  controllers: [AppointmentsController, PrivacyController, RetirementController],
  providers: [
    AppointmentRepository,
    AppointmentScope,
    AppointmentsService,
    BookingService,
    ExpiryService,
    LifeService,
    PatientRulesService,
    PrivacyService,
    RefusalsService,
    RetentionService,
    RetirementService,
    VisitsService,
  ],
  exports: [AppointmentRepository, AppointmentsService, ExpiryService, RetentionService],
})
export class AppointmentsModule {}
