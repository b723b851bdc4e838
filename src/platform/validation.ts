import { type ArgumentMetadata, Injectable, type PipeTransform } from '@nestjs/common';
import { plainToInstance } from 'class-transformer';
import { type ValidationError, validateSync } from 'class-validator';
import { sealed } from './dto';
import { type FieldError, Problem } from './errors';

/** What a parameter without a class of its own is declared as; it has its own pipe or needs none. */
const PLAIN: readonly unknown[] = [String, Number, Boolean, Array, Object];

const OPTIONS = {
  whitelist: true,
  forbidNonWhitelisted: true,
  forbidUnknownValues: true,
  stopAtFirstError: true,
  validationError: { target: false, value: false },
};

/**
 * Validates bodies and queries against their classes. Unknown fields are refused; all mistakes are told at once. Without
 * Nest's own pipe, whose care for uploads and for asynchronous rules costs as much as the validation itself.
 */
@Injectable()
export class RequestPipe implements PipeTransform {
  transform(value: unknown, { type, metatype }: ArgumentMetadata): unknown {
    if (type === 'custom' || metatype === undefined || PLAIN.includes(metatype)) return value;
    refuseOtherThanObject(value ?? undefined);
    // No body is an empty one.
    const plain: Record<string, unknown> = { ...(value as object) };
    if ('metadata' in plain) plain['metadata'] = sealed(plain['metadata']);
    const entity = plainToInstance(metatype, plain) as object;
    const errors = validateSync(entity, OPTIONS);
    if (errors.length > 0) throw Problem.invalid(...errors.flatMap((error) => flatten(error, '')));
    return entity;
  }
}

/** A member's name within a JSON pointer (RFC 6901, 3). */
const escaped = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1');

function flatten(error: ValidationError, parent: string): FieldError[] {
  const pointer = `${parent}/${escaped(error.property)}`;
  const own = Object.entries(error.constraints ?? {}).map(([name, message]) => ({
    pointer,
    detail: name === 'whitelistValidation' ? 'is not a field of this request' : message,
  }));
  return [...own, ...(error.children ?? []).flatMap((child) => flatten(child, pointer))];
}

/** An id in a path. What is no UUID cannot name anything here. */
@Injectable()
export class IdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(value)) {
      throw Problem.invalid({ pointer: 'path', detail: 'the id in the path must be a UUID' });
    }
    return value.toLowerCase();
  }
}

/** Every body here is a JSON object, or there is none. */
export function refuseOtherThanObject(body: unknown): void {
  if (body === undefined || (typeof body === 'object' && body !== null && !Array.isArray(body))) return;
  throw Problem.invalid({ pointer: '', detail: 'the body must be a JSON object' });
}

/**
 * Members that are called like those of every object (`constructor`, `toString`): no request has such a field, and the
 * validator, which looks them up on the prototype, would not notice. A client's own metadata may contain them.
 */
export function refuseInheritedNames(value: unknown, pointer = ''): void {
  if (value === null || typeof value !== 'object') return;
  for (const [name, member] of Object.entries(value)) {
    if (name in Object.prototype)
      throw Problem.invalid({ pointer: `${pointer}/${escaped(name)}`, detail: 'is not a field of this request' });
    if (name !== 'metadata') refuseInheritedNames(member, `${pointer}/${escaped(name)}`);
  }
}

/**
 * What no field may contain, wherever it stands: NUL characters, which PostgreSQL cannot store, and lone surrogates, which
 * UTF-8 cannot. Also bounds the nesting. Runs on the parsed body before validation, member names included.
 */
export function refuseUnstorable(value: unknown, pointer = '', depth = 0): void {
  if (depth > 20) throw Problem.invalid({ pointer, detail: 'is nested too deeply' });
  if (typeof value === 'string') {
    if (value.includes('\0')) throw Problem.invalid({ pointer, detail: 'must not contain NUL characters' });
    if (!value.isWellFormed()) throw Problem.invalid({ pointer, detail: 'must be well-formed Unicode' });
  } else if (Array.isArray(value)) {
    value.forEach((member, index) => refuseUnstorable(member, `${pointer}/${index}`, depth + 1));
  } else if (value !== null && typeof value === 'object') {
    for (const [name, member] of Object.entries(value)) {
      refuseUnstorable(name, pointer, depth);
      refuseUnstorable(member, `${pointer}/${escaped(name)}`, depth + 1);
    }
  }
}
