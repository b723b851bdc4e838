import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import {
  Cursors,
  Database,
  DEFAULT_PAGE,
  Idempotency,
  type ListQuery,
  Log,
  type Page,
  Problem,
  Reply,
  showInstant,
} from '../platform';
import { requireOwned } from './api-keys.service';
import type { Call } from './call';
import { CodeDelivery } from './code-delivery';
import { permissionsOf, type StaffRole } from './permissions';
import { requirePlaces } from './places';
import { sha256 } from './secrets';

/** What somebody is in an organization. */
export interface Post {
  role: StaffRole;
  practitionerId?: string | null;
  locationIds?: string[] | null;
}

/** An invitation as it is shown; `invitationToken` only in the answer that makes it. */
export interface InvitationView {
  id: string;
  email: string;
  role: StaffRole;
  practitionerId: string | null;
  locationIds: string[] | null;
  createdAt: string;
  expiresAt: string;
  acceptedAt: string | null;
  revokedAt: string | null;
  invitationToken?: string;
}

/** An invitation that was taken, in a transaction that makes the membership of it. */
export interface Taken extends Required<Post> {
  organizationId: string;
  email: string;
}

const LIFE = `interval '7 days'`;

/** Nobody signs up unasked: staff come by invitation, good once, for one address and one post. */
@Injectable()
export class InvitationsService {
  constructor(
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly cursors: Cursors,
    private readonly delivery: CodeDelivery,
    private readonly log: Log,
  ) {}

  /** Invites somebody. The token is sent to him, and shown this once, to be handed over by other ways. */
  async create(call: Call, email: string, post: Post): Promise<Reply<InvitationView>> {
    requirePost(post);
    requireOwned(call, permissionsOf(post.role, { branches: Boolean(post.locationIds) }));
    let token: string | undefined;
    const reply = await this.idempotency.transaction(call, async (tx) => {
      await requirePlaces(tx, call.organizationId, post);
      const issued = await this.issue(tx, call.organizationId, email, post);
      token = issued.token;
      return Reply.created('/v1/invitations', show(issued.row));
    });
    if (reply.stored?.replayed || token === undefined) return reply;
    const { organizationId } = call;
    await this.delivery
      .deliver({ purpose: 'invitation', to: reply.body.email, secret: token, organizationId })
      .catch((error: unknown) => this.log.failure('code_not_delivered', error, { purpose: 'invitation' }));
    return new Reply(reply.status, { ...reply.body, invitationToken: token }, reply.headers);
  }

  /** Makes an invitation within a transaction. The only moment at which its token is known. */
  async issue(
    tx: EntityManager,
    organizationId: string,
    email: string,
    { role, practitionerId = null, locationIds = null }: Post,
  ): Promise<{ row: Row; token: string }> {
    const token = `hi_${randomBytes(32).toString('base64url')}`;
    const values = [organizationId, uuidv7(), addressOf(email), role, practitionerId, locationIds, sha256(token)];
    const [row] = await tx.query<[Row]>(INSERT, values);
    return { row, token };
  }

  list(call: Call, query: ListQuery): Promise<Page<InvitationView>> {
    const scope = `invitations/${call.organizationId}`;
    const after = query.cursor === undefined ? null : this.cursors.read(scope, query.cursor)[0]!;
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      const rows = await tx.query<Row[]>(
        `SELECT ${COLUMNS} FROM invitation WHERE organization_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3`,
        [call.organizationId, after, limit + 1],
      );
      return this.cursors.page(rows, limit, scope, (row) => [row.id], show);
    });
  }

  get(call: Call, id: string): Promise<InvitationView> {
    return this.database.read(call.organizationId, async (tx) => {
      const [row] = await tx.query<[Row?]>(`SELECT ${COLUMNS} FROM invitation WHERE id = $1`, [id]);
      if (!row) throw Problem.notFound('invitation');
      return show(row);
    });
  }

  /** Takes an invitation back; twice is no mistake. What was accepted stays: remove the user instead. */
  async revoke(call: Call, id: string): Promise<void> {
    await this.database.transaction(call.organizationId, async (tx) => {
      const [row] = await tx.query<[Row?]>(
        `WITH revoked AS (UPDATE invitation SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING *)
         SELECT ${COLUMNS} FROM revoked`,
        [id],
      );
      if (!row) throw Problem.notFound('invitation');
      if (row.acceptedAt) throw new Problem('invalid_transition', 'The invitation was accepted.');
    });
  }

  /**
   * Whether a token can still be taken, before any work is done for it.
   * @throws Problem `not_found` for what is none (any more), `already_exists` for one that was taken
   */
  async require(token: string): Promise<{ email: string }> {
    const row = await this.database.system('whose invitation is this', async (tx) => {
      const [found] = await tx.query<[(Row & { living: boolean })?]>(
        `SELECT ${COLUMNS}, revoked_at IS NULL AND expires_at > clock_timestamp() AS living FROM invitation WHERE token_hash = $1`,
        [sha256(token)],
      );
      return found;
    });
    if (row?.acceptedAt) throw taken();
    if (!row?.living) throw Problem.notFound('invitation');
    return row;
  }

  /** Takes an invitation, in a transaction of the system. Of any number who try at once one does. */
  async take(tx: EntityManager, token: string): Promise<Taken> {
    const [row] = await tx.query<[Taken?]>(TAKE, [sha256(token)]);
    if (!row) throw taken();
    return row;
  }
}

/** E-mail addresses are compared in small letters. */
export const addressOf = (email: string): string => email.trim().toLowerCase();

/**
 * Holds a post together: a practitioner is one of the clinic's, and branches are for receptionists.
 * @throws Problem `validation_failed`
 */
export function requirePost({ role, practitionerId, locationIds }: Post): void {
  if (role === 'practitioner' && !practitionerId)
    throw Problem.invalid({ pointer: '/practitionerId', detail: 'must say which practitioner this is' });
  if (role !== 'practitioner' && practitionerId)
    throw Problem.invalid({ pointer: '/practitionerId', detail: 'is for the role practitioner' });
  if (role !== 'receptionist' && locationIds)
    throw Problem.invalid({ pointer: '/locationIds', detail: 'is for the role receptionist' });
}

const taken = (): Problem => new Problem('already_exists', 'This invitation was taken already.');

interface Row {
  id: string;
  email: string;
  role: StaffRole;
  practitionerId: string | null;
  locationIds: string[] | null;
  createdAt: Date;
  expiresAt: Date;
  acceptedAt: Date | null;
  revokedAt: Date | null;
}

const COLUMNS = `id, email, role, practitioner_id AS "practitionerId", location_ids AS "locationIds",
  created_at AS "createdAt", expires_at AS "expiresAt", accepted_at AS "acceptedAt", revoked_at AS "revokedAt"`;
const INSERT = `
  INSERT INTO invitation (organization_id, id, email, role, practitioner_id, location_ids, token_hash, expires_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, now() + ${LIFE}) RETURNING ${COLUMNS}`;
const TAKE = `
  WITH taken AS (
    UPDATE invitation SET accepted_at = now()
    WHERE token_hash = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > clock_timestamp() RETURNING *)
  SELECT organization_id AS "organizationId", ${COLUMNS} FROM taken`;

const show = (row: Row): InvitationView => ({
  id: row.id,
  email: row.email,
  role: row.role,
  practitionerId: row.practitionerId,
  locationIds: row.locationIds,
  createdAt: showInstant(row.createdAt),
  expiresAt: showInstant(row.expiresAt),
  acceptedAt: row.acceptedAt && showInstant(row.acceptedAt),
  revokedAt: row.revokedAt && showInstant(row.revokedAt),
});
