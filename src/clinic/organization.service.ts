import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, Repository } from 'typeorm';
import { type Call, requireVersion } from '../auth';
import { Clock, Database, Problem, Reply, showInstant } from '../platform';
import { Organization } from './clinic.entities';
import { LocationsService } from './locations.service';
import { given } from './records';

/** The rules that bind patients, as the API has them. Off unless a clinic turns them on. */
export interface PatientRules {
  allowOverlap: boolean;
  maxOpenHolds: number | null;
  cancellationWindowMinutes: number | null;
  lateCancellationRoles: string[];
  lateCancellationKind: string;
}

export type OrganizationChange = Partial<Pick<Organization, 'name' | 'timeZone' | 'defaultLocationId'>> & {
  patientRules?: Partial<PatientRules>;
};

@Injectable()
export class OrganizationService {
  constructor(
    @InjectRepository(Organization) private readonly organizations: Repository<Organization>,
    private readonly locations: LocationsService,
    private readonly database: Database,
    private readonly clock: Clock,
  ) {}

  async get(tx: EntityManager, id: string): Promise<Organization> {
    const row = await tx.withRepository(this.organizations).findOneBy({ id });
    if (!row) throw Problem.notFound('organization');
    return row;
  }

  show(call: Call): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await this.get(tx, call.organizationId);
      return Reply.ok(show(row), row.version);
    });
  }

  change(call: Call, { patientRules: rules = {}, ...changes }: OrganizationChange): Promise<Reply> {
    return this.database.transaction(call.organizationId, async (tx) => {
      // Before the organization, as the end of a location locks them.
      if (changes.defaultLocationId) await this.locations.require(tx, [changes.defaultLocationId]);
      // Serialises edits of the organization.
      const before = await tx.withRepository(this.organizations).findOne({
        where: { id: call.organizationId },
        lock: { mode: 'for_no_key_update' },
      });
      if (!before) throw Problem.notFound('organization');
      requireVersion(call, before.version);
      const { allowOverlap: allowPatientOverlap, ...others } = rules;
      const changed = given({ ...changes, ...others, allowPatientOverlap });
      const after = { ...before, ...changed, version: before.version + 1, updatedAt: this.clock.date() };
      await tx.withRepository(this.organizations).update({ id: before.id }, after);
      return Reply.ok(show(after), after.version);
    });
  }

  /** Makes an organization; in a transaction of the system, for it belongs to nobody yet. */
  async create(tx: EntityManager, organization: Pick<Organization, 'id' | 'name' | 'timeZone'>): Promise<void> {
    await tx
      .withRepository(this.organizations)
      .insert({ ...organization, createdAt: this.clock.date(), updatedAt: this.clock.date() });
  }

  async setDefaultLocation(tx: EntityManager, id: string, defaultLocationId: string): Promise<void> {
    await tx.withRepository(this.organizations).update({ id }, { defaultLocationId });
  }

  /** The rules that bind the patients of the transaction's organization. */
  async patientRules(tx: EntityManager, id: string): Promise<PatientRules> {
    const [row] = await tx.query<PatientRules[]>(PATIENT_RULES as never, [id]);
    if (!row) throw Problem.notFound('organization');
    return row;
  }

  /** How many there are; in a transaction of the system. */
  count(tx: EntityManager): Promise<number> {
    return tx.withRepository(this.organizations).count();
  }
}

const rulesOf = (row: Organization): PatientRules => ({
  allowOverlap: row.allowPatientOverlap,
  maxOpenHolds: row.maxOpenHolds,
  cancellationWindowMinutes: row.cancellationWindowMinutes,
  lateCancellationRoles: row.lateCancellationRoles,
  lateCancellationKind: row.lateCancellationKind,
});

// Named, for it is asked for with every cancellation.
const PATIENT_RULES = {
  name: 'patient-rules',
  text: `SELECT allow_patient_overlap AS "allowOverlap", max_open_holds AS "maxOpenHolds",
                cancellation_window_minutes AS "cancellationWindowMinutes", late_cancellation_roles AS "lateCancellationRoles",
                late_cancellation_kind AS "lateCancellationKind"
         FROM organization WHERE id = $1`,
};

const show = (row: Organization) => ({
  id: row.id,
  name: row.name,
  timeZone: row.timeZone,
  defaultLocationId: row.defaultLocationId,
  patientRules: rulesOf(row),
  createdAt: showInstant(row.createdAt),
  updatedAt: showInstant(row.updatedAt),
});
