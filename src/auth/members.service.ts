import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Cursors, Database, DEFAULT_PAGE, type ListQuery, Log, type Page, Problem, showInstant } from '../platform';
import { ApiKeysService, requireOwned } from './api-keys.service';
import type { Call } from './call';
import { type Post, requirePost } from './invitations.service';
import { permissionsOf, type StaffRole } from './permissions';
import { requirePlaces } from './places';
import { SessionsService } from './sessions.service';

/** A user as the organizations see him that he works for. */
export interface MemberView {
  id: string;
  email: string;
  name: string;
  role: StaffRole;
  practitionerId: string | null;
  locationIds: string[] | null;
  createdAt: string;
}

/**
 * The users of an organization. Their accounts are the install's, which no organization's role can read: so all of this runs
 * as the system, with the organization said in every statement.
 */
@Injectable()
export class MembersService {
  constructor(
    private readonly database: Database,
    private readonly cursors: Cursors,
    private readonly apiKeys: ApiKeysService,
    private readonly sessions: SessionsService,
    private readonly log: Log,
  ) {}

  list({ organizationId }: Call, query: ListQuery): Promise<Page<MemberView>> {
    const scope = `users/${organizationId}`;
    const after = query.cursor === undefined ? null : this.cursors.read(scope, query.cursor)[0]!;
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.system('the users of an organization', async (tx) => {
      const sql = `${MEMBER} WHERE m.organization_id = $1 AND ($2::uuid IS NULL OR m.user_id > $2) ORDER BY m.user_id LIMIT $3`;
      const rows = await tx.query<Row[]>(sql, [organizationId, after, limit + 1]);
      return this.cursors.page(rows, limit, scope, (row) => [row.id], show);
    });
  }

  get({ organizationId }: Call, id: string): Promise<MemberView> {
    return this.database.system('a user of an organization', async (tx) =>
      show(await this.read(tx, organizationId, id)),
    );
  }

  /** Gives a user another post. His sessions in the organization end, and the API keys that he made: they were another's. */
  async change(call: Call, id: string, post: Post): Promise<MemberView> {
    requirePost(post);
    requireOwned(call, permissionsOf(post.role, { branches: Boolean(post.locationIds) }));
    const { organizationId } = call;
    const changed = await this.database.system('give a user another post', async (tx) => {
      await this.lock(tx, organizationId, id, post.role === 'administrator');
      await requirePlaces(tx, organizationId, post);
      const values = [organizationId, id, post.role, post.practitionerId ?? null, post.locationIds ?? null];
      await tx.query(
        `UPDATE membership SET role = $3, practitioner_id = $4, location_ids = $5, updated_at = now()
         WHERE organization_id = $1 AND user_id = $2`,
        values,
      );
      await this.end(tx, organizationId, id);
      return show(await this.read(tx, organizationId, id));
    });
    this.forget();
    this.log.event('user_changed', { userId: id, role: post.role });
    return changed;
  }

  /** Ends a user's membership, with his sessions and the API keys that he made. His account stays: it is his. */
  async remove({ organizationId }: Call, id: string): Promise<void> {
    await this.database.system('remove a user', async (tx) => {
      await this.lock(tx, organizationId, id, false);
      await tx.query('DELETE FROM membership WHERE organization_id = $1 AND user_id = $2', [organizationId, id]);
      await this.end(tx, organizationId, id);
    });
    this.forget();
    this.log.event('user_removed', { userId: id });
  }

  /**
   * Locks a membership and those of all administrators, in one order: whoever else takes an administrator's post away waits,
   * and then counts anew. So one stays.
   */
  private async lock(
    tx: EntityManager,
    organizationId: string,
    id: string,
    staysAdministrator: boolean,
  ): Promise<void> {
    const rows = await tx.query<Array<{ user_id: string; role: StaffRole }>>(
      `SELECT user_id, role FROM membership WHERE organization_id = $1 AND (user_id = $2 OR role = 'administrator')
       ORDER BY user_id FOR UPDATE`,
      [organizationId, id],
    );
    if (!rows.some((row) => row.user_id === id)) throw Problem.notFound('user');
    const others = rows.filter((row) => row.role === 'administrator' && row.user_id !== id);
    const was = rows.some((row) => row.role === 'administrator' && row.user_id === id);
    if (was && !staysAdministrator && others.length === 0)
      throw new Problem('in_use', 'This is the last administrator of the organization.');
  }

  private async end(tx: EntityManager, organizationId: string, id: string): Promise<void> {
    await this.apiKeys.revokeMadeBy(tx, organizationId, id);
    await this.sessions.endAllIn(tx, id, organizationId);
  }

  private forget(): void {
    this.apiKeys.forget();
    this.sessions.forget();
  }

  private async read(tx: EntityManager, organizationId: string, id: string): Promise<Row> {
    const [row] = await tx.query<[Row?]>(`${MEMBER} WHERE m.organization_id = $1 AND m.user_id = $2`, [
      organizationId,
      id,
    ]);
    if (!row) throw Problem.notFound('user');
    return row;
  }
}

type Row = Omit<MemberView, 'createdAt'> & { createdAt: Date };

const MEMBER = `
  SELECT u.id, u.email, u.name, m.role, m.practitioner_id AS "practitionerId", m.location_ids AS "locationIds",
         m.created_at AS "createdAt"
  FROM membership m JOIN user_account u ON u.id = m.user_id`;

const show = (row: Row): MemberView => ({ ...row, createdAt: showInstant(row.createdAt) });
