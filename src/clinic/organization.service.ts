import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, Repository } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import { Clock, Database, Problem, Reply, showInstant } from '../platform';
import { Organization } from './clinic.entities';
import { LocationsService } from './locations.service';
import { given } from './records';

export type OrganizationChange = Partial<Pick<Organization, 'name' | 'timeZone' | 'defaultLocationId'>>;

@Injectable()
export class OrganizationService {
  constructor(
    @InjectRepository(Organization) private readonly organizations: Repository<Organization>,
    private readonly locations: LocationsService,
    private readonly database: Database,
    private readonly clock: Clock,
  ) {}

  async get(tx: EntityManager, id: string): Promise<Organization> {
    const row = await tx.withRepository(this.organizations).findOneBy({ id });
    if (!row) throw Problem.notFound('organization');
    return row;
  }

  show(call: Call): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await this.get(tx, call.organizationId);
      return Reply.ok(show(row), row.version);
    });
  }

  change(call: Call, changes: OrganizationChange): Promise<Reply> {
    return this.database.transaction(call.organizationId, async (tx) => {
      // Serialises edits of the organization.
      const before = await tx.withRepository(this.organizations).findOne({
        where: { id: call.organizationId },
        lock: { mode: 'for_no_key_update' },
      });
      if (!before) throw Problem.notFound('organization');
      requireVersion(call, before.version);
      if (changes.defaultLocationId) await this.locations.require(tx, [changes.defaultLocationId]);
      const after = { ...before, ...given(changes), version: before.version + 1, updatedAt: this.clock.date() };
      await tx.withRepository(this.organizations).update({ id: before.id }, after);
      return Reply.ok(show(after), after.version);
    });
  }

  /** Makes an organization; in a transaction of the system, for it belongs to nobody yet. */
  async create(tx: EntityManager, organization: Pick<Organization, 'id' | 'name' | 'timeZone'>): Promise<void> {
    await tx
      .withRepository(this.organizations)
      .insert({ ...organization, createdAt: this.clock.date(), updatedAt: this.clock.date() });
  }

  async setDefaultLocation(tx: EntityManager, id: string, defaultLocationId: string): Promise<void> {
    await tx.withRepository(this.organizations).update({ id }, { defaultLocationId });
  }

  /** How many there are; in a transaction of the system. */
  count(tx: EntityManager): Promise<number> {
    return tx.withRepository(this.organizations).count();
  }
}

const show = (row: Organization) => ({
  id: row.id,
  name: row.name,
  timeZone: row.timeZone,
  defaultLocationId: row.defaultLocationId,
  createdAt: showInstant(row.createdAt),
  updatedAt: showInstant(row.updatedAt),
});
