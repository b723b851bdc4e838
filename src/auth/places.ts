import type { EntityManager } from 'typeorm';
import { Problem } from '../platform';

const PRACTITIONER = {
  name: 'living-practitioner',
  text: 'SELECT id FROM practitioner WHERE organization_id = $1 AND id = $2 AND deleted_at IS NULL FOR KEY SHARE',
};
const LOCATIONS = {
  name: 'living-locations',
  text: 'SELECT id FROM location WHERE organization_id = $1 AND id = ANY($2::uuid[]) AND deleted_at IS NULL ORDER BY id FOR KEY SHARE',
};

/**
 * Refuses a practitioner or branches that are none of the organization's, before somebody is bound to them. Asks the tables
 * themselves: the clinic stands above this module.
 */
export async function requirePlaces(
  tx: EntityManager,
  organizationId: string,
  { practitionerId, locationIds }: { practitionerId?: string | null; locationIds?: readonly string[] | null },
): Promise<void> {
  if (practitionerId) {
    const found = await tx.query<unknown[]>(PRACTITIONER as never, [organizationId, practitionerId]);
    if (found.length === 0) throw Problem.notFound('practitioner');
  }
  if (locationIds) {
    const found = await tx.query<unknown[]>(LOCATIONS as never, [organizationId, locationIds]);
    if (found.length !== new Set(locationIds).size) throw Problem.notFound('location');
  }
}
