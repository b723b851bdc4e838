import { Client } from 'pg';

/** in_failed_sql_transaction: a statement behind one that has failed. Says nothing of why. */
export const BEHIND_A_FAILURE = '25P02';

/**
 * A connection that sends statements without waiting for the answers of those before (`pipeline`), and what is asked for in
 * one turn of the event loop in one write: a system call costs about as much as everything else that sending a statement does.
 */
export class PipelinedClient extends Client {
  /** The first failure since somebody has last cleared this: of statements sent together, the others fail because of it. */
  failure?: unknown;

  // The overloads are pg's; nothing is changed about them.
  override query: Client['query'] = (...parameters: unknown[]) => {
    const { stream } = this.connection;
    stream.cork();
    process.nextTick(() => stream.uncork());
    const answer = (super.query as (...all: unknown[]) => unknown)(...parameters);
    if (answer instanceof Promise) {
      answer.catch((error: { code?: unknown }) => {
        if (error.code !== BEHIND_A_FAILURE) this.failure ??= error;
      });
    }
    return answer as never;
  };
}
