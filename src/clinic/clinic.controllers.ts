import { Body, Controller, Get, Param, Patch, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { type Call, CurrentCall, Permit } from '../auth';
import { IdPipe, ListQuery } from '../platform';
import {
  LocationChangeDto,
  NewLocationDto,
  NewPatientDto,
  NewServiceDto,
  OrganizationChangeDto,
  PatientChangeDto,
  PatientsQuery,
  ResourceChangeDto,
  ServiceChangeDto,
} from './clinic.dto';
import { LocationsService } from './locations.service';
import { OrganizationService } from './organization.service';
import { PatientsService } from './patients.service';
import { PractitionersService, RoomsService } from './resources.service';
import { ServicesService } from './services.service';

@ApiTags('Organization')
@Controller('v1/organization')
export class OrganizationController {
  constructor(private readonly organization: OrganizationService) {}

  @Get()
  @Permit('organization:read')
  get(@CurrentCall() call: Call) {
    return this.organization.show(call);
  }

  @Patch()
  @Permit('organization:write')
  change(@CurrentCall() call: Call, @Body() body: OrganizationChangeDto) {
    return this.organization.change(call, body);
  }
}

@ApiTags('Locations')
@Controller('v1/locations')
export class LocationsController {
  constructor(private readonly locations: LocationsService) {}

  @Post()
  @Permit('clinic:write')
  create(@CurrentCall() call: Call, @Body() body: NewLocationDto) {
    return this.locations.create(call, body);
  }

  @Get()
  @Permit('clinic:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.locations.list(call, query);
  }

  @Get(':id')
  @Permit('clinic:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.locations.get(call, id);
  }

  @Patch(':id')
  @Permit('clinic:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: LocationChangeDto) {
    return this.locations.change(call, id, body);
  }
}

@ApiTags('Practitioners')
@Controller('v1/practitioners')
export class PractitionersController {
  constructor(private readonly practitioners: PractitionersService) {}

  @Get()
  @Permit('clinic:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.practitioners.list(call, query);
  }

  @Get(':id')
  @Permit('clinic:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.practitioners.get(call, id);
  }

  @Patch(':id')
  @Permit('clinic:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: ResourceChangeDto) {
    return this.practitioners.change(call, id, body);
  }
}

@ApiTags('Rooms')
@Controller('v1/rooms')
export class RoomsController {
  constructor(private readonly rooms: RoomsService) {}

  @Get()
  @Permit('clinic:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.rooms.list(call, query);
  }

  @Get(':id')
  @Permit('clinic:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.rooms.get(call, id);
  }

  @Patch(':id')
  @Permit('clinic:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: ResourceChangeDto) {
    return this.rooms.change(call, id, body);
  }
}

@ApiTags('Services')
@Controller('v1/services')
export class ServicesController {
  constructor(private readonly services: ServicesService) {}

  @Post()
  @Permit('clinic:write')
  create(@CurrentCall() call: Call, @Body() body: NewServiceDto) {
    return this.services.create(call, body);
  }

  @Get()
  @Permit('clinic:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.services.list(call, query);
  }

  @Get(':id')
  @Permit('clinic:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.services.get(call, id);
  }

  @Patch(':id')
  @Permit('clinic:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: ServiceChangeDto) {
    return this.services.change(call, id, body);
  }
}

@ApiTags('Patients')
@Controller('v1/patients')
export class PatientsController {
  constructor(private readonly patients: PatientsService) {}

  @Post()
  @Permit('patients:write')
  create(@CurrentCall() call: Call, @Body() body: NewPatientDto) {
    return this.patients.create(call, body);
  }

  @Get()
  @Permit('patients:read')
  list(@CurrentCall() call: Call, @Query() query: PatientsQuery) {
    return this.patients.list(call, query);
  }

  @Get(':id')
  @Permit('patients:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.patients.get(call, id);
  }

  @Patch(':id')
  @Permit('patients:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: PatientChangeDto) {
    return this.patients.change(call, id, body);
  }
}
