import { applyDecorators } from '@nestjs/common';
import { ApiProperty, type ApiPropertyOptions } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsBoolean,
  IsEmail,
  IsIn,
  IsInt,
  IsObject,
  Length,
  Matches,
  Max,
  Min,
  ValidateBy,
  ValidateIf,
  ValidateNested,
} from 'class-validator';
import { isDate, isTimeZone, parseInstant } from './instants';
import { normalizePhone } from './phone';

/**
 * Fields of requests: each decorator validates, documents (OpenAPI) and says in one word what the field is. Unknown fields
 * are refused by the pipe, NUL characters and lone surrogates before it.
 */
export interface FieldOptions {
  /** May be left out. */
  optional?: boolean;
  /** May be null; in a change, null empties the field. */
  nullable?: boolean;
  description?: string;
  example?: unknown;
}

function field(options: FieldOptions, schema: ApiPropertyOptions, ...rules: PropertyDecorator[]): PropertyDecorator {
  const { optional = false, nullable = false, description, example } = options;
  const skip = (value: unknown) => (optional && value === undefined) || (nullable && value === null);
  return applyDecorators(
    ApiProperty({ ...schema, required: !optional, nullable, description, example } as ApiPropertyOptions),
    ...(optional || nullable ? [ValidateIf((_, value) => !skip(value))] : []),
    ...rules,
  );
}

const rule = (name: string, accepts: (value: unknown) => boolean, message: string): PropertyDecorator =>
  ValidateBy({ name, validator: { validate: accepts, defaultMessage: () => message } });

export const Text = (options: FieldOptions & { max?: number; min?: number; pattern?: RegExp } = {}) => {
  const { min = 1, max = 200, pattern } = options;
  const words = rule(
    'text',
    (value) => typeof value === 'string' && (min === 0 || value.trim().length > 0),
    'must be a text',
  );
  return field(
    options,
    { type: String, minLength: min, maxLength: max },
    words,
    Length(min, max, { message: `must have ${min} to ${max} characters` }),
    ...(pattern ? [Matches(pattern, { message: `must match ${pattern.source}` })] : []),
  );
};

export const Id = (options: FieldOptions = {}) =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => lowerCase(value)),
    field(options, { type: String, format: 'uuid' }, rule('id', isId, 'must be a UUID')),
  );

export const Ids = (options: FieldOptions & { min?: number; max?: number } = {}) =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => (Array.isArray(value) ? value.map(lowerCase) : value)),
    field(
      options,
      { type: [String], format: 'uuid' },
      IsArray({ message: 'must be a list' }),
      ArrayMinSize(options.min ?? 0, { message: `must have at least ${options.min ?? 0} entries` }),
      ArrayMaxSize(options.max ?? 500, { message: `must have at most ${options.max ?? 500} entries` }),
      ArrayUnique({ message: 'must not name anything twice' }),
      ValidateBy({ name: 'id', validator: { validate: isId, defaultMessage: () => 'must be UUIDs' } }, { each: true }),
    ),
  );

export const Whole = (options: FieldOptions & { min: number; max: number }) =>
  field(
    options,
    { type: 'integer', minimum: options.min, maximum: options.max },
    IsInt({ message: 'must be a whole number' }),
    Min(options.min, { message: `must be at least ${options.min}` }),
    Max(options.max, { message: `must be at most ${options.max}` }),
  );

export const Flag = (options: FieldOptions = {}) =>
  field(options, { type: Boolean }, IsBoolean({ message: 'must be true or false' }));

export const OneOf = (values: readonly string[], options: FieldOptions = {}) =>
  field(options, { type: String, enum: [...values] }, IsIn(values, { message: `must be one of ${values.join(', ')}` }));

export const SomeOf = (values: readonly string[], options: FieldOptions = {}) =>
  field(
    options,
    { type: String, isArray: true, enum: [...values] },
    IsArray({ message: 'must be a list' }),
    ArrayUnique({ message: 'must not name anything twice' }),
    IsIn(values, { each: true, message: `must be among ${values.join(', ')}` }),
  );

export const Instant = (options: FieldOptions = {}) =>
  field(
    options,
    { type: String, format: 'date-time' },
    rule(
      'instant',
      (value) => typeof value === 'string' && parseInstant(value) !== undefined,
      'must be an instant of RFC 3339 with an offset, such as 2026-12-01T09:00:00+01:00',
    ),
  );

export const LocalDate = (options: FieldOptions = {}) =>
  field(
    options,
    { type: String, format: 'date' },
    rule('date', (value) => typeof value === 'string' && isDate(value), 'must be a date, YYYY-MM-DD'),
  );

/** A local time `HH:MM`. As the end of an interval, `24:00` is the end of the day. */
export const LocalTime = (options: FieldOptions & { endOfDay?: boolean } = {}) =>
  field(
    options,
    { type: String, example: '09:00' },
    Matches(options.endOfDay ? /^(([01]\d|2[0-3]):[0-5]\d|24:00)$/ : /^([01]\d|2[0-3]):[0-5]\d$/, {
      message: 'must be a local time, HH:MM',
    }),
  );

export const TimeZone = (options: FieldOptions = {}) =>
  field(
    options,
    { type: String, example: 'Europe/Berlin' },
    rule(
      'zone',
      (value) => typeof value === 'string' && isTimeZone(value),
      'must be a time zone of the IANA database, such as Europe/Berlin',
    ),
  );

