import { Injectable, type LoggerService } from '@nestjs/common';
import pino, { type DestinationStream, type Logger } from 'pino';
import type { Settings } from './config';
import { currentRequest } from './request-context';

/** Fields of a log line: ids, counts and codes. Never a name, a phone number, an e-mail address or free text of people. */
export type LogFields = Record<string, string | number | boolean | null | undefined>;

/**
 * Structured logs, one JSON object a line. `event` is a stable name that dashboards and alerts may rely on; the words
 * beside it are for people and may change.
 */
@Injectable()
export class Log implements LoggerService {
  constructor(private readonly logger: Logger) {}

  static create(level: Settings['logLevel'], destination: DestinationStream = pino.destination(2)): Log {
    return new Log(
      pino(
        {
          level,
          base: undefined,
          timestamp: pino.stdTimeFunctions.isoTime,
          errorKey: 'error',
          // What a line was written for: the request, as its answer names it.
          mixin: () => {
            const request = currentRequest();
            return request ? { requestId: request.requestId } : {};
          },
        },
        destination,
      ),
    );
  }

  debugEvent(event: string, fields: LogFields = {}): void {
    this.logger.debug({ event, ...fields });
  }

  event(event: string, fields: LogFields = {}): void {
    this.logger.info({ event, ...fields });
  }

  warning(event: string, fields: LogFields = {}): void {
    this.logger.warn({ event, ...fields });
  }

  failure(event: string, error: unknown, fields: LogFields = {}): void {
    this.logger.error({ event, ...fields, error: showError(error) });
  }

  // Nest's own messages come through here; its chatter about routes and modules is of interest in debugging only.
  log(message: unknown, context?: string): void {
    this.logger.debug({ event: 'framework', context }, String(message));
  }
  error(message: unknown, stack?: string, context?: string): void {
    this.logger.error({ event: 'framework', context, stack }, String(message));
  }
  warn(message: unknown, context?: string): void {
    this.logger.warn({ event: 'framework', context }, String(message));
  }
  debug(message: unknown, context?: string): void {
    this.logger.trace({ event: 'framework', context }, String(message));
  }
}

/** What of an error of the database says what is wrong without saying whose data it was. */
const FACTS = ['code', 'schema', 'table', 'column', 'constraint', 'routine'] as const;

/**
 * An error as the log has it. Of one of the database neither the values of its statement nor its detail (a whole row), and no
 * message where that quotes a value: data that could not be read (class 22), and what triggers raise (P0). Its other
 * messages quote names of the schema.
 */
function showError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? 'no error' : error;
  const { driverError = error, cause } = error as { driverError?: unknown; cause?: unknown };
  const facts = Object.fromEntries(
    FACTS.flatMap((name) => {
      const value = (driverError as Record<string, unknown>)[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
  const message = /^(?:22|P0)/.test(facts['code'] ?? '') ? 'a value was not fit' : error.message;
  const frames = /(?:\n {4}at .*)+$/.exec(error.stack ?? '')?.[0] ?? '';
  const type = error.constructor.name;
  return {
    type,
    message,
    ...facts,
    stack: `${type}: ${message}${frames}`,
    ...(cause !== undefined && depth < 3 && { cause: showError(cause, depth + 1) }),
  };
}
