import { Client, type QueryResult } from 'pg';
import type { Statements } from './statements';

/** How a row is locked, the weakest first, as PostgreSQL calls it; `new`: not there before this transaction. */
export type Mode = 'key share' | 'share' | 'no key update' | 'update' | 'new';

/** What somebody may wait for: a row, the making of a row, or an advisory lock. */
export interface Lock {
  kind: string;
  /** Kind and key. */
  name: string;
  mode: Mode;
  /** The names of those locks under which alone this one is taken; none for a kind that has its own place in the order. */
  within: string[];
}

/** A statement that took locks: those that its transaction did not have before, or had weaker. */
export interface Step {
  text: string;
  /** The how manieth statement of this text the operation ran. */
  nth: number;
  took: Lock[];
  rows: unknown[];
}

/** One operation: the transactions it ran, with the statements that locked something. */
export interface Recording {
  operation: string;
  transactions: Step[][];
}

interface Table {
  /** The key, in SQL over row `t`. */
  key: string;
  /** The lock under which alone rows of this table are changed, in SQL over row `t`, as an array of names. */
  within?: string;
  /** What others who make the same row wait for, where they may make the same one: kind and key in SQL over row `t`. */
  made?: { kind: string; key: string };
  /** Closed to the role that serves an organization, which can neither make such rows nor look for them. */
  ofTheInstall?: boolean;
}

/** The days of a session: those of its claim. */
const DAYS_OF = (session: string): string =>
  `ARRAY(SELECT 'schedule_day/' || d.schedule_id || '/' || d.day FROM claim c JOIN schedule_day d ON d.schedule_id = c.schedule_id
           AND d.covers && c.during WHERE c.holder = ${session})`;

/**
 * Every table of the clinic, those that others refer to first. What stands `within` needs no place in the global order: who
 * changes it has the lock named here before, and so never waits for it.
 */
export const TABLES: Record<string, Table> = {
  organization: { key: 't.id' },
  api_key: { key: 't.id' },
  location: { key: 't.id' },
  schedule: { key: 't.id' },
  schedule_hours: { key: 't.id', within: `ARRAY['schedule/' || t.schedule_id]` },
  schedule_exception: { key: 't.id', within: `ARRAY['schedule/' || t.schedule_id]` },
  published_slot: { key: 't.id', within: `ARRAY['schedule/' || t.schedule_id]` },
  schedule_day: {
    key: `t.schedule_id || '/' || t.day`,
    made: { kind: 'new schedule_day', key: `t.schedule_id || '/' || t.day` },
  },
  claim: {
    key: `t.schedule_id || '/' || extract(epoch FROM t.starts_at)::bigint || '/' || t.seat`,
    within: `ARRAY(SELECT 'schedule_day/' || d.schedule_id || '/' || d.day FROM schedule_day d
                   WHERE d.schedule_id = t.schedule_id AND d.covers && t.during)`,
  },
  practitioner: { key: 't.id' },
  room: { key: 't.id' },
  service: { key: 't.id' },
  service_practitioner: {
    key: `t.service_id || '/' || t.practitioner_id`,
    within: `ARRAY['service/' || t.service_id]`,
  },
  service_segment: { key: `t.service_id || '/' || t.position`, within: `ARRAY['service/' || t.service_id]` },
  service_segment_resource: { key: 't.id', within: `ARRAY['service/' || t.service_id]` },
  group_session: { key: 't.id', within: DAYS_OF('t.id') },
  attendance: { key: `t.session_id || '/' || t.seat`, within: DAYS_OF('t.session_id') },
  patient: { key: 't.id', made: { kind: 'new patient', key: 'coalesce(t.phone, t.id::text)' } },
  appointment: { key: 't.id' },
  appointment_segment: {
    key: `t.appointment_id || '/' || t.position`,
    within: `ARRAY['appointment/' || t.appointment_id]`,
  },
  appointment_history: {
    key: `t.appointment_id || '/' || t.version`,
    within: `ARRAY['appointment/' || t.appointment_id]`,
  },
  invitation: { key: 't.id' },
  user_account: { key: 't.id', ofTheInstall: true },
  membership: { key: `t.organization_id || '/' || t.user_id` },
  otp_code: { key: `t.phone || '/' || t.purpose` },
  phone_identity: { key: 't.id' },
  password_reset: { key: 't.user_id', ofTheInstall: true },
  auth_session: { key: 't.id', ofTheInstall: true },
  signing_key: { key: 't.id', ofTheInstall: true },
  outbox_event: { key: 't.id' },
  // Without a key, and of nobody but who made it.
  audit_pending: { key: `t.xmin || '/' || t.ctid` },
  audit_log: { key: `t.organization_id || '/' || t.seq` },
  audit_head: { key: 't.organization_id' },
  rate_limit: { key: 't.key', ofTheInstall: true },
  rate_limit_hit: { key: `t.key || '/' || t.number`, ofTheInstall: true },
  distributed_locks: { key: 't.key', ofTheInstall: true },
  idempotency_key: {
    key: `t.principal || '/' || t.key`,
    within: `ARRAY['key/' || hashtextextended(t.organization_id || '/' || t.principal || '/' || t.key, 0)]`,
  },
};

