import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { ApiKeysService, InvitationsService } from '../auth';
import { OrganizationService } from '../clinic';
import { Database } from '../platform';

/** An organization with what its first administrator comes in by. */
export interface NewOrganization {
  organizationId: string;
  apiKey: string;
  invitationToken?: string;
}

/** The first steps of a real install. */
@Injectable()
export class SetupService {
  constructor(
    private readonly database: Database,
    private readonly organizations: OrganizationService,
    private readonly apiKeys: ApiKeysService,
    private readonly invitations: InvitationsService,
  ) {}

  /**
   * Makes the first organization, its administrator's API key and, with an address, his invitation; undefined when there is an
   * organization already.
   */
  firstOrganization(name: string, timeZone: string, email?: string): Promise<NewOrganization | undefined> {
    return this.database.system('first organization of an install', async (tx) => {
      // Two set-ups at once: the second waits, and then finds the first one's organization.
      await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('holdfast.first_organization', 0))`);
      if ((await this.organizations.count(tx)) > 0) return undefined;
      const made = await this.make(tx, name, timeZone);
      if (email === undefined) return made;
      const { token } = await this.invitations.issue(tx, made.organizationId, email, { role: 'administrator' });
      return { ...made, invitationToken: token };
    });
  }

  /** Makes one more organization. */
  addOrganization(name: string, timeZone: string): Promise<NewOrganization> {
    return this.database.system('a further organization', (tx) => this.make(tx, name, timeZone));
  }

  private async make(tx: EntityManager, name: string, timeZone: string): Promise<NewOrganization> {
    const organizationId = uuidv7();
    await this.organizations.create(tx, { id: organizationId, name, timeZone });
    const { key } = await this.apiKeys.issue(tx, organizationId, 'First administrator', 'administrator');
    return { organizationId, apiKey: key };
  }
}
