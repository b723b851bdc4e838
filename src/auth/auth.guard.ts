import { type CanActivate, type ExecutionContext, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { currentRequest, Problem } from '../platform';
import type { Role } from './api-key.entity';
import { ApiKeysService } from './api-keys.service';

const PUBLIC = 'auth:public';
const ALLOWED = 'auth:allowed';

/** Open to everybody. */
export const Public = () => SetMetadata(PUBLIC, true);

/** Open to these roles alone. Without it a route is open to everyone who works with appointments. */
export const Allow = (...roles: Role[]) => SetMetadata(ALLOWED, roles);

const STAFF: Role[] = ['practitioner', 'receptionist', 'administrator'];

/** The one place that decides who calls and whether he may: every route is closed unless it says otherwise. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly apiKeys: ApiKeysService,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const targets = [context.getHandler(), context.getClass()];
    if (this.reflector.getAllAndOverride<boolean | undefined>(PUBLIC, targets)) return true;
    const request = context.switchToHttp().getRequest<FastifyRequest>();
    const key = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    const actor = key === undefined ? undefined : await this.apiKeys.authenticate(key);
    if (!actor) {
      throw new Problem(
        'unauthenticated',
        'Send `Authorization: Bearer <API key>`.',
        {},
        { 'WWW-Authenticate': 'Bearer' },
      );
    }
    const allowed = this.reflector.getAllAndOverride<Role[] | undefined>(ALLOWED, targets) ?? STAFF;
    if (!allowed.includes(actor.role))
      throw new Problem('forbidden', `This needs one of the roles: ${allowed.join(', ')}.`);
    request.actor = actor;
    const serving = currentRequest();
    if (serving) serving.actor = actor.principalId;
    return true;
  }
}
