import { Body, Controller, Delete, Get, Headers, Param, Post, Put, Query } from '@nestjs/common';
import { ApiHeader, ApiResponse, ApiTags } from '@nestjs/swagger';
import { type Call, CurrentCall, Permit } from '../auth';
import { NewResourceDto } from '../clinic';
import {
  Id,
  IdPipe,
  Instant,
  InstantParameter,
  ListOf,
  ListQuery,
  LocalDate,
  LocalTime,
  OneOf,
  Text,
  TimeZone,
  Whole,
  WholeParameter,
} from '../platform';
import { ExceptionsService } from './exceptions.service';
import { ExplainService } from './explain.service';
import { PublishedSlotsService } from './published-slots.service';
import { ResourceLanesService } from './resource-lanes.service';
import { ScheduleScope } from './schedule-scope.service';
import { SchedulesService } from './schedules.service';
import { SlotsService } from './slots.service';

class HoursEntryDto {
  @Whole({ min: 1, max: 7, description: '1 is Monday' })
  weekday: number;
  @LocalTime()
  start: string;
  @LocalTime({ endOfDay: true })
  end: string;
  @Id({ optional: true, nullable: true, description: "Where; the practitioner's own location unless told" })
  locationId?: string | null;
  @LocalDate({ optional: true, nullable: true, description: 'First day' })
  validFrom?: string | null;
  @LocalDate({ optional: true, nullable: true, description: 'Last day' })
  validUntil?: string | null;
}

class HoursDto {
  @TimeZone()
  timeZone: string;
  @Whole({ min: 1, max: 100, optional: true, description: 'How many can be seen at once; as before unless told' })
  places?: number;
  @ListOf(HoursEntryDto, { max: 200 })
  hours: HoursEntryDto[];
}

class NewExceptionDto {
  @Instant()
  startsAt: string;
  @Instant()
  endsAt: string;
  @OneOf(['closed', 'open'])
  kind: 'closed' | 'open';
  @Text({ optional: true, nullable: true, max: 500 })
  reason?: string | null;
}

class NewPublishedSlotDto {
  @Instant()
  startsAt: string;
  @Instant({ description: 'At most 24 hours after startsAt' })
  endsAt: string;
  @Text({
    optional: true,
    nullable: true,
    max: 40,
    pattern: /^[a-z][a-z0-9_]*$/,
    description: 'Every mode of the service unless told',
  })
  mode?: string | null;
  @Whole({
    min: 1,
    max: 1000,
    optional: true,
    nullable: true,
    description: 'How many patients can share it; as many as the service says unless told',
  })
  capacity?: number | null;
}

class ExplainQuery {
  @Id()
  serviceId: string;
  @InstantParameter()
  startsAt: string;
  @Id({ optional: true, description: 'Everybody who offers it, unless told' })
  practitionerId?: string;
  @Text({ optional: true, max: 40 })
  mode?: string;
}

class SlotsQuery {
  @Id()
  serviceId: string;
  @Id({ optional: true })
  practitionerId?: string;
  @Id({ optional: true })
  locationId?: string;
  @Text({ optional: true, max: 40 })
  mode?: string;
  @InstantParameter()
  from: string;
  @InstantParameter({ description: 'At most 62 days after from' })
  to: string;
  @WholeParameter({ min: 1, max: 1000, optional: true, description: '100 unless told' })
  limit?: number;
}

@ApiTags('Schedules')
@Controller('v1/schedules')
export class SchedulesController {
  constructor(
    private readonly schedules: SchedulesService,
    private readonly exceptions: ExceptionsService,
    private readonly scope: ScheduleScope,
  ) {}

  @Get(':id')
  @Permit('schedules:read')
  async get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    await this.scope.require(call, id);
    return this.schedules.get(call, id);
  }

  @Put(':id/hours')
  @Permit('schedules:write')
  async setHours(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: HoursDto) {
    await this.scope.require(call, id);
    return this.schedules.setHours(call, id, body);
  }

  @Post(':id/exceptions')
  @Permit('schedules:write')
  async addException(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: NewExceptionDto) {
    await this.scope.require(call, id);
    return this.exceptions.add(call, id, body);
  }

  @Get(':id/exceptions')
  @Permit('schedules:read')
  async listExceptions(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Query() query: ListQuery) {
    await this.scope.require(call, id);
    return this.exceptions.list(call, id, query);
  }

  @Get(':id/exceptions/:exceptionId')
  @Permit('schedules:read')
  async getException(
    @CurrentCall() call: Call,
    @Param('id', IdPipe) id: string,
    @Param('exceptionId', IdPipe) exceptionId: string,
  ) {
    await this.scope.require(call, id);
    return this.exceptions.get(call, id, exceptionId);
  }

  @Delete(':id/exceptions/:exceptionId')
  @Permit('schedules:write')
  async removeException(
    @CurrentCall() call: Call,
    @Param('id', IdPipe) id: string,
    @Param('exceptionId', IdPipe) exceptionId: string,
  ) {
    await this.scope.require(call, id);
    return this.exceptions.remove(call, id, exceptionId);
  }
}

@ApiTags('Schedules')
@Controller('v1/schedules/:id/published-slots')
export class PublishedSlotsController {
  constructor(
    private readonly published: PublishedSlotsService,
    private readonly scope: ScheduleScope,
  ) {}

  @Post()
  @Permit('schedules:write')
  async publish(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: NewPublishedSlotDto) {
    await this.scope.require(call, id);
    return this.published.publish(call, id, body);
  }

  @Get()
  @Permit('schedules:read')
  async list(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Query() query: ListQuery) {
    await this.scope.require(call, id);
    return this.published.list(call, id, query);
  }

  @Get(':slotId')
  @Permit('schedules:read')
  async get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Param('slotId', IdPipe) slotId: string) {
    await this.scope.require(call, id);
    return this.published.get(call, id, slotId);
  }

  @Delete(':slotId')
  @Permit('schedules:write')
  async withdraw(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Param('slotId', IdPipe) slotId: string) {
    await this.scope.require(call, id);
    return this.published.withdraw(call, id, slotId);
  }
}

@ApiTags('Slots')
@Controller('v1/slots')
export class SlotsController {
  constructor(
    private readonly slots: SlotsService,
    private readonly explanations: ExplainService,
  ) {}

  @Get('explain')
  @Permit('slots:read')
  explain(@CurrentCall() call: Call, @Query() query: ExplainQuery) {
    return this.explanations.explain(call, query);
  }

  @Get()
  @ApiHeader({ name: 'if-none-match', required: false, description: 'The ETag of an earlier answer' })
  @ApiResponse({ status: 200 })
  @ApiResponse({ status: 304, description: 'Nothing has changed since then' })
  @Permit('slots:read')
  search(@CurrentCall() call: Call, @Query() query: SlotsQuery, @Headers('if-none-match') ifNoneMatch?: string) {
    return this.slots.search(call, query, ifNoneMatch);
  }
}

/** Making a practitioner or a room makes its schedule, which belongs here; reading and changing them is the clinic's. */
@ApiTags('Practitioners', 'Rooms')
@Controller('v1')
export class ResourceLanesController {
  constructor(private readonly lanes: ResourceLanesService) {}

  @Post('practitioners')
  @Permit('clinic:write')
  createPractitioner(@CurrentCall() call: Call, @Body() body: NewResourceDto) {
    return this.lanes.createPractitioner(call, body);
  }

  @Post('rooms')
  @Permit('clinic:write')
  createRoom(@CurrentCall() call: Call, @Body() body: NewResourceDto) {
    return this.lanes.createRoom(call, body);
  }
}
