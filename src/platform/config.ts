import { z } from 'zod';
import { Addresses } from './addresses';
import { parseOverrides, type RateLimitOverride } from './rate-limit.declarations';

/**
 * The one place that reads the environment. Every variable is documented in `.env.example`, which a test holds against
 * this schema. All mistakes are reported at once, by name and never with the value: values may be secrets.
 */
const flag = z.enum(['true', 'false']).transform((value) => value === 'true');
const wholeNumber = (low: number, high: number) =>
  z
    .string()
    .regex(/^\d+$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= low && value <= high, `must be between ${low} and ${high}`);
const postgresUrl = z.string().regex(/^postgres(ql)?:\/\//, 'must be a postgres:// URL');
const onOrOff = z.enum(['on', 'off']);
const listOf = (text: string): string[] => text.split(',').map((entry) => entry.trim());
const addresses = z.string().refine((text) => succeeds(() => new Addresses(listOf(text))), {
  message: 'must be addresses, networks such as 10.0.0.0/8, loopback, private or none, separated by commas',
});
/** As browsers write an origin: no path, no slash at its end. */
const isOrigin = (text: string): boolean =>
  URL.canParse(text) && /^https?:/.test(text) && new URL(text).origin === text;
const origins = z.string().refine((text) => listOf(text).every(isOrigin), {
  message: 'must be origins such as https://app.example, without a path, separated by commas',
});
const overrides = z.string().superRefine((text, context) => {
  try {
    parseOverrides(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
  }
});

function succeeds(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

export const environmentSchema = z.object({
  DATABASE_URL: postgresUrl.optional(),
  MIGRATION_DATABASE_URL: postgresUrl.optional(),
  DATABASE_POOL_SIZE: wholeNumber(4, 500).default(20),
  REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, 'must be a redis:// URL')
    .optional(),
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: wholeNumber(0, 65535).default(3000),
  PUBLIC_URL: z.url().optional(),
  SECRET_KEY: z.string().min(32, 'must have at least 32 characters').optional(),
  DATA_DIR: z.string().min(1).default('.holdfast'),
  HOLDFAST_ROLE: z.enum(['all', 'api', 'worker']).default('all'),
  HOLDFAST_DEMO: flag.optional(),
  LOG_CODES: flag.optional(),
  RETENTION_IDEMPOTENCY_HOURS: wholeNumber(24, 8_760).default(48),
  RETENTION_EXPIRED_HOLD_DAYS: wholeNumber(1, 3_650).default(30),
  RETENTION_HISTORY_DAYS: wholeNumber(30, 36_500).default(3_650),
  RATE_LIMITS: onOrOff.default('on'),
  RATE_LIMIT_OVERRIDES: overrides.optional(),
  RATE_LIMITS_EXEMPT: addresses.default('loopback'),
  TRUSTED_PROXIES: addresses.default('none'),
  CORS_ORIGINS: origins.optional(),
  DISTRIBUTED_LOCKS: onOrOff.default('on'),
  DISTRIBUTED_LOCK_TTL_SECONDS: wholeNumber(1, 3_600).default(30),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

/** What Holdfast was told, before what is missing has been brought up. `databaseUrl` unset means the embedded server. */
export interface Settings {
  databaseUrl?: string;
  migrationDatabaseUrl?: string;
  databasePoolSize: number;
  redisUrl?: string;
  host: string;
  port: number;
  publicUrl?: string;
  secretKey?: string;
  dataDir: string;
  role: 'all' | 'api' | 'worker';
  demo?: boolean;
  /** Writes codes and tokens for people into the log; unset, where there is a demo. */
  logCodes?: boolean;
  retention: { idempotencyHours: number; expiredHoldDays: number; historyDays: number };
  /** Whether limits are counted at all. A soft protection. */
  rateLimits: boolean;
  /** What was changed about limits, by their names. */
  rateLimitOverrides: Readonly<Record<string, RateLimitOverride>>;
  /** Addresses whose requests are not limited; see `Addresses`. */
  rateLimitsExempt: readonly string[];
  /** Addresses whose word on whom they forward is taken. */
  trustedProxies: readonly string[];
  /** Origins of web pages whose scripts may call from browsers. */
  corsOrigins: readonly string[];
  /** Whether distributed locks are taken at all. A soft protection. */
  distributedLocks: boolean;
  /** How long a distributed lock lives that nobody renews, where its user names no time. */
  lockTtlSeconds: number;
  logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
}

/** The settings of a process that can run: a database to talk to and a secret to sign with are there. */
export interface Config extends Settings {
  databaseUrl: string;
  secretKey: string;
  publicUrl: string;
  /** What a password costs to check, below the usual: for tests alone. Not read from the environment. */
  passwordCost?: { memoryCost: number; timeCost: number };
}

/** Nest's injection token for {@link Config}. */
export const CONFIG = Symbol('Config');

/** A wrong environment: one line per mistake. */
export class SettingsError extends Error {}

/**
 * Reads the settings from an environment. Empty variables count as unset (docker-compose passes them so).
 * @throws SettingsError naming every variable that is wrong
 */
export function readSettings(environment: NodeJS.ProcessEnv = process.env): Settings {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = environmentSchema.safeParse(given);
  if (!parsed.success) {
    const lines = parsed.error.issues.map((issue) => `${issue.path.join('.')} ${issue.message}`);
    throw new SettingsError(`The environment is not right: ${lines.join('; ')}`);
  }
  const env = parsed.data;
  return {
    databaseUrl: env.DATABASE_URL,
    migrationDatabaseUrl: env.MIGRATION_DATABASE_URL,
    databasePoolSize: env.DATABASE_POOL_SIZE,
    redisUrl: env.REDIS_URL,
    host: env.HOST,
    port: env.PORT,
    publicUrl: env.PUBLIC_URL,
    secretKey: env.SECRET_KEY,
    dataDir: env.DATA_DIR,
    role: env.HOLDFAST_ROLE,
    demo: env.HOLDFAST_DEMO,
    logCodes: env.LOG_CODES,
    retention: {
      idempotencyHours: env.RETENTION_IDEMPOTENCY_HOURS,
      expiredHoldDays: env.RETENTION_EXPIRED_HOLD_DAYS,
      historyDays: env.RETENTION_HISTORY_DAYS,
    },
    rateLimits: env.RATE_LIMITS === 'on',
    rateLimitOverrides: env.RATE_LIMIT_OVERRIDES === undefined ? {} : parseOverrides(env.RATE_LIMIT_OVERRIDES),
    rateLimitsExempt: listOf(env.RATE_LIMITS_EXEMPT),
    trustedProxies: listOf(env.TRUSTED_PROXIES),
    corsOrigins: env.CORS_ORIGINS === undefined ? [] : listOf(env.CORS_ORIGINS),
    distributedLocks: env.DISTRIBUTED_LOCKS === 'on',
    lockTtlSeconds: env.DISTRIBUTED_LOCK_TTL_SECONDS,
    logLevel: env.LOG_LEVEL,
  };
}
