import {
  type EntityManager,
  type FindOptionsWhere,
  In,
  IsNull,
  MoreThan,
  type ObjectLiteral,
  type Repository,
} from 'typeorm';
import { type Call, requireVersion } from '../auth';
import { type Clock, type Cursors, DEFAULT_PAGE, type ListQuery, type Page, Problem, showInstant } from '../platform';

/** What all records of a clinic have in common: an owner, a version for `If-Match`, and a soft end. */
export interface ClinicRecord extends ObjectLiteral {
  id: string;
  organizationId: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
  deletedAt: Date | null;
}

/**
 * Reading, locking and changing one kind of record within a transaction. Row-level security sees to it that only the
 * organization's own are found; what is deleted, or another's, is `not_found`.
 */
export class Records<R extends ClinicRecord> {
  constructor(
    private readonly repository: Repository<R>,
    /** What the record is called in messages. */
    readonly noun: string,
    private readonly cursors: Cursors,
    private readonly clock: Clock,
  ) {}

  in(tx: EntityManager): Repository<R> {
    return tx.withRepository(this.repository);
  }

  async get(tx: EntityManager, id: string): Promise<R> {
    const row = await this.in(tx).findOneBy(this.living(id));
    if (!row) throw Problem.notFound(this.noun);
    return row;
  }

  /**
   * Refuses ids that name no living record, before anything refers to them, and shares a lock on them: whoever is about to
   * end one of them waits, and whoever has just ended it is seen.
   */
  async requireAll(tx: EntityManager, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    const found = await this.in(tx).find({
      select: { id: true } as never,
      where: { id: In([...new Set(ids)]), deletedAt: IsNull() } as FindOptionsWhere<R>,
      order: { id: 'ASC' } as never,
      lock: { mode: 'pessimistic_read' },
    });
    if (found.length !== new Set(ids).size) throw Problem.notFound(this.noun);
  }

  /**
   * Locks the record against other edits (FOR NO KEY UPDATE lets bookings refer to it meanwhile; `pessimistic_write`, for
   * deletion, does not).
   */
  async lock(
    tx: EntityManager,
    id: string,
    mode: 'for_no_key_update' | 'pessimistic_write' = 'for_no_key_update',
  ): Promise<R> {
    const row = await this.in(tx).findOne({ where: this.living(id), lock: { mode } });
    if (!row) throw Problem.notFound(this.noun);
    return row;
  }

  /** Locks the record on the version that the caller has seen. */
  async lockVersion(
    tx: EntityManager,
    id: string,
    call: Call,
    mode: 'for_no_key_update' | 'pessimistic_write' = 'for_no_key_update',
  ): Promise<R> {
    const row = await this.lock(tx, id, mode);
    requireVersion(call, row.version);
    return row;
  }

  /** Changes the fields given, under the lock, on the version the caller has seen; raises the version. */
  async change(tx: EntityManager, call: Call, id: string, changes: Partial<R>): Promise<R> {
    const before = await this.lockVersion(tx, id, call);
    const after: R = { ...before, ...changes, version: before.version + 1, updatedAt: this.clock.date() };
    await this.in(tx).update({ id } as FindOptionsWhere<R>, {
      ...changes,
      version: after.version,
      updatedAt: after.updatedAt,
    });
    return after;
  }

  /** Ends a record under a lock that waits for everything which refers to it, and which that waits for. */
  async retire(tx: EntityManager, id: string): Promise<void> {
    await this.in(tx).update({ id } as FindOptionsWhere<R>, { deletedAt: this.clock.date() } as never);
  }

  /** A page of the living, in the order of their making. */
  async list<T>(
    tx: EntityManager,
    call: Call,
    query: ListQuery,
    show: (row: R) => T,
    where: FindOptionsWhere<R> = {},
  ): Promise<Page<T>> {
    const scope = `${this.noun}/${call.organizationId}`;
    const limit = query.limit ?? DEFAULT_PAGE;
    const after = query.cursor === undefined ? undefined : this.cursors.read(scope, query.cursor)[0];
    const rows = await this.in(tx).find({
      where: { ...where, deletedAt: IsNull(), ...(after ? { id: MoreThan(after) } : {}) } as FindOptionsWhere<R>,
      order: { id: 'ASC' } as never,
      take: limit + 1,
    });
    return this.cursors.page(rows, limit, scope, (row) => [row.id], show);
  }

  private living(id: string): FindOptionsWhere<R> {
    return { id, deletedAt: IsNull() } as FindOptionsWhere<R>;
  }
}

/** The fields of a body that were sent: what was left out stays as it is. */
export const given = <T extends object>(changes: T): Partial<T> =>
  Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<T>;

/** The dates that every representation ends with. */
export const showDates = (row: Pick<ClinicRecord, 'createdAt' | 'updatedAt'>) => ({
  createdAt: showInstant(row.createdAt),
  updatedAt: showInstant(row.updatedAt),
});
