import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Database, Log, Problem } from '../platform';
import { AccessTokens, type Subject } from './access-tokens';
import type { Client } from './client';
import { IdentityLimits } from './identity-limits';
import type { Role } from './permissions';
import { Secrets } from './secrets';
import { TOKEN_LIFE } from './signing-keys';

/** What somebody gets who has signed in. */
export interface Tokens {
  accessToken: string;
  refreshToken: string;
  /** Seconds until the access token is over. */
  expiresIn: number;
}

/** Who signs in, and where: a user, or a phone. */
export type Principal = { userId: string; phoneId?: undefined } | { userId?: undefined; phoneId: string };

/** A session that was opened in a transaction, whose tokens are to be had once that is committed. */
export interface Opened {
  subject: Subject;
  generation: number;
}

/** A session ends when it was not used for 30 days, and after 90 days in any case. */
const UNUSED = `interval '30 days'`;
const LONGEST = `interval '90 days'`;
/** For so long the client whose answer was lost may ask again. */
const GRACE = `interval '10 seconds'`;

/**
 * Sessions: families of refresh tokens of which one at a time is good. A token is a number within its family and a MAC over both,
 * so its successor is known without being kept, and a spent one can be told from one that never was. Of the good one a
 * SHA-256 is stored.
 */
@Injectable()
export class SessionsService {
  constructor(
    private readonly database: Database,
    private readonly secrets: Secrets,
    private readonly accessTokens: AccessTokens,
    private readonly limits: IdentityLimits,
    private readonly log: Log,
  ) {}

  /** Opens a session, in a transaction of the system. `client` is the print of who asks. */
  async open(tx: EntityManager, organizationId: string, who: Principal, client: Buffer): Promise<Opened> {
    const id = randomUUID();
    await tx.query(OPEN as never, [
      id,
      organizationId,
      who.userId ?? null,
      who.phoneId ?? null,
      this.hashOf(id, 1),
      client,
    ]);
    const subject = await this.subjectOf(tx, id);
    if (!subject) throw new Problem('unauthenticated');
    return { subject, generation: 1 };
  }

  /** Tokens for a session, once it is committed. */
  async tokens({ subject, generation }: Opened): Promise<Tokens> {
    return {
      accessToken: await this.accessTokens.issue(subject),
      refreshToken: this.write(subject.sessionId, generation),
      expiresIn: TOKEN_LIFE / 1000,
    };
  }

  /**
   * Gives the next token for the present one. One conditional UPDATE decides, so of any number of requests at once one
   * rotates; the others get the same successor, if it is the same client that asks, within ten seconds. Any other use of a
   * spent token means that somebody has a copy: the family ends.
   */
  async refresh(token: string, client: Client): Promise<Tokens> {
    await this.limits.refresh(client);
    const read = this.read(token);
    const opened =
      read && (await this.database.system('rotate a refresh token', (tx) => this.rotate(tx, read, client.print)));
    if (opened === 'ended') {
      this.log.warning('refresh_token_reused', { sessionId: read!.id });
      this.accessTokens.forget();
    }
    if (!opened || opened === 'ended')
      throw new Problem('unauthenticated', 'The refresh token is not good (any more). Sign in again.');
    return this.tokens(opened);
  }

  /** Ends one session. */
  async end(sessionId: string): Promise<void> {
    await this.database.system('sign out', (tx) =>
      tx.query('UPDATE auth_session SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL', [sessionId]),
    );
    this.accessTokens.forget();
  }

  /** Ends all sessions of a user, or of a phone. */
  async endAll(principalId: string): Promise<void> {
    await this.database.system('sign out everywhere', (tx) => this.endAllIn(tx, principalId));
    this.accessTokens.forget();
  }

  /** The same within a transaction of the system; those of one organization, if that is told. */
  async endAllIn(tx: EntityManager, principalId: string, organizationId?: string): Promise<void> {
    await tx.query(
      `UPDATE auth_session SET revoked_at = now() WHERE revoked_at IS NULL AND (user_id = $1 OR phone_identity_id = $1)
       AND ($2::uuid IS NULL OR organization_id = $2)`,
      [principalId, organizationId ?? null],
    );
  }

  /** What has ended in a transaction is not trusted any more, in this process at once. */
  forget(): void {
    this.accessTokens.forget();
  }

