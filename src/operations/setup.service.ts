import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { ApiKeysService } from '../auth';
import { OrganizationService } from '../clinic';
import { Database } from '../platform';

/** The first steps of a real install. */
@Injectable()
export class SetupService {
  constructor(
    private readonly database: Database,
    private readonly organizations: OrganizationService,
    private readonly apiKeys: ApiKeysService,
  ) {}

  /** Makes the first organization and its administrator's API key; undefined when there is an organization already. */
  firstOrganization(name: string, timeZone: string): Promise<{ organizationId: string; apiKey: string } | undefined> {
    return this.database.system('first organization of an install', async (tx) => {
      // Two set-ups at once: the second waits, and then finds the first one's organization.
      await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('holdfast.first_organization', 0))`);
      if ((await this.organizations.count(tx)) > 0) return undefined;
      return this.make(tx, name, timeZone);
    });
  }

  /** Makes one more organization. */
  addOrganization(name: string, timeZone: string): Promise<{ organizationId: string; apiKey: string }> {
    return this.database.system('a further organization', (tx) => this.make(tx, name, timeZone));
  }

  private async make(
    tx: EntityManager,
    name: string,
    timeZone: string,
  ): Promise<{ organizationId: string; apiKey: string }> {
    const organizationId = uuidv7();
    await this.organizations.create(tx, { id: organizationId, name, timeZone });
    const { key } = await this.apiKeys.issue(tx, organizationId, 'First administrator', 'administrator');
    return { organizationId, apiKey: key };
  }
}
