import { parsePhoneNumberFromString } from 'libphonenumber-js';

/**
 * The E.164 form of a phone number that carries its country code (`+49 151 1234 5678` or `0049…` is not one: `+` only).
 * A number is accepted when its country's numbering plan has numbers of that length; whether it is assigned nobody knows.
 * @returns undefined where it is none
 */
export function normalizePhone(text: string): string | undefined {
  if (!/^\+[\d\s().\-/]{5,30}$/.test(text)) return undefined;
  const parsed = parsePhoneNumberFromString(text);
  return parsed?.isPossible() && /^\+[1-9]\d{5,14}$/.test(parsed.number) ? parsed.number : undefined;
}
