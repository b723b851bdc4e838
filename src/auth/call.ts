import { createParamDecorator, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { fingerprintOf, type IdempotentRequest, Problem } from '../platform';
import type { Permission, Role } from './permissions';

/** The rows that a caller's permissions are about; without any of these, all of his organization's. */
export interface Scope {
  /** A patient, by the phone that he has shown to be his: the patient who has this phone, if there is one already. */
  phone?: string;
  /** A practitioner: his own schedule and appointments. */
  practitionerId?: string;
  /** A receptionist of these branches: what takes place there. */
  locationIds?: readonly string[];
}

/** Who calls, once the guard has found out. */
export interface Actor extends Scope {
  organizationId: string;
  /** The API key, the user, or the phone of a patient. */
  principalId: string;
  role: Role;
  permissions: ReadonlySet<Permission>;
  /** Of those who signed in, users and patients. */
  sessionId?: string;
  /** Whether the principal is a user, who has an account of his own. */
  user?: boolean;
}

declare module 'fastify' {
  interface FastifyRequest {
    actor?: Actor;
  }
}

/** One request as services see it: who calls, through which channel, under which key, and on which version it is based. */
export interface Call extends Actor, IdempotentRequest {
  channel: 'api';
  /** The versions of If-Match; undefined without the header, `any` for `*`. */
  ifMatch?: number[] | 'any';
}

/** Hands the {@link Call} to a controller's method. */
export const CurrentCall = createParamDecorator((_: unknown, context: ExecutionContext): Call => {
  const request = context.switchToHttp().getRequest<FastifyRequest>();
  if (!request.actor) throw new Problem('unauthenticated');
  refuseRepeatedHeaders(request);
  return {
    ...request.actor,
    channel: 'api',
    idempotencyKey: takesKeys(request) ? readIdempotencyKey(request.headers['idempotency-key']) : undefined,
    fingerprint:
      request.method === 'POST' ? fingerprintOf(request.method, request.url, request.body ?? {}) : Buffer.alloc(0),
    ifMatch: readIfMatch(request.headers['if-match']),
  };
});

/** Signing in and out has no answer to replay: it would have to be kept, and it is a secret. */
const takesKeys = ({ method, url }: FastifyRequest): boolean => method === 'POST' && !url.startsWith('/v1/auth/');

/**
 * Node joins or drops repeated headers; either way one of two contradicting values would win silently.
 */
function refuseRepeatedHeaders(request: FastifyRequest): void {
  const seen = new Set<string>();
  request.raw.rawHeaders.forEach((text, index) => {
    const name = text.toLowerCase();
    if (index % 2 !== 0 || !['authorization', 'idempotency-key', 'if-match', 'content-type'].includes(name)) return;
    if (seen.has(name)) throw Problem.invalid({ pointer: text, detail: 'must be sent once' });
    seen.add(name);
  });
}

/** The key, quoted (as the draft's structured field) or bare: 1 to 255 visible ASCII characters. */
function readIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const text = String(header).trim();
  const key = /^".*"$/.test(text) ? text.slice(1, -1) : text;
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) {
    throw Problem.invalid({ pointer: 'Idempotency-Key', detail: 'must have 1 to 255 visible ASCII characters' });
  }
  return key;
}

/** If-Match (RFC 9110, 13.1.1): a list of entity tags, or `*`. A weak or foreign tag is well-formed but matches no version. */
function readIfMatch(header: string | undefined): number[] | 'any' | undefined {
  if (header === undefined) return undefined;
  if (header.trim() === '*') return 'any';
  const tag = /(?:W\/)?"[^"]*"|\d{1,9}/;
  if (!new RegExp(`^\\s*(?:${tag.source})(?:\\s*,\\s*(?:${tag.source}))*\\s*$`).test(header)) {
    throw Problem.invalid({ pointer: 'If-Match', detail: 'must be an entity tag, such as "3"' });
  }
  const tags = header.match(new RegExp(tag.source, 'g')) ?? [];
  return tags.map((each) => (/^"?(0|[1-9]\d{0,8})"?$/.test(each) ? Number(each.replaceAll('"', '')) : -1));
}

/**
 * Holds the version that an edit is based on against the present one, or another that is as good; call it under the row's
 * lock.
 * @throws Problem `version_stale` on a difference, `precondition_required` where `required` and nothing was said
 */
export function requireVersion(
  call: Pick<Call, 'ifMatch'>,
  version: number,
  { required = false, also }: { required?: boolean; also?: number } = {},
): void {
  if (call.ifMatch === undefined) {
    if (required)
      throw new Problem('precondition_required', 'Send If-Match with the ETag that your change is based on.');
    return;
  }
  if (call.ifMatch !== 'any' && !call.ifMatch.some((each) => each === version || each === also)) {
    throw new Problem(
      'version_stale',
      'Somebody else changed this in the meantime. Read it again, then repeat your change.',
      {
        currentVersion: version,
      },
    );
  }
}
