import { createHash, randomInt } from 'node:crypto';
import { uuidv7 } from 'uuidv7';
import type { PoolClient } from 'pg';
import {
  BAREST,
  CANCEL,
  CHECK_IN,
  CONFIRM,
  FIND_PATIENT,
  FREE,
  FREE_DAY,
  FROM_RULES,
  GIVE_UP,
  GUARDED,
  LOCK_APPOINTMENT,
  LOCK_DAYS,
  LOCKED_FREE,
  MAKE_PATIENT,
  MOVE,
  STORE_CODE,
  TAKE,
} from './bare.sql';
import { pool, serve, settings, transaction } from './serve';

/**
 * The bare forms: node:http, pg and the necessary SQL of each action, by prepared statements. No validation, no
 * authentication, no representation: nobody could serve less.
 */
interface Wish {
  serviceId: string;
  patientId: string;
  practitionerId: string;
  scheduleId: string;
  day: string;
  startsAt: string;
  minutes: number;
}

const { organizationId } = settings;
const RETRIES = 3;

const endOf = ({ startsAt, minutes }: Wish): string => new Date(Date.parse(startsAt) + minutes * 60_000).toISOString();

/** The parameters that all forms of booking begin with. */
const place = (wish: Wish) => [wish.scheduleId, wish.day, wish.startsAt, endOf(wish)];
const values = (wish: Wish, id: string, held: boolean) => [
  ...place(wish),
  organizationId,
  id,
  wish.serviceId,
  wish.patientId,
  uuidv7(),
  held ? new Date(Date.now() + 600_000) : null,
  held ? 'held' : 'confirmed',
];

async function barest(wish: Wish) {
  const id = uuidv7();
  const { rowCount } = await pool.query({ ...BAREST, values: values(wish, id, false) });
  return rowCount === 1 ? { id } : null;
}

const guarded = (held: boolean) => (wish: Wish) =>
  transaction(async (client) => {
    const id = uuidv7();
    const { rowCount } = await client.query({
      ...GUARDED,
      values: [...values(wish, id, held), wish.practitionerId],
    });
    return rowCount === 1 ? { id } : null;
  });

/** Look, and then write: under the day's lock, or under the eyes of SERIALIZABLE. */
const lookThenWrite = (look: typeof FREE, begin?: string) => (wish: Wish) =>
  transaction(async (client) => {
    const { rows } = await client.query<{ free: boolean }>({ ...look, values: place(wish) });
    if (!rows[0]?.free) return null;
    const id = uuidv7();
    await client.query({ ...TAKE, values: [...values(wish, id, false), wish.practitionerId] });
    return { id };
  }, begin);

async function serializable(wish: Wish) {
  const attempt = lookThenWrite(FREE, 'BEGIN ISOLATION LEVEL SERIALIZABLE');
  for (let retries = 0; ; retries++) {
    try {
      return await attempt(wish);
    } catch (error) {
      if ((error as { code?: string }).code !== '40001' || retries === RETRIES) throw error;
    }
  }
}

/** Locks the appointment and the days of what it occupies, in the order of all. */
async function lock(client: PoolClient, id: string, also?: Wish) {
  await client.query({ ...LOCK_APPOINTMENT, values: [organizationId, id] });
  const { rows } = await client.query<{ schedule_id: string; day: string }>({
    ...LOCK_DAYS,
    values: [id, also?.scheduleId ?? null, also?.day ?? null],
  });
  return rows;
}

const confirm = ({ id }: { id: string }) =>
  transaction(async (client) => {
    await lock(client, id);
    const { rowCount } = await client.query({
      ...CONFIRM,
      values: [organizationId, id, 'confirmed', 'confirm', uuidv7()],
    });
    return rowCount === 1 ? { id } : null;
  });

const checkIn = ({ id }: { id: string }) =>
  transaction(async (client) => {
    await client.query({ ...LOCK_APPOINTMENT, values: [organizationId, id] });
    const { rowCount } = await client.query({
      ...CHECK_IN,
      values: [organizationId, id, 'checked_in', 'check-in', uuidv7()],
    });
    return rowCount === 1 ? { id } : null;
  });

const cancel = ({ id }: { id: string }) =>
  transaction(async (client) => {
    const [day] = await lock(client, id);
    await client.query({ ...GIVE_UP, values: [id] });
    const { rowCount } = await client.query({
      ...CANCEL,
      values: [organizationId, id, 'cancelled', 'cancel', uuidv7(), day!.schedule_id, day!.day],
    });
    return rowCount === 1 ? { id } : null;
  });

const reschedule = (wish: Wish & { id: string }) =>
  transaction(async (client) => {
    const { id, scheduleId, day } = wish;
    const days = await lock(client, id, wish);
    await client.query({ ...GIVE_UP, values: [id] });
    const old = days.find((each) => each.schedule_id !== scheduleId || each.day !== day) ?? days[0]!;
    await client.query({ ...FREE_DAY, values: [old.schedule_id, old.day] });
    const moved = await client.query({
      ...MOVE,
      values: [
        ...[organizationId, id, 'confirmed', 'reschedule', uuidv7()],
        ...[scheduleId, day, wish.startsAt, endOf(wish), wish.practitionerId],
      ],
    });
    return moved.rowCount === 1 ? { id } : null;
  });

const patient = ({ phone, name }: { phone: string; name: string }) =>
  transaction(async (client) => {
    const known = await client.query<{ id: string }>({ ...FIND_PATIENT, values: [phone] });
    if (known.rows[0]) return { id: known.rows[0].id };
    const made = await client.query<{ id: string }>({
      ...MAKE_PATIENT,
      values: [organizationId, uuidv7(), phone, name, uuidv7()],
    });
    return made.rows[0] ?? null;
  });

async function code({ phone }: { phone: string }) {
  const hash = createHash('sha256')
    .update(String(randomInt(1_000_000)))
    .digest();
  const { rows } = await pool.query<object>({ ...STORE_CODE, values: [organizationId, phone, hash] });
  return rows[0] ?? null;
}

async function fromRules({ serviceId, from, to, limit }: Record<'serviceId' | 'from' | 'to' | 'limit', string>) {
  const { rows } = await pool.query({ ...FROM_RULES, values: [serviceId, from, to, Number(limit)] });
  return { data: rows };
}

serve({
  barest,
  guarded: guarded(false),
  hold: guarded(true),
  locking: lookThenWrite(LOCKED_FREE),
  serializable,
  confirm,
  'check-in': checkIn,
  cancel,
  reschedule,
  patient,
  code,
  'from-rules': fromRules,
});
