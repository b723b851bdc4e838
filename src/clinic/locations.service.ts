import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import { Clock, Cursors, Database, Idempotency, type ListQuery, Reply } from '../platform';
import { Location } from './clinic.entities';
import { given, Records, showDates } from './records';

export interface NewLocation {
  name: string;
  timeZone: string;
  address?: string | null;
}

@Injectable()
export class LocationsService {
  private readonly records: Records<Location>;

  constructor(
    @InjectRepository(Location) repository: Repository<Location>,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    cursors: Cursors,
  ) {
    this.records = new Records(repository, 'location', cursors, clock);
  }

  create(call: Call, body: NewLocation): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      const row = await this.insert(tx, call.organizationId, body);
      return Reply.created('/v1/locations', show(row), row.version);
    });
  }

  async insert(tx: EntityManager, organizationId: string, body: NewLocation): Promise<Location> {
    const now = this.clock.date();
    const row: Location = {
      id: uuidv7(),
      organizationId,
      name: body.name,
      timeZone: body.timeZone,
      address: body.address ?? null,
      version: 1,
      createdAt: now,
      updatedAt: now,
      deletedAt: null,
    };
    await this.records.in(tx).insert(row);
    return row;
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await this.records.get(tx, id);
      return Reply.ok(show(row), row.version);
    });
  }

  list(call: Call, query: ListQuery) {
    return this.database.read(call.organizationId, (tx) => this.records.list(tx, call, query, show));
  }

  change(call: Call, id: string, changes: Partial<NewLocation>): Promise<Reply> {
    return this.database.transaction(call.organizationId, async (tx) => {
      const row = await this.records.change(tx, call, id, given(changes));
      return Reply.ok(show(row), row.version);
    });
  }

  find(tx: EntityManager, id: string): Promise<Location> {
    return this.records.get(tx, id);
  }

  /** Refuses ids that name no living location of the organization. */
  require(tx: EntityManager, ids: readonly string[]): Promise<void> {
    return this.records.requireAll(tx, ids);
  }

  /** For deletion: waits for whatever refers to the location right now. */
  lockForDeletion(tx: EntityManager, id: string, call: Call): Promise<Location> {
    return this.records.lockVersion(tx, id, call, 'pessimistic_write');
  }

  /** Ends the location; callers without a branch belong nowhere then, until another one is the default. */
  async retire(tx: EntityManager, id: string): Promise<void> {
    await this.records.retire(tx, id);
    await tx.query(
      'UPDATE organization SET default_location_id = NULL, version = version + 1, updated_at = $2 WHERE default_location_id = $1',
      [id, this.clock.date()],
    );
  }
}

const show = (row: Location) => ({
  id: row.id,
  name: row.name,
  timeZone: row.timeZone,
  address: row.address,
  ...showDates(row),
});
