import 'reflect-metadata';
import type { Type } from '@nestjs/common';
import { Email, Id, ListOf, ListQuery, LocalTime, Nested, Phone, Text, Whole } from './dto';
import { type FieldError, Problem } from './errors';
import { IdPipe, refuseUnfit, RequestPipe } from './validation';

class ContactDto {
  @Phone()
  phone: string;
  @Email({ optional: true, nullable: true })
  email?: string | null;
}

class HoursDto {
  @LocalTime()
  start: string;
  @LocalTime({ endOfDay: true })
  end: string;
}

class VisitDto {
  @Text({ max: 10 })
  name: string;
  @Whole({ min: 1, max: 5, optional: true })
  seats?: number;
  @Id({ optional: true })
  roomId?: string;
  @Nested(ContactDto, { optional: true })
  contact?: ContactDto;
  @ListOf(HoursDto, { max: 2, optional: true })
  hours?: HoursDto[];
}

const pipe = new RequestPipe();
const accept = (value: unknown, metatype: Type = VisitDto, type: 'body' | 'query' = 'body'): Promise<unknown> =>
  new Promise((resolve) => resolve(pipe.transform(value, { type, metatype })));

/** The mistakes that are found, as they are told. */
async function mistakes(value: unknown, metatype?: Type, type?: 'body' | 'query'): Promise<FieldError[]> {
  const error: unknown = await accept(value, metatype, type).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Problem);
  expect(error).toMatchObject({ code: 'validation_failed', status: 400 });
  return (error as Problem).extensions['errors'] as FieldError[];
}

describe('the validation of requests', () => {
  it('takes what is right', async () => {
    const visit = {
      name: 'Ada',
      seats: 2,
      contact: { phone: '+49 151 12345678', email: null },
      hours: [{ start: '09:00', end: '24:00' }],
    };
    const taken = await accept(visit);
    expect(taken).toBeInstanceOf(VisitDto);
    expect(taken).toEqual({ ...visit, contact: { phone: '+4915112345678', email: null } });
  });

  it('tells all mistakes at once, each with its JSON pointer', async () => {
    const found = await mistakes({
      seats: 9,
      roomId: 'no id',
      contact: { phone: '0151', email: 'nobody' },
      hours: [
        { start: '09:00', end: '17:00' },
        { start: '24:00', end: '25:00' },
      ],
    });
    expect(found).toEqual([
      { pointer: '/name', detail: expect.any(String) },
      { pointer: '/seats', detail: 'must be at most 5' },
      { pointer: '/roomId', detail: 'must be a UUID' },
      { pointer: '/contact/phone', detail: expect.stringMatching(/^must be a phone number/) },
      { pointer: '/contact/email', detail: 'must be an e-mail address' },
      { pointer: '/hours/1/start', detail: 'must be a local time, HH:MM' },
      { pointer: '/hours/1/end', detail: 'must be a local time, HH:MM' },
    ]);
  });

  it('refuses unknown fields, nested ones too, and escapes their names', async () => {
    expect(await mistakes({ name: 'Ada', 'a/b~c': 1, contact: { phone: '+4915112345678', extra: 1 } })).toEqual([
      { pointer: '/a~1b~0c', detail: 'is not a field of this request' },
      { pointer: '/contact/extra', detail: 'is not a field of this request' },
    ]);
    expect(await mistakes({ limit: '5', colour: 'red' }, ListQuery, 'query')).toEqual([
      { pointer: '/colour', detail: 'is not a field of this request' },
    ]);
  });

  it.each([
    ['a text for a number', { name: 'Ada', seats: '2' }, '/seats'],
    ['a fraction', { name: 'Ada', seats: 1.5 }, '/seats'],
    ['null where it is not allowed', { name: null }, '/name'],
    ['blanks for a text', { name: '   ' }, '/name'],
    ['a text that is too long', { name: 'x'.repeat(11) }, '/name'],
    ['a list for an object', { name: 'Ada', contact: [] }, '/contact'],
    ['a text for an object', { name: 'Ada', contact: 'x' }, '/contact'],
    ['an object for a list', { name: 'Ada', hours: {} }, '/hours'],
    ['a text in a list of objects', { name: 'Ada', hours: ['x'] }, '/hours'],
    ['null in a list of objects', { name: 'Ada', hours: [null] }, '/hours'],
    ['a list in a list of objects', { name: 'Ada', hours: [[]] }, '/hours'],
    ['too many in a list', { name: 'Ada', hours: Array<object>(3).fill({ start: '09:00', end: '10:00' }) }, '/hours'],
  ])('refuses %s', async (_, value, pointer) => {
    const pointers = (await mistakes(value)).map((error) => error.pointer);
    expect(new Set(pointers.map((each) => each.split('/').slice(0, 2).join('/')))).toEqual(new Set([pointer]));
  });

  it.each([
    ['nothing', undefined],
    ['null', null],
    ['a list', []],
    ['a text', 'x'],
    ['a number', 5],
  ])('refuses %s for a body', async (_, value) => {
    expect((await mistakes(value)).length).toBeGreaterThan(0);
  });

  it('does not show what was sent', async () => {
    expect(JSON.stringify(await mistakes({ name: 'Ada', contact: { phone: 'my-secret' } }))).not.toContain('my-secret');
  });

  it('reads numbers of a query string', async () => {
    expect(await accept({ limit: '5' }, ListQuery, 'query')).toEqual({ limit: 5 });
    for (const limit of ['0', '1001', '5.5', '1e2', ' 5', '', '5x', ['5', '6']]) {
      expect((await mistakes({ limit }, ListQuery, 'query')).map((each) => each.pointer)).toEqual(['/limit']);
    }
  });
});

