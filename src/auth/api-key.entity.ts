import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { StaffRole } from './permissions';

/** A key of a system that calls the API. Of the secret only a SHA-256 is kept: it has 256 random bits, so it needs no salt. */
@Entity('api_key')
export class ApiKey {
  @PrimaryColumn('uuid')
  id: string;

  @Column('uuid')
  organizationId: string;

  @Column('text')
  name: string;

  @Column('text')
  role: StaffRole;

  /** The beginning of the key, by which people recognise it. */
  @Column('text')
  prefix: string;

  @Column('bytea', { select: false })
  keyHash: Buffer;

  @Column('timestamptz')
  createdAt: Date;

  @Column('timestamptz', { nullable: true })
  revokedAt: Date | null;

  /** What of its role's permissions it has; null for all of them. */
  @Column('text', { array: true, nullable: true })
  permissions: string[] | null;

  /** Whose rows it is about, if it is limited. */
  @Column('uuid', { nullable: true })
  practitionerId: string | null;

  @Column('uuid', { array: true, nullable: true })
  locationIds: string[] | null;

  @Column('timestamptz', { nullable: true })
  expiresAt: Date | null;

  /** When another key took its place. */
  @Column('timestamptz', { nullable: true })
  rotatedAt: Date | null;

  @Column('timestamptz', { nullable: true })
  lastUsedAt: Date | null;

  /** The user or key that made it; a user's keys end with his membership. */
  @Column('uuid', { nullable: true })
  madeBy: string | null;
}
