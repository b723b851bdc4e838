import { Column, Entity, PrimaryColumn } from 'typeorm';

export const ROLES = ['practitioner', 'receptionist', 'administrator', 'operator'] as const;
export type Role = (typeof ROLES)[number];

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
  role: Role;

  /** The beginning of the key, by which people recognise it. */
  @Column('text')
  prefix: string;

  @Column('bytea', { select: false })
  keyHash: Buffer;

  @Column('timestamptz')
  createdAt: Date;

  @Column('timestamptz', { nullable: true })
  revokedAt: Date | null;
}
