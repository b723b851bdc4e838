import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { CONFIG, type Config } from './config';
import { Database } from './database';
import { canonical } from './idempotency';
import { showInstant } from './instants';
import { Log } from './logging';

/** One change: who did what to which version of what, when, and in which request. */
export interface AuditEntry {
  /** The place in its organization's log, from 1. */
  seq: number;
  at: Date;
  /** The id of an API key, a user or a patient's phone, or `system`. */
  actor: string;
  action: string;
  entity: string;
  entityId: string;
  /** The version that the change made, of what has versions. */
  version: number | null;
  requestId: string | null;
  /** SHA-256 over the hash of the entry before and this entry as canonical JSON. */
  hash: Buffer;
}

export interface AuditFilter {
  actor?: string;
  action?: string;
  entity?: string;
  entityId?: string;
  /** One of these. */
  entityIds?: readonly string[];
  /** At or after. */
  from?: Date;
  /** Before. */
  to?: Date;
}

/** What is wrong with a log. */
export interface TrailFinding {
  organizationId: string;
  /** The first entry that it shows at; null for the end of the log. */
  seq: number | null;
  detail: string;
}

type Unchained = Omit<AuditEntry, 'seq' | 'hash'> & { organizationId: string };

// Any number that no other program uses for its advisory locks: "trail" in ASCII.
const CHAINING = 0x747261696c;
/** Entries of one transaction. */
const BATCH = 500;
/** A long log takes its time. */
const LONG = { minutes: 60 };
/** Before the first entry of every log. */
const NOTHING = Buffer.alloc(32);

/**
 * The audit trail (see the migration that made it): moves what was written down into the log, each entry chained to the one
 * before. Behind the commit of the changes, so that nobody waits for the chain; by any number of processes, one at a
 * time.
 */
@Injectable()
export class AuditTrail {
  private readonly key: Buffer;

  constructor(
    @Inject(CONFIG) config: Pick<Config, 'secretKey'>,
    private readonly database: Database,
    private readonly log: Log,
  ) {
    this.key = createHmac('sha256', config.secretKey).update('seal of the audit log').digest();
  }

  /** Chains all that is pending. @returns how many entries that were */
  async chain(): Promise<number> {
    for (let total = 0; ;) {
      const chained = await this.chainSome();
      total += chained;
      if (chained < BATCH) return total;
    }
  }

  private chainSome(): Promise<number> {
    return this.database.system('chain the audit trail', async (tx) => {
      // Serialises the processes that chain, from the first entry taken to COMMIT.
      await tx.query('SELECT pg_advisory_xact_lock($1)', [CHAINING]);
      const [entries] = await tx.query<[Unchained[], number]>(TAKE as never, [BATCH]);
      if (entries.length === 0) return 0;
      const byOrganization = Map.groupBy(entries, (entry) => entry.organizationId);
      const ids = [...byOrganization.keys()].sort();
      await tx.query(MAKE_HEADS as never, [ids, NOTHING]);
      const heads = await tx.query<Head[]>(HEADS_OF as never, [ids]);
      for (const head of heads) {
        let [seq, hash] = [Number(head.seq), head.hash];
        const chained = byOrganization
          .get(head.id)!
          .sort((a, b) => a.at.getTime() - b.at.getTime() || (a.version ?? 0) - (b.version ?? 0))
          .map((entry) => {
            seq += 1;
            hash = hashOf(hash, { ...entry, seq });
            return { ...entry, seq, hash: hash.toString('hex') };
          });
        await tx.query(APPEND as never, [JSON.stringify(chained)]);
        await tx.query(MOVE_HEAD as never, [head.id, seq, hash, this.seal(head.id, seq, hash)]);
        // Who keeps logs elsewhere can hold the database against them.
        this.log.debugEvent('audit_log_chained', { organizationId: head.id, seq, hash: hash.toString('hex') });
      }
      return entries.length;
    });
  }

  /** Entries of an organization, the newest first, before one of them. What was committed until now is among them. */
  async list(
    organizationId: string,
    filter: AuditFilter,
    { before, take }: { before?: number; take: number },
  ): Promise<AuditEntry[]> {
    await this.chain();
    return this.database.read(organizationId, async (tx) => {
      const { actor, action, entity, entityId, entityIds, from, to } = filter;
      const ids = entityId === undefined ? entityIds : [entityId];
      const rows = await tx.query<Array<AuditEntry & { seq: string }>>(
        `SELECT ${COLUMNS} FROM audit_log
         WHERE ($1::text IS NULL OR actor = $1) AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR entity = $3)
           AND ($4::uuid[] IS NULL OR entity_id = ANY($4)) AND ($5::timestamptz IS NULL OR at >= $5)
           AND ($6::timestamptz IS NULL OR at < $6) AND ($7::bigint IS NULL OR seq < $7)
         ORDER BY seq DESC LIMIT $8`,
        [actor, action, entity, ids, from, to, before, take].map((each) => each ?? null),
      );
      return rows.map((row) => ({ ...row, seq: Number(row.seq) }));
    });
  }

  /**
   * Recomputes every chain from its first entry, holds its end against the sealed head, and looks for changes of appointments
   * that no entry tells of. Reads one snapshot of each log.
   */
  async verify(): Promise<TrailFinding[]> {
    const heads = await this.database.system('verify the audit trail: heads', (tx) => tx.query<Head[]>(READ_HEADS));
    const findings: TrailFinding[] = await this.headless();
    for (const head of heads) {
      const finding = await this.database.system('verify the audit trail', (tx) => this.verifyOne(tx, head), LONG);
      if (finding) findings.push(finding);
    }
    return [...findings, ...(await this.untold())];
  }

