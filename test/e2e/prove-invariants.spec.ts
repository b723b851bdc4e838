import type { Client as Connection } from 'pg';
import { Client } from '../../tools/prove/client';
import type { History } from '../../tools/prove/history';
import { DATABASE_CHECKS } from '../../tools/prove/invariants.sql';
import { LedgerReader } from '../../tools/prove/ledger-reader';
import { livesOf } from '../../tools/prove/lives';
import { Random } from '../../tools/prove/random';
import { Figures, Progress } from '../../tools/prove/report';
import { StormContext } from '../../tools/prove/storm';
import { STORMS } from '../../tools/prove/storms';
import { SEATS, World } from '../../tools/prove/world';
import { seedClinic, startApp, type TestApp } from '../support/app';
import { withClient } from '../support/database';

/**
 * Two bookings, one of them cancelled, are all that prove has done here; then the database is damaged in one way, and the
 * check for that must turn red. Every check that prove makes in SQL is seen so.
 */
const DAMAGE: Array<[check: string, sql: string]> = [
  [
    'no two claims on one seat overlap, and every seat is one of its schedule',
    `ALTER TABLE claim DROP CONSTRAINT claim_no_overlap;
     INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder)
     SELECT organization_id, schedule_id, starts_at + interval '1 min', ends_at, core_starts_at + interval '1 min', core_ends_at,
            holder FROM claim`,
  ],
  ['no two claims on one seat overlap, and every seat is one of its schedule', `UPDATE claim SET seat = 2`],
  [
    'no more occupying appointments overlap than there are places, buffers included',
    `UPDATE appointment SET status = 'confirmed' WHERE status = 'cancelled'`,
  ],
  [
    'every occupying appointment has exactly its claims, and every claim its appointment',
    `UPDATE claim SET starts_at = starts_at - interval '1 min'`,
  ],
  [
    'every occupying appointment has exactly its claims, and every claim its appointment',
    `UPDATE claim SET holder = (SELECT id FROM appointment WHERE status = 'cancelled')`,
  ],
  [
    'every occupying appointment has exactly its claims, and every claim its appointment',
    `UPDATE claim SET expires_at = now() + interval '1 h'`,
  ],
  [
    'every occupying appointment has exactly its claims, and every claim its appointment',
    `UPDATE appointment SET status = 'held', expires_at = now() + interval '1 h' WHERE status = 'confirmed'`,
  ],
  [
    'every day row covers its day, is open by its rules and taken by its claims',
    `UPDATE schedule_day SET taken = '{}' WHERE NOT isempty(taken)`,
  ],
  [
    'every day row covers its day, is open by its rules and taken by its claims',
    `UPDATE schedule_day SET open = '{}' WHERE NOT isempty(taken)`,
  ],
  [
    'every day row covers its day, is open by its rules and taken by its claims',
    `UPDATE schedule_day SET covers = tstzrange(lower(covers), upper(covers) + interval '1 h') WHERE NOT isempty(taken)`,
  ],
  [
    'the history leads from version 1 to the present version and status without a hole',
    `UPDATE appointment SET version = 2 WHERE status = 'confirmed'`,
  ],
  [
    'exactly one outbox event for each version',
    `DELETE FROM outbox_event WHERE subject_id = (SELECT id FROM appointment WHERE status = 'cancelled') AND version = 2`,
  ],
  [
    'exactly one outbox event for each version',
    `INSERT INTO outbox_event (id, organization_id, type, subject_id, version)
     SELECT gen_random_uuid(), organization_id, type, subject_id, version FROM outbox_event WHERE type = 'appointment.confirmed'`,
  ],
  [
    'one living patient for each phone',
    `DROP INDEX patient_phone;
     INSERT INTO patient (organization_id, id, phone) SELECT organization_id, gen_random_uuid(), phone FROM patient`,
  ],
  [
    'one appointment at most for each request and Idempotency-Key',
    `UPDATE appointment SET metadata = (SELECT metadata FROM appointment WHERE status = 'confirmed')`,
  ],
  [
    'every stored answer has its effect',
    `UPDATE idempotency_key SET body = jsonb_set(body::jsonb, '{id}', to_jsonb(gen_random_uuid()::text))::text`,
  ],
  [
    'every acknowledged booking is in the database, as it was acknowledged',
    `UPDATE appointment SET starts_at = starts_at - interval '5 min'`,
  ],
  [
    'every acknowledged booking is in the database, as it was acknowledged',
    `UPDATE appointment SET status = 'confirmed' WHERE status = 'cancelled'`,
  ],
  [
    'every occupying row was acknowledged, or its outcome is unknown',
    `INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode)
     SELECT organization_id, gen_random_uuid(), 'checked_in', service_id, patient_id, starts_at, ends_at, mode FROM appointment
     WHERE status = 'confirmed';
     INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id, starts_at,
                                      ends_at, appointment_starts_at)
     SELECT s.organization_id, (SELECT id FROM appointment WHERE status = 'checked_in'), 0, schedule_id, practitioner_id, s.starts_at,
            s.ends_at, s.appointment_starts_at
     FROM appointment_segment s JOIN appointment a ON a.id = s.appointment_id WHERE a.status = 'confirmed'`,
  ],
  [
    "the app's own auditor finds nothing: every day row is equal to its sources, the constraint is there",
    'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap',
  ],
];

