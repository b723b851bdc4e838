import { Client } from 'pg';
import { AppointmentRepository, ExpiryService } from '../../src/appointments';
import { Database, Idempotency, LIMITS } from '../../src/platform';
import { ALWAYS, maker } from '../support/api';
import { addOrganization, type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { endIn } from '../support/life';
import { pauseBefore, Stage, until } from '../support/sessions';

interface Shown {
  id: string;
  status: string;
  version: number;
  updatedAt: string;
  holdExpiresAt: string | null;
}

/** From where a poller asks the next time: the latest change that he was shown, or the time at which he asked. */
const STRATEGIES = ['the latest change shown', 'the time of asking'] as const;

/**
 * `GET /v1/appointments?updatedSince`: who polls misses nothing, though changes get their time before they can be seen. Which
 * of them begins first is stepped by hand; a storm follows.
 */
describe('polling for changes', () => {
  let app: TestApp;
  let clinic: Clinic;
  let stage: Stage;
  let database: Database;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    stage = await Stage.open(app.databaseUrl);
    database = app.app.get(Database, { strict: false });
    const { setHours } = maker(clinic.call);
    for (const { scheduleId } of clinic.practitioners) await setHours(scheduleId, ALWAYS);
    // Who books first makes the patient, and others with that phone would wait for him.
    await made();
  });
  afterEach(() => jest.restoreAllMocks());
  afterAll(async () => {
    await stage.close();
    await app.stop();
  });

  let slots = 0;
  let keys = 0;
  /** A time that nobody else here wants, on a day of its own schedule. */
  const newTime = () => {
    const slot = slots++;
    return {
      practitionerId: clinic.practitioners[slot % 8]!.id,
      startsAt: new Date(Date.parse(`${workday(5)}T00:00:00Z`) + Math.floor(slot / 8) * 86_400_000).toISOString(),
    };
  };
  const book = (fields: object = {}, key?: string): Promise<Answer> =>
    clinic.call('POST', '/v1/appointments', {
      headers: key === undefined ? {} : { 'Idempotency-Key': key },
      body: { serviceId: clinic.services[0]!.id, ...newTime(), patient: { phone: '+4915170000000' }, ...fields },
    });
  const made = async (fields: object = {}): Promise<string> => {
    const { status, body } = await book(fields);
    expect([status, body.code]).toEqual([201, undefined]);
    return body.id;
  };
  const act = (id: string, action: string, body: object = {}, key?: string) =>
    clinic.call('POST', `/v1/appointments/${id}/${action}`, {
      headers: key === undefined ? {} : { 'Idempotency-Key': key },
      body,
    });
  const sweep = () => app.app.get(ExpiryService, { strict: false }).sweep();
  const clock = async () => (await stage.look<{ now: Date }>('SELECT clock_timestamp() AS now'))[0]!.now.toISOString();
  /** The ids of {@link everything} that a poll shows. */
  const idsOf = (rows: Shown[]) => rows.map((row) => row.id);

  /** All pages of one poll. */
  const everything = async (since: string, { limit = 100, call = clinic.call, between = async () => {} } = {}) => {
    const rows: Shown[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const query = `updatedSince=${since}&limit=${limit}${cursor && `&cursor=${cursor}`}`;
      const { status, body } = await call('GET', `/v1/appointments?${query}`);
      expect([status, body.code]).toEqual([200, undefined]);
      // Nothing changes within a poll: what has changed meanwhile belongs to the next one.
      const repeated = body.data.filter((row: Shown) => rows.some((each) => each.id === row.id));
      expect(repeated).toEqual([]);
      rows.push(...body.data);
      cursor = body.nextCursor;
      if (cursor !== null) await between();
    }
    return rows;
  };

  /** Someone who polls, and remembers of every appointment what he was shown last. */
  class Poller {
    readonly known = new Map<string, string>();
    polls = 0;
    constructor(
      private readonly strategy: (typeof STRATEGIES)[number],
      private since: string,
      private readonly limit = 100,
    ) {}

    async poll(): Promise<Shown[]> {
      const asked = new Date().toISOString();
      const rows = await everything(this.since, { limit: this.limit });
      for (const row of rows) this.known.set(row.id, `${row.version} ${row.status}`);
      const latest = rows.at(-1)?.updatedAt ?? this.since;
      this.since = this.strategy === 'the time of asking' ? asked : latest;
      this.polls++;
      return rows;
    }
  }

  /** A change that has its time, and has not committed: it stands still until it is resumed. */
  const stamped = async (change: (key: string) => Promise<Answer>) => {
    const pause = pauseBefore(app.app.get(Idempotency, { strict: false }), 'keep');
    const answer = change(`key ${keys++}`);
    await pause.reached;
    return {
      answer,
      finish: async () => {
        pause.resume();
        const { status, body } = await answer;
        expect(status).toBeLessThan(300);
        return body as Shown;
      },
    };
  };
  /** Resolves when a poll has answered, or when it waits: it has looked around several times by then. */
  const answeredOrWaiting = async (poll: Promise<unknown>): Promise<'answered' | 'waiting'> => {
    const looks = jest.spyOn(Client.prototype, 'query');
    const looked = () =>
      looks.mock.calls.filter((call: unknown[]) => /FROM pg_locks/.test(JSON.stringify(call[0]))).length;
    let answered = false;
    void poll.finally(() => (answered = true)).catch(() => undefined);
    await until('the poll answers or waits', () => answered || looked() >= 4);
    looks.mockRestore();
    return answered ? 'answered' : 'waiting';
  };
  const asIfTimeWereAll = () => jest.spyOn(database, 'settled').mockImplementation(async () => new Date(await clock()));

  const CHANGES: Array<[string, () => Promise<(key: string) => Promise<Answer>>]> = [
    ['booking', () => Promise.resolve((key) => book({}, key))],
    ['hold', () => Promise.resolve((key) => book({ hold: true }, key))],
    ['confirmation', async () => {
      const id = await made({ hold: true });
      return (key) => act(id, 'confirm', {}, key);
    }],
    ['late confirmation', async () => {
      const id = await made({ hold: true });
      await endIn(stage, -1, id);
      await sweep();
      return (key) => act(id, 'confirm', {}, key);
    }],
    ['reschedule', async () => {
      const id = await made();
      return (key) => act(id, 'reschedule', { ...newTime() }, key);
    }],
    ['cancellation', async () => {
      const id = await made();
      return (key) => act(id, 'cancel', {}, key);
    }],
  ]; // prettier-ignore

  describe.each(STRATEGIES)('with %s', (strategy) => {
    /** A change has its time; another one comes after it and commits first; a poll, the end of the first change, a poll. */
    const follow = async (prepare: () => Promise<(key: string) => Promise<Answer>>) => {
      const change = await prepare();
      const poller = new Poller(strategy, await clock());
      const first = await stamped(change);
      const later = await made();
      const polling = poller.poll();
      const state = await answeredOrWaiting(polling);
      const changed = await first.finish();
      const shown = await polling;
      await poller.poll();
      expect(poller.known.get(later)).toBe('1 confirmed');
      return { state, changed, shown, known: poller.known.get(changed.id) };
    };

    it.each(CHANGES)('waits for a %s that has begun and not committed, and shows it', async (_, prepare) => {
      const { state, changed, shown, known } = await follow(prepare);
      expect(state).toBe('waiting');
      expect(shown).toContainEqual(changed);
      expect(known).toBe(`${changed.version} ${changed.status}`);
    });

    it.each(CHANGES)('would miss the %s if time were all that it went by', async (_, prepare) => {
      asIfTimeWereAll();
      const { state, changed, known } = await follow(prepare);
      expect(state).toBe('answered');
      // Nothing, or what was there before.
      expect(known).not.toBe(`${changed.version} ${changed.status}`);
    });

    it('leaves out what begins after it, and shows that the next time', async () => {
      const poller = new Poller(strategy, await clock());
      const twice = await made();
      const before = await made();
      // The poll knows until when; it has not read yet.
      const settle = database.settled.bind(database);
      const settled = Promise.withResolvers<void>();
      const read = Promise.withResolvers<void>();
      jest.spyOn(database, 'settled').mockImplementationOnce(async (...values) => {
        const moment = await settle(...values);
        settled.resolve();
        await read.promise;
        return moment;
      });
      const polling = poller.poll();
      await settled.promise;
      const late = await made();
      expect((await act(twice, 'cancel')).status).toBe(200);
      read.resolve();
      expect(idsOf(await polling)).toEqual([before]);
      expect(idsOf(await poller.poll())).toEqual(expect.arrayContaining([late, twice]));
      expect([...poller.known]).toEqual(
        expect.arrayContaining([
          [late, '1 confirmed'],
          [twice, '2 cancelled'],
          [before, '1 confirmed'],
        ]),
      );
    });

    it('shows a hold that is over as expired, at the time at which it ended, though nobody has written it down', async () => {
      const poller = new Poller(strategy, await clock());
      const id = await made({ hold: true });
      const request = await made({ serviceId: clinic.services.find(({ key }) => key === 'approval')!.id });
      expect(idsOf(await poller.poll())).toEqual([id, request]);
      // It ends after the first poll, as every hold does that the first poll has shown as held.
      await endIn(stage, 0.05, id, request);
      await until('they are over', async () => (await clinic.call('GET', `/v1/appointments/${request}`)).body.status === 'expired'); // prettier-ignore
      const changed = await made();

      const shown = await poller.poll();
      const [stored] = await stage.look<{ status: string; expires_at: Date; updated_at: Date }>(
        'SELECT status, expires_at, updated_at FROM appointment WHERE id = $1',
        [id],
      );
      expect(stored!.status).toBe('held');
      const end = stored!.expires_at.toISOString().replace('.000Z', 'Z');
      for (const each of [id, request]) {
        const row = shown.find((one) => one.id === each)!;
        expect([row.status, row.version, Date.parse(row.updatedAt)]).toEqual(['expired', 1, Date.parse(end)]);
      }
      expect(idsOf(shown).indexOf(changed)).toBeGreaterThan(idsOf(shown).indexOf(id));

      // When it is written down, it has changed once more.
      expect(await sweep()).toBe(2);
      expect(await poller.poll()).toEqual(
        expect.arrayContaining([expect.objectContaining({ id, status: 'expired', version: 2 })]),
      );
    });

    it('pages through a poll while what it lists is changed', async () => {
      const poller = new Poller(strategy, await clock(), 4);
      const ids: string[] = [];
      for (let n = 0; n < 18; n++) ids.push(await made());
      const settled = jest.spyOn(database, 'settled');
      const shown: Shown[] = [];
      const waiting = [...ids];
      const extra: string[] = [];
      const started = new Date().toISOString();
      const list = jest.spyOn(app.app.get(AppointmentRepository, { strict: false }), 'list');
      const first = await everything((await stage.look<{ at: Date }>('SELECT updated_at AS at FROM appointment WHERE id = $1', [ids[0]]))[0]!.at.toISOString(), {
        limit: 4,
        between: async () => {
          // One that was shown already, one that is still to come, and a new one.
          await act(waiting.shift()!, 'cancel');
          await act(waiting.pop()!, 'cancel');
          extra.push(await made());
        },
      }); // prettier-ignore
      shown.push(...first);
      expect(settled).toHaveBeenCalledTimes(1);
      expect(list.mock.calls.length).toBeGreaterThan(3);
      expect(new Set(idsOf(shown)).size).toBe(shown.length);
      // Unchanged ones are not lost between two pages, whatever happened to those around them.
      expect(idsOf(shown)).toEqual(expect.arrayContaining(waiting));
      expect(idsOf(shown).filter((id) => extra.includes(id))).toEqual([]);
      const next = await everything(strategy === 'the time of asking' ? started : shown.at(-1)!.updatedAt);
      const known = new Map([...shown, ...next].map((row) => [row.id, `${row.version} ${row.status}`]));
      for (const id of ids)
        expect([id, known.get(id)]).toEqual([id, waiting.includes(id) ? '1 confirmed' : '2 cancelled']);
      for (const id of extra) expect(known.get(id)).toBe('1 confirmed');
      await poller.poll();
      expect(ids.every((id) => poller.known.has(id))).toBe(true);
    });
  });

  describe('that waits', () => {
    it("is in nobody's way", async () => {
      const since = await clock();
      const first = await stamped((key) => book({}, key));
      const polling = everything(since);
      expect(await answeredOrWaiting(polling)).toBe('waiting');
      // Nobody waits for a lock, the poll neither; and whatever needs no lock of the first goes through.
      expect(await stage.waiters()).toEqual([]);
      const beside = await made();
      expect((await act(beside, 'cancel')).status).toBe(200);
      expect(await stage.waiters()).toEqual([]);
      const { id } = await first.finish();
      expect(idsOf(await polling)).toContain(id);
    });

    it('waits for those alone that began before it', async () => {
      const since = await clock();
      const first = await stamped((key) => book({}, key));
      const polling = everything(since);
      expect(await answeredOrWaiting(polling)).toBe('waiting');
      const second = await stamped((key) => book({}, key));
      const { id } = await first.finish();
      // The second one still stands.
      expect(idsOf(await polling)).toEqual([id]);
      const other = await second.finish();
      expect(idsOf(await everything(since))).toEqual([id, other.id]);
    });

    it('does not wait for another organization, nor for one who only reads, prunes or looks at everything', async () => {
      const { apiKey } = await addOrganization(app, 'Beside');
      const first = await stamped((key) => book({}, key));
      expect(await answeredOrWaiting(everything(await clock(), { call: app.as(apiKey) }))).toBe('answered');
      await first.finish();
      let release!: () => void;
      const standing = new Promise<void>((resolve) => (release = resolve));
      const others = [
        database.read(clinic.organizationId, () => standing),
        database.prune('test', () => standing),
        database.system('test', () => standing),
      ];
      expect(await answeredOrWaiting(everything(await clock()))).toBe('answered');
      release();
      await Promise.all(others);
    });

    it('is told busy when a change does not end, and has lost nothing', async () => {
      const since = await clock();
      const first = await stamped((key) => book({}, key));
      jest.replaceProperty(LIMITS, 'budget', 100);
      const answer = await clinic.call('GET', `/v1/appointments?updatedSince=${since}`);
      expect(answer).toMatchObject({ status: 503, body: { code: 'busy' } });
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
      jest.restoreAllMocks();
      const { id } = await first.finish();
      expect(idsOf(await everything(since))).toEqual([id]);
    });

    it('goes on when the change is undone', async () => {
      const since = await clock();
      const pause = pauseBefore(app.app.get(Idempotency, { strict: false }), 'keep');
      const undone = book({}, `key ${keys++}`);
      await pause.reached;
      const polling = everything(since);
      expect(await answeredOrWaiting(polling)).toBe('waiting');
      const [mark] = await stage.look<{ pid: number }>(
        `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock'
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      );
      await stage.look('SELECT pg_terminate_backend($1, 10000)', [mark!.pid]);
      expect(await polling).toEqual([]);
      pause.resume();
      expect((await undone).status).toBe(503);
    });
  });

  it('misses nothing in a storm', async () => {
    const seed = Date.now() % 1_000_000;
    let state = seed;
    /** Mulberry32. */
    const random = (below: number) => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
    };
    const began = await clock();
    const pollers = STRATEGIES.map((strategy, index) => new Poller(strategy, began, 3 + index));
    const ids: string[] = [];
    const refused = new Map<string, number>();
    const day = Date.parse(`${workday(40)}T00:00:00Z`);
    const anyTime = () => ({
      practitionerId: clinic.practitioners[random(4)]!.id,
      startsAt: new Date(day + random(3) * 86_400_000 + random(40) * 1_800_000).toISOString(),
    });
    const write = async () => {
      for (let n = 0; n < 40; n++) {
        const id = ids[random(ids.length || 1)];
        const choice = id === undefined ? 0 : random(10);
        const answer =
          choice < 3
            ? await book(anyTime())
            : choice < 6
              ? await book({ ...anyTime(), hold: { seconds: 5 + random(2) } })
              : choice < 7
                ? await act(id!, 'confirm')
                : choice < 8
                  ? await act(id!, 'reschedule', anyTime())
                  : choice < 9
                    ? await act(id!, 'cancel')
                    : await act(id!, 'check-in');
        if (answer.status === 201) ids.push(answer.body.id);
        if (answer.status >= 400) refused.set(answer.body.code, (refused.get(answer.body.code) ?? 0) + 1);
      }
    };
    const storm = { rages: true };
    const watch = async (poller: Poller) => {
      while (storm.rages) await poller.poll();
    };
    const sweeping = async () => {
      while (storm.rages) {
        await sweep();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const beside = Promise.all([sweeping(), ...pollers.map(watch)]);
    // Whatever goes wrong there is told at the end.
    beside.catch(() => undefined);
    try {
      await Promise.all([write(), write(), write(), write(), write()]);
      // Until the last hold is over, some written down by the sweeper and some not.
      await until('no hold is left', async () => {
        const held = await stage.look(
          `SELECT 1 FROM appointment WHERE id = ANY($1) AND status = 'held' AND expires_at > clock_timestamp()`,
          [ids],
        );
        return held.length === 0;
      });
    } finally {
      storm.rages = false;
    }
    await beside;

    const final = new Map<string, string>();
    for (const id of ids) {
      const { body } = await clinic.call('GET', `/v1/appointments/${id}`);
      final.set(id, `${body.version} ${body.status}`);
    }
    expect({ seed, unexpected: [...refused.keys()].filter((code) => !['slot_taken', 'invalid_transition', 'hold_expired'].includes(code)) }).toEqual({ seed, unexpected: [] }); // prettier-ignore
    expect(new Set([...final.values()].map((each) => each.split(' ')[1])).size).toBeGreaterThan(3);
    for (const poller of pollers) {
      await poller.poll();
      expect(poller.polls).toBeGreaterThan(5);
      const missed = [...final].filter(([id, last]) => poller.known.get(id) !== last);
      expect({ seed, missed }).toEqual({ seed, missed: [] });
    }
  });
});
