import { createHash } from 'node:crypto';
import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';

/** What a client shows of itself, hashed: its address and what it says it is. Not proof of anything; see sessions' grace. */
export const CurrentClient = createParamDecorator((_: unknown, context: ExecutionContext): Buffer => {
  const request = context.switchToHttp().getRequest<FastifyRequest>();
  return createHash('sha256')
    .update(JSON.stringify([request.ip, request.headers['user-agent'] ?? '']))
    .digest();
});
