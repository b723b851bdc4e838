import { Injectable } from '@nestjs/common';
import type { Call } from '../auth';
import { Database, Problem } from '../platform';

/** Whose schedule a caller has to do with: a practitioner with his own, a receptionist of some branches with those of them. */
@Injectable()
export class ScheduleScope {
  constructor(private readonly database: Database) {}

  /** Refuses a schedule that is none of the caller's, as if it was not there. Whose it is no change changes. */
  async require({ organizationId, practitionerId, locationIds }: Call, scheduleId: string): Promise<void> {
    if (practitionerId === undefined && locationIds === undefined) return;
    const own = await this.database.read(organizationId, (tx) =>
      tx.query<unknown[]>(OWN as never, [scheduleId, practitionerId ?? null, locationIds ?? null]),
    );
    if (own.length === 0) throw Problem.notFound('schedule');
  }
}

const OWN = {
  name: 'own-schedule',
  text: `SELECT 1 FROM practitioner WHERE schedule_id = $1 AND (id = $2::uuid OR location_id = ANY($3::uuid[]))
         UNION ALL SELECT 1 FROM room WHERE schedule_id = $1 AND location_id = ANY($3::uuid[])`,
};
