import fc from 'fast-check';
import type { Config } from './config';
import { Cursors } from './cursor';
import { Problem } from './errors';

const cursorsOf = (secretKey: string): Cursors => new Cursors({ secretKey } as Config);
const cursors = cursorsOf('a secret for tests only, 32 characters or more');
const refusal = expect.objectContaining({ code: 'validation_failed', status: 400 });

const read = (scope: string, cursor: string): unknown => {
  try {
    return cursors.read(scope, cursor);
  } catch (error) {
    expect(error).toBeInstanceOf(Problem);
    return error;
  }
};

describe('a cursor', () => {
  it('gives back the key that it was written for, and fits into a query string', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 4 }), (scope, key) => {
        const cursor = cursors.write(scope, key);
        expect(cursor).toMatch(/^[\w-]+$/);
        expect(cursors.read(scope, cursor)).toEqual(key);
      }),
    );
  });

  const cursor = cursors.write('appointments/one', ['2026-12-01T08:00:00Z', 'an id']);

  it('is of no use to another list or organization', () => {
    expect(read('appointments/other', cursor)).toEqual(refusal);
    expect(read('patients/one', cursor)).toEqual(refusal);
  });

  it('is of no use to an install with another secret', () => {
    expect(() => cursorsOf('another secret for tests only, 32 characters').read('appointments/one', cursor)).toThrow(
      Problem,
    );
  });

  it('is refused when any character of it was changed', () => {
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    for (let index = 0; index < cursor.length; index++) {
      for (const letter of alphabet) {
        if (letter === cursor[index]) continue;
        const changed = `${cursor.slice(0, index)}${letter}${cursor.slice(index + 1)}`;
        expect(read('appointments/one', changed)).toEqual(refusal);
      }
    }
  });

  it.each([
    ['empty', ''],
    ['cut short', cursor.slice(0, -1)],
    ['a signature alone', cursor.slice(0, 16)],
    ['longer', `${cursor}AAAA`],
    ['padded', `${cursor}=`],
    ['with blanks', ` ${cursor}`],
    ['no base64', '!!!!'],
    ['base64 of a guess', Buffer.from('["2026-12-01T08:00:00Z","an id"]').toString('base64url')],
  ])('is refused when it is %s', (_, text) => {
    expect(read('appointments/one', text)).toEqual(refusal);
  });

  it('is refused however wild it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => expect(read('appointments/one', text)).toEqual(refusal)),
    );
  });
});

describe('a page', () => {
  const page = (rows: number[], limit: number) =>
    cursors.page(
      rows,
      limit,
      'numbers',
      (row) => [String(row)],
      (row) => ({ number: row }),
    );

  it('shows as many rows as were asked for, and its cursor is the last one’s', () => {
    const { data, nextCursor } = page([1, 2, 3], 2);
    expect(data).toEqual([{ number: 1 }, { number: 2 }]);
    expect(cursors.read('numbers', nextCursor!)).toEqual(['2']);
  });

  it('has no cursor where nothing follows', () => {
    expect(page([1, 2], 2)).toEqual({ data: [{ number: 1 }, { number: 2 }], nextCursor: null });
    expect(page([], 2)).toEqual({ data: [], nextCursor: null });
  });
});
