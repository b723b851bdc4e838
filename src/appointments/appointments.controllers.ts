import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiBody, ApiTags } from '@nestjs/swagger';
import { type Call, CurrentCall, Permit } from '../auth';
import {
  Email,
  FlagOrSeconds,
  Id,
  IdPipe,
  Instant,
  InstantParameter,
  ListOf,
  ListQuery,
  Metadata,
  Nested,
  Phone,
  Problem,
  Text,
} from '../platform';
import { STATUSES } from './appointment.entities';
import { AppointmentsService } from './appointments.service';
import { BookingService } from './booking.service';
import { LifeService } from './life.service';
import { PrivacyService } from './privacy.service';
import { RetirementService } from './retirement.service';
import { AppointmentScope } from './scope.service';

class BookingPatientDto {
  @Phone()
  phone: string;
  @Text({ optional: true, nullable: true })
  name?: string | null;
  @Email({ optional: true, nullable: true })
  email?: string | null;
  @Id({ optional: true, nullable: true })
  locationId?: string | null;
  @Text({ optional: true, nullable: true, max: 35 })
  locale?: string | null;
  @Text({ optional: true, max: 50 })
  source?: string;
}

class PlacementDto {
  @Id({ optional: true, nullable: true, description: 'Who; or roomId' })
  practitionerId?: string | null;
  @Id({ optional: true, nullable: true, description: 'Where; or practitionerId' })
  roomId?: string | null;
  @Instant({ example: '2026-12-01T09:00:00+01:00' })
  startsAt: string;
}

const SEGMENTS = 'Of a composite service: one entry for each segment, in its order; chosen unless named';

class BookingDto {
  @Id()
  serviceId: string;
  @Instant({ example: '2026-12-01T09:00:00+01:00' })
  startsAt: string;
  @Id({ optional: true, nullable: true, description: 'Any free one who offers the service, unless named' })
  practitionerId?: string | null;
  @ListOf(PlacementDto, { optional: true, nullable: true, min: 1, max: 20, description: SEGMENTS })
  segments?: PlacementDto[] | null;
  @Id({ optional: true, nullable: true, description: 'In place of patient' })
  patientId?: string | null;
  @Nested(BookingPatientDto, { optional: true, nullable: true })
  patient?: BookingPatientDto | null;
  @FlagOrSeconds({
    min: 5,
    max: 3600,
    optional: true,
    description: "Hold the time: for the service's holdMinutes, or so long",
  })
  hold?: boolean | { seconds: number };
  @Text({ optional: true, nullable: true })
  attendeeName?: string | null;
  @Text({ optional: true, nullable: true, max: 40 })
  mode?: string | null;
  @Text({ optional: true, nullable: true, max: 5000 })
  notes?: string | null;
  @Metadata({ optional: true, nullable: true, maxBytes: 16_384 })
  metadata?: Record<string, unknown> | null;
}

class ReasonDto {
  @Text({ optional: true, nullable: true, max: 500, description: 'Why; told by the history' })
  reason?: string | null;
}

class RescheduleDto extends ReasonDto {
  @Instant({ example: '2026-12-01T09:00:00+01:00' })
  startsAt: string;
  @Id({ optional: true, nullable: true, description: 'The same practitioner, unless named' })
  practitionerId?: string | null;
  @ListOf(PlacementDto, { optional: true, nullable: true, min: 1, max: 20, description: SEGMENTS })
  segments?: PlacementDto[] | null;
}

class AppointmentsQueryDto extends ListQuery {
  @InstantParameter({ optional: true, description: 'Starts at or after' })
  from?: string;
  @InstantParameter({ optional: true, description: 'Starts before' })
  to?: string;
  @Id({ optional: true })
  practitionerId?: string;
  @Id({ optional: true })
  patientId?: string;
  @Text({ optional: true, description: `One or more of ${STATUSES.join(', ')}, separated by commas` })
  status?: string;
  @Text({ optional: true, max: 40 })
  confirmationStatus?: string;
  @InstantParameter({
    optional: true,
    description: 'Changed at that instant or later; in the order of change. See docs/appointments.md for polling',
  })
  updatedSince?: string;
}

