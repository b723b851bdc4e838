import { type CanActivate, type ExecutionContext, Inject, Injectable, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { hash } from 'node:crypto';
import { CONFIG, type Config } from './config';
import { RATE_LIMITS } from './rate-limit.declarations';
import { limitHeaders, RateLimits, refusal, type Take, type TakenAll } from './rate-limits';

/** Who calls, as authentication has left it with the request. What else it knows is nothing of the platform's. */
interface Principal {
  organizationId: string;
  principalId: string;
}

/** What was counted for a request when it came in. */
interface Counted {
  answer: TakenAll;
  credentials?: string;
  principalId?: string;
}

/** So many credentials are remembered. */
const REMEMBERED = 10_000;

/**
 * The limits of the REST API: one of the caller's address before authentication, one of its principal after.
 *
 * Whose credentials they are is remembered, so that nearly every request takes from both limits in one step before it is
 * authenticated; two steps cost twice as much. Nothing but the limit to count by is concluded from that.
 */
@Injectable()
export class RequestLimits {
  private readonly principals = new Map<string, Principal>();
  private readonly counted = new WeakMap<FastifyRequest, Counted>();

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly limits: RateLimits,
  ) {}

  /** A hook of the server, before it reads a request's body. */
  readonly onRequest = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    if (!this.config.rateLimits || !request.url.startsWith('/v1/')) return done();
    const byAddress = this.limits.ofAddress(RATE_LIMITS.ip, request.ip);
    if (byAddress.length === 0) return done();
    const { authorization } = request.headers;
    const credentials = authorization === undefined ? undefined : hash('sha256', authorization, 'base64');
    const principal = credentials === undefined ? undefined : this.principals.get(credentials);
    const takes = [...byAddress, ...(principal ? [takeOfPrincipal(principal)] : [])];
    this.limits.takeAll(takes).then((answer) => {
      if (!answer.allowed) return done(refusal(answer));
      this.counted.set(request, { answer, credentials, principalId: principal?.principalId });
      void reply.headers(limitHeaders(answer.each));
      done();
    }, done);
  };

  /** Counts what {@link onRequest} could not: the principal of credentials that were not seen before. */
  async afterAuthentication(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const counted = this.counted.get(request);
    const { actor } = request as { actor?: Principal };
    if (!counted || !actor || counted.principalId === actor.principalId) return;
    const { organizationId, principalId } = actor;
    if (counted.credentials !== undefined) {
      if (this.principals.size >= REMEMBERED) this.principals.clear();
      this.principals.set(counted.credentials, { organizationId, principalId });
    }
    const answer = await this.limits.require([takeOfPrincipal(actor)]);
    void reply.headers(limitHeaders([...counted.answer.each.slice(0, 1), ...answer.each]));
  }
}

const takeOfPrincipal = ({ organizationId, principalId }: Principal): Take => ({
  limit: RATE_LIMITS.principal,
  organizationId,
  subject: principalId,
});

@Injectable()
class PrincipalLimitGuard implements CanActivate {
  constructor(private readonly limits: RequestLimits) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const http = context.switchToHttp();
    await this.limits.afterAuthentication(http.getRequest<FastifyRequest>(), http.getResponse<FastifyReply>());
    return true;
  }
}

/** The limits of the REST API. To be imported behind the module that authenticates: guards run in the order of modules. */
@Module({
  providers: [RequestLimits, { provide: APP_GUARD, useClass: PrincipalLimitGuard }],
})
export class RequestLimitsModule {}
