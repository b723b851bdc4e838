import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';

/** What a client shows of itself. Not proof of anything. */
export interface Client {
  /** Where it calls from, as far as trusted proxies tell: what limits go by. */
  address: string;
  /** Its address and what it says it is, hashed; see sessions' grace. */
  print: Buffer;
}

/** Hands the {@link Client} to a controller's method. */
export const CurrentClient = createParamDecorator((_: unknown, context: ExecutionContext): Client => {
  const request = context.switchToHttp().getRequest<FastifyRequest>();
  const shown = JSON.stringify([request.ip, request.headers['user-agent'] ?? '']);
  return { address: request.ip, print: createHash('sha256').update(shown).digest() };
});
