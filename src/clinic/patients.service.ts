import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, type FindOptionsWhere, IsNull, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { type Call, requireVersion } from '../auth';
import {
  ConstraintViolation,
  Clock,
  Cursors,
  Database,
  Idempotency,
  type ListQuery,
  Log,
  Metrics,
  Problem,
  Reply,
  showInstant,
} from '../platform';
import { Organization, Patient } from './clinic.entities';
import { LocationsService } from './locations.service';
import { given, Records, showDates } from './records';

export interface PatientFields {
  phone: string;
  name?: string | null;
  email?: string | null;
  locationId?: string | null;
  locale?: string | null;
  source?: string;
  status?: Patient['status'];
  notes?: string | null;
}

/** The source of callers whom nobody asked for a name. */
export const CALLER = 'phone_anonymous';

/** What an upsert fills where the stored patient has nothing. */
const FILLED = ['name', 'email', 'locationId', 'locale', 'notes'] as const;

@Injectable()
export class PatientsService {
  private readonly records: Records<Patient>;

  constructor(
    @InjectRepository(Patient) repository: Repository<Patient>,
    @InjectRepository(Organization) private readonly organizations: Repository<Organization>,
    private readonly locations: LocationsService,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly log: Log,
    private readonly metrics: Metrics,
    clock: Clock,
    cursors: Cursors,
  ) {
    this.records = new Records(repository, 'patient', cursors, clock);
  }

  /** 201 for the request that made the patient, 200 for every other with that phone. */
  async create(call: Call, body: PatientFields): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      await this.requireReferences(tx, body);
      const { patient, created } = await this.upsert(tx, call.organizationId, body);
      return created
        ? Reply.created('/v1/patients', showPatient(patient), patient.version)
        : Reply.ok(showPatient(patient), patient.version);
    });
  }

  /** Refuses a location that is none, before anything is decided on. */
  async requireReferences(tx: EntityManager, body: { locationId?: string | null }): Promise<void> {
    if (body.locationId) await this.locations.require(tx, [body.locationId]);
  }

  /**
   * The living patient with this phone, made if there is none; safe at any concurrency. Stored fields win, empty ones are
   * filled. Mostly one read; else one statement that makes or fills, which waits for a competing one to end.
   * @param seen what {@link withPhone} has found in this transaction
   */
  async upsert(
    tx: EntityManager,
    organizationId: string,
    body: PatientFields,
    seen?: Patient,
  ): Promise<{ patient: Patient; created: boolean }> {
    const wanted = await this.withCallersDefaults(tx, organizationId, body);
    const known = seen ?? (await this.withPhone(tx, wanted.phone));
    if (known && !FILLED.some((field) => known[field] === null && wanted[field]))
      return { patient: known, created: false };

    const id = uuidv7();
    const [changed] = await tx.query<Patient[]>(UPSERT_PATIENT as never, [
      organizationId,
      id,
      wanted.phone,
      wanted.name ?? null,
      wanted.email ?? null,
      wanted.locationId ?? null,
      wanted.locale ?? null,
      wanted.source ?? 'api',
      wanted.status ?? 'active',
      wanted.notes ?? null,
      uuidv7(),
    ]);
    // The conflict locked the row even where it filled nothing, so it is still there, and living.
    const patient = changed ?? (await this.withPhone(tx, wanted.phone))!;
    const created = patient.id === id;
    if (created) this.log.event('patient_created', { patientId: id });
    else if (!known) {
      this.metrics.racesCaught.inc({ race: 'patient' });
      this.log.event('duplicate_patient_prevented', { patientId: patient.id });
    }
    return { patient, created };
  }

  /**
   * The living patient with this phone, under the lock that a booking's foreign key takes anyway, taken early: against being
   * deleted in between.
   */
  async withPhone(tx: EntityManager, phone: string): Promise<Patient | undefined> {
    const [row] = await tx.query<Patient[]>(PATIENT_WITH_PHONE as never, [phone]);
    return row;
  }

  /**
   * The patient of a booking that names him by id, protected from deletion until the booking is stored: the same lock that
   * the foreign key takes.
   */
  async lockForBooking(tx: EntityManager, id: string): Promise<void> {
    if (!(await this.lockLiving(tx, id))) throw Problem.notFound('patient');
  }

  /** The same, for who was a patient once. @returns whether he still is */
  async lockLiving(tx: EntityManager, id: string): Promise<boolean> {
    const rows = await tx.query<unknown[]>(LOCK_LIVING_PATIENT as never, [id]);
    return rows.length > 0;
  }

  /** Serialises what one patient wants, where a rule counts what he has. Bookings that only refer to him do not wait. */
  async lockForRules(tx: EntityManager, id: string): Promise<void> {
    await this.records.in(tx).findOne({ where: { id }, select: { id: true }, lock: { mode: 'for_no_key_update' } });
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await this.records.get(tx, id);
      return Reply.ok(showPatient(row), row.version);
    });
  }

  list(call: Call, query: ListQuery & { phone?: string }) {
    const where: FindOptionsWhere<Patient> = query.phone === undefined ? {} : { phone: query.phone };
    return this.database.read(call.organizationId, (tx) => this.records.list(tx, call, query, showPatient, where));
  }

  async change(call: Call, id: string, changes: Partial<PatientFields>): Promise<Reply> {
    try {
      return await this.database.transaction(call.organizationId, async (tx) => {
        await this.requireReferences(tx, changes);
        const row = await this.records.change(tx, call, id, given(changes));
        return Reply.ok(showPatient(row), row.version);
      });
    } catch (error) {
      if (error instanceof ConstraintViolation && error.constraint === 'patient_phone') {
        throw new Problem('already_exists', 'Another patient has this phone.');
      }
      throw error;
    }
  }

  /** For deletion: waits for bookings of this patient that are under way, and they for it. */
  lockForDeletion(tx: EntityManager, id: string, call: Call): Promise<Patient> {
    return this.records.lockVersion(tx, id, call, 'pessimistic_write');
  }

  retire(tx: EntityManager, id: string): Promise<void> {
    return this.records.retire(tx, id);
  }

  /** A patient as the API shows him, a deleted one, too. */
  async showAny(tx: EntityManager, id: string) {
    const row = await this.records.in(tx).findOneBy({ id });
    if (!row) throw Problem.notFound('patient');
    return { ...showPatient(row), deletedAt: row.deletedAt && showInstant(row.deletedAt), erasedAt: row.erasedAt && showInstant(row.erasedAt) }; // prettier-ignore
  }

  /** For erasure: one who is deleted, too. Otherwise as {@link lockForDeletion}. */
  async lockForErasure(tx: EntityManager, id: string, call: Call): Promise<Patient> {
    const row = await this.records.in(tx).findOne({ where: { id }, lock: { mode: 'pessimistic_write' } });
    if (!row) throw Problem.notFound('patient');
    if (!row.erasedAt) requireVersion(call, row.version);
    return row;
  }

  /** Deletes a patient with all that is known of him. The row stays, for appointments refer to it. */
  async erase(tx: EntityManager, row: Patient): Promise<Date> {
    const [[erased]] = await tx.query<[[{ erased_at: Date }], number]>(ERASE_PATIENT as never, [row.id]);
    return erased.erased_at;
  }

  /** Whether somebody living has this phone. */
  async isKnown(tx: EntityManager, phone: string): Promise<boolean> {
    return this.records.in(tx).existsBy({ phone, deletedAt: IsNull() });
  }

  /** A caller belongs to the branch that he called, else to the default one, and the note says where he came from. */
  private async withCallersDefaults(
    tx: EntityManager,
    organizationId: string,
    body: PatientFields,
  ): Promise<PatientFields> {
    if (body.source !== CALLER) return body;
    const { defaultLocationId } = await tx.withRepository(this.organizations).findOneByOrFail({ id: organizationId });
    return {
      ...body,
      locationId: body.locationId ?? defaultLocationId,
      notes: body.notes ?? 'Created by a phone call.',
    };
  }
}

