import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { PatientsService } from '../clinic';
import { type Interval, Problem } from '../platform';
import { AppointmentRepository } from './appointment.repository';

/** An organization's rules about what a patient may have at once. */
export interface PatientLimits {
  allowPatientOverlap: boolean;
  maxOpenHolds: number | null;
}

/** What a patient is about to have: time, as an open hold or as anything else. */
export interface Wish {
  patientId: string;
  during: Interval;
  held: boolean;
  /** The appointment that is moved, which is not in its own way. */
  appointmentId?: string;
}

/** Holds what a patient wants against the clinic's rules. Costs nothing where there are none. */
@Injectable()
export class PatientRulesService {
  constructor(
    private readonly patients: PatientsService,
    private readonly appointments: AppointmentRepository,
  ) {}

  /** Takes the patient's lock where a rule needs it: before that of an appointment, in the global order. */
  async lock(tx: EntityManager, limits: PatientLimits, patientId: string): Promise<void> {
    if (!limits.allowPatientOverlap || limits.maxOpenHolds !== null) await this.patients.lockForRules(tx, patientId);
  }

  /**
   * Locks the patient, so that two wishes of the same patient are looked at one after the other, then looks.
   * @throws Problem `patient_overlap`, `too_many_holds`
   */
  async check(tx: EntityManager, limits: PatientLimits, wish: Wish): Promise<void> {
    const { patientId, during, held, appointmentId } = wish;
    await this.lock(tx, limits, patientId);
    if (!limits.allowPatientOverlap && (await this.appointments.isBusy(tx, patientId, during, appointmentId))) {
      throw new Problem('patient_overlap');
    }
    // An appointment that is moved is held already.
    if (limits.maxOpenHolds === null || !held || appointmentId !== undefined) return;
    if ((await this.appointments.openHolds(tx, patientId)) >= limits.maxOpenHolds) throw new Problem('too_many_holds');
  }
}
