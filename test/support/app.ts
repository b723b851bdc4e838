import 'reflect-metadata';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from '../../src/app';
import { DemoService, SetupService } from '../../src/operations';
import { type Config, Log } from '../../src/platform';
import { createTestDatabase } from './database';

/** An answer, with its JSON read. */
export interface Answer {
  status: number;
  headers: Headers;
  body: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- tests look into answers freely
}

/** A caller of the API under one key. `path` begins with a slash. */
export type Caller = (
  method: string,
  path: string,
  options?: { body?: unknown; headers?: Record<string, string>; raw?: string },
) => Promise<Answer>;

export interface TestApp {
  app: NestFastifyApplication;
  url: string;
  databaseUrl: string;
  /** Calls with a key, or without one. */
  as(apiKey: string | undefined): Caller;
  stop(): Promise<void>;
}

/** A demo clinic beside its caller. */
export type Clinic = NonNullable<Awaited<ReturnType<DemoService['seed']>>> & { call: Caller };

/** Holdfast itself, listening on a free port of this machine, on a database of its own (or on one that is given). */
export async function startApp({ log, ...overrides }: Partial<Config> & { log?: Log } = {}): Promise<TestApp> {
  const own = overrides.databaseUrl === undefined ? await createTestDatabase() : undefined;
  const databaseUrl = overrides.databaseUrl ?? own!.url;
  const config: Config = {
    host: '127.0.0.1',
    port: 0,
    publicUrl: 'http://127.0.0.1',
    secretKey: 'a secret for tests only, 32 characters or more',
    databasePoolSize: 12,
    dataDir: '.holdfast',
    role: 'api',
    retention: { idempotencyHours: 48, expiredHoldDays: 30, historyDays: 3650 },
    rateLimits: true,
    rateLimitOverrides: {},
    rateLimitsExempt: ['loopback'],
    trustedProxies: ['none'],
    corsOrigins: [],
    distributedLocks: true,
    lockTtlSeconds: 30,
    logLevel: 'silent',
    // Cheap, for tests sign in a lot and none of them is about how long that takes.
    passwordCost: { memoryCost: 64, timeCost: 1 },
    ...overrides,
    databaseUrl,
  };
  const app = await createApp(config, log ?? Log.create(config.logLevel));
  await app.listen(0, '127.0.0.1');
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  return {
    app,
    url,
    databaseUrl,
    as: (apiKey) => (method, path, options) => send(url + path, method, apiKey, options),
    stop: async () => {
      await app.close();
      await own?.drop();
    },
  };
}

/** The demo clinic, seeded into the app's empty database. */
export async function seedClinic(target: TestApp): Promise<Clinic> {
  const clinic = await target.app.get(DemoService, { strict: false }).seed();
  if (!clinic) throw new Error('the database is not empty');
  return { ...clinic, call: target.as(clinic.apiKey) };
}

/** Another organization beside those that are there, with its administrator's key. */
export function addOrganization(
  target: TestApp,
  name = 'Another Clinic',
): Promise<{ organizationId: string; apiKey: string }> {
  return target.app.get(SetupService, { strict: false }).addOrganization(name, 'Europe/London');
}

async function send(
  url: string,
  method: string,
  apiKey: string | undefined,
  { body, headers = {}, raw }: { body?: unknown; headers?: Record<string, string>; raw?: string } = {},
): Promise<Answer> {
  const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(url, {
    method,
    body: payload,
    headers: {
      ...(payload === undefined ? {} : { 'Content-Type': 'application/json' }),
      ...(apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` }),
      ...headers,
    },
  });
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
}

/** A weekday some days ahead, as `YYYY-MM-DD` in the demo clinic's zone; the same all through a test run. */
export function workday(daysAhead = 7): string {
  const date = new Date(Date.now() + daysAhead * 86_400_000);
  while ([0, 6].includes(date.getUTCDay())) date.setUTCDate(date.getUTCDate() + 1);
  return date.toISOString().slice(0, 10);
}
