import { statement } from './statement';

/**
 * Makes the row that is locked. Its token is below all others, its lease is over; {@link ACQUIRE} takes it like any other
 * that is over. Were it inserted with a token, one drawn long before could come to stand after a later one.
 */
export const ENSURE = statement(
  'lock-ensure',
  `INSERT INTO distributed_locks (key, owner, fencing_token, expires_at)
   SELECT :key, '', -nextval('distributed_locks_fence'), '-infinity'
   WHERE NOT EXISTS (SELECT FROM distributed_locks WHERE key = :key)
   ON CONFLICT (key) DO NOTHING`,
);

/**
 * Takes a lease that is over by the database's clock. The row is locked first, and a row that somebody is at is passed over:
 * its lease is being taken, renewed or used. So the token is drawn under the lock, and tokens of one key rise.
 */
export const ACQUIRE = statement(
  'lock-acquire',
  `UPDATE distributed_locks SET owner = :owner, fencing_token = nextval('distributed_locks_fence'),
                                expires_at = clock_timestamp() + make_interval(secs => :ttl)
   WHERE key = (SELECT key FROM distributed_locks WHERE key = :key AND expires_at <= clock_timestamp()
                FOR UPDATE SKIP LOCKED)
   RETURNING fencing_token`,
);

/** A lease that is over is not revived, even if nobody has taken it: its holder was told that it is lost. */
export const RENEW = statement(
  'lock-renew',
  `UPDATE distributed_locks SET expires_at = clock_timestamp() + make_interval(secs => :ttl)
   WHERE key = :key AND owner = :owner AND fencing_token = :token AND expires_at > clock_timestamp()`,
);

/** By its owner, and only the acquisition that it knows of. */
export const RELEASE = statement(
  'lock-release',
  `DELETE FROM distributed_locks WHERE key = :key AND owner = :owner AND fencing_token = :token
   RETURNING expires_at > clock_timestamp() AS held`,
);

/**
 * That a lease is held still. The row stays locked until the transaction has ended, so nobody can take the lease between this
 * and COMMIT, however long the process stands still in between; renewals go on.
 */
export const FENCE = statement(
  'lock-fence',
  `SELECT FROM distributed_locks WHERE key = :key AND fencing_token = :token AND expires_at > clock_timestamp()
   FOR KEY SHARE`,
);

/** Leases whose holders have died. */
export const CLEAN_UP = statement(
  'lock-clean-up',
  `DELETE FROM distributed_locks WHERE key IN (
     SELECT key FROM distributed_locks WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT :take
     FOR UPDATE SKIP LOCKED)`,
);
