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
 * Refuses what no request may contain, wherever it stands: NUL characters, which PostgreSQL cannot store, and lone surrogates,
 * which UTF-8 cannot, in member names, too; nesting without end; and members that are called like those of every object
 * (`constructor`, `toString`), for no request has such a field, and the validator, which looks them up on the prototype, would
 * not notice. A client's own metadata may have them. Runs on what was parsed, before validation.
 */
export function refuseUnfit(value: unknown): void {
  const unfit = findUnfit(value, 0, true);
  if (unfit) throw Problem.invalid(unfit);
}

function findUnfit(value: unknown, depth: number, fields: boolean): FieldError | undefined {
  if (typeof value === 'string') return findUnstorable(value);
  if (value === null || typeof value !== 'object') return undefined;
  if (depth >= 20) return { pointer: '', detail: 'is nested too deeply' };
  for (const name of Object.keys(value)) {
    // A name that cannot be stored cannot be told either.
    const unstorable = findUnstorable(name);
    if (unstorable) return unstorable;
    const found =
      fields && name in Object.prototype
        ? { pointer: '', detail: 'is not a field of this request' }
        : findUnfit((value as Record<string, unknown>)[name], depth + 1, fields && name !== 'metadata');
    if (found) return { pointer: `/${escaped(name)}${found.pointer}`, detail: found.detail };
  }
  return undefined;
}

function findUnstorable(text: string): FieldError | undefined {
  if (text.includes('\0')) return { pointer: '', detail: 'must not contain NUL characters' };
  if (!text.isWellFormed()) return { pointer: '', detail: 'must be well-formed Unicode' };
  return undefined;
}