/** The global order. A kind that is not here, nor within another, is unknown, and so is its place. */
const ORDER = [
  'key',
  'service',
  'patient',
  'new patient',
  'practitioner',
  'room',
  'appointment',
  'schedule',
  // Only who makes the same row waits for a row that is not committed yet; everybody makes days before locking any.
  'new schedule_day',
  'schedule_day',
  'location',
  'organization',
  'api_key',
  'otp_code',
  'phone_identity',
  'invitation',
  'user_account',
  'membership',
  'password_reset',
  'auth_session',
  'signing_key',
];

const STRENGTHS: Mode[] = ['key share', 'share', 'no key update', 'update'];

/** PostgreSQL's table of conflicting row locks. Who makes a row waits for whoever makes the same one. */
const CONFLICTS: Record<Mode, Mode[]> = {
  'key share': ['update'],
  share: ['no key update', 'update'],
  'no key update': ['share', 'no key update', 'update'],
  update: ['key share', 'share', 'no key update', 'update'],
  new: ['new'],
};

export const conflict = (a: Lock, b: Lock): boolean => a.name === b.name && CONFLICTS[a.mode].includes(b.mode);

/** Statements that take what is free and wait for nothing. */
const NEVER_WAITS = /SKIP LOCKED|NOWAIT|pg_try_advisory/;

/**
 * Sees which rows transactions of the application have locked, and how: after every statement it tries each row from aside,
 * in each of the four strengths. So nothing depends on what a statement looks like, and the locks that foreign keys take
 * are seen, too. Nobody else may use the database meanwhile.
 */
export class LockRecorder {
  private constructor(
    private readonly statements: Statements,
    private readonly aside: Client,
  ) {}

