import { Injectable } from '@nestjs/common';
import { Database, Log } from '../platform';

/** Rows of one transaction. */
const BATCH = 1_000;

/** What ends by time, each with an index by it. A session that has ended is kept a day, so that its tokens are known as spent. */
const ENDED = {
  otp_code: `expires_at < now()`,
  password_reset: `expires_at < now()`,
  auth_session: `expires_at < now() - interval '1 day'`,
} as const;

/** Deletes codes, tokens and sessions whose time is over. Whoever uses one just now has it locked, and it is left out. */
@Injectable()
export class IdentityCleanUp {
  constructor(
    private readonly database: Database,
    private readonly log: Log,
  ) {}

  /** Safe to run twice, at once and late. @returns how many rows of each table are gone */
  async run(): Promise<Record<string, number>> {
    const gone: Record<string, number> = {};
    for (const [table, over] of Object.entries(ENDED)) {
      gone[table] = 0;
      for (let last = BATCH; last === BATCH; gone[table] += last) {
        last = await this.database.system('what of identities is over', async (tx) => {
          const [, deleted] = await tx.query<[unknown[], number]>(
            `DELETE FROM ${table} WHERE ctid = ANY(ARRAY(
               SELECT ctid FROM ${table} WHERE ${over} ORDER BY expires_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED))`,
          );
          return deleted;
        });
      }
    }
    this.log.event('identities_cleaned', gone);
    return gone;
  }
}
