import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Database } from './database';
import { Problem } from './errors';
import { Log } from './logging';
import { Metrics } from './metrics';
import { Reply } from './reply';

/** What of a request decides whether it is a repetition of another. */
export interface IdempotentRequest {
  organizationId: string;
  /** Who asks: the API key or user. One caller never sees another's answer. */
  principalId: string;
  /** The Idempotency-Key, if the caller sent one. */
  idempotencyKey?: string;
  /** Hash of method, path and body, from {@link fingerprintOf}. */
  fingerprint: Buffer;
}

/** For at least this many hours an answer can be replayed. */
export const REPLAY_HOURS = 24;

/**
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is repeated under its key has one effect
 * and gets the first answer again. The stored answer is written in the transaction of its effect, so there is no moment
 * in which one exists without the other; anything but a 2xx rolls back, and the key is free again.
 */
@Injectable()
export class Idempotency {
  constructor(
    private readonly database: Database,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {}

  /**
   * Runs `work` as {@link Database.transaction} does, once per key.
   * @throws Problem `request_in_progress` while the first request runs, `idempotency_key_reused` for another request
   */
  transaction<T>(
    request: IdempotentRequest,
    work: (tx: EntityManager, attempt: number) => Promise<Reply<T>>,
  ): Promise<Reply<T>> {
    const key = request.idempotencyKey;
    if (key === undefined) return this.database.transaction(request.organizationId, work);
    return this.database.transaction(request.organizationId, async (tx, attempt) => {
      // Serialises the requests under one key, over all processes, until COMMIT or ROLLBACK; a crash frees it. A retry of
      // our own waits its turn: the other holder may have been this very request's former try.
      const [, stored] = await Promise.all([this.lock(tx, request, attempt), this.find(tx, request, key)]);
      if (stored) {
        if (!stored.fingerprint.equals(request.fingerprint)) throw new Problem('idempotency_key_reused');
        this.metrics.racesCaught.inc({ race: 'idempotency_key' });
        this.log.event('idempotent_replay', { status: stored.status });
        return new Reply(
          stored.status,
          undefined as T,
          { location: stored.location ?? undefined, etag: stored.etag ?? undefined },
          { text: stored.body, replayed: true },
        );
      }
      const reply = await work(tx, attempt);
      return this.keep(tx, request, key, reply);
    });
  }

  /** Deletes some of the answers that were stored before an instant. @returns how many */
  prune(before: Date, take: number): Promise<number> {
    return this.database.prune('answers that need not be replayed any more', async (tx) => {
      const [, deleted] = await tx.query<[unknown[], number]>(
        `DELETE FROM idempotency_key USING (
           SELECT organization_id, principal, key FROM idempotency_key WHERE created_at < $1 LIMIT $2) old
         WHERE idempotency_key.organization_id = old.organization_id AND idempotency_key.principal = old.principal
           AND idempotency_key.key = old.key AND created_at < $1`,
        [before, take],
      );
      return deleted;
    });
  }

  private async lock(tx: EntityManager, request: IdempotentRequest, attempt: number): Promise<void> {
    const scope = `${request.organizationId}/${request.principalId}/${request.idempotencyKey}`;
    const [row] = await tx.query<[{ free: boolean }]>((attempt > 1 ? WAIT_FOR_KEY : TRY_KEY) as never, [scope]);
    if (!row.free) {
      this.metrics.racesCaught.inc({ race: 'idempotency_key' });
      throw new Problem('request_in_progress', undefined, {}, { 'Retry-After': '1' });
    }
  }

  /** Sent behind the lock without waiting for it; a statement of its own, so it sees what the holder before has committed. */
  private async find(tx: EntityManager, request: IdempotentRequest, key: string) {
    const [row] = await tx.query<
      Array<{
        fingerprint: Buffer;
        status: 200 | 201 | 202;
        body: string;
        location: string | null;
        etag: string | null;
      }>
    >(FIND_REPLY as never, [request.organizationId, request.principalId, key, REPLAY_HOURS]);
    return row;
  }

  private keep<T>(tx: EntityManager, request: IdempotentRequest, key: string, reply: Reply<T>): Reply<T> {
    const text = JSON.stringify(reply.body);
    const { location, etag } = reply.headers;
    const { organizationId, principalId, fingerprint } = request;
    const values = [organizationId, principalId, key, fingerprint, reply.status, text, location ?? null, etag ?? null];
    this.database.lastly(tx, { ...KEEP_REPLY, values });
    return new Reply(reply.status, reply.body, reply.headers, { text, replayed: false });
  }
}

const TRY_KEY = { name: 'try-key', text: 'SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS free' };
const WAIT_FOR_KEY = {
  name: 'wait-for-key',
  text: 'SELECT true AS free FROM pg_advisory_xact_lock(hashtextextended($1, 0))',
};
const FIND_REPLY = {
  name: 'find-reply',
  text: `SELECT fingerprint, status, body, location, etag FROM idempotency_key
         WHERE organization_id = $1 AND principal = $2 AND key = $3 AND created_at > now() - make_interval(hours => $4)`,
};
// The conflict can only be a row too old to be replayed: it gives way.
const KEEP_REPLY = {
  name: 'keep-reply',
  text: `INSERT INTO idempotency_key (organization_id, principal, key, fingerprint, status, body, location, etag)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (organization_id, principal, key) DO UPDATE
           SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body,
               location = excluded.location, etag = excluded.etag, created_at = now()`,
};

/** Hash of a request: its method, path and body, whatever the order of the body's members. */
export function fingerprintOf(method: string, path: string, body: unknown): Buffer {
  return createHash('sha256').update(`${method}\n${path}\n`).update(canonical(body)).digest();
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}
