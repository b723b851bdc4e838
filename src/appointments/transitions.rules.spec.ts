import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type AppointmentStatus, OCCUPYING, STATUSES } from './appointment.entities';
import {
  accepted,
  type Action,
  ACTIONS,
  booked,
  decideCancellation,
  decideTransition,
  endOfRequest,
  standingOf,
  statusAt,
} from './transitions.rules';

const NOW = Date.parse('2030-01-07T10:00:00Z');
const HOUR = 3_600_000;
const at = (offset: number) => new Date(NOW + offset);

/** The table of docs/appointments.md: a cell is `-`, or the status that comes of it, and whether only from the start on. */
const TABLE = readFileSync(path.join(__dirname, '../../docs/appointments.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  ) // prettier-ignore
  .filter((_, index, lines) => index >= lines.findIndex(([first]) => first === 'from'));
const [HEADER, ...ROWS] = TABLE.slice(0, 1 + STATUSES.length);
const CASES = ROWS.flatMap(([from, ...cells]) =>
  cells.map((cell, index) => ({
    from: from!.replaceAll('`', '') as AppointmentStatus,
    action: HEADER![index + 1] as Action,
    to: cell === '-' ? undefined : (/`(\w+)`/.exec(cell)![1] as AppointmentStatus),
    fromStart: cell.endsWith('from start'),
  })),
);

describe('the table of transitions', () => {
  it('has every status and every action', () => {
    expect(ROWS.map(([from]) => from)).toEqual(STATUSES.map((status) => `\`${status}\``));
    expect(HEADER!.slice(1)).toEqual([...ACTIONS]);
    expect(CASES).toHaveLength(STATUSES.length * ACTIONS.length);
  });

  it.each(CASES)('$from, $action: $to', ({ from, action, to, fromStart }) => {
    const begun = { status: from, startsAt: at(0), expiresAt: at(HOUR) };
    const due = to === undefined ? { ok: false, from, why: 'status' } : { ok: true, from, to };
    expect(decideTransition(begun, action, NOW)).toEqual(due);
    const notBegun = { ...begun, startsAt: at(1) };
    expect(decideTransition(notBegun, action, NOW)).toEqual(fromStart ? { ok: false, from, why: 'not_started' } : due);
  });

  it('ends the occupation of time with statuses that no action leaves', () => {
    for (const from of STATUSES) {
      const leaves = CASES.some((each) => each.from === from && each.to !== undefined);
      expect([from, leaves]).toEqual([from, OCCUPYING.includes(from)]);
    }
  });
});

describe('expiry', () => {
  it.each(STATUSES)('makes of %s what it is after its time', (status) => {
    const expires = status === 'held' || status === 'pending';
    const appointment = { status, startsAt: at(HOUR), expiresAt: at(0) };
    expect(statusAt(appointment, NOW - 1)).toBe(status);
    // At its very end it is over: ranges are half-open.
    expect(statusAt(appointment, NOW)).toBe(expires ? 'expired' : status);
    for (const action of ACTIONS) {
      if (expires)
        expect(decideTransition(appointment, action, NOW)).toEqual({ ok: false, from: 'expired', why: 'status' });
    }
  });
});

describe('how a booking stands', () => {
  const terms = { requiresConfirmation: false, paymentRequired: false, pendingMinutes: null, holdMinutes: 10 };
  const start = NOW + 24 * HOUR;
  const held = (until: Date) => ({ status: 'held', expiresAt: until, pendingUntil: null });

  it.each([
    ['confirmed at once', terms, false, { status: 'confirmed', expiresAt: null, pendingUntil: null }],
    ['held as long as the service says', terms, true, held(at(600_000))],
    ['held as long as was asked for', terms, { seconds: 90 }, held(at(90_000))],
    ['held until it is paid', { ...terms, paymentRequired: true }, false, held(at(600_000))],
    ['held first where it is to be decided on, too', { ...terms, requiresConfirmation: true }, true, held(at(600_000))],
    [
      'pending until its start',
      { ...terms, requiresConfirmation: true },
      false,
      { status: 'pending', expiresAt: new Date(start), pendingUntil: null },
    ],
    [
      'pending as long as the service says',
      { ...terms, requiresConfirmation: true, pendingMinutes: 60 },
      false,
      { status: 'pending', expiresAt: at(HOUR), pendingUntil: at(HOUR) },
    ],
    [
      'pending until its start at the latest',
      { ...terms, requiresConfirmation: true, pendingMinutes: 48 * 60 },
      false,
      { status: 'pending', expiresAt: new Date(start), pendingUntil: at(48 * HOUR) },
    ],
  ])('%s', (_, service, hold, standing) => {
    expect(standingOf(booked(service, hold, start), NOW)).toEqual(standing);
  });

  it('asks the clinic once the patient has confirmed', () => {
    expect(accepted({ ...terms, requiresConfirmation: true }, start, NOW).status).toBe('pending');
    expect(accepted(terms, start, NOW).status).toBe('confirmed');
  });

  it('keeps the limit of a request that is moved, and ends it with its new start', () => {
    expect(endOfRequest(at(HOUR), NOW + 2 * HOUR)).toEqual(at(HOUR));
    expect(endOfRequest(at(3 * HOUR), NOW + 2 * HOUR)).toEqual(at(2 * HOUR));
    expect(endOfRequest(null, NOW + 2 * HOUR)).toEqual(at(2 * HOUR));
  });
});

describe('the cancellation window', () => {
  const rule = {
    cancellationWindowMinutes: 120,
    lateCancellationRoles: ['administrator'],
    lateCancellationKind: 'short_notice',
  };
  const start = NOW + 2 * HOUR;
  it.each([
    ['in time', 'confirmed', 'receptionist', NOW, { ok: true, kind: 'in_time' }],
    ['late, by one who may', 'confirmed', 'administrator', NOW + 1, { ok: true, kind: 'short_notice' }],
    ['late, by one who may not', 'confirmed', 'receptionist', NOW + 1, { ok: false, reason: 'cancellation_too_late' }],
    [
      'late, of one who is there',
      'checked_in',
      'receptionist',
      NOW + 1,
      { ok: false, reason: 'cancellation_too_late' },
    ],
    ['of a hold, which nobody agreed on', 'held', 'receptionist', NOW + 1, { ok: true, kind: 'in_time' }],
    ['of a request', 'pending', 'receptionist', NOW + 1, { ok: true, kind: 'in_time' }],
  ] as const)('%s', (_, from, role, now, decision) => {
    expect(decideCancellation(rule, from, start, role, now)).toEqual(decision);
  });

  it('is closed to nobody where there is none', () => {
    const none = { ...rule, cancellationWindowMinutes: null };
    expect(decideCancellation(none, 'confirmed', start, 'receptionist', start)).toEqual({ ok: true, kind: 'in_time' });
  });
});
