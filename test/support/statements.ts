import { Client, type QueryResult } from 'pg';

/** A statement of the application that has been answered, before the application learns it. */
export interface Statement {
  client: Client;
  text: string;
  result: QueryResult;
}

/** What a test makes of a statement before it runs: a planted mistake. */
export interface Plant {
  /** Runs in its place. */
  instead?: string;
  /** Runs before it, in the same transaction. */
  first?: string;
}

type Query = (this: Client, ...values: unknown[]) => Promise<QueryResult>;

/** How long to watch for what a test says will happen, before the test fails. Nothing is decided by this time. */
const PATIENCE = 10_000;

/**
 * The statements of the application that runs in this process, at the driver: to look at each, to stop after one, to plant
 * mistakes. Connections of the test itself are left alone.
 */
export class Statements {
  /** Runs after every statement, before its answer is handed over. */
  after?: (statement: Statement) => Promise<void>;
  plant?: (text: string) => Plant | undefined;
  /** The codes of the errors that the server answered with. */
  readonly errors: string[] = [];

  private readonly original: Query = Reflect.get(Client.prototype, 'query');
  private stop?: { text: string; left: number; arrive(): void; turn: Promise<void> };
  private readonly standing = new Set<() => void>();
  /** The last statement of each connection. */
  private readonly last = new WeakMap<Client, Promise<unknown>>();

  private constructor() {
    const run = this.inTurn.bind(this);
    const { original } = this;
    Reflect.set(Client.prototype, 'query', function (this: Client, ...values: unknown[]) {
      const ours = Reflect.get(this, 'connectionParameters').application_name === 'holdfast';
      return ours && typeof values.at(-1) !== 'function' ? run(this, values) : original.apply(this, values);
    });
  }

  static watch(): Statements {
    return new Statements();
  }

  /** On the connection of the application itself, within the transaction that it has there, unseen by {@link after}. */
  ask<R>(client: Client, text: string): Promise<R[]> {
    return this.original.call(client, text).then((result) => result.rows as R[]);
  }

  /** Holds the transaction that runs a statement for the nth time from now on, when that is done, until it is resumed. */
  stopAfter(text: string, nth: number) {
    const { promise: arrival, resolve: arrive } = Promise.withResolvers<void>();
    const { promise: turn, resolve } = Promise.withResolvers<void>();
    const resume = () => {
      this.stop = undefined;
      this.standing.delete(resume);
      resolve();
    };
    this.standing.add(resume);
    this.stop = { text, left: nth, arrive, turn };
    let timer: NodeJS.Timeout;
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`This was not run ${nth} times: ${text}`)), PATIENCE);
    });
    return { reached: Promise.race([arrival, tooLate]).finally(() => clearTimeout(timer)), resume };
  }

  /** Leaves the driver as it was, and lets go of what stands still. */
  close(): void {
    for (const resume of this.standing) resume();
    Reflect.set(Client.prototype, 'query', this.original);
  }

  /** One after the other on each connection, though the application does not wait: so what a statement has done can be told. */
  private inTurn(client: Client, values: unknown[]): Promise<QueryResult> {
    const answer = (this.last.get(client) ?? Promise.resolve()).then(() => this.run(client, values));
    this.last.set(
      client,
      answer.catch(() => undefined),
    );
    return answer;
  }

  private async run(client: Client, [query, ...values]: unknown[]): Promise<QueryResult> {
    const text = textOf(query);
    const planted = this.plant?.(text);
    if (planted?.first) await this.run(client, [planted.first]);
    let result: QueryResult;
    try {
      result = await this.original.call(client, planted?.instead ?? query, ...values);
    } catch (error) {
      this.errors.push(String(Reflect.get(error as object, 'code')));
      throw error;
    }
    await this.after?.({ client, text, result });
    const { stop } = this;
    if (stop?.text === text && --stop.left === 0) {
      stop.arrive();
      await stop.turn;
    }
    return result;
  }
}

/** The text by which a statement is known again: without the name of the request that it is sent for. */
const textOf = (query: unknown): string =>
  (typeof query === 'string' ? query : (query as { text: string }).text).replace(
    /('holdfast\.request_id', ')[^']*/,
    '$1',
  );
