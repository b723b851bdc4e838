import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse } from 'yaml';

interface Service {
  image?: string;
  build?: string;
  command?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  volumes?: string[];
  healthcheck?: { test?: string[]; disable?: boolean };
  depends_on?: Record<string, { condition: string }>;
}

const ROOT = resolve(__dirname, '../..');
const text = readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8');
const file = parse(text, { merge: true }) as { services: Record<string, Service>; volumes: Record<string, unknown> };

/** What a process of Holdfast may be told; `.env.example` has the list. */
const known = new Set(
  [...readFileSync(join(ROOT, '.env.example'), 'utf8').matchAll(/^#?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name),
);
const SERVING = ['api-1', 'api-2', 'worker'];
const ONE_SHOT = ['login', 'migrate'];

function service(name: string): Service {
  const found = file.services[name];
  if (!found) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
}

describe('docker-compose.yml', () => {
  test('has a database, a queue, two APIs, a worker, and what prepares them', () => {
    expect(Object.keys(file.services).sort()).toEqual([...SERVING, ...ONE_SHOT, 'postgres', 'redis'].sort());
    expect(service('postgres').image).toMatch(/^postgres:18\b/);
    expect(service('redis').image).toMatch(/^redis:\d/);
    for (const name of [...SERVING, 'migrate']) expect(service(name)).toMatchObject({ build: '.', image: 'holdfast' });
  });

  test('asks everything that keeps running for its health', () => {
    for (const name of SERVING) expect(service(name).healthcheck?.test?.join(' ')).toContain('/health/ready');
    expect(service('postgres').healthcheck?.test).toContain('pg_isready');
    expect(service('redis').healthcheck?.test).toContain('redis-cli');
    for (const name of Object.keys(file.services).filter((name) => !ONE_SHOT.includes(name))) {
      expect([name, service(name).healthcheck?.disable]).toEqual([name, undefined]);
    }
  });

  test('starts each part only on what it needs', () => {
    const healthy = { condition: 'service_healthy' };
    const done = { condition: 'service_completed_successfully' };
    expect(service('login').depends_on).toEqual({ postgres: healthy });
    expect(service('migrate').depends_on).toEqual({ login: done, redis: healthy });
    for (const name of SERVING) {
      expect(service(name).depends_on).toEqual({ migrate: done, postgres: healthy, redis: healthy });
    }
  });

  test('uses the environment of the contract, and nothing else', () => {
    for (const name of [...SERVING, 'migrate']) {
      const environment = service(name).environment ?? {};
      expect(Object.keys(environment).filter((variable) => !known.has(variable))).toEqual([]);
      expect(Object.keys(environment)).toEqual(
        expect.arrayContaining(['DATABASE_URL', 'REDIS_URL', 'SECRET_KEY', 'HOST', 'PORT']),
      );
      expect(environment).toMatchObject({ HOST: '0.0.0.0', PORT: '3000' });
    }
    const roles = SERVING.map((name) => service(name).environment?.['HOLDFAST_ROLE']);
    expect(roles).toEqual(['api', 'api', 'worker']);
  });

  test('keeps the owner of the tables away from what serves', () => {
    const owner = service('postgres').environment?.['POSTGRES_USER'];
    expect(service('migrate').environment?.['MIGRATION_DATABASE_URL']).toContain(`//${owner}:`);
    for (const name of SERVING) {
      expect(JSON.stringify(service(name).environment)).not.toContain(owner);
      expect(service(name).environment).not.toHaveProperty('MIGRATION_DATABASE_URL');
    }
  });

  test('has no secret in it: each comes from outside and is asked for', () => {
    const interpolated = [...text.matchAll(/(?<!\$)\$\{(\w*(?:KEY|PASSWORD))(:\?)?/g)];
    expect([...new Set(interpolated.map(([, name]) => String(name)))].sort()).toEqual([
      'DATABASE_PASSWORD',
      'POSTGRES_PASSWORD',
      'SECRET_KEY',
    ]);
    for (const [whole, , required] of interpolated) expect([whole, required]).toEqual([whole, ':?']);
    const values = Object.values(file.services).flatMap(({ environment = {} }) => Object.entries(environment));
    for (const [name, value] of values) {
      if (/KEY|PASSWORD/.test(name)) expect(value).toMatch(/^\$\{[^}]+\}$/);
      if (name.endsWith('DATABASE_URL'))
        expect(value).toMatch(/^postgres:\/\/\w+:\$\{\w+:\?[^}]+\}@postgres:5432\/holdfast$/);
    }
  });

  test('gives the two APIs a port each, on this machine alone, and publishes nothing else', () => {
    const published = Object.entries(file.services).flatMap(([name, { ports = [] }]) =>
      ports.map((port) => [name, port]),
    );
    expect(published).toEqual([
      ['api-1', '127.0.0.1:3000:3000'],
      ['api-2', '127.0.0.1:3001:3000'],
    ]);
  });

  test('keeps what has to survive a restart', () => {
    expect(service('postgres').volumes).toEqual(['postgres:/var/lib/postgresql']);
    expect(service('redis').volumes).toEqual(['redis:/data']);
    expect(Object.keys(file.volumes)).toEqual(['postgres', 'redis']);
    expect(service('redis').command?.join(' ')).toMatch(/--appendonly yes.*--maxmemory-policy noeviction/);
  });
});
