import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { fingerprintOf } from './idempotency';

const post = (body: unknown): string => fingerprintOf('POST', '/v1/appointments', body).toString('hex');
/** What arrives over the wire: JSON knows no undefined and no negative zero. */
const received = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** The same value with the members of all its objects in reverse order. */
function turned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(turned);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([name, member]) => [name, turned(member)]),
  );
}

describe('the fingerprint of a request', () => {
  it('does not depend on the order of members', () => {
    fc.assert(fc.property(fc.jsonValue(), (body) => expect(post(turned(body))).toBe(post(body))));
  });

  it('differs where the bodies differ', () => {
    fc.assert(
      fc.property(fc.jsonValue().map(received), fc.jsonValue().map(received), (one, other) => {
        expect(post(one) === post(other)).toBe(isDeepStrictEqual(one, other));
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['a number and its text', { a: 1 }, { a: '1' }],
    ['null and its text', { a: null }, { a: 'null' }],
    ['null and nothing', { a: null }, {}],
    ['an empty list and an empty object', [], {}],
    ['the order of a list', [1, 2], [2, 1]],
    ['a list in a list', [[1], 2], [1, [2]]],
    ['members moved into a text', { a: 1, b: 2 }, { a: '1,"b":2' }],
    ['a member moved to another object', { a: { b: 1 }, c: {} }, { a: {}, c: { b: 1 } }],
  ])('tells apart %s', (_, one, other) => {
    expect(post(one)).not.toBe(post(other));
  });

  it('takes a member without a value for none, and a missing body for null', () => {
    expect(post({ a: 1, b: undefined })).toBe(post({ a: 1 }));
    expect(post(undefined)).toBe(post(null));
  });

  it('differs by method and by path', () => {
    const all = [
      fingerprintOf('POST', '/v1/appointments', {}),
      fingerprintOf('PUT', '/v1/appointments', {}),
      fingerprintOf('POST', '/v1/patients', {}),
      fingerprintOf('POST', '/v1/appointments?x=1', {}),
    ].map((hash) => hash.toString('hex'));
    expect(new Set(all).size).toBe(all.length);
    expect(all.every((hash) => /^[0-9a-f]{64}$/.test(hash))).toBe(true);
  });
});
