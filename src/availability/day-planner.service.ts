import { Injectable } from '@nestjs/common';
import { Clock, Database, Log } from '../platform';
import { localDays } from './hours.rules';
import { Ledger } from './ledger.service';

const DAY = 86_400_000;
/** How far ahead rows are written. What lies beyond is planned when it is asked for, so this is speed, not truth. */
const WEEKS_AHEAD = 5;

/** Plans the days to come, so that searches read rows instead of rules and first bookings find their row. */
@Injectable()
export class DayPlanner {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly ledger: Ledger,
  ) {}

  /** Writes missing day rows of every schedule: one short transaction each, safe to run twice, at once, and late. */
  async planAhead(): Promise<number> {
    const schedules = await this.database.system('schedules whose days are to be planned', (tx) =>
      tx.query<Array<{ id: string; organization_id: string; time_zone: string }>>(
        'SELECT id, organization_id, time_zone FROM schedule WHERE active ORDER BY id',
      ),
    );
    const now = this.clock.now();
    let planned = 0;
    for (const { id, organization_id: organizationId, time_zone: timeZone } of schedules) {
      const keys = localDays(timeZone, { start: now, end: now + WEEKS_AHEAD * 7 * DAY }).map((day) => ({
        scheduleId: id,
        day,
      }));
      planned += await this.database.transaction(organizationId, (tx) =>
        this.ledger.materialise(tx, organizationId, keys),
      );
    }
    this.log.event('days_planned', { schedules: schedules.length, days: planned });
    return planned;
  }
}
