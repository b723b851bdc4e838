import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { Pool, QueryConfig, QueryResult } from 'pg';
import { DataSource, type EntityManager, QueryFailedError, type QueryRunner } from 'typeorm';
import { ConstraintViolation, Problem, SchemaError, TryAgain } from './errors';
import { Log } from './logging';
import { Metrics } from './metrics';
import { BEHIND_A_FAILURE, type PipelinedClient } from './pipelined-client';
import { currentRequest } from './request-context';
import type { Statement } from './statement';

/** Limits of one transaction, in milliseconds. Locks wait 2 s, a whole request at most 8 s over three further tries. */
export const LIMITS = {
  lockTimeout: 2_000,
  statementTimeout: 5_000,
  /** A holder that stops answering (a stopped process, a lost machine) loses its locks after this. */
  idleTimeout: 5_000,
  transactionTimeout: 10_000,
  budget: 8_000,
  retries: 3,
};

/** SQLSTATEs that a new try of the whole transaction can cure: serialization failure, deadlock, lock not available. */
const RETRIED = new Map([
  ['40001', 'serialization'],
  ['40P01', 'deadlock'],
  ['55P03', 'lock_timeout'],
]);
/** SQLSTATEs after which nothing was changed and a later try may succeed. */
const UNAVAILABLE = new Map([
  ['57014', 'statement_timeout'],
  ['25P03', 'idle_timeout'],
  ['25P04', 'transaction_timeout'],
  ['53300', 'connection'],
  ['57P01', 'connection'],
  ['57P02', 'connection'],
  ['57P03', 'connection'],
]);
const CONSTRAINTS = {
  '23505': 'unique',
  '23P01': 'exclusion',
  '23503': 'foreign_key',
  '23514': 'check',
  '23502': 'not_null',
} as const;

/** The roles that the migrations made; see there. Every statement runs as one of them. */
interface Roles {
  app: string;
  system: string;
  retention: string;
}

type Kind = 'write' | 'read' | 'system' | 'retention';

/** The first number of the advisory locks that show which transactions may still change something: "chng" in ASCII. */
const CHANGING = 0x63686e67;

/**
 * The only door to the database.
 *
 * Every statement, reads too, runs inside a transaction that begins with one call setting, for that transaction alone
 * (so a transaction pooler is safe): a role that cannot bypass row-level security, the organization whose rows are
 * visible, and the time-outs. Transactions are READ COMMITTED: what is read after a lock needs a fresh snapshot.
 */
@Injectable()
export class Database implements OnApplicationBootstrap {
  private roles?: Promise<Roles>;
  private readonly closing = new WeakMap<EntityManager, QueryConfig[]>();

  constructor(
    @InjectDataSource() private readonly dataSource: DataSource,
    private readonly log: Log,
    private readonly metrics: Metrics,
  ) {
    metrics.countConnections = () => this.countConnections();
  }

  /**
   * Runs `work` in one transaction of one organization and commits it. The whole closure runs again, at most three times
   * and with jitter, when it lost to a deadlock, a serialization failure or a lock time-out; so it must have no effect
   * outside the database. `attempt` counts from 1.
   * @param key an advisory lock to begin with, until the end of the transaction. The first try does not wait for it:
   *   `current_setting('holdfast.key_is_free')` tells whether it was had. A further one does, for the holder may have been the
   *   try before.
   * @throws Problem `busy` when nothing was changed and a later try may succeed; `outcome_unknown` when the connection
   *   broke during COMMIT; ConstraintViolation; whatever `work` throws, after rolling back
   */
  transaction<T>(
    organizationId: string,
    work: (tx: EntityManager, attempt: number) => Promise<T>,
    key?: string,
  ): Promise<T> {
    return this.attempts('write', (attempt) => this.once('write', organizationId, attempt, work, key));
  }

