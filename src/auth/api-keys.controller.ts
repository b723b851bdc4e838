import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiBody, ApiTags } from '@nestjs/swagger';
import { Id, IdPipe, Ids, Instant, ListQuery, OneOf, SomeOf, Text, Whole } from '../platform';
import { ApiKeysService, OVERLAP } from './api-keys.service';
import { type Call, CurrentCall } from './call';
import { type Permission, PERMISSIONS, Permit, STAFF_ROLES, type StaffRole } from './permissions';

class NewApiKeyDto {
  @Text({ description: 'What the key is for' })
  name: string;

  @OneOf(STAFF_ROLES, { optional: true, description: 'administrator unless told' })
  role?: StaffRole;

  @SomeOf(PERMISSIONS, { optional: true, nullable: true, description: "Some of the role's; all of them unless told" })
  permissions?: Permission[] | null;

  @Id({ optional: true, nullable: true, description: 'Of a practitioner: for his own schedule and appointments alone' })
  practitionerId?: string | null;

  @Ids({ optional: true, nullable: true, min: 1, max: 100, description: 'Of a receptionist: for these branches alone' })
  locationIds?: string[] | null;

  @Instant({ optional: true, nullable: true, description: 'Never unless told' })
  expiresAt?: string | null;
}

class RotationDto {
  @Whole({
    min: 0,
    max: OVERLAP.longest,
    optional: true,
    description: 'How long the old key lives on; a day unless told',
  })
  overlapSeconds?: number;
}

@ApiTags('API keys')
@Controller('v1/api-keys')
export class ApiKeysController {
  constructor(private readonly apiKeys: ApiKeysService) {}

  @Post()
  @Permit('api-keys:write')
  create(@CurrentCall() call: Call, @Body() body: NewApiKeyDto) {
    return this.apiKeys.create(call, body);
  }

  @Get()
  @Permit('api-keys:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.apiKeys.list(call, query);
  }

  @Get(':id')
  @Permit('api-keys:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.apiKeys.get(call, id);
  }

  /** A new key in the place of this one, which lives on for a while. */
  @Post(':id/rotate')
  @Permit('api-keys:write')
  @ApiBody({ type: RotationDto, required: false })
  rotate(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body?: RotationDto) {
    return this.apiKeys.rotate(call, id, body?.overlapSeconds ?? OVERLAP.unlessTold);
  }

  @Delete(':id')
  @Permit('api-keys:write')
  @HttpCode(204)
  revoke(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.apiKeys.revoke(call, id);
  }
}
