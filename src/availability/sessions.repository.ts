import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, Repository } from 'typeorm';
import type { Interval } from '../platform';
import type { SeatedSession } from './ledger.rules';
import { Attendance, GroupSession } from './schedule.entities';

/**
 * Sessions that appointments share, and their seats. A session has one claim, whose days must be locked for every change here:
 * that is what serialises those who join and leave. Seats follow the rule of expiry: past its time, one blocks nobody.
 */
@Injectable()
export class SessionsRepository {
  constructor(
    @InjectRepository(GroupSession) private readonly sessions: Repository<GroupSession>,
    @InjectRepository(Attendance) private readonly attendances: Repository<Attendance>,
  ) {}

  /** The sessions of a service that begin within an interval, with the seats that are occupied now. */
  async of(
    tx: EntityManager,
    serviceId: string,
    scheduleIds: readonly string[],
    begin: Interval,
  ): Promise<Array<SeatedSession & { scheduleId: string }>> {
    const rows = await tx.query<
      Array<{ id: string; schedule_id: string; starts_at: Date; ends_at: Date; seated: number }>
    >(
      `SELECT s.id, s.schedule_id, s.starts_at, s.ends_at,
              (SELECT count(*)::integer FROM attendance a
               WHERE a.organization_id = s.organization_id AND a.session_id = s.id AND ${LIVING}) AS seated
       FROM group_session s
       WHERE s.schedule_id = ANY($1::uuid[]) AND s.service_id = $2 AND s.starts_at >= $3 AND s.starts_at < $4
       ORDER BY s.starts_at, s.id`,
      [scheduleIds, serviceId, new Date(begin.start), new Date(begin.end)],
    );
    return rows.map((row) => ({
      id: row.id,
      scheduleId: row.schedule_id,
      start: row.starts_at.getTime(),
      end: row.ends_at.getTime(),
      seated: row.seated,
    }));
  }

  /** Who has a seat in these sessions. */
  async holdersOf(tx: EntityManager, ids: readonly string[]): Promise<Map<string, string[]>> {
    if (ids.length === 0) return new Map();
    const seats = await tx.query<Array<{ session_id: string; holders: string[] }>>(
      `SELECT session_id, array_agg(holder ORDER BY seat) AS holders FROM attendance a
       WHERE session_id = ANY($1::uuid[]) AND ${LIVING} GROUP BY session_id`,
      [ids],
    );
    return new Map(seats.map((row) => [row.session_id, row.holders]));
  }

  async open(tx: EntityManager, session: GroupSession): Promise<void> {
    await tx.withRepository(this.sessions).insert(session);
  }

  /** Gives the holder the lowest free seat; those past their time are free. */
  async join(tx: EntityManager, seat: Omit<Attendance, 'seat'>): Promise<void> {
    await tx.query(`DELETE FROM attendance a WHERE a.session_id = $1 AND NOT ${LIVING}`, [seat.sessionId]);
    await tx.query(
      `INSERT INTO attendance (organization_id, session_id, seat, holder, expires_at)
       SELECT $1, $2, min(free.seat), $3, $4
       FROM (SELECT 1 AS seat UNION ALL SELECT seat + 1 FROM attendance WHERE session_id = $2) free
       WHERE NOT EXISTS (SELECT 1 FROM attendance a WHERE a.session_id = $2 AND a.seat = free.seat)`,
      [seat.organizationId, seat.sessionId, seat.holder, seat.expiresAt],
    );
    await this.settle(tx, [seat.sessionId]);
  }

  /** Gives a holder's seat another end. @returns how many seats that were */
  async extend(tx: EntityManager, holder: string, until: Date | null): Promise<number> {
    const seats = await tx.withRepository(this.attendances).findBy({ holder });
    if (seats.length === 0) return 0;
    const { affected } = await tx.withRepository(this.attendances).update({ holder }, { expiresAt: until });
    await this.settle(
      tx,
      seats.map((each) => each.sessionId),
    );
    return affected ?? 0;
  }

  /** Takes the holders out of their sessions; a session that nobody is left in ends. @returns how many seats that were */
  async leave(tx: EntityManager, holders: readonly string[]): Promise<number> {
    const left = await tx.query<[Array<{ session_id: string }>, number]>(
      'DELETE FROM attendance WHERE holder = ANY($1::uuid[]) RETURNING session_id',
      [holders],
    );
    const ids = [...new Set(left[0].map((row) => row.session_id))];
    const rest = await tx.withRepository(this.attendances).find({
      select: { sessionId: true, seat: true },
      where: { sessionId: In(ids) },
    });
    const living = new Set(rest.map((each) => each.sessionId));
    const over = ids.filter((id) => !living.has(id));
    if (over.length > 0) {
      await tx.query('DELETE FROM claim WHERE holder = ANY($1::uuid[])', [over]);
      await this.end(tx, over);
    }
    await this.settle(tx, [...living]);
    return left[0].length;
  }

  /** Ends sessions whose claims are gone, with all seats in them. */
  async end(tx: EntityManager, ids: readonly string[]): Promise<void> {
    await tx.withRepository(this.attendances).delete({ sessionId: In([...ids]) });
    await tx.withRepository(this.sessions).delete({ id: In([...ids]) });
  }

  /** The claim of a session lasts as long as the last of its seats. */
  private async settle(tx: EntityManager, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    await tx.query(
      `UPDATE claim c SET expires_at = until
       FROM (SELECT session_id, CASE WHEN bool_or(expires_at IS NULL) THEN NULL ELSE max(expires_at) END AS until
             FROM attendance WHERE session_id = ANY($1::uuid[]) GROUP BY session_id) last
       WHERE c.holder = last.session_id AND c.expires_at IS DISTINCT FROM until`,
      [ids],
    );
  }
}

/** That attendance `a` is not past its time, by the database's clock. */
const LIVING = '(a.expires_at IS NULL OR a.expires_at > clock_timestamp())';
