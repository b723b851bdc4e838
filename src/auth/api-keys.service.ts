import { createHash, randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, IsNull, MoreThan, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import {
  Clock,
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
import { ApiKey, type Role } from './api-key.entity';
import type { Actor, Call } from './call';

/** How long, in milliseconds, a process trusts a key that it has seen: a revoked key dies everywhere within this time. */
const TRUST = 2_000;

/** An API key as it is shown; `key` only in the answer that makes it. */
export interface ApiKeyView {
  id: string;
  name: string;
  role: Role;
  prefix: string;
  createdAt: string;
  revokedAt: string | null;
  key?: string;
}

@Injectable()
export class ApiKeysService {
  private readonly known = new Map<string, { actor: Actor; until: number }>();

  constructor(
    @InjectRepository(ApiKey) private readonly apiKeys: Repository<ApiKey>,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly cursors: Cursors,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** Who holds this key; undefined when nobody does (any more). */
  async authenticate(key: string): Promise<Actor | undefined> {
    if (!/^hf_[A-Za-z0-9_-]{20,100}$/.test(key)) return undefined;
    const hash = hashOf(key);
    const index = hash.toString('base64');
    const known = this.known.get(index);
    if (known && known.until > this.clock.now()) return known.actor;
    const found = await this.database.system('whose API key is this', (tx) =>
      tx.withRepository(this.apiKeys).findOneBy({ keyHash: hash, revokedAt: IsNull() }),
    );
    this.known.delete(index);
    if (!found) return undefined;
    const actor = { organizationId: found.organizationId, principalId: found.id, role: found.role };
    if (this.known.size >= 10_000) this.known.clear();
    this.known.set(index, { actor, until: this.clock.now() + TRUST });
    return actor;
  }

  /** Makes a key within a transaction. The only moment at which the key itself is known. */
  async issue(tx: EntityManager, organizationId: string, name: string, role: Role): Promise<ApiKey & { key: string }> {
    const key = `hf_${randomBytes(32).toString('base64url')}`;
    const row = {
      id: uuidv7(),
      organizationId,
      name,
      role,
      prefix: key.slice(0, 9),
      keyHash: hashOf(key),
      createdAt: this.clock.date(),
      revokedAt: null,
    };
    await tx.withRepository(this.apiKeys).insert(row);
    return { ...row, key };
  }

  /** A new key. A replay of the request answers without the secret, which is stored nowhere. */
  async create(call: Call, name: string, role: Role): Promise<Reply<ApiKeyView>> {
    let secret: string | undefined;
    const reply = await this.idempotency.transaction(call, async (tx) => {
      const issued = await this.issue(tx, call.organizationId, name, role);
      secret = issued.key;
      return Reply.created('/v1/api-keys', show(issued));
    });
    if (reply.stored?.replayed) return reply;
    this.log.event('api_key_created', { apiKeyId: reply.body.id, role });
    return new Reply(reply.status, { ...reply.body, key: secret }, reply.headers);
  }

  list(call: Call, query: ListQuery): Promise<Page<ApiKeyView>> {
    const scope = `api-keys/${call.organizationId}`;
    const after = query.cursor ? this.cursors.read(scope, query.cursor)[0] : undefined;
    const limit = query.limit ?? DEFAULT_PAGE;
    return this.database.read(call.organizationId, async (tx) => {
      const rows = await tx.withRepository(this.apiKeys).find({
        where: { organizationId: call.organizationId, ...(after ? { id: MoreThan(after) } : {}) },
        order: { id: 'ASC' },
        take: limit + 1,
      });
      return this.cursors.page(rows, limit, scope, (row) => [row.id], show);
    });
  }

  get(call: Call, id: string): Promise<ApiKeyView> {
    return this.database.read(call.organizationId, async (tx) => {
      const row = await tx.withRepository(this.apiKeys).findOneBy({ id });
      if (!row) throw Problem.notFound('API key');
      return show(row);
    });
  }

  /** Revokes a key; revoking twice is no mistake. */
  async revoke(call: Call, id: string): Promise<void> {
    await this.database.transaction(call.organizationId, async (tx) => {
      const apiKeys = tx.withRepository(this.apiKeys);
      // The day of the first revocation stays.
      const { affected } = await apiKeys.update({ id, revokedAt: IsNull() }, { revokedAt: this.clock.date() });
      if (affected === 0 && !(await apiKeys.existsBy({ id }))) throw Problem.notFound('API key');
    });
    this.known.clear();
    this.log.event('api_key_revoked', { apiKeyId: id });
  }
}

const hashOf = (key: string): Buffer => createHash('sha256').update(key).digest();

const show = ({ id, name, role, prefix, createdAt, revokedAt }: ApiKey): ApiKeyView => ({
  id,
  name,
  role,
  prefix,
  createdAt: showInstant(createdAt),
  revokedAt: revokedAt && showInstant(revokedAt),
});
