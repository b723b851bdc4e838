import { randomInt, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { uuidv7 } from 'uuidv7';
import { ConstraintViolation, Database, Log, Problem, showInstant } from '../platform';
import type { Client } from './client';
import { CodeDelivery } from './code-delivery';
import { IdentityLimits } from './identity-limits';
import { Secrets } from './secrets';
import { SessionsService, type Tokens } from './sessions.service';

/** What a code is good for: one that was sent for something else opens nothing. */
type Purpose = 'sign_in';

/** What clients are asked to wait before they ask for another code. */
const RESEND_AFTER_SECONDS = 30;
const LIFE = `interval '5 minutes'`;
const MOST_TRIES = 5;

/** Codes by phone: who can read one there has the phone. One code at a time lives for a phone, and five guesses are looked at. */
@Injectable()
export class OtpService {
  constructor(
    private readonly database: Database,
    private readonly secrets: Secrets,
    private readonly sessions: SessionsService,
    private readonly limits: IdentityLimits,
    private readonly delivery: CodeDelivery,
    private readonly log: Log,
  ) {}

  /**
   * Sends a new code, which is from then on the only one. Says the same for every phone, whether or not it is a patient's:
   * nothing here looks.
   */
  async request(
    organizationId: string,
    phone: string,
    client: Client,
  ): Promise<{ expiresAt: string; resendAfterSeconds: number }> {
    // First, for codes of an organization that is none must not use up what the install may spend on codes in a day.
    await this.requireOrganization(organizationId);
    await this.limits.code(organizationId, phone, client);
    const purpose: Purpose = 'sign_in';
    const code = String(randomInt(0, 1_000_000)).padStart(6, '0');
    const expiresAt = await this.store(organizationId, phone, purpose, code);
    await this.delivery
      .deliver({ purpose, to: phone, secret: code, organizationId })
      .catch((error: unknown) => this.log.failure('code_not_delivered', error, { purpose }));
    return { expiresAt: showInstant(expiresAt), resendAfterSeconds: RESEND_AFTER_SECONDS };
  }

  /**
   * Signs in with a code. The guess is counted before it is looked at, in the statement that reads the code and under its
   * lock: however many come at once, five are looked at, and one can be right.
   */
  async verify(organizationId: string, phone: string, code: string, client: Client): Promise<Tokens> {
    await this.limits.guess(organizationId, phone, client);
    const purpose: Purpose = 'sign_in';
    const opened = await this.database.system('sign in with a code', async (tx) => {
      const [found] = await tx.query<[{ code_hash: Buffer }?]>(COUNT_TRY as never, [organizationId, phone, purpose]);
      const guess = this.hashOf(organizationId, phone, purpose, code);
      // Returned, not thrown: a throw would undo the count.
      if (!found || !timingSafeEqual(found.code_hash, guess)) return undefined;
      await tx.query(SPEND as never, [organizationId, phone, purpose]);
      const [identity] = await tx.query<[{ id: string }]>(IDENTIFY as never, [organizationId, uuidv7(), phone]);
      return this.sessions.open(tx, organizationId, { phoneId: identity.id }, client.print);
    });
    if (!opened) throw new Problem('unauthenticated', 'The code is not right, or not good any more.');
    return this.sessions.tokens(opened);
  }

  private async requireOrganization(id: string): Promise<void> {
    const found = await this.database.read(id, (tx) =>
      tx.query<unknown[]>({ name: 'is-organization', text: 'SELECT 1 FROM organization WHERE id = $1' } as never, [id]),
    );
    if (found.length === 0) throw Problem.notFound('organization');
  }

  private async store(organizationId: string, phone: string, purpose: Purpose, code: string): Promise<Date> {
    try {
      return await this.database.transaction(organizationId, async (tx) => {
        const hash = this.hashOf(organizationId, phone, purpose, code);
        const [row] = await tx.query<[{ expires_at: Date }]>(STORE as never, [organizationId, phone, purpose, hash]);
        return row.expires_at;
      });
    } catch (error) {
      if (error instanceof ConstraintViolation && error.kind === 'foreign_key') throw Problem.notFound('organization');
      throw error;
    }
  }

  private hashOf(...what: [organizationId: string, phone: string, purpose: Purpose, code: string]): Buffer {
    return this.secrets.mac('otp', ...what);
  }
}

/** The key allows one row; what was there before is gone with its tries. */
const STORE = {
  name: 'store-code',
  text: `INSERT INTO otp_code (organization_id, phone, purpose, code_hash, expires_at)
         VALUES ($1, $2, $3, $4, clock_timestamp() + ${LIFE})
         ON CONFLICT (organization_id, phone, purpose) DO UPDATE
           SET code_hash = excluded.code_hash, tries = 0, created_at = clock_timestamp(), expires_at = clock_timestamp() + ${LIFE}
         RETURNING expires_at`,
};
const COUNT_TRY = {
  name: 'count-try',
  text: `WITH tried AS (
           UPDATE otp_code SET tries = tries + 1
           WHERE organization_id = $1 AND phone = $2 AND purpose = $3 AND tries < ${MOST_TRIES} AND expires_at > clock_timestamp()
           RETURNING code_hash)
         SELECT code_hash FROM tried`,
};
const SPEND = {
  name: 'spend-code',
  text: 'DELETE FROM otp_code WHERE organization_id = $1 AND phone = $2 AND purpose = $3',
};
const IDENTIFY = {
  name: 'identify-phone',
  text: `INSERT INTO phone_identity AS known (organization_id, id, phone, verified_at) VALUES ($1, $2, $3, now())
         ON CONFLICT (organization_id, phone) DO UPDATE SET verified_at = excluded.verified_at
         RETURNING known.id`,
};
