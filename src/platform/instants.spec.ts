import fc from 'fast-check';
import { isDate, isTimeZone, parseInstant, showInstant } from './instants';

const EARLIEST = Date.parse('0001-01-01T00:00:00Z');
const LATEST = Date.parse('9999-12-31T23:59:59.999Z');
const DAY = 86_400_000;

describe('an instant of RFC 3339', () => {
  it.each([
    ['2026-12-01T09:00:00Z', '2026-12-01T09:00:00.000Z'],
    ['2026-12-01T09:00:00+01:00', '2026-12-01T08:00:00.000Z'],
    ['2026-12-01T09:00:00-03:30', '2026-12-01T12:30:00.000Z'],
    ['2026-12-01t09:00:00z', '2026-12-01T09:00:00.000Z'],
    ['2026-12-01T09:00:00-00:00', '2026-12-01T09:00:00.000Z'],
    ['2026-12-01T09:00:00.5Z', '2026-12-01T09:00:00.500Z'],
    ['2026-12-01T09:00:00.123000000Z', '2026-12-01T09:00:00.123Z'],
    // What some languages print by themselves; what is finer than a millisecond is cut off.
    ['2026-12-01T09:00:00.123999Z', '2026-12-01T09:00:00.123Z'],
    ['2026-12-01T09:00:00.000000001Z', '2026-12-01T09:00:00.000Z'],
    ['2024-02-29T00:00:00+14:00', '2024-02-28T10:00:00.000Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
    ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
  ])('is read from %s', (text, instant) => {
    expect(new Date(parseInstant(text)!).toISOString()).toBe(instant);
  });

  it.each([
    ['without an offset', '2026-12-01T09:00:00'],
    ['without a time', '2026-12-01'],
    ['without seconds', '2026-12-01T09:00Z'],
    ['with a blank for the T', '2026-12-01 09:00:00Z'],
    ['with an offset without minutes', '2026-12-01T09:00:00+01'],
    ['with an offset without colon', '2026-12-01T09:00:00+0100'],
    ['with an offset of 24 hours', '2026-12-01T09:00:00+24:00'],
    ['with an offset of 60 minutes', '2026-12-01T09:00:00+01:60'],
    ['on a day that is not', '2026-02-29T09:00:00Z'],
    ['on day zero', '2026-12-00T09:00:00Z'],
    ['in month 13', '2026-13-01T09:00:00Z'],
    ['at 24 o’clock', '2026-12-01T24:00:00Z'],
    ['at minute 60', '2026-12-01T09:60:00Z'],
    ['in a leap second', '2026-12-31T23:59:60Z'],
    ['with a point and nothing after it', '2026-12-01T09:00:00.Z'],
    ['with a comma', '2026-12-01T09:00:00,5Z'],
    ['in the year zero', '0000-12-31T23:59:59Z'],
    ['before the year one by its offset', '0001-01-01T00:00:00+00:01'],
    ['after the year 9999 by its offset', '9999-12-31T23:59:59-00:01'],
    ['with six digits of year', '+012026-12-01T09:00:00Z'],
    ['with something after it', '2026-12-01T09:00:00Z '],
    ['with a line break after it', '2026-12-01T09:00:00Z\n'],
    ['with digits of another script', '٢٠٢٦-12-01T09:00:00Z'],
    ['empty', ''],
  ])('is not %s', (_, text) => {
    expect(parseInstant(text)).toBeUndefined();
  });

  it('means the same with every offset, and comes back as it is shown', () => {
    const anInstant = fc.integer({ min: EARLIEST + DAY, max: LATEST - DAY });
    const anOffset = fc.integer({ min: -(24 * 60 - 1), max: 24 * 60 - 1 });
    fc.assert(
      fc.property(anInstant, anOffset, (instant, minutes) => {
        const local = new Date(instant + minutes * 60_000).toISOString().slice(0, -1);
        const two = (number: number) => String(number).padStart(2, '0');
        const size = Math.abs(minutes);
        const offset = `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}:${two(size % 60)}`;
        expect(parseInstant(`${local}${offset}`)).toBe(instant);
        expect(parseInstant(showInstant(instant))).toBe(instant);
      }),
      { numRuns: 2_000 },
    );
  });

  it('is shown in UTC, with a fraction only where there is one', () => {
    expect(showInstant(Date.parse('2026-12-01T09:00:00Z'))).toBe('2026-12-01T09:00:00Z');
    expect(showInstant(new Date('2026-12-01T09:00:00.010+01:00'))).toBe('2026-12-01T08:00:00.010Z');
  });
});

describe('a date', () => {
  it.each(['2026-12-01', '2024-02-29', '0001-01-01', '9999-12-31'])('is %s', (text) => {
    expect(isDate(text)).toBe(true);
  });

  it.each([
    '2026-02-29',
    '2026-13-01',
    '2026-00-10',
    '2026-12-32',
    '2026-1-1',
    '0000-01-01',
    '20261201',
    ' 2026-12-01',
    '',
  ])('is not %j', (text) => {
    expect(isDate(text)).toBe(false);
  });
});

describe('a time zone', () => {
  it.each(['Europe/Berlin', 'UTC', 'America/Argentina/Buenos_Aires', 'Etc/GMT+5', 'Asia/Calcutta'])('is %s', (text) => {
    expect(isTimeZone(text)).toBe(true);
  });

  it.each([
    '',
    '+01:00',
    '-0330',
    'Z',
    'Mars/Olympus_Mons',
    'Europe',
    'Europe/Berlin ',
    'Europe/Berlin\n',
    '2026-12-01T00:00:00[Europe/Berlin]',
    'T09:00[Europe/Berlin]',
    'T09:00Z',
    'T09:00+01:00',
  ])('is not %j', (text) => {
    expect(isTimeZone(text)).toBe(false);
  });
});
