import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { type Observable, map } from 'rxjs';

/** What a service answers to a request that changes something: the body with what belongs into status line and headers. */
export class Reply<T = unknown> {
  constructor(
    readonly status: 200 | 201 | 202 | 204 | 304,
    readonly body: T,
    readonly headers: { location?: string; etag?: string } = {},
    /** The stored answer, byte for byte, when an Idempotency-Key is replayed or was just stored. */
    readonly stored?: { text: string; replayed: boolean },
  ) {}

  static created<T extends { id: string }>(path: string, body: T, version?: number): Reply<T> {
    return new Reply(201, body, {
      location: `${path}/${body.id}`,
      etag: version === undefined ? undefined : etag(version),
    });
  }

  static ok<T>(body: T, version?: number): Reply<T> {
    return new Reply(200, body, version === undefined ? {} : { etag: etag(version) });
  }
}

/** The entity tag of a version: strong, as If-Match needs it (RFC 9110, 8.8.3). */
export const etag = (version: number): string => `"${version}"`;

/** Turns a {@link Reply} into status, headers and body. */
@Injectable()
export class ReplyInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      map((result: unknown): unknown => {
        if (!(result instanceof Reply)) return result;
        const response = context.switchToHttp().getResponse<FastifyReply>();
        response.status(result.status);
        if (result.headers.location) response.header('Location', result.headers.location);
        if (result.headers.etag) response.header('ETag', result.headers.etag);
        if (result.status === 204 || result.status === 304) return undefined;
        if (!result.stored) return (result as Reply).body;
        if (result.stored.replayed) response.header('Idempotency-Replayed', 'true');
        response.header('Content-Type', 'application/json; charset=utf-8');
        return result.stored.text;
      }),
    );
  }
}
