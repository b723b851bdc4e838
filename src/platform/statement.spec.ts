import { statement } from './statement';

describe('statement', () => {
  const two = statement('two', 'SELECT :first::uuid, :second::text, :first::text');

  it('numbers parameters by their first appearance and leaves casts alone', () => {
    expect(two({ second: 'b', first: 'a' })).toEqual({
      name: 'two',
      text: 'SELECT $1::uuid, $2::text, $1::text',
      values: ['a', 'b'],
    });
  });

  it('leaves what is quoted alone', () => {
    const quoted = statement('quoted', "SELECT to_char(:at::timestamptz, 'HH24:MI') || ':at'");
    expect(quoted({ at: null }).text).toBe("SELECT to_char($1::timestamptz, 'HH24:MI') || ':at'");
  });

  it('takes null for a value, and refuses to send less than it needs', () => {
    expect(two({ first: null, second: null }).values).toEqual([null, null]);
    expect(() => two({ first: 'a' })).toThrow('two needs a value for second');
  });
});
