import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { currentRequest, Problem } from '../platform';
import { AccessTokens } from './access-tokens';
import { ApiKeysService } from './api-keys.service';
import { PERMITTED, type Permission, PUBLIC } from './permissions';

/** The one place that decides who calls and whether he may: every route is closed unless it says otherwise. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly apiKeys: ApiKeysService,
    private readonly tokens: AccessTokens,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const handler = context.getHandler();
    if (this.reflector.getAllAndOverride<boolean | undefined>(PUBLIC, [handler, context.getClass()])) return true;
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const bearer = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    const known = bearer?.startsWith('hf_') ? this.apiKeys : this.tokens;
    const actor = bearer === undefined ? undefined : await known.authenticate(bearer);
    if (!actor) {
      throw new Problem(
        'unauthenticated',
        'Send `Authorization: Bearer <access token or API key>`.',
        {},
        { 'WWW-Authenticate': 'Bearer' },
      );
    }
    const permission = this.reflector.get<Permission | undefined>(PERMITTED, handler);
    if (permission === undefined || !actor.permissions.has(permission))
      throw new Problem('forbidden', `This needs the permission ${permission}.`);
    request.actor = actor;
    const serving = currentRequest();
    if (serving) serving.actor = actor.principalId;
    return true;
  }
}
