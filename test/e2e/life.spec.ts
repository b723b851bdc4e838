import { readFileSync } from 'node:fs';
import { ExpiryService } from '../../src/appointments';
import {
  after,
  contentsOf,
  inDays,
  inSeconds,
  lapse,
  maker,
  openSql,
  passing,
  problem,
  problemOf,
} from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

/** One cell of the table in docs/appointments.md. */
interface Cell {
  from: string;
  action: string;
  /** The status that comes of it; undefined where the table says no. */
  to?: string;
  fromStart: boolean;
}

const ROWS = readFileSync('docs/appointments.md', 'utf8')
  .split(/^(?=\| from )/m)[1]!
  .split('\n\n')[0]!
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) => line.split('|').slice(1, -1))
  .map((cells) => cells.map((cell) => cell.replaceAll('`', '').trim()));
const [[, ...ACTIONS], ...LINES] = ROWS as [string[], ...string[][]];
const CELLS: Cell[] = LINES.flatMap(([from, ...cells]) =>
  cells.map((cell, index) => ({
    from: from!,
    action: ACTIONS[index]!,
    to: cell === '-' ? undefined : cell.split(' ')[0],
    fromStart: cell.endsWith('from start'),
  })),
);
/** The statuses that occupy time are those that something can still be done with. */
const occupies = (status: string) => CELLS.some((cell) => cell.from === status && cell.to !== undefined);

interface Case extends Cell {
  name: string;
  /** Whether the appointment has begun by then. */
  begun: boolean;
  /** What is over, where something is. */
  was?: 'hold' | 'request';
  sweep?: boolean;
}

const nameOf = ({ from, action, to }: Cell) => `${from}, ${action}: ${to ?? 'refused'}`;
const CASES: Case[] = CELLS.filter((cell) => cell.from !== 'expired').flatMap((cell) => {
  const { from, fromStart } = cell;
  // Who did not come is known from the start on.
  const usual = { ...cell, name: nameOf(cell), begun: fromStart || from === 'no_show' };
  const early = { ...cell, to: undefined, begun: false };
  return fromStart ? [usual, { ...early, name: `${nameOf(early)} before its start` }] : [usual];
});
const over = (sweep: boolean): Case[] =>
  (['hold', 'request'] as const).flatMap((was) =>
    CELLS.filter((cell) => cell.from === 'expired' && !(was === 'hold' && cell.action === 'confirm')).map((cell) => ({
      ...cell,
      name: `${was} that is over, ${cell.action}: refused${sweep ? ', written down' : ''}`,
      begun: false,
      was,
      sweep,
    })),
  );
/** Confirming a hold that is over: the one thing beside the table. */
const late = (sweep: boolean): Case[] =>
  [true, false].map((free) => ({
    from: 'expired',
    action: 'confirm',
    to: free ? 'confirmed' : undefined,
    fromStart: false,
    name: `late confirm, the time ${free ? 'free' : 'taken'}${sweep ? ', written down' : ''}`,
    begun: false,
    was: 'hold',
    sweep,
  }));
const ALL = [...CASES, ...over(false), ...over(true), ...late(false), ...late(true)];

