import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Allow, type Call, CurrentCall } from '../auth';
import {
  Email,
  Id,
  IdPipe,
  Instant,
  InstantParameter,
  ListQuery,
  Metadata,
  Never,
  Nested,
  Phone,
  Problem,
  Text,
} from '../platform';
import { STATUSES } from './appointment.entities';
import { AppointmentsService } from './appointments.service';
import { BookingService } from './booking.service';
import { RetirementService } from './retirement.service';

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

class BookingDto {
  @Id()
  serviceId: string;
  @Instant({ example: '2026-12-01T09:00:00+01:00' })
  startsAt: string;
  @Id({ optional: true, nullable: true, description: 'Any free one who offers the service, unless named' })
  practitionerId?: string | null;
  @Id({ optional: true, nullable: true, description: 'In place of patient' })
  patientId?: string | null;
  @Nested(BookingPatientDto, { optional: true, nullable: true })
  patient?: BookingPatientDto | null;
  @Never({ optional: true, description: 'Holds come with a later release: false is all that can be asked for' })
  hold?: false;
  @Text({ optional: true, nullable: true })
  attendeeName?: string | null;
  @Text({ optional: true, nullable: true, max: 40 })
  mode?: string | null;
  @Text({ optional: true, nullable: true, max: 5000 })
  notes?: string | null;
  @Metadata({ optional: true, nullable: true, maxBytes: 16_384 })
  metadata?: Record<string, unknown> | null;
}

class CancelDto {
  @Text({ optional: true, nullable: true, max: 500 })
  reason?: string | null;
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
}

@ApiTags('Appointments')
@Controller('v1/appointments')
export class AppointmentsController {
  constructor(
    private readonly booking: BookingService,
    private readonly appointments: AppointmentsService,
  ) {}

  @Post()
  book(@CurrentCall() call: Call, @Body() body: BookingDto) {
    const { patientId, patient } = body;
    if (Boolean(patientId) === Boolean(patient)) {
      throw Problem.invalid({ pointer: '/patient', detail: 'send either patient or patientId' });
    }
    return this.booking.book(call, body);
  }

  @Get()
  list(@CurrentCall() call: Call, @Query() query: AppointmentsQueryDto) {
    const unknown = query.status?.split(',').find((status) => !(STATUSES as readonly string[]).includes(status));
    if (unknown !== undefined)
      throw Problem.invalid({ pointer: 'status', detail: `must be among ${STATUSES.join(', ')}` });
    return this.appointments.list(call, query);
  }

  @Get(':id')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.appointments.get(call, id);
  }

  @Get(':id/history')
  history(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Query() query: ListQuery) {
    return this.appointments.history(call, id, query);
  }

  @Post(':id/cancel')
  @HttpCode(200)
  cancel(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: CancelDto) {
    return this.appointments.cancel(call, id, body?.reason ?? null);
  }
}

/** Deleting a record of the clinic needs to know its appointments, so it is answered here. */
@ApiTags('Locations', 'Practitioners', 'Rooms', 'Services', 'Patients')
@Allow('administrator', 'receptionist')
@Controller('v1')
export class RetirementController {
  constructor(private readonly retirement: RetirementService) {}

  @Delete('locations/:id')
  @HttpCode(204)
  location(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.location(call, id);
  }

  @Delete('practitioners/:id')
  @HttpCode(204)
  practitioner(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.practitioner(call, id);
  }

  @Delete('rooms/:id')
  @HttpCode(204)
  room(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.room(call, id);
  }

  @Delete('services/:id')
  @HttpCode(204)
  service(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.service(call, id);
  }

  @Delete('patients/:id')
  @HttpCode(204)
  patient(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.retirement.patient(call, id);
  }
}
