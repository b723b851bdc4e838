import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
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
  parseInstant,
  Problem,
  Reply,
  showInstant,
} from '../platform';
import { ApiKey } from './api-key.entity';
import type { Actor, Call, Scope } from './call';
import { type Permission, permissionsOf, type StaffRole } from './permissions';
import { requirePlaces } from './places';

/** How long, in milliseconds, a process trusts a key that it has seen: a revoked key dies everywhere within this time. */
const TRUST = 2_000;

/** How often a process writes down which keys were used, in milliseconds. */
const NOTE_EVERY = 60_000;

/** For how long, in seconds, a key lives on beside the one that took its place, unless told. */
export const OVERLAP = { unlessTold: 86_400, longest: 2_592_000 };

/** What a key is to be. */
export interface NewApiKey {
  name: string;
  role?: StaffRole;
  permissions?: Permission[] | null;
  practitionerId?: string | null;
  locationIds?: string[] | null;
  expiresAt?: string | null;
}

/** An API key as it is shown; `key` only in the answer that makes it. */
export interface ApiKeyView {
  id: string;
  name: string;
  role: StaffRole;
  permissions: string[] | null;
  practitionerId: string | null;
  locationIds: string[] | null;
  prefix: string;
  createdAt: string;
  expiresAt: string | null;
  rotatedAt: string | null;
  lastUsedAt: string | null;
  revokedAt: string | null;
  key?: string;
}

type Limits = Pick<ApiKey, 'permissions' | 'practitionerId' | 'locationIds' | 'expiresAt'>;

const UNLIMITED: Limits = { permissions: null, practitionerId: null, locationIds: null, expiresAt: null };

/** A key's public part, by which it is found, and its secret: six and 32 random bytes. */
const FORM = /^(hf_[A-Za-z0-9_-]{8})[A-Za-z0-9_-]{43}$/;
/** The form of earlier releases, without a public part: found by its hash. */
const EARLIER_FORM = /^hf_[A-Za-z0-9_-]{43}$/;

