import { PartialType } from '@nestjs/swagger';
import {
  Email,
  Flag,
  Id,
  Ids,
  ListOf,
  ListQuery,
  Nested,
  OneOf,
  Phone,
  SomeOf,
  Text,
  Texts,
  TimeZone,
  Whole,
} from '../platform';
import { PATIENT_STATUSES } from './clinic.entities';

class PatientRulesDto {
  @Flag({
    optional: true,
    description: 'Whether a patient may have two appointments at the same time; true unless told',
  })
  allowOverlap?: boolean;
  @Whole({
    min: 1,
    max: 1000,
    optional: true,
    nullable: true,
    description: 'Holds that a patient may have open at once',
  })
  maxOpenHolds?: number | null;
  @Whole({
    min: 1,
    max: 525_600,
    optional: true,
    nullable: true,
    description: 'How long before its start cancelling a confirmed appointment begins to be late',
  })
  cancellationWindowMinutes?: number | null;
  @SomeOf(['practitioner', 'receptionist', 'administrator'], { optional: true, description: 'Who may cancel late' })
  lateCancellationRoles?: string[];
  @Text({ optional: true, max: 40, pattern: /^[a-z][a-z0-9_]*$/, description: 'What a late cancellation is called' })
  lateCancellationKind?: string;
}

export class OrganizationChangeDto {
  @Text({ optional: true })
  name?: string;
  @TimeZone({ optional: true })
  timeZone?: string;
  @Id({ optional: true, nullable: true, description: 'Where a caller belongs who named no branch' })
  defaultLocationId?: string | null;
  @Nested(PatientRulesDto, { optional: true, description: 'Only the rules that are sent change' })
  patientRules?: PatientRulesDto;
}

export class NewLocationDto {
  @Text()
  name: string;
  @TimeZone()
  timeZone: string;
  @Text({ optional: true, nullable: true, max: 500 })
  address?: string | null;
}
export class LocationChangeDto extends PartialType(NewLocationDto, { skipNullProperties: false }) {}

export class NewResourceDto {
  @Text()
  name: string;
  @Id({ optional: true, nullable: true })
  locationId?: string | null;
  @TimeZone({ optional: true, description: "Of the schedule; the location's, else the organization's, unless told" })
  timeZone?: string;
}
export class ResourceChangeDto {
  @Text({ optional: true })
  name?: string;
  @Id({ optional: true, nullable: true })
  locationId?: string | null;
}

class PriceDto {
  @Whole({ min: 0, max: 1_000_000_000, description: 'In minor units' })
  amount: number;
  @Text({ min: 3, max: 3, pattern: /^[A-Z]{3}$/, example: 'EUR', description: 'ISO 4217' })
  currency: string;
}

class SegmentDto {
  @Text()
  name: string;
  @Whole({ min: 1, max: 1440 })
  durationMinutes: number;
  @Whole({ min: 0, max: 1440, optional: true })
  gapAfterMinutes?: number;
  @Whole({ min: 0, max: 1440, optional: true, description: 'How much longer than the gap the pause may be' })
  maxWaitMinutes?: number;
  @Flag({ optional: true, description: 'Begins together with the segment before it, at its side' })
  startsWithPrevious?: boolean;
  @Ids({ optional: true })
  practitionerIds?: string[];
  @Ids({ optional: true })
  roomIds?: string[];
}

export class NewServiceDto {
  @Text()
  name: string;
  @Whole({ min: 1, max: 1440, optional: true, description: 'Required unless segments are given' })
  durationMinutes?: number;
  @Whole({ min: 0, max: 720, optional: true })
  bufferBeforeMinutes?: number;
  @Whole({ min: 0, max: 720, optional: true })
  bufferAfterMinutes?: number;
  @Whole({ min: 1, max: 1440, optional: true, nullable: true, description: 'The duration unless told' })
  slotIntervalMinutes?: number | null;
  @Whole({ min: 1, max: 1000, optional: true })
  capacity?: number;
  @Flag({ optional: true })
  requiresConfirmation?: boolean;
  @Whole({ min: 1, max: 525_600, optional: true, nullable: true })
  pendingMinutes?: number | null;
  @Nested(PriceDto, { optional: true, nullable: true })
  price?: PriceDto | null;
  @Flag({ optional: true })
  paymentRequired?: boolean;
  @Whole({ min: 1, max: 60, optional: true })
  holdMinutes?: number;
  @Whole({ min: 0, max: 525_600, optional: true })
  minNoticeMinutes?: number;
  @Whole({ min: 1, max: 1095, optional: true })
  maxDaysAhead?: number;
  @Texts({ pattern: /^[a-z][a-z0-9_]{0,39}$/, min: 1, optional: true })
  modes?: string[];
  @Ids({ optional: true })
  practitionerIds?: string[];
  @ListOf(SegmentDto, { optional: true, max: 20 })
  segments?: SegmentDto[];
}
export class ServiceChangeDto extends PartialType(NewServiceDto, { skipNullProperties: false }) {}

export class NewPatientDto {
  @Phone()
  phone: string;
  @Text({ optional: true, nullable: true })
  name?: string | null;
  @Email({ optional: true, nullable: true })
  email?: string | null;
  @Id({ optional: true, nullable: true })
  locationId?: string | null;
  @Text({ optional: true, nullable: true, max: 35, example: 'de-DE' })
  locale?: string | null;
  @Text({ optional: true, max: 50, description: 'Where the patient came from: api, phone_anonymous, ...' })
  source?: string;
  @OneOf(PATIENT_STATUSES, { optional: true })
  status?: (typeof PATIENT_STATUSES)[number];
  @Text({ optional: true, nullable: true, max: 5000 })
  notes?: string | null;
}
export class PatientChangeDto extends PartialType(NewPatientDto, { skipNullProperties: false }) {}

export class PatientsQuery extends ListQuery {
  @Phone({ optional: true })
  phone?: string;
}
