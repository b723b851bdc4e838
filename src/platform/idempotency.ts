import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { Database } from './database';
import { Problem } from './errors';
import { Log } from './logging';
import { Metrics } from './metrics';
import { Reply } from './reply';
import { type Statement, statement } from './statement';

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
   * @param ahead reads by single statements what `work` needs first; they travel with the look for the key
   * @throws Problem `request_in_progress` while the first request runs, `idempotency_key_reused` for another request
   */
  transaction<T, Read = undefined>(
    request: IdempotentRequest,
    work: (tx: EntityManager, attempt: number, read: Read) => Promise<Reply<T>>,
    ahead?: (tx: EntityManager) => Promise<Read>,
  ): Promise<Reply<T>> {
    const key = request.idempotencyKey;
    return this.database.transaction(
      request.organizationId,
      async (tx, attempt) => {
        const found = key === undefined ? undefined : this.find(tx, request, key);
        const read = ahead?.(tx);
        // What it fails of is told after what the key says.
        read?.catch(() => undefined);
        const stored = await found;
        if (stored) return this.replay(request, stored);
        const reply = await work(tx, attempt, (await read) as Read);
        return key === undefined ? reply : this.keep(tx, request, key, reply);
      },
      lockOf(request),
    );
  }

  /**
   * Runs one statement as a transaction of its own ({@link Database.single}) that asks for {@link KEY_IS_NEW} and does nothing
   * without it, and keeps its answer itself ({@link KEEP_ANSWER}).
   */
  single<Row>(request: IdempotentRequest, statement: Statement): Promise<Row[]> {
    return this.database.single(request.organizationId, statement, lockOf(request));
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

  /**
   * Changes the bodies of stored answers that mention an id, within a transaction of their organization; `change` gives another
   * body. They are still replayed: a repetition has no second effect. Reads all answers of the organization, as there is no
   * index of what they mention; they are those of two days.
   */
  async rewrite(tx: EntityManager, id: string, change: (body: unknown) => unknown): Promise<void> {
    const stored = await tx.query<Array<{ principal: string; key: string; body: string }>>(
      `SELECT principal, key, body FROM idempotency_key WHERE strpos(body, $1) > 0 ORDER BY principal, key FOR NO KEY UPDATE`,
      [id],
    );
    for (const { principal, key, body } of stored) {
      await tx.query('UPDATE idempotency_key SET body = $3 WHERE principal = $1 AND key = $2', [
        principal,
        key,
        JSON.stringify(change(JSON.parse(body))),
      ]);
    }
  }

  private async find(tx: EntityManager, { organizationId, principalId }: IdempotentRequest, key: string) {
    const [row] = await tx.query<[{ free: boolean } & Partial<StoredReply>]>(
      FIND_REPLY({ organizationId, principalId, key }) as never,
    );
    if (!row.free) {
      this.metrics.racesCaught.inc({ race: 'idempotency_key' });
      throw new Problem('request_in_progress', undefined, {}, { 'Retry-After': '1' });
    }
    return row.fingerprint === null ? undefined : (row as StoredReply);
  }

  private replay<T>(request: IdempotentRequest, stored: StoredReply): Reply<T> {
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

  private keep<T>(tx: EntityManager, request: IdempotentRequest, key: string, reply: Reply<T>): Reply<T> {
    const text = reply.stored?.text ?? JSON.stringify(reply.body);
    const { organizationId, principalId, fingerprint } = request;
    const { location = null, etag = null } = reply.headers;
    this.database.lastly(
      tx,
      KEEP_REPLY({ organizationId, principalId, key, fingerprint, status: reply.status, body: text, location, etag }),
    );
    return new Reply(reply.status, reply.body, reply.headers, { text, replayed: false });
  }
}

interface StoredReply {
  fingerprint: Buffer;
  status: 200 | 201 | 202;
  body: string;
  location: string | null;
  etag: string | null;
}

const STORED = `organization_id = :organizationId::uuid AND principal = :principalId::uuid AND key = :key::text
  AND created_at > now() - interval '${REPLAY_HOURS} hours'`;

/**
 * That nobody has used a request's key before and nobody is using it now: a condition for a statement that acts without having
 * looked. Its parameters are `organizationId`, `principalId` and `key`, which is null without one.
 */
export const KEY_IS_NEW = `(:key::text IS NULL OR (current_setting('holdfast.key_is_free', true) = 'true'
  AND NOT EXISTS (SELECT FROM idempotency_key WHERE ${STORED})))`;

const FIND_REPLY = statement(
  'find-reply',
  `SELECT current_setting('holdfast.key_is_free', true) = 'true' AS free, fingerprint, status, body, location, etag
   FROM (SELECT) AS always LEFT JOIN idempotency_key ON ${STORED}`,
);
/** Stores an answer under its key. The conflict can only be a row too old to be replayed: it gives way. */
const keep = (answer: string) => `
  INSERT INTO idempotency_key (organization_id, principal, key, fingerprint, status, body, location, etag)
  ${answer}
  ON CONFLICT (organization_id, principal, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = excluded.status, body = excluded.body,
        location = excluded.location, etag = excluded.etag, created_at = now()`;
const KEEP_REPLY = statement(
  'keep-reply',
  keep('VALUES (:organizationId, :principalId, :key, :fingerprint, :status, :body, :location, :etag)'),
);

/**
 * A CTE for a statement that asks for {@link KEY_IS_NEW}: keeps what `answer (reply)` says, as the body of a 201 at `:location`,
 * version 1. Its parameters are those of {@link asking}, and `location`.
 */
export const KEEP_ANSWER = `
  kept AS (${keep(`
    SELECT :organizationId::uuid, :principalId::uuid, :key::text, :fingerprint::bytea, 201, reply, :location::text, '"1"'
    FROM answer WHERE :key::text IS NOT NULL`)}
  )`;

/** The values of the parameters of {@link KEY_IS_NEW} and {@link KEEP_ANSWER}; without a request there is no key to be asked for. */
export const asking = (request?: IdempotentRequest) => ({
  principalId: request?.principalId ?? null,
  key: request?.idempotencyKey ?? null,
  fingerprint: request?.fingerprint ?? null,
});

/** What serialises the requests under one key, over all processes, until COMMIT or ROLLBACK; a crash frees it. */
const lockOf = ({ organizationId, principalId, idempotencyKey: key }: IdempotentRequest): string | undefined =>
  key === undefined ? undefined : `${organizationId}/${principalId}/${key}`;

/** Hash of a request: its method, path and body, whatever the order of the body's members. */
export function fingerprintOf(method: string, path: string, body: unknown): Buffer {
  return createHash('sha256').update(`${method}\n${path}\n`).update(canonical(body)).digest();
}

/** JSON with the members of objects in the order of their names, and no blanks. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}