/** A phone number, stored as E.164; it must carry its country code. */
export const Phone = (options: FieldOptions = {}) =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) =>
      typeof value === 'string' ? (normalizePhone(value) ?? value) : value,
    ),
    field(
      options,
      { type: String, example: '+4915112345678' },
      rule(
        'phone',
        (value) => typeof value === 'string' && normalizePhone(value) === value,
        'must be a phone number with its country code, such as +4915112345678',
      ),
    ),
  );

export const Email = (options: FieldOptions = {}) =>
  field(
    options,
    { type: String, format: 'email' },
    Length(3, 254, { message: 'must have 3 to 254 characters' }),
    IsEmail({}, { message: 'must be an e-mail address' }),
  );

export const Texts = (options: FieldOptions & { pattern: RegExp; min?: number; max?: number }) =>
  field(
    options,
    { type: [String] },
    IsArray({ message: 'must be a list' }),
    ArrayMinSize(options.min ?? 0, { message: `must have at least ${options.min ?? 0} entries` }),
    ArrayMaxSize(options.max ?? 20, { message: `must have at most ${options.max ?? 20} entries` }),
    ArrayUnique({ message: 'must not name anything twice' }),
    Matches(options.pattern, { each: true, message: `must match ${options.pattern.source}` }),
  );

export const Nested = (type: new () => object, options: FieldOptions = {}) =>
  field(
    options,
    { type },
    rule('object', isPlainObject, 'must be an object'),
    ValidateNested(),
    Type(() => type),
  );

/** `true` or `false`, or for how many seconds. */
export const FlagOrSeconds = (options: FieldOptions & { min: number; max: number }) => {
  const { min, max } = options;
  const accepts = (value: unknown): boolean => {
    if (typeof value === 'boolean') return true;
    if (!isPlainObject(value) || Object.keys(value as object).join() !== 'seconds') return false;
    const { seconds } = value as { seconds: unknown };
    return Number.isInteger(seconds) && (seconds as number) >= min && (seconds as number) <= max;
  };
  const seconds = { type: 'integer', minimum: min, maximum: max };
  const object = { type: 'object', properties: { seconds }, required: ['seconds'], additionalProperties: false };
  return field(
    options,
    { oneOf: [{ type: 'boolean' }, object] },
    rule('flag', accepts, `must be true, false or { "seconds": ${min} to ${max} }`),
  );
};

export const ListOf = (type: new () => object, options: FieldOptions & { max: number; min?: number }) =>
  field(
    options,
    { type: [type] },
    IsArray({ message: 'must be a list' }),
    ArrayMinSize(options.min ?? 0, { message: `must have at least ${options.min ?? 0} entries` }),
    ArrayMaxSize(options.max, { message: `must have at most ${options.max} entries` }),
    ValidateBy(
      { name: 'objects', validator: { validate: isPlainObject, defaultMessage: () => 'must be a list of objects' } },
      { each: true },
    ),
    ValidateNested({ each: true }),
    Type(() => type),
  );

/**
 * A client's own JSON on its way through the transformer, which would stumble over members such as `constructor`. The
 * request pipe seals what stands under `metadata`; {@link Metadata} opens it again.
 */
class Sealed {
  constructor(readonly json: string) {}
}

export const sealed = (value: unknown): unknown => (isPlainObject(value) ? new Sealed(JSON.stringify(value)) : value);

const unsealed = (value: unknown): unknown => (value instanceof Sealed ? JSON.parse(value.json) : value);

/** Any JSON object of the client's own, at most `maxBytes` as JSON. */
export const Metadata = (options: FieldOptions & { maxBytes: number }) =>
  field(
    options,
    { type: 'object', additionalProperties: true },
    Transform(({ obj, key }: { obj: Record<string, unknown>; key: string }) => unsealed(obj[key])),
    IsObject({ message: 'must be an object' }),
    rule(
      'size',
      (value) => Buffer.byteLength(JSON.stringify(value) ?? '') <= options.maxBytes,
      `must not be larger than ${options.maxBytes} bytes`,
    ),
  );

/** A whole number in a query string. */
export const WholeParameter = (options: FieldOptions & { min: number; max: number }) =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) =>
      typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value,
    ),
    Whole(options),
  );

/** An instant in a query string, where an unescaped `+` of the offset has become a blank. */
export const InstantParameter = (options: FieldOptions = {}) =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) =>
      typeof value === 'string' ? value.replace(/ (?=\d\d:\d\d$)/, '+') : value,
    ),
    Instant(options),
  );

/** The parameters of every list. */
export class ListQuery {
  @WholeParameter({ min: 1, max: 1000, optional: true, description: 'Rows a page, 50 unless told' })
  limit?: number;

  @Text({ optional: true, max: 1000, description: 'The nextCursor of the page before' })
  cursor?: string;
}

export const DEFAULT_PAGE = 50;

// UUIDs are read in capitals too, and written in small letters (RFC 9562, 4).
const lowerCase = (value: unknown): unknown => (typeof value === 'string' ? value.toLowerCase() : value);

const isId = (value: unknown): boolean =>
  typeof value === 'string' && /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(value);

const isPlainObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
