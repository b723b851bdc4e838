import 'reflect-metadata';
import type { ExecutionContext } from '@nestjs/common';
import { fingerprintOf, Problem } from '../platform';
import { type Actor, type Call, CurrentCall, requireVersion } from './call';
import { permissionsOf } from './permissions';

const actor: Actor = {
  organizationId: 'an organization',
  principalId: 'a key',
  role: 'receptionist',
  permissions: permissionsOf('receptionist'),
};

class Probe {
  method(@CurrentCall() call: Call): Call {
    return call;
  }
}

/** What the decorator hands to a controller's method: Nest keeps its function in the metadata of the method's parameters. */
function callOf({
  method = 'POST',
  headers = {},
  rawHeaders = Object.entries(headers).flat(),
  body = {},
  signedIn = true,
}: {
  method?: string;
  headers?: Record<string, string>;
  rawHeaders?: string[];
  body?: unknown;
  signedIn?: boolean;
} = {}): Call {
  const [parameter] = Object.values(
    Reflect.getMetadata('__routeArguments__', Probe, 'method') as Record<
      string,
      { factory: (data: unknown, context: ExecutionContext) => Call }
    >,
  );
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const request = {
    method,
    url: '/v1/appointments',
    body,
    headers: lower,
    raw: { rawHeaders },
    ...(signedIn && { actor }),
  };
  const context = { switchToHttp: () => ({ getRequest: () => request }) } as unknown as ExecutionContext;
  return parameter!.factory(undefined, context);
}

const mistake = (pointer: string) =>
  expect.objectContaining({
    code: 'validation_failed',
    extensions: { errors: [{ pointer, detail: expect.any(String) }] },
  });
function refusal(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(Problem);
    return error;
  }
  throw new Error('it was taken');
}

describe('a call', () => {
  it('says who calls, through which channel, and on what', () => {
    expect(callOf({ body: { a: 1 } })).toEqual({
      ...actor,
      channel: 'api',
      idempotencyKey: undefined,
      fingerprint: fingerprintOf('POST', '/v1/appointments', { a: 1 }),
      ifMatch: undefined,
    });
  });

  it('is nobody’s before the guard has found out whose', () => {
    expect(refusal(() => callOf({ signedIn: false }))).toMatchObject({ code: 'unauthenticated' });
  });
});

describe('Idempotency-Key', () => {
  const key = (text: string, method?: string) =>
    callOf({ method, headers: { 'Idempotency-Key': text } }).idempotencyKey;

  it.each([
    ['bare', 'abc-123', 'abc-123'],
    ['quoted, which is the same', '"abc-123"', 'abc-123'],
    ['with blanks around it', '  abc ', 'abc'],
    ['with a blank in it', 'a b', 'a b'],
    ['of one character', 'x', 'x'],
    ['of 255 characters', 'x'.repeat(255), 'x'.repeat(255)],
    ['of 255 quoted characters', `"${'x'.repeat(255)}"`, 'x'.repeat(255)],
  ])('is read %s', (_, header, expected) => {
    expect(key(header)).toBe(expected);
  });

  it.each([
    ['empty', ''],
    ['blank', '   '],
    ['quoted and empty', '""'],
    ['of 256 characters', 'x'.repeat(256)],
    ['beyond ASCII', 'clé'],
    ['with a tab in it', 'a\tb'],
    ['with a control character', 'a\x7f'],
  ])('is refused %s', (_, header) => {
    expect(refusal(() => key(header))).toEqual(mistake('Idempotency-Key'));
  });

  it('counts on POST alone', () => {
    expect(key('abc', 'PUT')).toBeUndefined();
    expect(key('abc', 'DELETE')).toBeUndefined();
  });
});

describe('If-Match', () => {
  const ifMatch = (text: string) => callOf({ method: 'PUT', headers: { 'If-Match': text } }).ifMatch;

  it.each<[string, string, number[] | 'any']>([
    ['an entity tag', '"3"', [3]],
    ['a bare number', '3', [3]],
    ['a list', '"3", "4","5"', [3, 4, 5]],
    ['anything', '*', 'any'],
    ['anything, with blanks', ' * ', 'any'],
    ['a weak tag, which matches nothing', 'W/"3"', [-1]],
    ['a foreign tag, which matches nothing', '"abc"', [-1]],
    ['a foreign tag with a comma in it', '"a,b"', [-1]],
    ['an empty tag', '""', [-1]],
    ['a number beyond all versions', '"99999999999999999999"', [-1]],
    ['a foreign one among ours', '"abc", "3"', [-1, 3]],
  ])('is %s', (_, header, expected) => {
    expect(ifMatch(header)).toEqual(expected);
  });

  it.each(['', 'abc', '"3', '3"', "'3'", '-1', '3.0', '*, "3"', 'w/"3"', '"3" "4"'])('is refused: %s', (header) => {
    expect(refusal(() => ifMatch(header))).toEqual(mistake('If-Match'));
  });
});

describe('headers that decide', () => {
  it.each(['Authorization', 'Idempotency-Key', 'If-Match', 'Content-Type'])('%s must be sent once', (name) => {
    const rawHeaders = ['Host', 'here', name, '1', 'Accept', 'x', name.toLowerCase(), '1'];
    expect(refusal(() => callOf({ rawHeaders }))).toEqual(mistake(name.toLowerCase()));
  });

  it('others may be repeated, and values may look like names', () => {
    const rawHeaders = ['X-Kind', 'If-Match', 'X-Kind', 'If-Match', 'Accept', 'a', 'Accept', 'b', 'If-Match', '"1"'];
    expect(callOf({ rawHeaders }).channel).toBe('api');
  });
});

describe('the version that a change is based on', () => {
  it('is the present one', () => {
    expect(() => requireVersion({ ifMatch: [3] }, 3, { required: true })).not.toThrow();
    expect(() => requireVersion({ ifMatch: [2, 3] }, 3, { required: true })).not.toThrow();
    expect(() => requireVersion({ ifMatch: 'any' }, 3, { required: true })).not.toThrow();
  });

  it('is stale when it is another', () => {
    for (const ifMatch of [[2], [4], [-1], []]) {
      expect(refusal(() => requireVersion({ ifMatch }, 3))).toMatchObject({
        code: 'version_stale',
        status: 412,
        extensions: { currentVersion: 3 },
      });
    }
  });

  it('is asked for only where it is required', () => {
    expect(() => requireVersion({}, 3)).not.toThrow();
    expect(refusal(() => requireVersion({}, 3, { required: true }))).toMatchObject({
      code: 'precondition_required',
      status: 428,
    });
  });
});
