import { Injectable } from '@nestjs/common';
import type { Call } from '../auth';
import { AlternativesService, type Slot } from '../availability';
import { ConstraintViolation, Database, Log, Metrics, overlapsAny, Problem, showInstant } from '../platform';
import { AppointmentRepository } from './appointment.repository';

/** The time that somebody wanted; the service where it got as far as to be known. */
export interface LostTime {
  serviceId?: string;
  practitionerId?: string;
  startsAt: number;
  mode?: string;
  /** Who wanted it, by id or phone, which of his appointments is to be moved there, and whether he may have two at a time. */
  patientId?: string;
  phone?: string;
  appointmentId?: string;
  allowOverlap?: boolean;
}

/** What stands behind the day row's lock: the exclusion constraint, and the key that the same start violates first. */
const CLAIM_CONSTRAINTS = ['claim_no_overlap', 'claim_pkey'];

/** Codes that tell of somebody who was faster, and what was raced for. */
const RACES = { slot_taken: 'slot', version_stale: 'version', hold_expired: 'hold' } as const;

/** Tells who lost a race that he did, what to do next, and the operators that it was caught. */
@Injectable()
export class RefusalsService {
  constructor(
    private readonly database: Database,
    private readonly appointments: AppointmentRepository,
    private readonly alternatives: AlternativesService,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {}

  /** The error to throw instead: a lost time comes with alternatives, found after the transaction that lost it. */
  async explain(call: Call, error: unknown, lost: LostTime): Promise<unknown> {
    const problem = this.translate(error);
    if (!(problem instanceof Problem) || problem.code !== 'slot_taken' || lost.serviceId === undefined) return problem;
    const { serviceId, practitionerId, startsAt, mode } = lost;
    const why = new URLSearchParams({
      serviceId,
      ...(practitionerId === undefined ? {} : { practitionerId }),
      startsAt: showInstant(startsAt),
      ...(mode === undefined ? {} : { mode }),
    });
    const found = await this.alternatives.find(call, { serviceId, practitionerId, startsAt, mode });
    const alternatives = (await this.whatSuits(call, lost, found)).slice(0, 3);
    return new Problem('slot_taken', 'Somebody else was faster: this time is booked. Please take another one.', {
      ...problem.extensions,
      alternatives,
      explain: `/v1/slots/explain?${why.toString()}`,
    });
  }

  /** Counts and logs a race that was caught, if this is one. */
  caught(code: string, call: Call, appointmentId?: string): void {
    if (!(code in RACES)) return;
    const race = RACES[code as keyof typeof RACES];
    this.metrics.racesCaught.inc({ race });
    this.log.event('race_caught', { race, organizationId: call.organizationId, appointmentId });
  }

  /** Leaves out times at which the patient has another appointment, where he may not have two. */
  private async whatSuits(call: Call, lost: LostTime, found: Slot[]): Promise<Slot[]> {
    if (lost.allowOverlap !== false || found.length === 0) return found;
    const spans = found.map((slot) => ({ start: Date.parse(slot.startsAt), end: Date.parse(slot.endsAt), slot }));
    const reach = {
      start: Math.min(...spans.map(({ start }) => start)),
      end: Math.max(...spans.map(({ end }) => end)),
    };
    const busy = await this.database.read(call.organizationId, (tx) => this.appointments.timesOf(tx, lost, reach));
    return spans.filter((span) => !overlapsAny(busy, span)).map(({ slot }) => slot);
  }

  private translate(error: unknown): unknown {
    if (error instanceof ConstraintViolation && CLAIM_CONSTRAINTS.includes(error.constraint)) {
      // The day row said free and the claims said taken: the last word held, but a lock was missed or a row has drifted.
      this.metrics.racesCaught.inc({ race: 'exclusion_constraint' });
      this.log.failure('ledger_drift', error, { constraint: error.constraint });
      return new Problem('slot_taken');
    }
    return error;
  }
}
