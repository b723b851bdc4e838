import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { type Call, PhonesService } from '../auth';
import { PatientsService } from '../clinic';
import {
  type AuditEntry,
  AuditTrail,
  Clock,
  Database,
  Idempotency,
  Outbox,
  Problem,
  Reply,
  showInstant,
} from '../platform';
import { AppointmentRepository, type FullAppointment } from './appointment.repository';
import { showAppointment, showHistory } from './appointment.representation';

/** Rows of one query. */
const PAGE = 1_000;

/**
 * What a person may ask of whoever keeps data about him: all of it, and that it is gone. Lives here because only this module
 * knows appointments.
 */
@Injectable()
export class PrivacyService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly outbox: Outbox,
    private readonly trail: AuditTrail,
    private readonly clock: Clock,
    private readonly patients: PatientsService,
    private readonly phones: PhonesService,
    private readonly appointments: AppointmentRepository,
  ) {}

  /** Everything that is kept about a patient, from one snapshot; of what the audit trail tells, what it told right after. */
  async export(call: Call, id: string): Promise<object> {
    const kept = await this.database.read(call.organizationId, async (tx) => {
      const patient = await this.patients.showAny(tx, id);
      const phone: string | null = patient.phone;
      return {
        patient,
        signIn: phone === null ? null : await this.phones.show(tx, phone),
        appointments: await this.appointmentsOf(tx, id),
      };
    });
    const entityIds = [id, ...kept.appointments.map((each) => each.id)];
    return { exportedAt: showInstant(this.clock.date()), ...kept, auditLog: await this.toldOf(call, entityIds) };
  }

  /**
   * Erases what is known of a patient: his record, what people wrote about his appointments and why they changed them, the phone
   * he signs in with, and the copies within answers that are kept to be replayed. That there were appointments, and when,
   * stays. Done twice it is done once.
   *
   * Takes the lock that bookings of the patient wait for, then looks whether there are any: none slips in between.
   */
  async erase(call: Call, id: string): Promise<Reply> {
    const reply = await this.idempotency.transaction(call, async (tx) => {
      const row = await this.patients.lockForErasure(tx, id, call);
      if (row.erasedAt) return Reply.ok({ id, erasedAt: showInstant(row.erasedAt) });
      if (await this.appointments.hasFuture(tx, { patientId: id }, this.clock.now())) throw new Problem('in_use');
      const erasedAt = await this.patients.erase(tx, row);
      await this.appointments.eraseTexts(tx, id);
      // Another patient may have the phone by now; who signs in with it is he.
      if (!(await this.patients.isKnown(tx, row.phone))) await this.phones.forget(tx, row.phone);
      await this.idempotency.rewrite(tx, id, (body) => withoutWords(body, id));
      const { organizationId } = call;
      await this.outbox.append(tx, { organizationId, type: 'patient.erased', subjectId: id, version: row.version + 1 });
      return Reply.ok({ id, erasedAt: showInstant(erasedAt) });
    });
    this.phones.forgotten();
    return reply;
  }

  private async appointmentsOf(tx: EntityManager, patientId: string) {
    const all: FullAppointment[] = [];
    for (let page: FullAppointment[] = []; all.length === 0 || page.length === PAGE; all.push(...page)) {
      const last = all.at(-1);
      const after = last && { at: last.startsAt, id: last.id };
      page = await this.appointments.list(tx, { patientId, after, take: PAGE });
      if (page.length === 0) break;
    }
    const histories = Map.groupBy(
      await this.appointments.historiesOf(
        tx,
        all.map((each) => each.id),
      ),
      (line) => line.appointmentId,
    );
    return all.map((each) => ({
      ...showAppointment(each),
      history: (histories.get(each.id) ?? []).map(showHistory),
    }));
  }

  private async toldOf(call: Call, entityIds: readonly string[]): Promise<object[]> {
    const told: AuditEntry[] = [];
    for (let before: number | undefined; ;) {
      const page = await this.trail.list(call.organizationId, { entityIds }, { before, take: PAGE });
      told.push(...page);
      if (page.length < PAGE) break;
      before = page.at(-1)!.seq;
    }
    return told.map(({ hash, at, ...entry }) => ({ ...entry, at: showInstant(at), hash: hash.toString('hex') }));
  }
}

/** What people wrote, by the member of an answer that has it; what remains in its place. */
const WORDS_OF_PATIENT = {
  phone: null,
  name: null,
  email: null,
  locationId: null,
  locale: null,
  notes: null,
  verifiedAt: null,
};
const WORDS_OF_APPOINTMENT = { attendeeName: null, notes: null, metadata: {} };

/** A stored answer without what it says of a patient and his appointments. */
function withoutWords(value: unknown, patientId: string): unknown {
  if (Array.isArray(value)) return value.map((each) => withoutWords(each, patientId));
  if (value === null || typeof value !== 'object') return value;
  const { id, patientId: whose } = value as { id?: unknown; patientId?: unknown };
  const words = id === patientId ? WORDS_OF_PATIENT : whose === patientId ? WORDS_OF_APPOINTMENT : {};
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name,
      name in words ? words[name as never] : withoutWords(member, patientId),
    ]),
  );
}