describe('the life of an appointment', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Awaited<ReturnType<typeof openSql>>;
  let actor: string;
  /** What each case acts on, as it was last shown; on a lane of its own. */
  const prepared = new Map<string, { lane: Lane; appointment: Answer['body'] }>();
  type Lane = Awaited<ReturnType<typeof make.lane>>;

  beforeAll(async () => {
    app = await startApp();
    call = (await seedClinic(app)).call;
    make = maker(call);
    sql = await openSql(app);
    actor = (await call('GET', '/v1/api-keys')).body.data[0].id;
    const lanes: Array<[Case, Lane]> = [];
    // Those that have to begin soon come first, lest the others keep them waiting.
    for (const each of ALL.toSorted((a, b) => Number(b.begun) - Number(a.begun))) {
      const requiresConfirmation = each.from === 'pending' || each.was === 'request';
      lanes.push([each, await make.lane({ requiresConfirmation, pendingMinutes: 60 })]);
    }
    const entries = await Promise.all(
      lanes.map(async ([each, lane]) => [each.name, { lane, appointment: await prepare(each, lane) }] as const),
    );
    for (const [name, entry] of entries) prepared.set(name, entry);
  }, 120_000);
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const done = ({ status, body }: Answer) => {
    if (status !== 200 && status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`);
    return body;
  };
  const read = async (id: string) => done(await call('GET', `/v1/appointments/${id}`));
  const bookOn = ({ service, practitioner }: Lane, startsAt: string, fields: object = {}) =>
    make.book({ serviceId: service.id, practitionerId: practitioner.id, startsAt, ...fields });

  /** Brings an appointment where the case begins, for real. */
  async function prepare({ from, begun, was }: Case, lane: Lane) {
    const startsAt = begun ? inSeconds(3) : inDays(10, '08:00');
    const hold = from === 'held' || (was === 'hold' && { seconds: 5 });
    const { id, ...booked } = done(await bookOn(lane, startsAt, { hold }));
    if (begun) await passing(startsAt);
    if (was === 'hold') await passing(booked.holdExpiresAt);
    if (was === 'request') await lapse(sql, id);
    const ways: Record<string, string[]> = {
      checked_in: ['check-in'],
      completed: ['check-in', 'complete'],
      no_show: ['no-show'],
      cancelled: ['cancel'],
    };
    for (const action of ways[from] ?? []) done(await make.act(id, action));
    const appointment = await read(id);
    expect([id, appointment.status]).toEqual([id, from]);
    return appointment;
  }

  const claimsOf = (id: string) =>
    sql(
      'SELECT core_starts_at AS "startsAt", core_ends_at AS "endsAt", expires_at AS "expiresAt" FROM claim WHERE holder = $1',
      [id],
    );
  const eventsOf = (id: string) =>
    sql('SELECT type, version FROM outbox_event WHERE subject_id = $1 ORDER BY version', [id]);
  const historyOf = async (id: string) => done(await call('GET', `/v1/appointments/${id}/history`)).data;
  const bodyFor = (action: string, { startsAt }: { startsAt: string }) => ({
    reason: `Because of ${action}`,
    // To where its lane is free and open.
    ...(action === 'reschedule' && { startsAt: after(startsAt, 120) }),
  });

  async function refuses(appointment: Answer['body'], action: string, code = 'invalid_transition', status = 409) {
    const before = await contentsOf(sql);
    const answer = await make.act(appointment.id, action, bodyFor(action, appointment));
    expect(problemOf(answer)).toEqual(problem(status, code));
    expect(answer.body.currentStatus).toBe(code === 'invalid_transition' ? appointment.status : undefined);
    expect(await contentsOf(sql)).toEqual(before);
    expect(await read(appointment.id)).toEqual(appointment);
  }

  const expiry = (fromVersion: number) => ({
    version: fromVersion + 1,
    fromVersion,
    action: 'expire',
    fromStatus: 'held',
    toStatus: 'expired',
    actor: 'system',
    channel: 'system',
    reason: null,
    details: {},
    at: expect.any(String),
  });

  async function does(
    { lane, appointment: before }: { lane: Lane; appointment: Answer['body'] },
    action: string,
    to: string,
  ) {
    const { id } = before;
    const [lines, events] = [await historyOf(id), await eventsOf(id)];
    const body = bodyFor(action, before);
    // A hold that is over is written down to be so before it is taken up again.
    const unwritten = before.status === 'expired' && lines.at(-1)!.action !== 'expire';
    const version = before.version + (unwritten ? 2 : 1);
    const answer = await make.act(id, action, body);
    const now = answer.body;
    const moved = action === 'reschedule';
    expect([answer.status, answer.headers.get('etag')]).toEqual([200, `"${version}"`]);
    const range = moved
      ? { startsAt: after(before.startsAt, 120), endsAt: after(before.endsAt, 120) }
      : { startsAt: before.startsAt, endsAt: before.endsAt };
    expect(now).toEqual({
      ...before,
      ...range,
      segments: [{ ...before.segments[0], ...range }],
      status: to,
      version,
      holdExpiresAt: to === 'held' ? before.holdExpiresAt : null,
      pendingUntil: to === 'pending' ? before.pendingUntil : null,
      cancellation: to === 'cancelled' ? 'in_time' : null,
      updatedAt: now.updatedAt,
    });
    expect(Date.parse(now.updatedAt)).toBeGreaterThanOrEqual(Date.parse(before.updatedAt));
    const shown = await call('GET', `/v1/appointments/${id}`);
    expect([shown.body, shown.headers.get('etag')]).toEqual([now, answer.headers.get('etag')]);
    expect(await historyOf(id)).toEqual([
      ...lines,
      ...(unwritten ? [expiry(before.version)] : []),
      {
        version,
        fromVersion: version - 1,
        action,
        fromStatus: before.status,
        toStatus: to,
        actor,
        channel: 'api',
        reason: body.reason,
        details: moved
          ? {
              from: { startsAt: before.startsAt, endsAt: before.endsAt, practitionerId: lane.practitioner.id },
              to: { ...range, practitionerId: lane.practitioner.id },
            }
          : {},
        at: now.updatedAt,
      },
    ]);
    const type = moved ? 'appointment.rescheduled' : `appointment.${to}`;
    const written = unwritten ? [{ type: 'appointment.expired', version: version - 1 }] : [];
    expect(await eventsOf(id)).toEqual([...events, ...written, { type, version }]);

    const end = now.holdExpiresAt ?? now.pendingUntil;
    const claim = {
      startsAt: new Date(now.startsAt),
      endsAt: new Date(now.endsAt),
      expiresAt: end && new Date(end),
    };
    expect(await claimsOf(id)).toEqual(occupies(to) ? [claim] : []);
    const here = await bookOn(lane, Date.parse(now.startsAt) < Date.now() ? inSeconds(2) : now.startsAt);
    if (occupies(to)) expect(problemOf(here)).toEqual(problem(409, 'slot_taken'));
    else expect(here.status).toBe(201);
    if (moved) expect((await bookOn(lane, before.startsAt)).status).toBe(201);
  }

  it('is told by the table of the documentation: every status, every action', () => {
    expect(LINES.map(([from]) => from)).toEqual(
      'held pending confirmed checked_in completed no_show cancelled expired'.split(' '),
    );
    expect(ACTIONS).toEqual(['confirm', 'cancel', 'reschedule', 'check-in', 'complete', 'no-show']);
    expect(CELLS).toHaveLength(48);
    expect(new Set(ALL.map(({ name }) => name)).size).toBe(ALL.length);
  });

  describe('keeps to the table', () => {
    it.each(CASES)('$name', async ({ name, action, to }) => {
      const entry = prepared.get(name)!;
      await (to === undefined ? refuses(entry.appointment, action) : does(entry, action, to));
    });
  });

  /** What the two halves below have in common, before and after the sweep. */
  const overdue = (sweep: boolean) => {
    it.each(over(sweep))('$name', async ({ name, action }) => {
      const { id } = prepared.get(name)!.appointment;
      await refuses(await read(id), action);
    });
    it.each(late(sweep))('$name', async ({ name, to }) => {
      const { lane, appointment } = prepared.get(name)!;
      if (to === undefined) {
        expect((await bookOn(lane, appointment.startsAt)).status).toBe(201);
        await refuses(await read(appointment.id), 'confirm', 'hold_expired', 410);
      } else {
        await does({ lane, appointment: await read(appointment.id) }, 'confirm', to);
      }
    });
  };

  describe('knows what is over before anybody has written it down', () => {
    it('shows it, by time alone', async () => {
      for (const { name, was } of [...over(false), ...late(false)]) {
        const { id, updatedAt } = prepared.get(name)!.appointment;
        const [row] = await sql('SELECT status, version, expires_at AS over FROM appointment WHERE id = $1', [id]);
        expect(row).toEqual({ status: was === 'hold' ? 'held' : 'pending', version: 1, over: new Date(updatedAt) });
      }
    });
    overdue(false);
  });

  describe('knows what is over after it was written down', () => {
    beforeAll(() => app.app.get(ExpiryService, { strict: false }).sweep());

    it('shows it, in the history and the outbox, too', async () => {
      for (const { name, was } of [...over(true), ...late(true)]) {
        const { appointment } = prepared.get(name)!;
        const swept = await read(appointment.id);
        expect(swept).toEqual({ ...appointment, version: 2, updatedAt: swept.updatedAt });
        expect((await historyOf(swept.id))[1]).toEqual({
          version: 2,
          fromVersion: 1,
          action: 'expire',
          fromStatus: was === 'hold' ? 'held' : 'pending',
          toStatus: 'expired',
          actor: 'system',
          channel: 'system',
          reason: null,
          details: {},
          at: swept.updatedAt,
        });
        expect((await eventsOf(swept.id))[1]).toEqual({ type: 'appointment.expired', version: 2 });
        expect(await claimsOf(swept.id)).toEqual([]);
      }
    });
    overdue(true);
  });
});
