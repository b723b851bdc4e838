import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { jwtVerify, type JWTPayload, SignJWT } from 'jose';
import { Clock, Database } from '../platform';
import type { Actor, Scope } from './call';
import { permissionsOf, type Role } from './permissions';
import { Secrets } from './secrets';
import { ALGORITHM, LEEWAY, SigningKeys, TOKEN_LIFE } from './signing-keys';

/** Told apart from other tokens that might be signed with these keys (RFC 9068). */
const TYPE = 'at+jwt';
const AUDIENCE = 'holdfast';

/** How long, in milliseconds, a process trusts that a session has not ended: signing out is in force everywhere within this time. */
const TRUST = 5_000;

/** At most so many tokens and sessions are remembered. */
const REMEMBERED = 10_000;

/** Whom a token speaks of. */
export interface Subject extends Scope {
  organizationId: string;
  principalId: string;
  role: Role;
  sessionId: string;
}

/**
 * Access tokens: signed claims, good for ten minutes, checked in memory. Whether the session still stands is looked up, and
 * then trusted for some seconds; so signing out does not have to wait for tokens to end.
 */
@Injectable()
export class AccessTokens {
  private readonly checked = new Map<string, { actor: Actor & Subject; until: number }>();
  private readonly standing = new Map<string, { stands: Promise<boolean>; until: number }>();

  constructor(
    private readonly keys: SigningKeys,
    private readonly secrets: Secrets,
    private readonly database: Database,
    private readonly clock: Clock,
  ) {}

  async issue({ organizationId, principalId, role, sessionId, ...scopes }: Subject): Promise<string> {
    const { id, privateKey } = await this.keys.signing();
    const now = Math.floor(this.clock.now() / 1000);
    return new SignJWT({ org: organizationId, role, sid: sessionId, scopes })
      .setProtectedHeader({ alg: ALGORITHM, kid: id, typ: TYPE })
      .setIssuer(this.issuer())
      .setAudience(AUDIENCE)
      .setSubject(principalId)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + TOKEN_LIFE / 1000)
      .sign(privateKey);
  }

  /** Who holds this token; undefined for one that is not ours, is over, or whose session has ended. */
  async authenticate(token: string): Promise<Actor | undefined> {
    const now = this.clock.now();
    const known = this.checked.get(token);
    const actor = known && known.until > now ? known.actor : await this.check(token);
    return actor && (await this.stands(actor.sessionId)) ? actor : undefined;
  }

  /** Looks at sessions anew, in this process: one of them has ended. */
  forget(): void {
    this.standing.clear();
  }

  private async check(token: string): Promise<(Actor & Subject) | undefined> {
    if (token.length > 4_096) return undefined;
    let claims: JWTPayload;
    try {
      const verified = await jwtVerify(
        token,
        async ({ kid }) => {
          const key = kid === undefined ? undefined : await this.keys.find(kid);
          if (!key) throw new UnknownKey();
          return key;
        },
        {
          // The algorithm is ours to say: a token that names another one, or none, is not read.
          algorithms: [ALGORITHM],
          typ: TYPE,
          issuer: this.issuer(),
          audience: AUDIENCE,
          requiredClaims: ['sub', 'jti', 'iat', 'exp', 'org', 'role', 'sid', 'scopes'],
          clockTolerance: LEEWAY / 1000,
          // With this an issue in the future is refused, too.
          maxTokenAge: TOKEN_LIFE / 1000,
          currentDate: this.clock.date(),
        },
      );
      claims = verified.payload;
    } catch (error) {
      if (error instanceof UnknownKey || isRefusal(error)) return undefined;
      throw error;
    }
    const { role, scopes } = claims as { role: Role; scopes: Scope };
    const actor = {
      organizationId: claims['org'] as string,
      principalId: claims.sub!,
      role,
      sessionId: claims['sid'] as string,
      user: role !== 'patient',
      permissions: permissionsOf(role, { branches: scopes.locationIds !== undefined }),
      ...scopes,
    };
    if (this.checked.size >= REMEMBERED) this.checked.clear();
    this.checked.set(token, { actor, until: claims.exp! * 1000 });
    return actor;
  }

  private stands(sessionId: string): Promise<boolean> {
    const known = this.standing.get(sessionId);
    if (known && known.until > this.clock.now()) return known.stands;
    const stands = this.database.system('does this session stand', async (tx) => {
      const rows = await tx.query<unknown[]>(STANDS as never, [sessionId]);
      return rows.length > 0;
    });
    if (this.standing.size >= REMEMBERED) this.standing.clear();
    this.standing.set(sessionId, { stands, until: this.clock.now() + TRUST });
    stands.catch(() => this.standing.delete(sessionId));
    return stands;
  }

  /** Names this install, whatever addresses its processes have: all with the same SECRET_KEY. */
  private issuer(): string {
    return `urn:holdfast:${this.secrets.mac('issuer').toString('hex').slice(0, 32)}`;
  }
}

class UnknownKey extends Error {}

/** Whether jose says that the token is at fault. Anything else is a failure of ours. */
const isRefusal = (error: unknown): boolean =>
  error instanceof Error && /^ERR_J(?:WT|WS|OSE|WK)/.test((error as { code?: string }).code ?? '');

const STANDS = {
  name: 'session-stands',
  text: 'SELECT 1 FROM auth_session WHERE id = $1 AND revoked_at IS NULL AND expires_at > now()',
};
