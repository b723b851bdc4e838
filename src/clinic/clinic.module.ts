import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  LocationsController,
  OrganizationController,
  PatientsController,
  PractitionersController,
  RoomsController,
  ServicesController,
} from './clinic.controllers';
import {
  Location,
  Organization,
  Patient,
  Practitioner,
  Room,
  Service,
  ServicePractitioner,
  ServiceSegment,
  ServiceSegmentResource,
} from './clinic.entities';
import { LocationsService } from './locations.service';
import { OrganizationService } from './organization.service';
import { PatientsService } from './patients.service';
import { PractitionersService, RoomsService } from './resources.service';
import { ServicesService } from './services.service';

const SERVICES = [
  LocationsService,
  OrganizationService,
  PatientsService,
  PractitionersService,
  RoomsService,
  ServicesService,
];

/** Who and what a clinic is: organization, locations, practitioners, rooms, services, patients. */
@Module({
  imports: [
    TypeOrmModule.forFeature([
      Location,
      Organization,
      Patient,
      Practitioner,
      Room,
      Service,
      ServicePractitioner,
      ServiceSegment,
      ServiceSegmentResource,
    ]),
  ],
  controllers: [
    LocationsController,
    OrganizationController,
    PatientsController,
    PractitionersController,
    RoomsController,
    ServicesController,
  ],
  providers: SERVICES,
  exports: SERVICES,
})
export class ClinicModule {}