  private async rotate(
    tx: EntityManager,
    { id, generation }: Family,
    client: Buffer,
  ): Promise<Opened | 'ended' | undefined> {
    const hashes = [this.hashOf(id, generation), this.hashOf(id, generation + 1)];
    const rotated = await tx.query<unknown[]>(ROTATE as never, [id, generation, ...hashes, client]);
    if (rotated.length === 0) {
      // A statement of its own: it sees what the one that was faster has made of the row.
      const [seen] = await tx.query<[State?]>(LOOK as never, [id]);
      if (!seen?.living) return undefined;
      const repeated = seen.generation === generation + 1 && seen.recent && seen.client.equals(client);
      if (!repeated) {
        await tx.query('UPDATE auth_session SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL', [id]);
        return 'ended';
      }
    }
    const subject = await this.subjectOf(tx, id);
    return subject && { subject, generation: generation + 1 };
  }

  /** Whom a session is of, as he is now: undefined for who is no member any more. */
  private async subjectOf(tx: EntityManager, id: string): Promise<Subject | undefined> {
    const [row] = await tx.query<[SubjectRow?]>(SUBJECT as never, [id]);
    if (!row?.role) return undefined;
    return {
      organizationId: row.organization_id,
      principalId: row.principal,
      role: row.role,
      sessionId: id,
      ...(row.phone !== null && { phone: row.phone }),
      ...(row.practitioner_id !== null && { practitionerId: row.practitioner_id }),
      ...(row.location_ids !== null && { locationIds: row.location_ids }),
    };
  }

  private macOf(id: string, generation: number): Buffer {
    return this.secrets.mac('refresh-token', id, String(generation));
  }

  private hashOf(id: string, generation: number): Buffer {
    return createHash('sha256').update(this.macOf(id, generation)).digest();
  }

  private write(id: string, generation: number): string {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(generation);
    const bytes = Buffer.concat([Buffer.from(id.replaceAll('-', ''), 'hex'), number, this.macOf(id, generation)]);
    return `hr_${bytes.toString('base64url')}`;
  }

  private read(token: string): Family | undefined {
    if (!/^hr_[A-Za-z0-9_-]{70}$/.test(token)) return undefined;
    const bytes = Buffer.from(token.slice(3), 'base64url');
    const id = bytes
      .subarray(0, 16)
      .toString('hex')
      .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    const generation = bytes.readUInt32BE(16);
    return timingSafeEqual(bytes.subarray(20), this.macOf(id, generation)) ? { id, generation } : undefined;
  }
}

interface Family {
  id: string;
  generation: number;
}

interface State {
  generation: number;
  client: Buffer;
  recent: boolean;
  living: boolean;
}

interface SubjectRow {
  organization_id: string;
  principal: string;
  role: Role | null;
  phone: string | null;
  practitioner_id: string | null;
  location_ids: string[] | null;
}

const OPEN = {
  name: 'open-session',
  text: `INSERT INTO auth_session (id, organization_id, user_id, phone_identity_id, token_hash, client, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, now() + ${UNUSED})`,
};
const ROTATE = {
  name: 'rotate-session',
  text: `WITH rotated AS (
           UPDATE auth_session SET generation = generation + 1, token_hash = $4, client = $5, rotated_at = clock_timestamp(),
             expires_at = least(created_at + ${LONGEST}, clock_timestamp() + ${UNUSED})
           WHERE id = $1 AND generation = $2 AND token_hash = $3 AND revoked_at IS NULL AND expires_at > clock_timestamp()
           RETURNING id)
         SELECT id FROM rotated`,
};
const LOOK = {
  name: 'look-at-session',
  text: `SELECT generation, client, rotated_at > clock_timestamp() - ${GRACE} AS recent,
                revoked_at IS NULL AND expires_at > clock_timestamp() AS living
         FROM auth_session WHERE id = $1`,
};
const SUBJECT = {
  name: 'subject-of-session',
  text: `SELECT s.organization_id, coalesce(s.user_id, s.phone_identity_id) AS principal, p.phone,
                CASE WHEN p.id IS NULL THEN m.role ELSE 'patient' END AS role, m.practitioner_id, m.location_ids
         FROM auth_session s
         LEFT JOIN membership m ON m.organization_id = s.organization_id AND m.user_id = s.user_id
         LEFT JOIN phone_identity p ON p.organization_id = s.organization_id AND p.id = s.phone_identity_id
         WHERE s.id = $1`,
};
