import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { IdPipe, ListQuery, OneOf, Text } from '../platform';
import { type Role, ROLES } from './api-key.entity';
import { ApiKeysService } from './api-keys.service';
import { Allow } from './auth.guard';
import { type Call, CurrentCall } from './call';

class NewApiKey {
  @Text({ description: 'What the key is for' })
  name: string;

  @OneOf(ROLES, { optional: true, description: 'administrator unless told' })
  role?: Role;
}

@ApiTags('API keys')
@Allow('administrator')
@Controller('v1/api-keys')
export class ApiKeysController {
  constructor(private readonly apiKeys: ApiKeysService) {}

  @Post()
  create(@CurrentCall() call: Call, @Body() body: NewApiKey) {
    return this.apiKeys.create(call, body.name, body.role ?? 'administrator');
  }

  @Get()
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.apiKeys.list(call, query);
  }

  @Get(':id')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.apiKeys.get(call, id);
  }

  @Delete(':id')
  @HttpCode(204)
  revoke(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.apiKeys.revoke(call, id);
  }
}
