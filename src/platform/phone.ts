import { parsePhoneNumberFromString } from 'libphonenumber-js';

/**
 * The E.164 form of a phone number that carries its country code (`+49 151 1234 5678` or `0049…` is not one: `+` only).
 * A number is accepted when its country's numbering plan has numbers of that length; whether it is assigned nobody knows.
 * @returns undefined where it is none
 */
export function normalizePhone(text: string): string | undefined {
  const known = normalized.get(text);
  if (known !== undefined) return known;
  if (!/^\+[\d\s().\-/]{5,30}$/.test(text)) return undefined;
  const parsed = parsePhoneNumberFromString(text);
  if (!parsed?.isPossible() || !/^\+[1-9]\d{5,14}$/.test(parsed.number)) return undefined;
  if (normalized.size >= 1_000) normalized.clear();
  normalized.set(text, parsed.number).set(parsed.number, parsed.number);
  return parsed.number;
}

// A request's number is asked for twice, as it came and as it was written down; parsing one takes 4 % of a booking.
const normalized = new Map<string, string>();
