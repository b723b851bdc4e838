import { readFileSync } from 'node:fs';
import path from 'node:path';
import { environmentSchema, readSettings, SettingsError } from './config';

function mistakeIn(environment: NodeJS.ProcessEnv): string {
  try {
    readSettings(environment);
  } catch (error) {
    expect(error).toBeInstanceOf(SettingsError);
    return (error as Error).message;
  }
  throw new Error('the environment was taken');
}

describe('the settings', () => {
  it('need nothing at all', () => {
    expect(readSettings({})).toEqual({
      databaseUrl: undefined,
      migrationDatabaseUrl: undefined,
      databasePoolSize: 20,
      redisUrl: undefined,
      host: '127.0.0.1',
      port: 3000,
      publicUrl: undefined,
      secretKey: undefined,
      dataDir: '.holdfast',
      role: 'all',
      demo: undefined,
      retention: { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 3650 },
      rateLimits: true,
      rateLimitOverrides: {},
      rateLimitsExempt: ['loopback'],
      trustedProxies: ['none'],
      corsOrigins: [],
      distributedLocks: true,
      lockTtlSeconds: 30,
      logLevel: 'info',
    });
  });

  it('are read from the environment', () => {
    const settings = readSettings({
      DATABASE_URL: 'postgres://a:b@localhost/c',
      MIGRATION_DATABASE_URL: 'postgresql://o:p@localhost/c',
      DATABASE_POOL_SIZE: '4',
      REDIS_URL: 'rediss://localhost:6379/1',
      HOST: '0.0.0.0',
      PORT: '0',
      PUBLIC_URL: 'https://clinic.example/api',
      SECRET_KEY: 'k'.repeat(32),
      DATA_DIR: '/data',
      HOLDFAST_ROLE: 'worker',
      HOLDFAST_DEMO: 'false',
      RATE_LIMITS: 'off',
      RATE_LIMIT_OVERRIDES: 'principal=10/60, reminders=200/30:closed',
      RATE_LIMITS_EXEMPT: 'loopback, 192.0.2.7',
      TRUSTED_PROXIES: '10.0.0.0/8,fd00::/8',
      CORS_ORIGINS: 'https://app.example, http://localhost:5173',
      DISTRIBUTED_LOCKS: 'off',
      DISTRIBUTED_LOCK_TTL_SECONDS: '120',
      LOG_LEVEL: 'silent',
      SOMETHING_ELSE: 'is none of its business',
    });
    expect(settings).toEqual({
      databaseUrl: 'postgres://a:b@localhost/c',
      migrationDatabaseUrl: 'postgresql://o:p@localhost/c',
      databasePoolSize: 4,
      redisUrl: 'rediss://localhost:6379/1',
      host: '0.0.0.0',
      port: 0,
      publicUrl: 'https://clinic.example/api',
      secretKey: 'k'.repeat(32),
      dataDir: '/data',
      role: 'worker',
      demo: false,
      retention: { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 3650 },
      rateLimits: false,
      rateLimitOverrides: {
        principal: { count: 10, windowSeconds: 60 },
        reminders: { count: 200, windowSeconds: 30, onStoreGone: 'closed' },
      },
      rateLimitsExempt: ['loopback', '192.0.2.7'],
      trustedProxies: ['10.0.0.0/8', 'fd00::/8'],
      corsOrigins: ['https://app.example', 'http://localhost:5173'],
      distributedLocks: false,
      lockTtlSeconds: 120,
      logLevel: 'silent',
    });
  });

  it('take an empty variable for an unset one', () => {
    const empty = Object.fromEntries(Object.keys(environmentSchema.shape).map((name) => [name, '']));
    expect(readSettings(empty)).toEqual(readSettings({}));
  });

  it.each([
    ['PORT', '65536'],
    ['PORT', '-1'],
    ['PORT', '3000.5'],
    ['PORT', ' 3000'],
    ['PORT', '0x10'],
    ['DATABASE_POOL_SIZE', '3'],
    ['DATABASE_POOL_SIZE', '501'],
    ['DATABASE_URL', 'mysql://localhost/c'],
    ['MIGRATION_DATABASE_URL', 'localhost'],
    ['REDIS_URL', 'http://localhost'],
    ['PUBLIC_URL', 'clinic'],
    ['SECRET_KEY', 'k'.repeat(31)],
    ['HOLDFAST_ROLE', 'ALL'],
    ['HOLDFAST_DEMO', 'yes'],
    ['RATE_LIMITS', 'true'],
    ['RATE_LIMIT_OVERRIDES', 'nobody=1/1'],
    ['RATE_LIMIT_OVERRIDES', 'ip=0/60'],
    ['RATE_LIMIT_OVERRIDES', 'ip=1/60:never'],
    ['RATE_LIMIT_OVERRIDES', 'ip=1/60,ip=2/60'],
    ['RATE_LIMITS_EXEMPT', 'everybody'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['CORS_ORIGINS', '*'],
    ['CORS_ORIGINS', 'https://app.example/'],
    ['CORS_ORIGINS', 'app.example'],
    ['CORS_ORIGINS', 'https://app.example,null'],
    ['DISTRIBUTED_LOCKS', 'no'],
    ['DISTRIBUTED_LOCK_TTL_SECONDS', '0'],
    ['LOG_LEVEL', 'loud'],
  ])('refuse %s=%s by name, in one line', (name, value) => {
    const message = mistakeIn({ [name]: value });
    expect(message).toMatch(new RegExp(`^The environment is not right: ${name} \\S.*$`));
  });

  it('tell all mistakes at once and never a value, for values may be secrets', () => {
    const wrong: Record<string, string> = {
      DATABASE_URL: 'mysql://user:hunter1@localhost/c',
      MIGRATION_DATABASE_URL: 'mysql://owner:hunter2@localhost/c',
      DATABASE_POOL_SIZE: 'hunter3',
      REDIS_URL: 'http://:hunter4@localhost',
      PORT: 'hunter5',
      PUBLIC_URL: 'hunter6',
      SECRET_KEY: 'hunter7',
      HOLDFAST_ROLE: 'hunter8',
      HOLDFAST_DEMO: 'hunter9',
      RATE_LIMIT_OVERRIDES: 'hunter10',
      RATE_LIMITS_EXEMPT: 'hunter11',
      LOG_LEVEL: 'hunter12',
    };
    const message = mistakeIn(wrong);
    for (const name of Object.keys(wrong)) expect(message).toMatch(new RegExp(`(: |; )${name} `));
    expect(message).not.toMatch(/hunter/);
    expect(message).not.toMatch(/\n/);
  });
});

describe('.env.example', () => {
  const text = readFileSync(path.join(__dirname, '../../.env.example'), 'utf8');
  const shown = new Map([...text.matchAll(/^#?([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(([, name, value]) => [name!, value!]));

  it('names exactly the variables that are read', () => {
    expect([...shown.keys()].sort()).toEqual(Object.keys(environmentSchema.shape).sort());
  });

  it('shows the defaults, and nothing where there is none', () => {
    const defaults = new Map(Object.entries(environmentSchema.parse({})));
    const due = Object.keys(environmentSchema.shape).map((name) => [name, `${defaults.get(name) ?? ''}`]);
    expect(Object.fromEntries(shown)).toEqual(Object.fromEntries(due));
  });

  it('sets nothing by itself', () => {
    expect(text).not.toMatch(/^[^#\s]/m);
  });

  it('says of every variable what it is for', () => {
    const lines = text.split('\n');
    for (const name of shown.keys()) {
      const above = lines[lines.findIndex((line) => line.startsWith(`#${name}=`)) - 1];
      expect([name, above]).toEqual([name, expect.stringMatching(/^# \S/)]);
    }
  });
});
