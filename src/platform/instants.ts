import { Temporal } from 'temporal-polyfill';

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/;
const [EARLIEST, LATEST] = [Date.parse('0001-01-01T00:00:00Z'), Date.parse('9999-12-31T23:59:59.999Z')];

/**
 * Reads an instant of RFC 3339, to milliseconds since the epoch. Any offset; no leap second (`:60`), since no clock here
 * can show one; what is finer than a millisecond is cut off; the year between 1 and 9999.
 * @returns undefined for anything else
 */
export function parseInstant(text: string): number | undefined {
  const match = RFC3339.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, fraction, offset] = match as unknown as string[];
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59 || Number(year) < 1) return undefined;
  if (!isDate(`${year}-${month}-${day}`)) return undefined;
  if (/\d/.test(offset!) && (Number(offset!.slice(1, 3)) > 23 || Number(offset!.slice(4)) > 59)) return undefined;
  const time = Date.parse(
    `${year}-${month}-${day}T${hour}:${minute}:${second}${fraction?.slice(0, 4) ?? ''}${offset!.toUpperCase()}`,
  );
  return time >= EARLIEST && time <= LATEST ? time : undefined;
}

/** Whether the text is a date of the calendar, `YYYY-MM-DD`, from year 1 on. */
export function isDate(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || text < '0001') return false;
  const time = Date.parse(`${text}T00:00:00Z`);
  return !Number.isNaN(time) && new Date(time).toISOString().slice(0, 10) === text;
}

/** Whether the text names a zone of the IANA database (offsets such as `+01:00` are none). */
export function isTimeZone(text: string): boolean {
  if (!/^[A-Za-z]/.test(text)) return false;
  try {
    Temporal.Now.zonedDateTimeISO(text);
    return true;
  } catch {
    return false;
  }
}

/** An instant as the API shows it: RFC 3339 in UTC, without a fraction of zero. */
export const showInstant = (time: number | Date): string => {
  const text = (typeof time === 'number' ? new Date(time) : time).toISOString();
  return text.endsWith('.000Z') ? `${text.slice(0, -5)}Z` : text;
};

/** The release of the IANA zone database that this process reads local times by, such as `2026c`. */
export const zoneDatabase = (): string => process.versions.tz ?? 'unknown';