const PATIENT = `
  id, organization_id AS "organizationId", version, phone, name, email, location_id AS "locationId", locale, source, status,
  notes, verified_at AS "verifiedAt", created_at AS "createdAt", updated_at AS "updatedAt", deleted_at AS "deletedAt",
  erased_at AS "erasedAt"`;
const PATIENT_WITH_PHONE = {
  name: 'patient-with-phone',
  text: `SELECT ${PATIENT} FROM patient WHERE phone = $1 AND deleted_at IS NULL FOR KEY SHARE`,
};
const ERASE_PATIENT = {
  name: 'erase-patient',
  text: `UPDATE patient SET phone = NULL, name = NULL, email = NULL, location_id = NULL, locale = NULL, notes = NULL,
           verified_at = NULL, source = 'erased', status = 'inactive', version = version + 1, updated_at = now(),
           erased_at = now(), deleted_at = coalesce(deleted_at, now())
         WHERE id = $1 RETURNING erased_at`,
};
const LOCK_LIVING_PATIENT = {
  name: 'lock-living-patient',
  text: 'SELECT id FROM patient WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE',
};
/** Makes or fills, and tells of whom it has made; gives back nobody where there was nothing to fill. */
const UPSERT_PATIENT = {
  name: 'upsert-patient',
  text: `
  WITH upserted AS (
    INSERT INTO patient AS stored (organization_id, id, phone, name, email, location_id, locale, source, status, notes)
    VALUES ($1::uuid, $2::uuid, $3, $4, $5, $6::uuid, $7, $8, $9, $10)
    ON CONFLICT (organization_id, phone) WHERE deleted_at IS NULL DO UPDATE
      SET name = coalesce(stored.name, excluded.name), email = coalesce(stored.email, excluded.email),
          location_id = coalesce(stored.location_id, excluded.location_id), locale = coalesce(stored.locale, excluded.locale),
          notes = coalesce(stored.notes, excluded.notes), version = stored.version + 1, updated_at = now()
      WHERE (stored.name IS NULL AND excluded.name IS NOT NULL) OR (stored.email IS NULL AND excluded.email IS NOT NULL)
         OR (stored.location_id IS NULL AND excluded.location_id IS NOT NULL)
         OR (stored.locale IS NULL AND excluded.locale IS NOT NULL) OR (stored.notes IS NULL AND excluded.notes IS NOT NULL)
    RETURNING ${PATIENT}
  ), event AS (
    INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
    SELECT $11::uuid, "organizationId", 'patient.created', id, version FROM upserted WHERE id = $2::uuid
  )
  SELECT * FROM upserted`,
};

const showPatient = (row: Patient) => ({
  id: row.id,
  name: row.name,
  phone: row.phone,
  email: row.email,
  locationId: row.locationId,
  locale: row.locale,
  source: row.source,
  status: row.status,
  notes: row.notes,
  verifiedAt: row.verifiedAt && showInstant(row.verifiedAt),
  ...showDates(row),
});
