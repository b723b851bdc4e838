import type { DataSource } from 'typeorm';
import { Database, LIMITS } from './database';
import { Log } from './logging';
import { Metrics } from './metrics';

type Point = 'START' | 'book' | 'COMMIT' | 'last word';

/** A connection that breaks as a socket does, at one point of a transaction: what was sent from there on gets no answer. */
function breakingAt(point: Point, code: string, sent: string[] = []): Database {
  let broken = false;
  return talkingTo(sent, (text) => {
    broken ||= text.startsWith(point);
    return broken ? Promise.reject(Object.assign(new Error(`write ${code}`), { code })) : { command: text, rows: [] };
  });
}

/** A server that refuses a statement: the first time for a deadlock, for anything else always. */
function refusing(refused: string, code: string, sent: string[] = []): Database {
  let [aborted, times] = [false, 0];
  return talkingTo(sent, (text) => {
    if (text === refused && (code !== '40P01' || ++times === 1)) {
      aborted = true;
      return Promise.reject(Object.assign(new Error('refused'), { code }));
    }
    const command = text === 'COMMIT' && aborted ? 'ROLLBACK' : text;
    if (text === 'COMMIT') aborted = false;
    return { command, rows: [{ done: true }] };
  });
}

function talkingTo(sent: string[], answer: (text: string) => unknown): Database {
  const connection = {
    query: async (statement: string | { text: string }) => {
      const text = typeof statement === 'string' ? statement : statement.text;
      sent.push(text);
      return answer(text);
    },
  };
  const runner = {
    isTransactionActive: false,
    isReleased: false,
    manager: {},
    connect: () => Promise.resolve(connection),
    release: () => Promise.resolve(),
  };
  const roles = [
    { policy: 'organization_isolation', role: 'app' },
    { policy: 'system_access', role: 'system' },
    { policy: 'retention_access', role: 'retention' },
  ];
  const dataSource = { createQueryRunner: () => runner, query: () => Promise.resolve(roles), driver: {} };
  return new Database(dataSource as unknown as DataSource, Log.create('silent'), new Metrics());
}

describe('a connection that breaks', () => {
  it.each(['EPIPE', 'ECONNRESET'])('before the commit (%s) has changed nothing', async (code) => {
    const work = breakingAt('START', code).transaction('organization', () => Promise.resolve());
    await expect(work).rejects.toMatchObject({ code: 'busy', status: 503 });
  });

  // Five capital letters look like an SQLSTATE at first sight; taken for one, this would be told as a certain refusal.
  it.each(['EPIPE', 'ECONNRESET'])('during the commit (%s) leaves the outcome unknown', async (code) => {
    const work = breakingAt('COMMIT', code).transaction('organization', () => Promise.resolve());
    await expect(work).rejects.toMatchObject({ code: 'outcome_unknown', status: 503 });
  });

  it.each(['EPIPE', 'ECONNRESET'])('at what travels with the commit (%s) leaves the outcome unknown', async (code) => {
    const database = breakingAt('last word', code);
    const work = database.transaction('organization', (tx) =>
      Promise.resolve(database.lastly(tx, { text: 'last word' })),
    );
    await expect(work).rejects.toMatchObject({ code: 'outcome_unknown', status: 503 });
  });
});

describe('a single statement', () => {
  const single = (database: Database) => database.single('organization', { text: 'book' }, 'key');

  it('is sent with its opening and its COMMIT before any answer is there', async () => {
    const sent: string[] = [];
    await expect(single(breakingAt('START', 'EPIPE', sent))).rejects.toBeDefined();
    expect(sent.map((text) => text.split(' ')[0])).toEqual(['START', 'book', 'COMMIT']);
  });

  it.each(['START', 'book', 'COMMIT'])(
    'leaves the outcome unknown wherever the connection breaks: at %s',
    async (point) => {
      const work = single(breakingAt(point as Point, 'ECONNRESET'));
      await expect(work).rejects.toMatchObject({ code: 'outcome_unknown', status: 503 });
    },
  );

  it('that fails is undone, and tried again where that may help', async () => {
    const sent: string[] = [];
    const work = single(refusing('book', '40P01', sent));
    await expect(work).resolves.toEqual([{ done: true }]);
    expect(sent.filter((text) => text === 'book')).toHaveLength(2);
  });

  it('that the server had to give up has changed nothing', async () => {
    await expect(single(refusing('book', '57014'))).rejects.toMatchObject({ code: 'busy', status: 503 });
  });
});

describe('a transaction that takes its time', () => {
  const { transactionTimeout } = LIMITS;
  beforeEach(() => (LIMITS.transactionTimeout = 0));
  afterEach(() => (LIMITS.transactionTimeout = transactionTimeout));
  const working = (minutes?: number) => {
    const sent: string[] = [];
    const work = () => new Promise((resolve) => setTimeout(resolve, 2));
    return { sent, done: refusing('nothing', '', sent).system('a look at everything', work, { minutes }) };
  };

  it('is undone, for what it has decided may be old', async () => {
    await expect(working().done).rejects.toMatchObject({ code: 'busy' });
  });

  it('is given it where it asks for it', async () => {
    const { sent, done } = working(5);
    await done;
    expect(sent[0]).toContain("set_config('idle_in_transaction_session_timeout', '300000ms', true)");
    expect(sent[0]).toContain("set_config('statement_timeout', '300000ms', true)");
  });
});

describe('the opening of a transaction', () => {
  it('holds nothing of a key but digits, for a server may take a backslash for an escape', async () => {
    const sent: string[] = [];
    const key = "x\\'; DROP TABLE claim; --";
    const work = breakingAt('COMMIT', 'EPIPE', sent).transaction('organization', () => Promise.resolve(), key);
    await expect(work).rejects.toMatchObject({ code: 'outcome_unknown' });
    expect(sent[0]).toContain(Buffer.from(key).toString('hex'));
    expect(sent.join()).not.toContain('DROP');
  });
});
