import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { PractitionersService, RoomsService, showResource } from '../clinic';
import { Idempotency, Reply } from '../platform';
import { SchedulesService } from './schedules.service';

export interface NewLane {
  name: string;
  locationId?: string | null;
  timeZone?: string;
}

/** Makes practitioners and rooms together with the one schedule that each of them has. */
@Injectable()
export class ResourceLanesService {
  constructor(
    private readonly idempotency: Idempotency,
    private readonly schedules: SchedulesService,
    private readonly practitioners: PractitionersService,
    private readonly rooms: RoomsService,
  ) {}

  createPractitioner(call: Call, body: NewLane): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      const row = await this.insert(tx, call.organizationId, this.practitioners, body);
      return Reply.created('/v1/practitioners', showResource(row), row.version);
    });
  }

  createRoom(call: Call, body: NewLane): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      const row = await this.insert(tx, call.organizationId, this.rooms, body);
      return Reply.created('/v1/rooms', showResource(row), row.version);
    });
  }

  async insert<S extends PractitionersService | RoomsService>(
    tx: EntityManager,
    organizationId: string,
    resources: S,
    body: NewLane,
  ) {
    const scheduleId = await this.schedules.open(tx, organizationId, body);
    return resources.insert(tx, organizationId, scheduleId, body);
  }
}
