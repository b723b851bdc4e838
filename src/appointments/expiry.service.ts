import { Injectable } from '@nestjs/common';
import { Ledger } from '../availability';
import { Database, Log, Metrics, Problem } from '../platform';
import { AppointmentRepository } from './appointment.repository';
import { expiryOf, recordChanges } from './appointment.sql';

/** Appointments of one transaction: it holds their locks and those of their days, so few enough that nobody waits long. */
const BATCH = 100;

/**
 * Writes down what is so already: that holds and requests are over. Nothing relies on it. It keeps the ledger small, tells
 * the history, and lets events go out. Starts from appointments, in the global order of locks; leaves those alone that
 * somebody is acting on.
 */
@Injectable()
export class ExpiryService {
  constructor(
    private readonly database: Database,
    private readonly log: Log,
    private readonly metrics: Metrics,
    private readonly ledger: Ledger,
    private readonly appointments: AppointmentRepository,
  ) {}

  /** Sweeps until nothing is overdue; safe to run twice, at once and late. @returns how many it wrote down */
  async sweep(): Promise<number> {
    const organizations = await this.database.system('organizations with holds that are over', (tx) =>
      tx.query<Array<{ id: string }>>(
        `SELECT DISTINCT organization_id AS id FROM appointment
         WHERE status IN ('held', 'pending') AND expires_at <= statement_timestamp()`,
      ),
    );
    let expired = 0;
    for (const { id } of organizations) expired += await this.sweepOrganization(id);
    if (expired > 0) this.log.event('appointments_expired', { count: expired });
    return expired;
  }

  private async sweepOrganization(organizationId: string): Promise<number> {
    for (let expired = 0; ;) {
      try {
        const count = await this.sweepBatch(organizationId);
        expired += count;
        if (count < BATCH) return expired;
      } catch (error) {
        // Somebody keeps one of the days locked. The next run comes soon, and nobody waits for it.
        if (!(error instanceof Problem)) throw error;
        this.log.warning('sweep_postponed', { organizationId, code: error.code });
        return expired;
      }
    }
  }

  private sweepBatch(organizationId: string): Promise<number> {
    return this.database.transaction(organizationId, async (tx) => {
      const overdue = await this.appointments.lockOverdue(tx, BATCH);
      if (overdue.length === 0) return 0;
      await this.ledger.release(
        tx,
        overdue.map((each) => each.id),
      );
      await recordChanges(tx, overdue.map(expiryOf));
      this.metrics.transitions.inc({ action: 'expire', outcome: 'done' }, overdue.length);
      return overdue.length;
    });
  }
}