  /**
   * Runs one statement as a transaction of its own, all in one round trip: its locks are held for as long as the server works,
   * and not while an answer travels. Otherwise as {@link transaction}; but a connection that breaks leaves the outcome unknown
   * whenever it breaks, for COMMIT is on its way.
   * @returns its rows
   */
  single<Row>(organizationId: string, statement: Statement, key?: string): Promise<Row[]> {
    return this.attempts('write', (attempt) => this.atOnce<Row>(organizationId, attempt, statement, key));
  }

  /**
   * Has a statement sent together with COMMIT, for the last word of a transaction, whose answer nobody reads: should it fail,
   * nothing is committed, and its error is that of the transaction.
   */
  lastly(tx: EntityManager, statement: QueryConfig): void {
    this.closing.set(tx, [...(this.closing.get(tx) ?? []), statement]);
  }

  /** Runs `work` on one snapshot of one organization's rows (REPEATABLE READ, READ ONLY). Nothing is locked. */
  read<T>(organizationId: string, work: (tx: EntityManager) => Promise<T>): Promise<T> {
    return this.attempts('read', (attempt) => this.once('read', organizationId, attempt, work));
  }

  /**
   * Runs `work` across organizations, as the system role. For the few works that cannot know the organization yet or that
   * serve all of them; `reason` says which, in the log.
   * @param minutes in place of the usual time-outs, for who looks a whole install over and locks nothing
   */
  system<T>(
    reason: string,
    work: (tx: EntityManager) => Promise<T>,
    { minutes }: { minutes?: number } = {},
  ): Promise<T> {
    this.log.debugEvent('system_transaction', { reason });
    const patience = minutes === undefined ? undefined : minutes * 60_000;
    return this.attempts('system', (attempt) => this.once('system', null, attempt, work, undefined, patience));
  }

  /**
   * Runs `work` across organizations as the role that prunes: it sees and deletes what has outlived its use, by policies with
   * floors of their own, and can write nothing.
   */
  prune<T>(reason: string, work: (tx: EntityManager) => Promise<T>): Promise<T> {
    this.log.debugEvent('retention_transaction', { reason });
    return this.attempts('retention', (attempt) => this.once('retention', null, attempt, work));
  }

