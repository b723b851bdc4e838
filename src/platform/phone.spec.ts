import fc from 'fast-check';
import { normalizePhone } from './phone';

describe('a phone number', () => {
  it.each([
    ['+4915112345678', '+4915112345678'],
    ['+49 151 1234 5678', '+4915112345678'],
    ['+49 (151) 1234-5678', '+4915112345678'],
    ['+49 (0)151 12345678', '+4915112345678'],
    ['+1 212/555.0123', '+12125550123'],
    ['+977 984-1234567', '+9779841234567'],
    // Of the right length, though nobody was ever given such a one.
    ['+1 212 000 0123', '+12120000123'],
  ])('%s is %s', (text, number) => {
    expect(normalizePhone(text)).toBe(number);
  });

  it.each([
    ['without a country code', '0151 12345678'],
    ['with the country code after 00', '00491511234567'],
    ['with letters', '+1 800 FLOWERS'],
    ['with an extension', '+4915112345678;ext=5'],
    ['with an extension in words', '+4915112345678 x5'],
    ['too short for its country', '+4915'],
    ['too long for any', '+491511234567890123'],
    ['of no country', '+999123456789'],
    ['with a plus in the middle', '49+15112345678'],
    ['of digits of another script', '+٤٩١٥١١٢٣٤٥٦٧٨'],
    ['with a line break after it and nothing else', '+'],
    ['empty', ''],
    ['endless', `+49${' '.repeat(100)}15112345678`],
  ])('is not one %s', (_, text) => {
    expect(normalizePhone(text)).toBeUndefined();
  });

  it('is found in any dress, and its E.164 form is its own', () => {
    const separators = fc.array(fc.constantFrom('', ' ', '-', '.', '/'), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 9_999_999 }), separators, (number, between) => {
        const digits = String(number).padStart(7, '0');
        const dressed = `+49 151${[...digits].map((digit, index) => `${between[index]}${digit}`).join('')}${between[7]}1`;
        const normal = normalizePhone(dressed);
        expect(normal).toBe(`+49151${digits}1`);
        expect(normalizePhone(normal!)).toBe(normal);
      }),
    );
  });
});
