import { FastifyAdapter } from '@nestjs/platform-fastify';
import type { FastifyReply } from 'fastify';

/** What a service answers to a request that changes something: the body with what belongs into status line and headers. */
export class Reply<T = unknown> {
  constructor(
    readonly status: 200 | 201 | 202 | 204 | 304,
    readonly body: T,
    readonly headers: { location?: string; etag?: string } = {},
    /** The body as text, byte for byte: what is or was stored for an Idempotency-Key, or was written already. */
    readonly stored?: { text: string; replayed: boolean },
  ) {}

  static created<T extends { id: string }>(path: string, body: T, version?: number): Reply<T> {
    return new Reply(201, body, {
      location: `${path}/${body.id}`,
      etag: version === undefined ? undefined : etag(version),
    });
  }

  /** Something made by a statement that has written its body as well. */
  static createdAs(location: string, text: string): Reply {
    return new Reply(201, undefined, { location, etag: etag(1) }, { text, replayed: false });
  }

  static ok<T>(body: T, version?: number): Reply<T> {
    return new Reply(200, body, version === undefined ? {} : { etag: etag(version) });
  }
}

/** The entity tag of a version: strong, as If-Match needs it (RFC 9110, 8.8.3). */
export const etag = (version: number): string => `"${version}"`;

/** Turns a {@link Reply} into status, headers and body. In the adapter, for interceptors take every request through RxJS. */
export class ReplyAdapter extends FastifyAdapter {
  override reply(...[to, result, status]: Parameters<FastifyAdapter['reply']>): FastifyReply {
    if (!(result instanceof Reply)) return super.reply(to, result, status);
    const response = to as FastifyReply;
    const { location, etag: tag } = result.headers;
    if (location) response.header('Location', location);
    if (tag) response.header('ETag', tag);
    if (result.status === 204 || result.status === 304) return super.reply(response, undefined, result.status);
    if (!result.stored) return super.reply(response, (result as Reply).body, result.status);
    if (result.stored.replayed) response.header('Idempotency-Replayed', 'true');
    response.header('Content-Type', 'application/json; charset=utf-8');
    return super.reply(response, result.stored.text, result.status);
  }
}