@Injectable()
export class ApiKeysService implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly known = new Map<string, { actor: Actor; until: number }>();
  /** Keys that were used and when, until that is written down. */
  private used = new Map<string, { organizationId: string; at: Date }>();
  private timer?: NodeJS.Timeout;

  constructor(
    @InjectRepository(ApiKey) private readonly apiKeys: Repository<ApiKey>,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly cursors: Cursors,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.noteUses(), NOTE_EVERY).unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.noteUses();
  }

  /** Who holds this key; undefined when nobody does (any more). */
  async authenticate(key: string): Promise<Actor | undefined> {
    const prefix = FORM.exec(key)?.[1];
    if (prefix === undefined && !EARLIER_FORM.test(key)) return undefined;
    const hash = hashOf(key);
    const index = hash.toString('base64');
    const known = this.known.get(index);
    if (known && known.until > this.clock.now()) return known.actor;
    const found = await this.database.system('whose API key is this', async (tx) => {
      const [row] = await tx.query<[Found?]>((prefix === undefined ? BY_HASH : BY_PREFIX) as never, [prefix ?? hash]);
      return row && timingSafeEqual(row.keyHash, hash) ? row : undefined;
    });
    this.known.delete(index);
    const now = this.clock.now();
    if (!found || (found.expiresAt && found.expiresAt.getTime() <= now)) return undefined;
    const actor: Actor = {
      organizationId: found.organizationId,
      principalId: found.id,
      role: found.role,
      permissions: mayDo(found),
      ...scopeOf(found),
    };
    if (this.known.size >= 10_000) this.known.clear();
    this.known.set(index, { actor, until: Math.min(now + TRUST, found.expiresAt?.getTime() ?? Infinity) });
    // Seen here, every two seconds of use, and not with every request: to the minute is as exact as it is told.
    this.used.set(found.id, { organizationId: found.organizationId, at: this.clock.date() });
    return actor;
  }

  /** Makes a key within a transaction. The only moment at which the key itself is known. */
  async issue(
    tx: EntityManager,
    organizationId: string,
    name: string,
    role: StaffRole,
    { madeBy = null, ...limits }: Limits & { madeBy?: string | null } = UNLIMITED,
  ): Promise<ApiKey & { key: string }> {
    const prefix = `hf_${randomBytes(6).toString('base64url')}`;
    const key = `${prefix}${randomBytes(32).toString('base64url')}`;
    const row = {
      id: uuidv7(),
      organizationId,
      name,
      role,
      prefix,
      keyHash: hashOf(key),
      createdAt: this.clock.date(),
      revokedAt: null,
      rotatedAt: null,
      lastUsedAt: null,
      madeBy,
      ...limits,
    };
    await tx.withRepository(this.apiKeys).insert(row);
    return { ...row, key };
  }

  /** A new key. A replay of the request answers without the secret, which is stored nowhere. */
  async create(call: Call, body: NewApiKey): Promise<Reply<ApiKeyView>> {
    const { name, role = 'administrator', practitionerId = null, locationIds = null } = body;
    const permissions = body.permissions ?? null;
    const expiresAt = body.expiresAt ? new Date(parseInstant(body.expiresAt)!) : null;
    const beyond = permissions?.find((each) => !permissionsOf(role).has(each));
    if (beyond !== undefined)
      throw Problem.invalid({ pointer: '/permissions', detail: `the role ${role} does not have ${beyond}` });
    if (practitionerId && role !== 'practitioner')
      throw Problem.invalid({ pointer: '/practitionerId', detail: 'is for the role practitioner' });
    if (locationIds && role !== 'receptionist')
      throw Problem.invalid({ pointer: '/locationIds', detail: 'is for the role receptionist' });
    if (expiresAt && expiresAt <= this.clock.date())
      throw Problem.invalid({ pointer: '/expiresAt', detail: 'must lie ahead' });
    requireOwned(call, mayDo({ role, permissions, locationIds }));
    const limits = { permissions, practitionerId, locationIds, expiresAt };
    return this.shownOnce(call, async (tx) => {
      await requirePlaces(tx, call.organizationId, limits);
      return this.issue(tx, call.organizationId, name, role, { ...limits, madeBy: call.principalId });
    });
  }

  /**
   * A key in the place of another, with the same name, role and limits. The old one lives on for `overlapSeconds`, so that
   * there is time to hand out the new one.
   */
  rotate(call: Call, id: string, overlapSeconds: number): Promise<Reply<ApiKeyView>> {
    return this.shownOnce(call, async (tx) => {
      const apiKeys = tx.withRepository(this.apiKeys);
      // Serialises rotations of one key: it gets one successor.
      const old = await apiKeys.findOne({ where: { id }, lock: { mode: 'for_no_key_update' } });
      if (!old) throw Problem.notFound('API key');
      const now = this.clock.now();
      if (old.revokedAt || old.rotatedAt || (old.expiresAt && old.expiresAt.getTime() <= now))
        throw new Problem('invalid_transition', 'This key is over, or another has taken its place.');
      requireOwned(call, mayDo(old));
      const ends = new Date(Math.min(now + overlapSeconds * 1000, old.expiresAt?.getTime() ?? Infinity));
      await apiKeys.update({ id }, { expiresAt: ends, rotatedAt: new Date(now) });
      const { permissions, practitionerId, locationIds } = old;
      // What was made for a time lives as long again.
      const expiresAt = old.expiresAt && new Date(now + old.expiresAt.getTime() - old.createdAt.getTime());
      const limits = { permissions, practitionerId, locationIds, expiresAt, madeBy: call.principalId };
      return this.issue(tx, call.organizationId, old.name, old.role, limits);
    });
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
    this.forget();
    this.log.event('api_key_revoked', { apiKeyId: id });
  }

  /** Ends the keys that a user made, with his membership. */
  async revokeMadeBy(tx: EntityManager, organizationId: string, userId: string): Promise<void> {
    const where = { organizationId, madeBy: userId, revokedAt: IsNull() };
    await tx.withRepository(this.apiKeys).update(where, { revokedAt: this.clock.date() });
  }

  /** What was revoked is not trusted any more, in this process at once. */
  forget(): void {
    this.known.clear();
  }

  /** Writes down which keys were used since the last time. What is lost when a process dies is a minute of it. */
  async noteUses(): Promise<void> {
    const used = [...this.used];
    this.used = new Map();
    if (used.length === 0) return;
    const values = [
      used.map(([, { organizationId }]) => organizationId),
      used.map(([id]) => id),
      used.map(([, { at }]) => at),
    ];
    try {
      await this.database.system('which API keys were used', (tx) => tx.query(NOTE_USES, values));
    } catch (error) {
      this.log.failure('api_key_uses_not_noted', error);
    }
  }

  /** Answers with the key itself, which the answer that is kept for a replay does not have. */
  private async shownOnce(
    call: Call,
    make: (tx: EntityManager) => Promise<ApiKey & { key: string }>,
  ): Promise<Reply<ApiKeyView>> {
    let secret: string | undefined;
    const reply = await this.idempotency.transaction(call, async (tx) => {
      const issued = await make(tx);
      secret = issued.key;
      return Reply.created('/v1/api-keys', show(issued));
    });
    if (reply.stored?.replayed) return reply;
    this.forget();
    this.log.event('api_key_created', { apiKeyId: reply.body.id, role: reply.body.role });
    return new Reply(reply.status, { ...reply.body, key: secret }, reply.headers);
  }
}

