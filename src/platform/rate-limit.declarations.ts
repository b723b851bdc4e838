/** A limit: so many in every window of so many seconds, wherever the window begins. */
export interface RateLimit {
  /** Stable: it stands in settings, headers, metrics and keys. */
  readonly name: string;
  readonly count: number;
  readonly windowSeconds: number;
  /**
   * What becomes of it when Redis is gone.
   *  - `open`: everything passes. For limits that shield the service itself.
   *  - `postgres`: PostgreSQL counts, as it always does for such a limit, so that nothing is lost with Redis, or won. For
   *    limits that guard money and identity.
   *  - `closed`: nothing passes, and callers are told `busy`.
   * Without a Redis at all, `open` limits are counted in the memory of each process, the others in PostgreSQL.
   */
  readonly onStoreGone: 'open' | 'postgres' | 'closed';
  /** Whether its subjects are phones or addresses: they are hashed with the install's secret wherever they are kept. */
  readonly personal?: boolean;
}

/** What a setting changes about a limit. */
export type RateLimitOverride = Pick<RateLimit, 'count' | 'windowSeconds'> & Partial<Pick<RateLimit, 'onStoreGone'>>;

const MINUTE = 60;
const DAY = 86_400;

/** Every limit of the product, with its default. Operators change them by name (`RATE_LIMIT_OVERRIDES`). */
export const RATE_LIMITS = {
  /** Requests of one address to the API, whoever sends them; counted before authentication, so keys cannot be guessed fast. */
  ip: { name: 'ip', count: 12_000, windowSeconds: MINUTE, onStoreGone: 'open', personal: true },
  /** Requests under one API key or of one user. */
  principal: { name: 'principal', count: 6_000, windowSeconds: MINUTE, onStoreGone: 'open' },
  otpPerPhone: { name: 'otp-phone', count: 5, windowSeconds: 15 * MINUTE, onStoreGone: 'postgres', personal: true },
  otpPerIp: { name: 'otp-ip', count: 20, windowSeconds: 60 * MINUTE, onStoreGone: 'postgres', personal: true },
  otpPerOrganization: { name: 'otp-organization', count: 2_000, windowSeconds: DAY, onStoreGone: 'postgres' },
  /** The cap on what codes can cost an install, however many organizations and phones somebody goes through. */
  otpPerInstallation: { name: 'otp-installation', count: 10_000, windowSeconds: DAY, onStoreGone: 'postgres' },
  /** Beside the five tries of each code, so that a new code does not make guessing worth while again. */
  otpVerifyPerPhone: {
    name: 'otp-verify-phone',
    count: 15,
    windowSeconds: 15 * MINUTE,
    onStoreGone: 'postgres',
    personal: true,
  },
  otpVerifyPerIp: { name: 'otp-verify-ip', count: 60, windowSeconds: 60 * MINUTE, onStoreGone: 'postgres', personal: true }, // prettier-ignore
  /** Tries of passwords and of second factors, right ones among them: what is known only afterwards cannot refuse. */
  signInPerEmail: { name: 'sign-in-email', count: 10, windowSeconds: 15 * MINUTE, onStoreGone: 'postgres', personal: true }, // prettier-ignore
  signInPerIp: { name: 'sign-in-ip', count: 100, windowSeconds: 15 * MINUTE, onStoreGone: 'postgres', personal: true },
  /** Codes that somebody who has signed in shows to begin or end a second factor. */
  totp: { name: 'totp', count: 10, windowSeconds: 15 * MINUTE, onStoreGone: 'postgres' },
  signUpPerIp: { name: 'sign-up-ip', count: 30, windowSeconds: 60 * MINUTE, onStoreGone: 'postgres', personal: true },
  passwordResetPerEmail: {
    name: 'password-reset-email',
    count: 3,
    windowSeconds: 60 * MINUTE,
    onStoreGone: 'postgres',
    personal: true,
  },
  passwordResetPerIp: {
    name: 'password-reset-ip',
    count: 20,
    windowSeconds: 60 * MINUTE,
    onStoreGone: 'postgres',
    personal: true,
  },
  passwordResetConfirmPerIp: {
    name: 'password-reset-confirm-ip',
    count: 30,
    windowSeconds: 60 * MINUTE,
    onStoreGone: 'postgres',
    personal: true,
  },
  /** Shields the service alone: nobody guesses 256 bits, and every signed-in browser comes by here. */
  refreshPerIp: { name: 'refresh-ip', count: 600, windowSeconds: MINUTE, onStoreGone: 'open', personal: true },
  messagesPerPhone: {
    name: 'messages-phone',
    count: 30,
    windowSeconds: MINUTE,
    onStoreGone: 'postgres',
    personal: true,
  },
  repliesPerPatient: { name: 'replies-patient', count: 5, windowSeconds: 30, onStoreGone: 'postgres' },
  reminders: { name: 'reminders', count: 100, windowSeconds: MINUTE, onStoreGone: 'postgres' },
} as const satisfies Record<string, RateLimit>;

/**
 * Reads `name=count/seconds` or `name=count/seconds:open|postgres|closed`, separated by commas.
 * @throws Error naming what is wrong
 */
export function parseOverrides(text: string): Record<string, RateLimitOverride> {
  const known = Object.values(RATE_LIMITS).map((limit) => limit.name as string);
  const overrides: Record<string, RateLimitOverride> = {};
  for (const part of text.split(',')) {
    const [, name, count, seconds, gone] =
      /^\s*([a-z-]+)=(\d{1,6})\/(\d{1,6})(?::(open|postgres|closed))?\s*$/.exec(part) ?? [];
    if (name === undefined || !known.includes(name) || name in overrides || +count! < 1 || +seconds! < 1)
      throw new Error(`must be name=count/seconds, separated by commas, for the limits ${known.join(', ')}`);
    const onStoreGone = gone as RateLimit['onStoreGone'] | undefined;
    overrides[name] = { count: +count!, windowSeconds: +seconds!, ...(onStoreGone && { onStoreGone }) };
  }
  return overrides;
}
