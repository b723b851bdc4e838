import { Injectable, type LoggerService } from '@nestjs/common';
import pino, { type Logger } from 'pino';
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

  static create(level: Settings['logLevel']): Log {
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
        pino.destination(2),
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
    this.logger.error({ event, ...fields, error });
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