  private async verifyOne(tx: EntityManager, { id, seq, hash, seal }: Head): Promise<TrailFinding | undefined> {
    const finding = (at: number | null, detail: string) => ({ organizationId: id, seq: at, detail });
    let last = 0;
    let previous: Buffer = NOTHING;
    for (;;) {
      const rows = await tx.query<Array<AuditEntry & { seq: string }>>(
        `SELECT ${COLUMNS} FROM audit_log WHERE organization_id = $1 AND seq > $2 ORDER BY seq LIMIT 5000`,
        [id, last],
      );
      for (const row of rows) {
        const entry = { ...row, seq: Number(row.seq), organizationId: id };
        if (entry.seq !== last + 1) return finding(last + 1, 'the entry is missing');
        if (!hashOf(previous, entry).equals(entry.hash)) {
          return finding(entry.seq, 'the entry is not what was chained, or another stands before it');
        }
        [last, previous] = [entry.seq, entry.hash];
        // What came in after the head was read is held against its own head the next time.
        if (last === Number(seq)) break;
      }
      if (rows.length === 0 || last === Number(seq)) break;
    }
    if (last !== Number(seq) || !previous.equals(hash)) {
      return finding(null, `the log ends at entry ${last}, and once ended at ${seq}`);
    }
    if (last > 0 && !timingSafeEqual(seal, this.seal(id, last, previous))) {
      return finding(null, 'the seal of the head is not one of this install: it was replaced, or SECRET_KEY was');
    }
    return undefined;
  }

  private headless(): Promise<TrailFinding[]> {
    return this.database.system('verify the audit trail: logs without a head', async (tx) => {
      const rows = await tx.query<Array<{ id: string }>>(
        `SELECT id FROM organization o WHERE EXISTS (SELECT 1 FROM audit_log l WHERE l.organization_id = o.id)
           AND NOT EXISTS (SELECT 1 FROM audit_head h WHERE h.organization_id = o.id)`,
      );
      return rows.map(({ id }) => ({ organizationId: id, seq: null, detail: 'the head of the log is missing' }));
    });
  }

  /** Versions of appointments that no entry tells of, although the log had begun by then. */
  private untold(): Promise<TrailFinding[]> {
    const look = async (tx: EntityManager) => {
      const rows = await tx.query<Array<{ id: string; appointment: string; version: number }>>(
        `SELECT h.organization_id AS id, h.appointment_id AS appointment, h.version FROM appointment_history h
         WHERE h.at > (SELECT min(at) FROM audit_log l WHERE l.organization_id = h.organization_id)
           AND NOT EXISTS (SELECT 1 FROM audit_log l WHERE l.organization_id = h.organization_id
                             AND l.entity_id = h.appointment_id AND l.version = h.version)
           AND NOT EXISTS (SELECT 1 FROM audit_pending p WHERE p.entity_id = h.appointment_id AND p.version = h.version)
         LIMIT 100`,
      );
      return rows.map(({ id, appointment, version }) => ({
        organizationId: id,
        seq: null,
        detail: `version ${version} of appointment ${appointment} is told of nowhere`,
      }));
    };
    return this.database.system('verify the audit trail: appointments', look, LONG);
  }

  private seal(organizationId: string, seq: number, hash: Buffer): Buffer {
    return createHmac('sha256', this.key).update(`${organizationId}\n${seq}\n`).update(hash).digest();
  }
}

interface Head {
  id: string;
  seq: string;
  hash: Buffer;
  seal: Buffer;
}

function hashOf(previous: Buffer, entry: Omit<AuditEntry, 'hash'> & { organizationId: string }): Buffer {
  const { organizationId, seq, at, actor, action, entity, entityId, version, requestId } = entry;
  const told = { organizationId, seq, at: showInstant(at), actor, action, entity, entityId, version, requestId };
  return createHash('sha256').update(previous).update(canonical(told)).digest();
}

const ENTRY = 'at, actor, action, entity, entity_id AS "entityId", version, request_id AS "requestId"';
const COLUMNS = `seq, ${ENTRY}, hash`;
const TAKE = {
  name: 'audit-take',
  text: `DELETE FROM audit_pending WHERE ctid = ANY(ARRAY(SELECT ctid FROM audit_pending LIMIT $1))
         RETURNING organization_id AS "organizationId", ${ENTRY}`,
};
// An empty log has a head without a seal: there is nothing to be sealed.
const MAKE_HEADS = {
  name: 'audit-make-heads',
  text: `INSERT INTO audit_head (organization_id, seq, hash, seal) SELECT id, 0, $2::bytea, '' FROM unnest($1::uuid[]) AS id
         ORDER BY id ON CONFLICT (organization_id) DO NOTHING`,
};
const HEAD = 'organization_id AS id, seq, hash, seal';
const HEADS_OF = {
  name: 'audit-heads-of',
  text: `SELECT ${HEAD} FROM audit_head WHERE organization_id = ANY($1::uuid[])`,
};
const APPEND = {
  name: 'audit-append',
  text: `INSERT INTO audit_log (organization_id, seq, at, actor, action, entity, entity_id, version, request_id, hash)
         SELECT "organizationId", seq, at, actor, action, entity, "entityId", version, "requestId", decode(hash, 'hex')
         FROM jsonb_to_recordset($1::jsonb) AS e ("organizationId" uuid, seq bigint, at timestamptz, actor text, action text,
           entity text, "entityId" uuid, version integer, "requestId" text, hash text)`,
};
const MOVE_HEAD = {
  name: 'audit-move-head',
  text: 'UPDATE audit_head SET seq = $2, hash = $3, seal = $4 WHERE organization_id = $1',
};
const READ_HEADS = `SELECT ${HEAD} FROM audit_head ORDER BY organization_id`;