/** The same with one seat in a session taken beside them. */
const DAMAGE_TO_SESSIONS: Array<[check: string, sql: string]> = [
  [
    'no session has more in it than seats, or than one claim',
    `INSERT INTO attendance (organization_id, session_id, seat, holder)
     SELECT organization_id, session_id, seat + extra, gen_random_uuid() FROM attendance, generate_series(1, ${SEATS}) AS extra`,
  ],
  ['no session has more in it than seats, or than one claim', `UPDATE claim SET shared = false`],
  [
    'no session has more in it than seats, or than one claim',
    `INSERT INTO group_session (organization_id, id, schedule_id, service_id, starts_at, ends_at)
     SELECT organization_id, gen_random_uuid(), schedule_id, service_id, starts_at, ends_at FROM group_session`,
  ],
  ['every occupying appointment has exactly its claims, and every claim its appointment', 'DELETE FROM attendance'],
  [
    'every occupying appointment has exactly its claims, and every claim its appointment',
    `UPDATE attendance SET expires_at = now() + interval '1 h'`,
  ],
];

describe('what prove checks in the database', () => {
  let app: TestApp;
  let client: Client;
  let world: World;
  let history: History;
  let ledger: LedgerReader;

  beforeEach(async () => {
    app = await startApp();
    const { apiKey } = await seedClinic(app);
    client = new Client(0, app.url, apiKey);
    world = new World(client, new Random(1), 2);
    await world.create();
    history = await bookAndCancel();
    ledger = await LedgerReader.open(app.databaseUrl);
  });
  afterEach(async () => {
    await ledger.close();
    client.close();
    await app.stop();
  });

  /** One booking that stays, one that is cancelled, at the same time. */
  async function bookAndCancel(): Promise<History> {
    const ctx = context();
    const [practitioner] = world.practitioners;
    const startsAt = world.takeWindow(30);
    for (const number of [0, 1]) {
      const wish = ctx.wish({ service: world.services.plain, practitioner, startsAt, phone: world.phoneOf(number) });
      const { appointment } = await ctx.book(client, { ...wish, key: wish.requestId });
      if (number === 0) await ctx.cancel(client, appointment!.id);
    }
    return ctx.history;
  }

  /** A seat in a session, beside them. */
  async function join(): Promise<void> {
    const ctx = context();
    const startsAt = world.takeWindow(30);
    const what = { service: world.services.group, practitioner: world.host, startsAt, phone: world.phoneOf(1) };
    expect((await ctx.book(client, ctx.wish(what))).outcome).toBe('ok');
    history.bookings.push(...ctx.history.bookings);
  }

  function context(): StormContext {
    const limits = {
      rounds: 1,
      fresh: false,
      limitsCodes: false,
      until: Infinity,
      signal: new AbortController().signal,
    };
    const judge = async () => ({ made: 0, findings: [] });
    const storm = STORMS[0]!;
    const figures = new Figures(storm.name, storm.title, 1);
    return new StormContext(storm, [client], world, new Random(1), figures, judge, limits, new Progress());
  }

  const broken = async () => {
    const { findings } = await ledger.check(world, livesOf(history));
    return [...new Set(findings.map(({ check }) => check))];
  };

  it('is true of what Holdfast did', async () => {
    expect(await ledger.holds(world)).toBe(true);
    expect(await broken()).toEqual([]);
  });

  it.each(DAMAGE)('%s: seen when it is broken', async (check, sql) => {
    await withClient(app.databaseUrl, (connection) => damage(connection, sql));
    expect(await broken()).toContain(check);
  });

  it('is true of sessions, too', async () => {
    await join();
    expect(await broken()).toEqual([]);
  });

  it.each(DAMAGE_TO_SESSIONS)('%s: seen when it is broken in a session', async (check, sql) => {
    await join();
    await withClient(app.databaseUrl, (connection) => damage(connection, sql));
    expect(await broken()).toContain(check);
  });

  it('is seen broken in every one of its checks', () => {
    expect(new Set([...DAMAGE, ...DAMAGE_TO_SESSIONS].map(([check]) => check))).toEqual(new Set(DATABASE_CHECKS));
  });
});

/** As the owner where the schema is changed, past row-level security where rows are. */
async function damage(connection: Connection, sql: string): Promise<void> {
  const { rows } = await connection.query<{ relname: string }>(
    `SELECT relname FROM pg_class WHERE relforcerowsecurity AND relnamespace = 'public'::regnamespace`,
  );
  for (const { relname } of rows) await connection.query(`ALTER TABLE ${relname} DISABLE ROW LEVEL SECURITY`);
  await connection.query(sql);
  for (const { relname } of rows) await connection.query(`ALTER TABLE ${relname} ENABLE ROW LEVEL SECURITY`);
}
