import { Client } from 'pg';

/**
 * A connection that sends statements without waiting for the answers of those before (`pipeline`), and what is asked for in
 * one turn of the event loop in one write: a system call costs about as much as everything else that sending a statement does.
 */
export class PipelinedClient extends Client {
  // The overloads are pg's; nothing is changed about them.
  override query: Client['query'] = (...parameters: unknown[]) => {
    const { stream } = this.connection;
    stream.cork();
    process.nextTick(() => stream.uncork());
    return (super.query as (...all: unknown[]) => never)(...parameters);
  };
}
