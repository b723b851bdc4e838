import { Client } from 'pg';
import { audit } from '../../src/operations';
import { Database, Metrics } from '../../src/platform';
import { openSql, type Sql } from '../support/api';
import { startApp, type TestApp } from '../support/app';
import { type Arena, makeArena } from '../support/arena';
import { createTestDatabase, openClient } from '../support/database';
import {
  conflict,
  type Lock,
  LockRecorder,
  modesOf,
  type Offence,
  offencesOf,
  type Recording,
  type Step,
  TABLES,
} from '../support/row-locks';
import { Stage, until } from '../support/sessions';
import { type Plant, Statements } from '../support/statements';

/** What is out of order, and can nevertheless not be part of a circle. */
const EXCEPTIONS: Array<{ operation: RegExp; what: RegExp; why: string }> = [
  {
    operation: /^(?:book for a caller|set hours|change a (?:practitioner|room|patient)|fill a patient|make a patient)/,
    what: /^(?!organization).* after location\S+ \((?:key )?share\)$/,
    why: `Only who changes or deletes the location waits for it, and it is the first thing he locks. After it he wants nothing
          but the organization, which nobody locks before it.`,
  },
  {
    operation: /^delete a (?:practitioner|room)/,
    what: /^service_(?:practitioner|segment_resource)\S+ \(update\) without service/,
    why: `Who changes a service has locked nothing before but that service. With one practitioner it has one row in common,
          or one for each of a few segments, which both of them find in the order in which they were made.`,
  },
  {
    operation: /^prune$/,
    what: /^idempotency_key\S+ \(update\) without key/,
    why: 'Who stores an answer has one, of his own key, and waits for nothing after it.',
  },
  {
    operation: /^erase a patient$/,
    what: /^idempotency_key\S+ \((?:no key )?update\) without key/,
    why: 'Who stores an answer waits for nothing after it, and this comes last here.',
  },
  {
    operation: /^prune$/,
    what: /^appointment_history\S+ \(update\) without appointment/,
    why: 'Nobody but the pruner changes or deletes lines of a history, and new ones have new versions.',
  },
];

/**
 * Who signs in, is invited or is replaced: tables of their own, which no booking locks. What of the clinic they refer to they share
 * (FOR KEY SHARE), which nothing but a deletion waits for.
 */
const OF_IDENTITIES = /^\w+ \/v1\/(?:auth|users|invitations|api-keys\/\{id\}\/rotate)(?:\/|$)/;

/** What takes rows that are free and leaves those that are not: as it waits for nobody, its order is free, too. */
const SKIPPING = ['sweep', 'prune'];

/** Operations to meet once more under the clinic's rules for patients, when they lock the patient for themselves. */
const BY_RULES = [
  'book one day',
  'book for a known phone',
  'book with anybody',
  'book a hold',
  'book over a hold that is over',
  'confirm a hold',
  'confirm late',
  'confirm late, the claim gone',
  'cancel',
  'move to another practitioner and day',
  'move the other way',
  'move a hold',
  'sweep',
  'set hours',
  'delete a service in use',
  'delete a patient in use',
  'change a service',
  'change a patient',
  'fill a patient',
];

/** Requests that a caller sends twice at once. */
const SENT_TWICE = ['book one day', 'cancel', 'move to another practitioner', 'make an exception', 'fill a patient'];

/** Errors of the server that are an answer: a phone that another patient has. */
const ANSWERS = ['23505'];

/** What to do to be the first who makes a row of a kind. */
const MAKING: Record<string, string> = {
  'new schedule_day': `INSERT INTO schedule_day (organization_id, schedule_id, day, covers, open)
                       SELECT organization_id, id, $2, tstzrange($2::date, $2::date + 1), '{}' FROM schedule WHERE id = $1`,
};

/** How operations run: under the clinic's rules for patients, under a key. */
interface Variant {
  rules?: boolean;
  key?: string;
}

type Planting = (text: string) => Plant | undefined;

/** Where one operation is held up while the other one comes: after a statement, or at a row that a third party has. */
type Stop = { after: string; nth: number } | { at: Lock };

/**
 * That no two operations can wait for each other, shown twice: by the order in which each of them takes its locks when it
 * is alone, and by bringing them together in pairs, at every step at which one has what the other wants.
 */