describe('an id in a path', () => {
  const id = new IdPipe();

  it('is a UUID, in lower case', () => {
    expect(id.transform('0198C0DE-0000-7000-8000-00000000ABCD')).toBe('0198c0de-0000-7000-8000-00000000abcd');
  });

  it.each(['', '1', '0198c0de00007000800000000000abcd', '0198c0de-0000-7000-8000-00000000abcd ', "' OR 1=1 --"])(
    'is not %j',
    (text) => {
      expect(() => id.transform(text)).toThrow(Problem);
    },
  );
});

describe('what cannot be stored', () => {
  const pointerOf = (value: unknown): unknown => {
    try {
      refuseUnfit(value);
    } catch (error) {
      expect(error).toMatchObject({ code: 'validation_failed', status: 400 });
      return ((error as Problem).extensions['errors'] as FieldError[])[0]!.pointer;
    }
    return undefined;
  };

  it.each([
    ['a NUL character', { a: [{ b: 'x\0' }] }, '/a/0/b'],
    ['a lone surrogate', { a: '\ud83d' }, '/a'],
    ['a NUL character in a name', { a: { 'b\0': 1 } }, '/a'],
    ['a lone surrogate in a name', { '\udc00': 1 }, ''],
    ['a NUL character below a name to be escaped', { 'a/b~c': '\0' }, '/a~1b~0c'],
  ])('is refused: %s', (_, value, pointer) => {
    expect(pointerOf(value)).toBe(pointer);
  });

  it('is no emoji, no line break and no number', () => {
    expect(pointerOf({ a: ['👩‍⚕️', 'x\ny', 1.5, true, null, undefined] })).toBeUndefined();
    expect(pointerOf(undefined)).toBeUndefined();
    expect(pointerOf(null)).toBeUndefined();
  });

  it('is what is nested without end', () => {
    const nested = (depth: number): unknown => Array.from({ length: depth }).reduce((inner) => [inner], 1 as unknown);
    expect(pointerOf(nested(20))).toBeUndefined();
    expect(pointerOf(nested(21))).toBeDefined();
    expect(pointerOf(nested(5_000))).toBeDefined();
  });
});