/** Nobody gives away what he does not have himself. */
export function requireOwned(call: Call, wanted: ReadonlySet<Permission>): void {
  const beyond = [...wanted].filter((each) => !call.permissions.has(each));
  if (beyond.length > 0) throw new Problem('forbidden', `You cannot give what you do not have: ${beyond.join(', ')}.`);
}

const mayDo = ({ role, permissions, locationIds }: Pick<ApiKey, 'role' | 'permissions' | 'locationIds'>) =>
  permissionsOf(role, { some: permissions, branches: locationIds !== null });

const scopeOf = ({ practitionerId, locationIds }: Pick<ApiKey, 'practitionerId' | 'locationIds'>): Scope => ({
  ...(practitionerId !== null && { practitionerId }),
  ...(locationIds !== null && { locationIds }),
});

const hashOf = (key: string): Buffer => createHash('sha256').update(key).digest();

type Found = Pick<
  ApiKey,
  'organizationId' | 'id' | 'role' | 'keyHash' | 'permissions' | 'practitionerId' | 'locationIds' | 'expiresAt'
>;

const FOUND = `SELECT organization_id AS "organizationId", id, role, key_hash AS "keyHash", permissions,
  practitioner_id AS "practitionerId", location_ids AS "locationIds", expires_at AS "expiresAt"
  FROM api_key WHERE revoked_at IS NULL`;
const BY_HASH = { name: 'api-key-by-hash', text: `${FOUND} AND key_hash = $1` };
const BY_PREFIX = { name: 'api-key-by-prefix', text: `${FOUND} AND prefix = $1 AND length(prefix) = 11` };
const NOTE_USES = `
  UPDATE api_key k SET last_used_at = greatest(k.last_used_at, used.at)
  FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS used (organization_id, id, at)
  WHERE k.organization_id = used.organization_id AND k.id = used.id`;

const show = (row: ApiKey): ApiKeyView => ({
  id: row.id,
  name: row.name,
  role: row.role,
  permissions: row.permissions,
  practitionerId: row.practitionerId,
  locationIds: row.locationIds,
  prefix: row.prefix,
  createdAt: showInstant(row.createdAt),
  expiresAt: row.expiresAt && showInstant(row.expiresAt),
  rotatedAt: row.rotatedAt && showInstant(row.rotatedAt),
  lastUsedAt: row.lastUsedAt && showInstant(row.lastUsedAt),
  revokedAt: row.revokedAt && showInstant(row.revokedAt),
});