describe('the order of locks', () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let app: TestApp;
  let sql: Sql;
  let arena: Arena;
  let aside: Client;
  let stage: Stage;
  let statements: Statements;
  let recorder: LockRecorder;
  /** Of each operation alone; under keys; under the clinic's rules for patients. */
  const plain = new Map<string, Recording>();
  const keyed = new Map<string, Recording>();
  const ruled = new Map<string, Recording>();
  let planted = 0;

  beforeAll(async () => {
    database = await createTestDatabase();
    const retention = { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 365 };
    app = await startApp({ databaseUrl: database.url, retention });
    sql = await openSql(app);
    arena = await makeArena(app, sql);
    aside = await openClient(app.databaseUrl);
    stage = await Stage.open(app.databaseUrl);
    statements = Statements.watch();
    recorder = await LockRecorder.open(statements, aside);
    for (const [name, { route }] of Object.entries(arena.operations)) {
      plain.set(name, await record(name));
      if (route?.startsWith('POST')) keyed.set(name, await record(name, keyOf(name)));
    }
    for (const name of BY_RULES) ruled.set(name, await record(name, { rules: true }));
  }, 300_000);
  afterAll(async () => {
    statements.close();
    await stage.close();
    await aside.end();
    await sql.close();
    await app.stop();
    await database.drop();
  });
  afterEach(() => {
    statements.plant = undefined;
  });

  async function record(name: string, { key, rules }: Variant = {}): Promise<Recording> {
    const { run, status } = arena.operations[name]!;
    await arena.restore(rules);
    return recorder.record(name, async () => {
      const answered = await run(key === undefined ? {} : { 'Idempotency-Key': key });
      if (answered !== status) throw new Error(`${name}: answered with ${answered}, not ${status}`);
    });
  }

  const keyOf = (name: string): Variant => ({ key: `key of ${name}` });
  const all = () => [plain, keyed, ruled].flatMap((recordings) => [...recordings.values()]);
  const excepted = ({ operation, what }: Offence) =>
    EXCEPTIONS.filter((each) => each.operation.test(operation) && each.what.test(what));

  describe('is kept by every operation alone', () => {
    it('and these are all operations there are', async () => {
      const { paths } = (await app.as(undefined)('GET', '/openapi.json')).body as { paths: Record<string, object> };
      const routes = Object.entries(paths).flatMap(([path, methods]) =>
        Object.keys(methods)
          .filter((method) => method !== 'get')
          .map((method) => `${method.toUpperCase()} ${path}`),
      );
      const recorded = Object.values(arena.operations).flatMap(({ route }) => route ?? []);
      const others = routes.filter((route) => !OF_IDENTITIES.test(route));
      expect([...new Set(recorded)].sort()).toEqual(others.sort());
    });

    it('idempotency key, service, patient, appointments, schedules, days, and what stands within them', () => {
      const offences = offencesOf(all(), arena.nameOf);
      expect(offences.filter((each) => excepted(each).length === 0)).toEqual([]);
      // An exception that nobody needs any more would hide the next one.
      expect(EXCEPTIONS.filter((each) => !offences.some((offence) => excepted(offence).includes(each)))).toEqual([]);
    });

    it('leaves alone, while it is referred to, what nobody locks against references', () => {
      // Foreign keys look at these late, out of order, and wait for nobody: FOR UPDATE alone would keep them waiting.
      const modes = [...modesOf(all())].filter(([, each]) => each.has('key share') && !each.has('update'));
      expect(modes.map(([kind]) => kind).sort()).toEqual(['organization', 'practitioner', 'schedule']);
    });

    it('is free where nobody is waited for', () => {
      const skip = all().filter(({ transactions }) => transactions.flat().some(({ text }) => /SKIP LOCKED/.test(text)));
      expect([...new Set(skip.map((each) => each.operation))]).toEqual(SKIPPING);
    });

    const DAYS = /\bschedule_day d\b[^]*FOR NO KEY UPDATE OF d$/;
    it.each<[string, string, Planting, RegExp]>([
      ['a day before the appointment', 'cancel', daysFirst, /^appointment\/a \(no key update\) after schedule_day\/p/],
      ['days backwards', 'book with anybody', backwards, /^several of schedule_day at once, not in the order/],
      [
        'an UPDATE of several days that nobody has locked',
        'cancel',
        (text) => before(text, DAYS, 'UPDATE schedule_day SET version = version + 1'),
        /^several of schedule_day at once, not in the order/,
      ],
      [
        'the schedule after the day',
        'confirm a hold',
        (text) => before(text, /^UPDATE claim SET expires_at/, 'SELECT 1 FROM schedule FOR SHARE'),
        /^schedule\/p \(share\) after schedule_day\/p/,
      ],
      [
        'a claim without its day',
        'check in',
        (text) => before(text, /^\s*WITH change/, 'UPDATE claim SET expires_at = NULL'),
        /^claim\/p\S+ \(no key update\) without schedule_day\/p/,
      ],
      [
        'two steps of strength that each of two could have taken half of',
        'book on a new day',
        (text) => before(text, /^INSERT INTO schedule_day/, 'SELECT 1 FROM schedule FOR NO KEY UPDATE'),
        /^schedule\/p \(no key update\) instead of schedule\/p \(share\)/,
      ],
    ])('and says so where it is not: %s', async (_, operation, plant, what) => {
      statements.plant = plant;
      const offences = offencesOf([...all(), { ...(await record(operation)), operation: 'planted' }], arena.nameOf);
      expect(offences).toContainEqual({ operation: 'planted', what: expect.stringMatching(what) });
    });
  });

  const before = (text: string, statement: RegExp, first: string): Plant | undefined =>
    statement.test(text) ? { first } : undefined;
  /** Locks all days there are, in their order, before the appointment. */
  function daysFirst(text: string): Plant | undefined {
    const first = 'SELECT 1 FROM schedule_day ORDER BY schedule_id, day FOR NO KEY UPDATE';
    return before(text, /FROM appointment WHERE id = \$1 FOR NO KEY UPDATE$/, first);
  }
  function backwards(text: string): Plant | undefined {
    const first = 'SELECT schedule_id, day FROM schedule_day ORDER BY schedule_id DESC, day DESC FOR NO KEY UPDATE';
    return before(text, /\bschedule_day d\b[^]*FOR NO KEY UPDATE OF d$/, first);
  }

  describe('lets any two operations meet', () => {
    /** What of an operation's locks another one wants as well: statement by statement. */
    function sharedBy(x: Recording, y: Recording): Step[] {
      const theirs = y.transactions.flat().flatMap((step) => step.took);
      // What is made under an id of its own is not what the other one makes.
      const random = (lock: Lock) => lock.mode === 'new' && /[0-9a-f]{8}-[0-9a-f-]{27}/.test(arena.nameOf(lock.name));
      return x.transactions
        .flat()
        .map((step) => ({
          ...step,
          took: step.took
            .filter((lock) => !random(lock) && theirs.some((other) => conflict(lock, other)))
            .sort((one, other) => (one.name < other.name ? -1 : 1)),
        }))
        .filter((step) => step.took.length > 0);
    }

    /**
     * Where the first must be held up for the two to wait for each other, if they can: with something that the second one
     * wants, and before the last of what both want.
     */
    function stopsOf(ours: Step[], theirs: Step[]): Stop[] {
      const after = ours.map(({ text, nth }) => ({ after: text, nth }));
      // With the last one it has all there is, and the second one just has its turn afterwards.
      if (after.length > 1) after.pop();
      // Within a statement nobody can be held up. Where both lock several rows at once, a third party has the first of them
      // for a while, then the last: so whoever takes them the other way round already has some.
      const rows = ours.flatMap((step) =>
        theirs.flatMap((other) => {
          if (/SKIP LOCKED/.test(step.text + other.text)) return [];
          const common = step.took.filter(
            (lock) => (lock.mode !== 'new' || lock.kind in MAKING) && other.took.some((each) => conflict(lock, each)),
          );
          return [...new Set(common.map((lock) => lock.kind))].flatMap((kind) => {
            const several = common.filter((lock) => lock.kind === kind);
            return several.length > 1 ? [several[0]!, several.at(-1)!] : [];
          });
        }),
      );
      return [...after, ...[...new Map(rows.map((at) => [at.name, { at }])).values()]];
    }

    /** Resolves when so many backends wait for a lock, or all that was started has come to its end without. */
    async function waits(count: number, started: Promise<unknown>): Promise<boolean> {
      let over = false;
      void started.finally(() => (over = true));
      for (;;) {
        if ((await stage.waiters()).length >= count) return true;
        if (over) return false;
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
    }

    /** Brings two operations together, and tells what came of it; `plant` is for the second one. */
    async function meet(x: string, y: string, stop: Stop, { rules, key, plant }: Variant & { plant?: Planting } = {}) {
      await arena.restore(rules);
      statements.errors.length = 0;
      const headers: Record<string, string> = key === undefined ? {} : { 'Idempotency-Key': key };
      const run = (name: string): Promise<number | string> => arena.operations[name]!.run(headers).catch(String);
      let first: Promise<number | string>;
      let release: () => unknown;
      let queue = 1;
      if ('after' in stop) {
        const pause = statements.stopAfter(stop.after, stop.nth);
        release = pause.resume;
        first = run(x);
        await pause.reached;
      } else {
        const holder = await stage.session();
        release = () => holder.run('ROLLBACK');
        await holder.run('BEGIN');
        await holder.run(...holding(stop.at));
        first = run(x);
        if (await waits(1, first)) queue = 2;
      }
      statements.plant = plant;
      const second = run(y);
      const waited = await waits(queue, second);
      await release();
      const answers = await Promise.all([first, second]);
      statements.plant = undefined;
      const errors = [...statements.errors];
      const wrong = [
        ...answers.filter((answer) => typeof answer === 'string' || answer >= 500),
        ...errors.filter((code) => !ANSWERS.includes(code)),
        ...(await audit(app.app.get(Database, { strict: false }))),
      ];
      return { answers, errors, wrong, waited };
    }

    /** What a third party does to have a lock. */
    function holding({ kind, name }: Lock): [string, unknown[]] {
      const [, ...values] = name.split('/');
      return MAKING[kind]
        ? [MAKING[kind], values]
        : [`SELECT 1 FROM ${kind} t WHERE '${kind}/' || ${TABLES[kind]!.key} = $1 FOR UPDATE`, [name]];
    }

    /** Brings together all pairs that have something to wait for; of those that lock the same with the same statements, one. */
    async function meetAll(
      recordings: Map<string, Recording>,
      variantOf: (name: string) => Variant,
      others: (names: string[], index: number) => string[] = (names, index) => names.slice(index),
    ) {
      const done = new Set<string>();
      const wrong: object[] = [];
      const count = { meetings: 0, waits: 0 };
      for (const [index, x] of [...recordings.keys()].entries()) {
        for (const y of others([...recordings.keys()], index)) {
          const [one, other] = [recordings.get(x)!, recordings.get(y)!];
          const [ours, theirs] = [sharedBy(one, other), sharedBy(other, one)];
          const meeting = JSON.stringify([ours, theirs].map((steps) => steps.map(({ text, took }) => [text, took])));
          if (ours.length === 0 || done.has(meeting)) continue;
          done.add(meeting);
          for (const stop of stopsOf(ours, theirs)) {
            let met = await meet(x, y, stop, variantOf(x));
            // Nobody here holds a lock for long, unless the machine stood still: then once more.
            if (met.errors.includes('55P03')) met = await meet(x, y, stop, variantOf(x));
            count.meetings += 1;
            if (met.waited) count.waits += 1;
            const where = 'after' in stop ? `after ${stop.after}` : `at ${arena.nameOf(stop.at.name)}`;
            if (met.wrong.length > 0) wrong.push({ x, y, where, ...met });
          }
        }
      }
      return { wrong, ...count };
    }

    it('whatever one of them has done when the other one comes', async () => {
      const { wrong, meetings, waits } = await meetAll(plain, () => ({}));
      expect(wrong).toEqual([]);
      // They do meet: hardly one of them goes by another unnoticed.
      expect(waits).toBeGreaterThan(meetings * 0.8);
    }, 300_000);

    it("under a clinic's rules for patients", async () => {
      const { wrong, meetings, waits } = await meetAll(ruled, () => ({ rules: true }));
      expect(wrong).toEqual([]);
      expect(waits).toBeGreaterThan(meetings * 0.8);
    }, 300_000);

    it('under one key, where the second one is told at once', async () => {
      const some = new Map([...keyed].filter(([name]) => SENT_TWICE.includes(name)));
      const { wrong, meetings, waits } = await meetAll(some, keyOf, (names, index) => [names[index]!]);
      expect(wrong).toEqual([]);
      expect([meetings > 0, waits]).toEqual([true, 0]);
    }, 300_000);

    describe('and sees those that wait for each other', () => {
      it.each<[string, string, string, Planting]>([
        ['a day before the appointment', 'cancel', 'cancel', daysFirst],
        ['days backwards', 'move to another practitioner', 'book with anybody', backwards],
      ])('%s', async (_, x, y, plant) => {
        const [one, other] = [plain.get(x)!, plain.get(y)!];
        const codes: string[] = [];
        for (const stop of stopsOf(sharedBy(one, other), sharedBy(other, one))) {
          const { answers, errors, wrong } = await meet(x, y, stop, { plant });
          codes.push(...errors);
          // The loser is run once more, by itself, so nobody but the operators gets to know.
          expect(answers.filter((answer) => typeof answer === 'string' || answer >= 500)).toEqual([]);
          expect(wrong).toEqual(errors);
        }
        expect(codes).toContain('40P01');
        planted += codes.filter((code) => code === '40P01').length;
      });
    });

    it('and neither the application nor the server has counted another deadlock', async () => {
      const { values } = await app.app.get(Metrics, { strict: false }).databaseErrors.get();
      expect(values.find(({ labels }) => labels.kind === 'deadlock')?.value).toBe(planted);
      // Backends tell what they have counted when they end.
      await app.app.close();
      await until('the application has let go of the database', async () => {
        const backends = await stage.look(
          `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast'`,
        );
        return backends.length === 0;
      });
      const [row] = await stage.look('SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()');
      expect(Number(row!['deadlocks'])).toBe(planted);
    });
  });
});