@ApiTags('Appointments')
@Controller('v1/appointments')
export class AppointmentsController {
  constructor(
    private readonly booking: BookingService,
    private readonly appointments: AppointmentsService,
    private readonly life: LifeService,
    private readonly scope: AppointmentScope,
  ) {}

  @Post()
  @Permit('appointments:book')
  async book(@CurrentCall() call: Call, @Body() body: BookingDto) {
    const request = await this.scope.narrow(call, body);
    const { patientId, patient } = request;
    if (Boolean(patientId) === Boolean(patient)) {
      throw Problem.invalid({ pointer: '/patient', detail: 'send either patient or patientId' });
    }
    return this.booking.book(call, request);
  }

  @Get()
  @Permit('appointments:read')
  list(@CurrentCall() call: Call, @Query() query: AppointmentsQueryDto) {
    const unknown = query.status?.split(',').find((status) => !(STATUSES as readonly string[]).includes(status));
    if (unknown !== undefined)
      throw Problem.invalid({ pointer: 'status', detail: `must be among ${STATUSES.join(', ')}` });
    return this.appointments.list(call, query);
  }

  @Get(':id')
  @Permit('appointments:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.appointments.get(call, id);
  }

  @Get(':id/history')
  @Permit('appointments:read')
  history(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Query() query: ListQuery) {
    return this.appointments.history(call, id, query);
  }

  @Post(':id/confirm')
  @HttpCode(200)
  @ApiBody({ type: ReasonDto, required: false })
  @Permit('appointments:change')
  confirm(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: ReasonDto) {
    return this.life.confirm(call, id, body?.reason);
  }

  @Post(':id/cancel')
  @HttpCode(200)
  @ApiBody({ type: ReasonDto, required: false })
  @Permit('appointments:change')
  cancel(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: ReasonDto) {
    return this.life.cancel(call, id, body?.reason);
  }

  @Post(':id/reschedule')
  @HttpCode(200)
  @Permit('appointments:change')
  reschedule(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: RescheduleDto) {
    return this.life.reschedule(call, id, body);
  }

  @Post(':id/check-in')
  @HttpCode(200)
  @ApiBody({ type: ReasonDto, required: false })
  @Permit('appointments:attend')
  checkIn(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: ReasonDto) {
    return this.life.checkIn(call, id, body?.reason);
  }

  @Post(':id/complete')
  @HttpCode(200)
  @ApiBody({ type: ReasonDto, required: false })
  @Permit('appointments:attend')
  complete(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: ReasonDto) {
    return this.life.complete(call, id, body?.reason);
  }

  @Post(':id/no-show')
  @HttpCode(200)
  @ApiBody({ type: ReasonDto, required: false })
  @Permit('appointments:attend')
  noShow(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: ReasonDto) {
    return this.life.noShow(call, id, body?.reason);
  }
}

/** Deleting a record of the clinic needs to know its appointments, so it is answered here. */
@ApiTags('Locations', 'Practitioners', 'Rooms', 'Services', 'Patients')
@Controller('v1')
export class RetirementController {
  constructor(private readonly retirement: RetirementService) {}

  @Delete('locations/:id')
  @HttpCode(204)
  @Permit('clinic:delete')
  location(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.location(call, id);
  }

  @Delete('practitioners/:id')
  @HttpCode(204)
  @Permit('clinic:delete')
  practitioner(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.practitioner(call, id);
  }

  @Delete('rooms/:id')
  @HttpCode(204)
  @Permit('clinic:delete')
  room(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.room(call, id);
  }

  @Delete('services/:id')
  @HttpCode(204)
  @Permit('clinic:delete')
  service(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.service(call, id);
  }

  @Delete('patients/:id')
  @HttpCode(204)
  @Permit('patients:delete')
  patient(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.patient(call, id);
  }
}

/** What is known of a patient includes his appointments, so it is answered here. */
@ApiTags('Patients')
@Controller('v1/patients')
export class PrivacyController {
  constructor(private readonly privacy: PrivacyService) {}

  @Get(':id/export')
  @Permit('patients:export')
  export(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.privacy.export(call, id);
  }

  @Post(':id/erase')
  @HttpCode(200)
  @Permit('patients:erase')
  erase(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.privacy.erase(call, id);
  }
}
