import fc from 'fast-check';
import { clip, type Interval, union } from '../platform';
import {
  bookingWindow,
  type DayState,
  decideClaim,
  decideWindow,
  type Span,
  spanOf,
  type Timing,
} from './ledger.rules';

const MINUTE = 60_000;
const ORIGIN = Date.parse('2026-12-01T00:00:00Z');
const at = (minute: number): number => ORIGIN + minute * MINUTE;
const interval = (start: number, end: number): Interval => ({ start: at(start), end: at(end) });
const span = (core: [number, number], buffered: [number, number] = core): Span => ({
  core: interval(...core),
  buffered: interval(...buffered),
});
const dayState = (
  day: string,
  covers: [number, number],
  open: Array<[number, number]>,
  taken: Array<[number, number]> = [],
): DayState => ({
  day,
  covers: interval(...covers),
  open: open.map((each) => interval(...each)),
  taken: taken.map((each) => interval(...each)),
});

const timing = (more: Partial<Timing> = {}): Timing => ({
  durationMinutes: 30,
  bufferBeforeMinutes: 0,
  bufferAfterMinutes: 0,
  slotIntervalMinutes: null,
  minNoticeMinutes: 0,
  maxDaysAhead: 90,
  ...more,
});

describe('whether a span can be claimed', () => {
  const first = dayState('2026-12-01', [0, 1440], [[540, 1020]], [[600, 630]]);
  const late = dayState('2026-12-01', [0, 1440], [[1200, 1440]]);
  const early = dayState('2026-12-02', [1440, 2880], [[1440, 1500]], [[1480, 1490]]);

  it.each<[string, DayState[], Span, string]>([
    ['free and open', [first], span([540, 570]), 'ok'],
    ['up to the end of open time', [first], span([990, 1020]), 'ok'],
    ['up to what is taken', [first], span([570, 600]), 'ok'],
    ['from where it is free again', [first], span([630, 660]), 'ok'],
    ['with buffers in closed time', [first], span([540, 570], [510, 585]), 'ok'],
    ['with its core a minute before open time', [first], span([539, 569]), 'outside_hours'],
    ['with its core a minute after open time', [first], span([991, 1021]), 'outside_hours'],
    ['with its core a minute in taken time', [first], span([571, 601]), 'taken'],
    ['with its buffer a minute in taken time', [first], span([540, 570], [540, 601]), 'taken'],
    ['with its buffer before it in taken time', [first], span([640, 660], [629, 660]), 'taken'],
    ['over all that is taken', [first], span([590, 640]), 'taken'],
    ['closed and taken', [dayState('2026-12-01', [0, 1440], [], [[600, 630]])], span([600, 630]), 'outside_hours'],
    ['without any day', [], span([540, 570]), 'day_missing'],
    ['with its buffer on a day that is missing', [late], span([1410, 1440], [1410, 1441]), 'day_missing'],
    ['with its buffer on the day before, missing', [early], span([1440, 1470], [1439, 1470]), 'day_missing'],
    ['closed, and on a day that is missing', [first], span([1430, 1450]), 'day_missing'],
    ['across midnight', [late, early], span([1430, 1460], [1420, 1480]), 'ok'],
    ['across midnight, whatever the order of days', [early, late], span([1430, 1460], [1420, 1480]), 'ok'],
    ['across midnight into taken time', [late, early], span([1430, 1460], [1420, 1481]), 'taken'],
    ['across midnight out of open time', [late, early], span([1480, 1501]), 'outside_hours'],
    [
      'over a day between that is missing',
      [first, dayState('2026-12-03', [2880, 4320], [])],
      span([1430, 2890]),
      'day_missing',
    ],
  ])('%s', (_, days, wanted, decision) => {
    const due = decision === 'ok' ? { ok: true, capacity: 1 } : { ok: false, reason: decision };
    expect(decideClaim(days, wanted)).toEqual(due);
  });

  it('is what a look at every minute says', () => {
    const DAY = 90;
    const part = fc
      .tuple(fc.integer({ min: 0, max: 3 * DAY }), fc.integer({ min: 1, max: DAY }))
      .map(([start, length]) => interval(start, start + length));
    const parts = fc.array(part, { maxLength: 4 });
    const someDays = fc.tuple(fc.subarray([0, 1, 2]), parts, parts).map(([indices, open, taken]) =>
      indices.map((index): DayState => {
        const covers = interval(index * DAY, (index + 1) * DAY);
        return { day: String(index), covers, open: clip(open, covers), taken: clip(taken, covers) };
      }),
    );
    const aSpan = fc
      .tuple(
        fc.integer({ min: 0, max: 3 * DAY }),
        fc.integer({ min: 1, max: DAY }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 0, max: 30 }),
      )
      .map(([start, length, before, after]) => span([start, start + length], [start - before, start + length + after]));

    const minutes = ({ start, end }: Interval) =>
      Array.from({ length: (end - start) / MINUTE }, (_, index) => start + index * MINUTE);
    const within = (set: Interval[], instant: number) =>
      set.some((each) => each.start <= instant && instant < each.end);
    fc.assert(
      fc.property(someDays, aSpan, (days, { core, buffered }) => {
        const covers = days.map((day) => day.covers);
        const open = union(days.flatMap((day) => day.open));
        const taken = days.flatMap((day) => day.taken);
        const missing = minutes(buffered).some((minute) => !within(covers, minute));
        const closed = minutes(core).some((minute) => !within(open, minute));
        const occupied = minutes(buffered).some((minute) => within(taken, minute));
        const reason = missing ? 'day_missing' : closed ? 'outside_hours' : occupied ? 'taken' : undefined;
        expect(decideClaim(days, { core, buffered })).toEqual(
          reason ? { ok: false, reason } : { ok: true, capacity: 1 },
        );
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('the span of a service', () => {
  it('has its buffers around its core', () => {
    const service = timing({ durationMinutes: 30, bufferBeforeMinutes: 10, bufferAfterMinutes: 5 });
    expect(spanOf(service, at(540))).toEqual(span([540, 570], [530, 575]));
    expect(spanOf(timing(), at(540))).toEqual(span([540, 570]));
  });
});

describe('notice and window', () => {
  const now = ORIGIN + 123;
  const DAY = 24 * 60 * MINUTE;
  const decide = (startsAt: number, more: Partial<Timing> = {}) => {
    const decision = decideWindow(timing({ minNoticeMinutes: 60, maxDaysAhead: 2, ...more }), startsAt, now);
    return decision.ok ? 'ok' : decision.reason;
  };

  it.each([
    ['long over', -DAY, 'in_the_past'],
    ['just over', -1, 'in_the_past'],
    ['now', 0, 'notice_too_short'],
    ['just too soon', 60 * MINUTE - 1, 'notice_too_short'],
    ['the earliest', 60 * MINUTE, 'ok'],
    ['the latest', 2 * DAY, 'ok'],
    ['just too far ahead', 2 * DAY + 1, 'too_far_ahead'],
    ['far too far ahead', 100 * DAY, 'too_far_ahead'],
  ])('%s', (_, ahead, decision) => {
    expect(decide(now + ahead)).toBe(decision);
  });

  it('without notice, now is early enough', () => {
    expect(decide(now, { minNoticeMinutes: 0 })).toBe('ok');
    expect(decide(now - 1, { minNoticeMinutes: 0 })).toBe('in_the_past');
  });

  it('with a notice beyond the window nothing can be booked', () => {
    const more = { minNoticeMinutes: 3 * 24 * 60 };
    expect(decide(now + 3 * DAY - 1, more)).toBe('notice_too_short');
    expect(decide(now + 3 * DAY, more)).toBe('too_far_ahead');
  });

  it('allow exactly what lies between the two ends of the booking window', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 5_000 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: -MINUTE * 10, max: 6 * DAY }),
        (minNoticeMinutes, maxDaysAhead, ahead) => {
          const service = timing({ minNoticeMinutes, maxDaysAhead });
          const window = bookingWindow(service, now);
          const startsAt = now + ahead;
          expect(decideWindow(service, startsAt, now).ok).toBe(window.start <= startsAt && startsAt <= window.end);
        },
      ),
    );
  });
});