  /**
   * An instant up to which nothing of an organization can change any more: every {@link transaction} that began before it
   * has ended, so what a later read does not see of that time never was. Waits for those that still run, milliseconds
   * mostly; it blocks none of them. Changes must carry a time that the database told after their transaction began.
   * @throws Problem `busy` when one of them does not end within a request's budget
   */
  async settled(organizationId: string): Promise<Date> {
    const started = performance.now();
    return this.read(organizationId, async (tx) => {
      const running = async () =>
        (await tx.query<Array<{ id: string }>>(WHO_CHANGES, [CHANGING, organizationId])).map((row) => row.id);
      const [moment] = await tx.query<[{ at: Date }]>('SELECT clock_timestamp() AS at');
      // Those who began before this second look are on it, or have ended.
      let awaited = await running();
      for (let pause = 2; awaited.length > 0; pause = Math.min(pause * 2, 100)) {
        if (performance.now() - started > LIMITS.budget) {
          throw Problem.busy('A change that began before is not finished yet; please try again.');
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
        const still = new Set(await running());
        awaited = awaited.filter((id) => still.has(id));
      }
      return moment.at;
    });
  }

  /** Refuses to serve where a query could see another organization's rows. */
  async onApplicationBootstrap(): Promise<void> {
    await this.system('check that row-level security holds', async (tx) => {
      const unprotected = await tx.query<Array<{ name: string }>>(
        `SELECT relname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND a.attname = 'organization_id' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
      );
      const bypassing = await tx.query<Array<{ name: string }>>(
        `SELECT rolname AS name FROM pg_roles WHERE rolname = ANY($1) AND (rolsuper OR rolbypassrls)`,
        [Object.values(await this.findRoles())],
      );
      const names = [...unprotected, ...bypassing].map((row) => row.name);
      if (names.length > 0) throw new SchemaError(`Row-level security is off or bypassed for: ${names.join(', ')}.`);
    });
  }

  /** True when the database answers. */
  async isReachable(): Promise<boolean> {
    try {
      await this.dataSource.query('SELECT 1');
      return true;
    } catch (error) {
      this.log.failure('database_unreachable', error);
      return false;
    }
  }

  private async attempts<T>(kind: Kind, once: (attempt: number) => Promise<T>): Promise<T> {
    const started = performance.now();
    const observe = this.metrics.transactionSeconds.startTimer({ kind });
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          const result = await once(attempt);
          this.metrics.transactions.inc({ kind, outcome: 'committed' });
          return result;
        } catch (error) {
          const why = error instanceof TryAgain ? 'moved' : RETRIED.get(sqlState(error) ?? '');
          if (why === undefined) {
            this.metrics.transactions.inc({ kind, outcome: 'rolled_back' });
            throw this.translate(error);
          }
          const moved = why === 'moved';
          if (!moved) this.metrics.databaseErrors.inc({ kind: why });
          const pause = moved ? 0 : Math.random() * 25 * 2 ** attempt;
          // Another try may wait for a lock once more: begin it only if that still fits the budget.
          const last =
            attempt > LIMITS.retries || performance.now() - started + pause + LIMITS.lockTimeout > LIMITS.budget;
          const event = why === 'deadlock' ? 'deadlock_detected' : 'transaction_retried';
          if (moved && !last) this.log.debugEvent(event, { why, attempt, last });
          else this.log.warning(event, { why, attempt, last });
          this.metrics.transactions.inc({ kind, outcome: last ? 'gave_up' : 'retried' });
          if (last) throw Problem.busy();
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      }
    } finally {
      observe();
    }
  }

  /**
   * One try. Statements are sent without waiting for the answers of those before (the pool's connections are pipelined), so
   * what opens the transaction travels with the first statement of `work`, and what closes it with COMMIT. Nothing can slip
   * out: where the opening fails, the transaction is aborted and everything behind it fails, too.
   */
  private async once<T>(
    kind: Kind,
    organizationId: string | null,
    attempt: number,
    work: (tx: EntityManager, attempt: number) => Promise<T>,
    key?: string,
    patience?: number,
  ): Promise<T> {
    const roles = await this.findRoles();
    const runner = this.dataSource.createQueryRunner();
    try {
      const connection = (await runner.connect()) as PipelinedClient;
      connection.failure = undefined;
      const started = performance.now();
      const locks = kind === 'write' ? locksOf(organizationId!, attempt, key) : '';
      const opened = connection.query(this.opening(kind, roles, organizationId, patience) + locks);
      // Its failure is told below; until then it is nobody's unhandled rejection.
      opened.catch(() => undefined);
      // For TypeORM, which refuses to lock outside of a transaction; its own way of opening one takes a round trip more.
      (runner as { isTransactionActive: boolean }).isTransactionActive = true;
      try {
        const result = await work(runner.manager, attempt);
        await opened;
        if (performance.now() - started > (patience ?? LIMITS.transactionTimeout)) {
          // The process was stopped or starved in between. What it decided may be old: refuse it, as the server would.
          throw Problem.busy('The transaction took too long and was undone; please try again.');
        }
        if (runner.isReleased) throw lost();
        refuseMore(runner);
        await this.commit(connection, this.closing.get(runner.manager) ?? []);
        return result;
      } catch (error) {
        refuseMore(runner);
        // Statements that were sent beside the one that failed are on their way through TypeORM: none may come after ROLLBACK.
        await new Promise(setImmediate);
        if (!runner.isReleased) await this.rollback(connection);
        // Which of several that were sent together is told of first is chance; which of them failed is not.
        throw sqlState(error) === BEHIND_A_FAILURE ? (connection.failure ?? error) : error;
      }
    } finally {
      (runner as { isTransactionActive: boolean }).isTransactionActive = false;
      await runner.release();
    }
  }

  /** One try of a single statement. Where it or its opening fails the transaction is aborted, and COMMIT answered by ROLLBACK. */
  private async atOnce<Row>(
    organizationId: string,
    attempt: number,
    statement: Statement,
    key?: string,
  ): Promise<Row[]> {
    const roles = await this.findRoles();
    const runner = this.dataSource.createQueryRunner();
    try {
      const connection = (await runner.connect()) as PipelinedClient;
      const opening = this.opening('write', roles, organizationId) + locksOf(organizationId, attempt, key);
      const [, answer] = await this.commit(connection, [{ text: opening }, statement]);
      return answer!.rows as Row[];
    } finally {
      await runner.release();
    }
  }

  /**
   * Sends COMMIT, and with it what was kept for the end, whose answers it returns: should some of that fail, the server answers
   * COMMIT by rolling back.
   */
  private async commit(connection: PipelinedClient, closing: readonly QueryConfig[]): Promise<QueryResult[]> {
    const sent = closing.map((statement) => connection.query(statement));
    const answers = await Promise.allSettled([...sent, connection.query('COMMIT')]);
    const failed = answers.find((each) => each.status === 'rejected');
    const last = answers.at(-1)!;
    if (last.status === 'fulfilled') {
      if (failed) throw failed.reason;
      // What failed before was caught by somebody who should not have: there is nothing to be acknowledged.
      if (last.value.command !== 'COMMIT') throw new Error('the transaction was aborted before its COMMIT');
      return answers.map((each) => (each as PromiseFulfilledResult<QueryResult>).value);
    }
    const state = sqlState(last.reason);
    // An answer with an SQLSTATE of the transaction itself means that it was refused. Without an answer nobody knows.
    if (state !== undefined && !state.startsWith('08') && !state.startsWith('57')) throw last.reason;
    this.metrics.transactions.inc({ kind: 'write', outcome: 'unknown' });
    this.log.failure('commit_outcome_unknown', last.reason);
    throw new Problem(
      'outcome_unknown',
      'Repeat the request under the same Idempotency-Key to learn whether it was stored.',
      {},
      { 'Retry-After': '1' },
    );
  }

  private async rollback(connection: PipelinedClient): Promise<void> {
    await connection.query('ROLLBACK').catch((failed: unknown) => {
      // The connection is gone, and the transaction with it.
      this.log.debugEvent('rollback_failed', { message: String(failed) });
    });
  }

  /**
   * One message of the simple protocol: beginning, role, organization, time-outs. The values are ours (a role's name
   * from the catalog, a checked UUID, numbers), and are quoted all the same.
   */
  private opening(kind: Kind, roles: Roles, organizationId: string | null, patience?: number): string {
    const request = kind === 'read' ? undefined : currentRequest();
    const role = { write: 'app', read: 'app', system: 'system', retention: 'retention' } as const;
    const settings: Array<[string, string]> = [
      ['role', roles[role[kind]]],
      ['holdfast.organization_id', organizationId ?? ''],
      // For the audit trail, whose triggers write down who changes something.
      ['holdfast.actor', request?.actor ?? ''],
      ['holdfast.request_id', request?.requestId ?? ''],
      ['TimeZone', 'UTC'],
      ['DateStyle', 'ISO'],
      ['lock_timeout', `${LIMITS.lockTimeout}ms`],
      ['statement_timeout', `${patience ?? LIMITS.statementTimeout}ms`],
      ['idle_in_transaction_session_timeout', `${patience ?? LIMITS.idleTimeout}ms`],
    ];
    const calls = settings.map(([name, value]) => `set_config('${name}', ${quote(value)}, true)`).join(', ');
    const isolation = kind === 'read' ? ' ISOLATION LEVEL REPEATABLE READ READ ONLY' : '';
    return `START TRANSACTION${isolation}; SELECT ${calls}`;
  }

  /** The roles that the policies name. They are read from the catalog, for a restored or cloned database keeps its own. */
  private findRoles(): Promise<Roles> {
    this.roles ??= this.dataSource
      .query<Array<{ policy: string; role: string }>>(
        `SELECT p.polname AS policy, r.rolname AS role FROM pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
         WHERE p.polrelid = 'public.appointment'::regclass`,
      )
      .then((rows) => {
        const role = (policy: string) => rows.find((row) => row.policy === policy)?.role;
        const [app, system, retention] = ['organization_isolation', 'system_access', 'retention_access'].map(role);
        if (!app || !system || !retention)
          throw new SchemaError('The database has no policies for row-level security. Run: npm run migrate');
        return { app, system, retention };
      })
      .catch((error: unknown) => {
        this.roles = undefined;
        throw error;
      });
    return this.roles;
  }

  private translate(error: unknown): unknown {
    const state = sqlState(error);
    if (state === undefined) {
      if (!isConnectionError(error)) return error;
      this.metrics.databaseErrors.inc({ kind: 'connection' });
      this.log.failure('database_connection_lost', error);
      return Problem.busy('The database cannot be reached at the moment. Nothing was changed; please try again.');
    }
    const unavailable = UNAVAILABLE.get(state) ?? (state.startsWith('08') ? 'connection' : undefined);
    if (unavailable) {
      this.metrics.databaseErrors.inc({ kind: unavailable });
      this.log.warning('transaction_timeout', { why: unavailable });
      return Problem.busy();
    }
    if (state in CONSTRAINTS) {
      const constraint = (driverError(error) as { constraint?: string }).constraint ?? 'unknown';
      this.metrics.databaseErrors.inc({ kind: 'constraint' });
      this.metrics.constraintViolations.inc({ constraint });
      return new ConstraintViolation(CONSTRAINTS[state as keyof typeof CONSTRAINTS], constraint, error);
    }
    this.metrics.databaseErrors.inc({ kind: 'other' });
    return error;
  }

  private countConnections(): Record<string, number> {
    const { master } = this.dataSource.driver as unknown as { master?: Pool };
    return master ? { open: master.totalCount, idle: master.idleCount, waiting: master.waitingCount } : {};
  }
}

/** The transactions of an organization that may still change something. */
const WHO_CHANGES = `
  SELECT DISTINCT virtualtransaction AS id FROM pg_locks
  WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = $1::bigint::oid AND objsubid = 2
    AND objid = (hashtext($2) & 4294967295)::oid`;

/** The advisory locks that a transaction begins with; a part of its opening. */
function locksOf(organizationId: string, attempt: number, key: string | undefined): string {
  // Shared, and never asked for otherwise: nobody waits for it. It shows pollers that this transaction may change something.
  const mark = `, pg_advisory_xact_lock_shared(${CHANGING}, hashtext(${quote(organizationId)}))`;
  if (key === undefined) return mark;
  // The key is a caller's text, and this is no place for parameters: it goes as digits, whatever the server takes for a quote.
  const digits = Buffer.from(key).toString('hex');
  const hash = `hashtextextended(convert_from(decode('${digits}', 'hex'), 'UTF8'), 0)`;
  if (attempt > 1) return `${mark}, pg_advisory_xact_lock(${hash}), set_config('holdfast.key_is_free', 'true', true)`;
  return `${mark}, set_config('holdfast.key_is_free', pg_try_advisory_xact_lock(${hash})::text, true)`;
}

/** Nothing may be sent through a transaction that has ended: it would run outside of any, without role and organization. */
function refuseMore(runner: QueryRunner): void {
  runner.query = () => Promise.reject(new Error('a statement was sent after the end of its transaction'));
}

const quote = (value: string): string => `'${value.replaceAll("'", "''")}'`;

const driverError = (error: unknown): unknown => (error instanceof QueryFailedError ? error.driverError : error);

function sqlState(error: unknown): string | undefined {
  const { code } = (driverError(error) ?? {}) as { code?: unknown };
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

/** The server closed the connection meanwhile, and the transaction with it: nothing was sent to be committed. */
const lost = (): Error => Object.assign(new Error('the connection was closed by the server'), { code: 'ECONNRESET' });

function isConnectionError(error: unknown): boolean {
  const { code, message } = (driverError(error) ?? {}) as { code?: string; message?: string };
  return (
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN'].includes(code ?? '') ||
    /Connection terminated|timeout exceeded when trying to connect|not queryable|already released/i.test(message ?? '')
  );
}
