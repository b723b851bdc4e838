import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, type FindOptionsWhere, IsNull, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import { Clock, Cursors, Database, type ListQuery, Reply } from '../platform';
import { Practitioner, Room } from './clinic.entities';
import { LocationsService } from './locations.service';
import { given, Records, showDates } from './records';

export interface NewResource {
  name: string;
  locationId?: string | null;
}

/**
 * Practitioners or rooms: what a clinic has that takes part in a visit. Each has one schedule, which `availability` makes
 * and ends together with it; so creating and deleting belong there and above.
 */
class ResourcesService<R extends Practitioner | Room> {
  protected readonly records: Records<R>;

  constructor(
    repository: Repository<R>,
    noun: string,
    private readonly locations: LocationsService,
    private readonly database: Database,
    private readonly clock: Clock,
    cursors: Cursors,
  ) {
    this.records = new Records(repository, noun, cursors, clock);
  }

  async insert(tx: EntityManager, organizationId: string, scheduleId: string, body: NewResource): Promise<R> {
    if (body.locationId) await this.locations.require(tx, [body.locationId]);
    const now = this.clock.date();
    const row = {
      id: uuidv7(),
      organizationId,
      scheduleId,
      name: body.name,
      locationId: body.locationId ?? null,
      version: 1,
      createdAt: now,
      updatedAt: now,
      deletedAt: null,
    } as Practitioner & Room as R;
    await this.records.in(tx).insert(row as never);
    return row;
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await this.records.get(tx, id);
      return Reply.ok(showResource(row), row.version);
    });
  }

  list(call: Call, query: ListQuery) {
    return this.database.read(call.organizationId, (tx) => this.records.list(tx, call, query, showResource));
  }

  change(call: Call, id: string, changes: Partial<NewResource>): Promise<Reply> {
    return this.database.transaction(call.organizationId, async (tx) => {
      if (changes.locationId) await this.locations.require(tx, [changes.locationId]);
      const row = await this.records.change(tx, call, id, given(changes) as Partial<R>);
      return Reply.ok(showResource(row), row.version);
    });
  }

  require(tx: EntityManager, ids: readonly string[]): Promise<void> {
    return this.records.requireAll(tx, ids);
  }

  /**
   * For deletion. Not the lock that bookings wait for: they refer to the resource while they hold its days, and the deletion
   * comes to the days after this. The days decide between them.
   */
  lockForDeletion(tx: EntityManager, id: string, call: Call): Promise<R> {
    return this.records.lockVersion(tx, id, call);
  }

  /** Whether living ones belong to a location. */
  areAt(tx: EntityManager, locationId: string): Promise<boolean> {
    return this.records.in(tx).existsBy({ locationId, deletedAt: IsNull() } as FindOptionsWhere<R>);
  }

  /** Ends it, and its part in the services that name it. */
  async retire(tx: EntityManager, id: string): Promise<void> {
    await this.records.retire(tx, id);
    await tx.query('DELETE FROM service_practitioner WHERE practitioner_id = $1', [id]);
    await tx.query('DELETE FROM service_segment_resource WHERE practitioner_id = $1 OR room_id = $1', [id]);
  }
}

@Injectable()
export class PractitionersService extends ResourcesService<Practitioner> {
  constructor(
    @InjectRepository(Practitioner) rows: Repository<Practitioner>,
    locations: LocationsService,
    database: Database,
    clock: Clock,
    cursors: Cursors,
  ) {
    super(rows, 'practitioner', locations, database, clock, cursors);
  }
}

@Injectable()
export class RoomsService extends ResourcesService<Room> {
  constructor(
    @InjectRepository(Room) rows: Repository<Room>,
    locations: LocationsService,
    database: Database,
    clock: Clock,
    cursors: Cursors,
  ) {
    super(rows, 'room', locations, database, clock, cursors);
  }
}

export const showResource = (row: Practitioner | Room) => ({
  id: row.id,
  name: row.name,
  locationId: row.locationId,
  scheduleId: row.scheduleId,
  ...showDates(row),
});