  /** `aside`: a connection past row-level security. @throws Error for a table of the database that {@link TABLES} does not know */
  static async open(statements: Statements, aside: Client): Promise<LockRecorder> {
    const { rows } = await aside.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
         AND relname <> 'migrations'`,
    );
    const unknown = rows.filter(({ name }) => !(name in TABLES)).map(({ name }) => name);
    if (unknown.length > 0) throw new Error(`What do locks on these tables stand after? ${unknown.join(', ')}`);
    return new LockRecorder(statements, aside);
  }

  async record(operation: string, run: () => Promise<unknown>): Promise<Recording> {
    const transactions: Step[][] = [];
    const open = new Map<Client, { held: Map<string, Lock>; steps: Step[]; reads?: boolean }>();
    const times = new Map<string, number>();
    this.statements.after = async ({ client, text, result }) => {
      const nth = (times.get(text) ?? 0) + 1;
      times.set(text, nth);
      if (text.startsWith('START TRANSACTION')) open.set(client, { held: new Map(), steps: [] });
      const transaction = open.get(client);
      if (!transaction) return;
      if (text === 'COMMIT' || text === 'ROLLBACK') {
        open.delete(client);
        if (transaction.steps.length > 0) transactions.push(transaction.steps);
        return;
      }
      transaction.reads ??= text.includes('READ ONLY');
      if (transaction.reads) return;
      const took = (await this.locks(client, text)).filter((lock) => {
        const before = transaction.held.get(lock.name);
        return !before || STRENGTHS.indexOf(before.mode) < STRENGTHS.indexOf(lock.mode);
      });
      for (const lock of took) transaction.held.set(lock.name, lock);
      if (took.length > 0) transaction.steps.push({ text, nth, took, rows: rowsOf(result) });
    };
    try {
      await run();
    } finally {
      this.statements.after = undefined;
    }
    if (open.size > 0) throw new Error(`${operation} left a transaction open.`);
    return { operation, transactions };
  }

  /** All locks that the transaction on a connection has now. */
  private async locks(client: Client, text: string): Promise<Lock[]> {
    const pid: number = Reflect.get(client, 'processID');
    const { rows } = await this.aside.query<Lock & { rowsOf: string | null }>(HELD, [pid]);
    const locks = new Map(rows.filter((row) => row.rowsOf === null).map(({ rowsOf: _, ...lock }) => [lock.name, lock]));
    for (const { rowsOf: table } of rows) {
      if (table === null) continue;
      const locked = await this.aside.query<Lock>({ name: `locked ${table}`, text: lockedRows(table) });
      for (const lock of locked.rows) locks.set(lock.name, lock);
    }
    // Only the app's own role makes or changes anything, and it may read all tables.
    if (/^(?!\s*SELECT\b).*\b(?:INSERT INTO|SET)\b/is.test(text)) {
      const made = await this.statements.ask<Lock>(client, MADE);
      const known = await this.aside.query<{ name: string }>(KNOWN, [made.map((row) => row.name)]);
      const before = new Set(known.rows.map((row) => row.name));
      for (const row of made) if (!before.has(row.name)) locks.set(row.name, row);
    }
    return [...locks.values()];
  }
}

const rowsOf = (result: QueryResult | QueryResult[]): unknown[] =>
  Array.isArray(result) ? result.flatMap((each) => each.rows) : result.rows;

const tables = Object.entries(TABLES);
const lockOf = (table: string, { key, within }: Table): string =>
  `'${table}' AS kind, '${table}/' || ${key} AS name, ${within ?? `'{}'::text[]`} AS within`;
const makingOf = (table: string, { key, within, made }: Table): string =>
  `${made ? `'${made.kind}'` : `'new ${table}'`} AS kind, ${made ? `'${made.kind}/' || ${made.key}` : `'new ${table}/' || ${key}`} AS name,
   ${within ?? `'{}'::text[]`} AS within`;

/** The rows that are locked right now, tried in each strength: only FOR UPDATE keeps out even FOR KEY SHARE. */
const lockedRows = (table: string): string => {
  const free = (strength: string) => `AS MATERIALIZED (SELECT ctid AS at FROM ${table} FOR ${strength} SKIP LOCKED)`;
  return `
    WITH u ${free('UPDATE')}, n ${free('NO KEY UPDATE')}, s ${free('SHARE')}, k ${free('KEY SHARE')}
    SELECT ${lockOf(table, TABLES[table]!)},
           CASE WHEN k.at IS NULL THEN 'update' WHEN s.at IS NULL THEN 'no key update' WHEN n.at IS NULL THEN 'share'
                ELSE 'key share' END AS mode
    FROM ${table} t LEFT JOIN u ON u.at = t.ctid LEFT JOIN n ON n.at = t.ctid LEFT JOIN s ON s.at = t.ctid
      LEFT JOIN k ON k.at = t.ctid
    WHERE u.at IS NULL`;
};

/**
 * The advisory locks of a backend, and the tables on whose rows it may have locks, for that locks the table a little, too.
 * A lock on one number is an Idempotency-Key; one on two numbers is the mark of a transaction that may change something.
 */
const HELD = `
  SELECT CASE objsubid WHEN 1 THEN 'key' ELSE 'mark' END AS kind, '{}'::text[] AS within,
         CASE objsubid WHEN 1 THEN 'key/' ELSE 'mark/' END || ((classid::bigint << 32) | objid::bigint) AS name,
         CASE mode WHEN 'ExclusiveLock' THEN 'update' ELSE 'share' END AS mode, NULL AS "rowsOf"
  FROM pg_locks WHERE locktype = 'advisory' AND pid = $1 AND granted
  UNION ALL
  SELECT DISTINCT NULL, NULL::text[], NULL, NULL, c.relname
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
  WHERE l.pid = $1 AND l.mode IN ('RowShareLock', 'RowExclusiveLock') AND c.relkind = 'r'
    AND c.relnamespace = 'public'::regnamespace`;

/** The rows of this very transaction: made by it, or versions of others that it has changed. */
const MADE = tables
  .filter(([, { ofTheInstall }]) => !ofTheInstall)
  .map(
    ([table, spec]) =>
      `SELECT ${makingOf(table, spec)}, 'new' AS mode FROM ${table} t WHERE t.xmin = pg_current_xact_id_if_assigned()::xid`,
  )
  .join(' UNION ALL ');

const KNOWN = `SELECT name FROM (${tables.map(([table, spec]) => `SELECT ${makingOf(table, spec)} FROM ${table} t`).join(' UNION ALL ')}) known
  WHERE name = ANY($1)`;

/** Something about the order of locks that could make two operations wait for each other. */
export interface Offence {
  operation: string;
  what: string;
}

/**
 * Holds recordings against the global order. Only a lock that somebody could have to wait for counts: one that conflicts
 * with some lock of its kind that any of the recordings takes. Who waits must hold nothing that stands later in the order.
 */
export function offencesOf(recordings: readonly Recording[], nameOf: (name: string) => string): Offence[] {
  const modes = modesOf(recordings);
  const offences = recordings.flatMap(({ operation, transactions }) =>
    transactions.flatMap((steps) => check(steps, modes, nameOf).map((what) => ({ operation, what }))),
  );
  return [...new Map(offences.map((each) => [`${each.operation}: ${each.what}`, each])).values()];
}

/** How rows of each kind are locked by whomever. */
export function modesOf(recordings: readonly Recording[]): Map<string, Set<Mode>> {
  const modes = new Map<string, Set<Mode>>();
  for (const { took } of recordings.flatMap((each) => each.transactions.flat()))
    for (const { kind, mode } of took) modes.set(kind, (modes.get(kind) ?? new Set()).add(mode));
  return modes;
}

/** Statements that lock rows of several kinds in an order, because each part of them asks for the one before. */
const CHAINS = [
  {
    text: /known AS .*FROM service .*FOR KEY SHARE OF s\b.*person AS .*FROM patient WHERE EXISTS \(SELECT FROM known\).*FOR KEY SHARE.*day AS \(\s*UPDATE schedule_day\b.*AND EXISTS \(SELECT FROM person\)/s,
    kinds: ['service', 'patient'],
  },
];

function check(steps: readonly Step[], modes: Map<string, Set<Mode>>, nameOf: (name: string) => string): string[] {
  const held = new Map<string, Lock>();
  const found: string[] = [];
  const say = (lock: Lock) => `${nameOf(lock.name)} (${lock.mode})`;
  // Foreign keys look at what they refer to when the statement's own rows are done: as a step of its own.
  const parts = steps.flatMap((step) => {
    const chain = CHAINS.find(({ text }) => text.test(step.text))?.kinds ?? [];
    const asked = ({ kind, mode }: Lock) => mode === 'key share' && chain.includes(kind);
    return [
      ...chain.map((kind) => (lock: Lock) => asked(lock) && lock.kind === kind),
      (lock: Lock) => lock.mode !== 'key share',
      (lock: Lock) => lock.mode === 'key share' && !asked(lock),
    ].map((of) => ({ ...step, took: step.took.filter(of) }));
  });
  for (const step of parts) {
    const { took } = step;
    const waited: Lock[] = [];
    for (const lock of took) {
      const before = held.get(lock.name);
      const waits =
        CONFLICTS[lock.mode].some((mode) => modes.get(lock.kind)?.has(mode)) && !NEVER_WAITS.test(step.text);
      const place = ORDER.indexOf(lock.kind);
      if (!waits || unguessable(lock)) {
        // Nobody has what this would wait for.
      } else if (lock.within.length > 0) {
        const guards = lock.within.filter((name) => !holds(held, took, name));
        if (guards.length > 0) found.push(`${say(lock)} without ${guards.map(nameOf).join(', ')}`);
      } else if (place < 0) {
        found.push(`${say(lock)} has no place in the order`);
      } else {
        for (const other of held.values()) {
          if (other.within.length > 0 || other.name === lock.name || ORDER.indexOf(other.kind) < 0) continue;
          const awaited = CONFLICTS[other.mode].some((mode) => modes.get(other.kind)?.has(mode));
          const later = ORDER.indexOf(other.kind) > place || (other.kind === lock.kind && keyOf(other) > keyOf(lock));
          if (awaited && later) found.push(`${say(lock)} after ${say(other)}`);
        }
        // Two who share a lock, and each want more of it than the other lets him have, wait for each other.
        if (before && CONFLICTS[lock.mode].includes(before.mode) && !CONFLICTS[before.mode].includes(before.mode))
          found.push(`${say(lock)} instead of ${say(before)}`);
        waited.push(lock);
      }
    }
    const kinds = new Set(waited.map((lock) => lock.kind));
    if (kinds.size > 1) found.push(`${[...kinds].sort().join(' and ')} in one statement, in no order`);
    // Locks on rows of one kind that one statement takes: in the order in which it answers.
    for (const kind of kinds) {
      const several = waited.filter((lock) => lock.kind === kind);
      const places = several.map((lock) => ({ lock, at: step.rows.findIndex((row) => tellsOf(row, lock)) }));
      if (several.length < 2) continue;
      const inOrder = places.sort((a, b) => a.at - b.at).map(({ lock }) => keyOf(lock));
      const ordered = places.every(({ at }) => at >= 0) && inOrder.every((key, index) => !(inOrder[index - 1]! > key));
      if (!ordered) found.push(`several of ${kind} at once, not in the order of their keys`);
    }
    for (const lock of took) held.set(lock.name, lock);
  }
  return found;
}

/** Held so that nobody else can have it, or of this transaction's own making. */
function holds(held: Map<string, Lock>, took: readonly Lock[], name: string): boolean {
  const locks = [...held.values(), ...took];
  return locks.some(
    (lock) =>
      (lock.name === name && ['no key update', 'update'].includes(lock.mode)) ||
      (lock.mode === 'new' && lock.name === `new ${name}`),
  );
}

/** A row with a random key, made by this transaction: nobody else makes the same one. */
const unguessable = ({ kind, mode, within }: Lock): boolean =>
  mode === 'new' && within.length === 0 && !ORDER.includes(kind);

/** The key, whose text sorts as PostgreSQL sorts the key. */
const keyOf = ({ kind, name }: Lock): string => name.slice(kind.length + 1);

function tellsOf(row: unknown, lock: Lock): boolean {
  const values = Object.values(row as object).map(String);
  const [id, day] = keyOf(lock).split('/');
  // Days that are made in one statement are of one schedule, which it knows without being told.
  return values.includes(day ?? id!) && (lock.mode === 'new' || day === undefined || values.includes(id!));
}
