import { AsyncLocalStorage } from 'node:async_hooks';

/** What is being served: for logs and the audit trail. Ids alone. */
export interface RequestContext {
  /** Of the request: the caller's `X-Request-Id` where it is fit to be written down, else one of ours. */
  readonly requestId: string;
  /** Who calls, once that is known: an API key, a user, a patient's phone. */
  actor?: string;
}

const contexts = new AsyncLocalStorage<RequestContext>();

/** Runs everything that a request brings about in its context. */
export const inContext = <T>(context: RequestContext, work: () => T): T => contexts.run(context, work);

/** The request that is being served, if one is. */
export const currentRequest = (): RequestContext | undefined => contexts.getStore();

/** Whether a caller's name for his request can go into logs, headers and SQL as it is. */
export const isRequestId = (text: unknown): text is string => typeof text === 'string' && /^[\w.-]{1,64}$/.test(text);
