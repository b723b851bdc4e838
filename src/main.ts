import './compile-cache';
import 'reflect-metadata';
import { createServer } from 'node:net';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from './app';
import { DayPlanner } from './availability';
import { type Install, prepare } from './install';
import { DemoService } from './operations';
import { Log, readSettings, SchemaError, type Settings, SettingsError } from './platform';

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** A message for a person, instead of a stack trace. */
class StartError extends Error {}

async function main(): Promise<void> {
  const settings = readSettings();
  await requireFreePort(settings);
  const install = await prepare(settings, say);
  let app: NestFastifyApplication | undefined;
  try {
    const log = Log.create(install.config.logLevel);
    app = await createApp(install.config, log);
    await app.init();
    stopOnSignal(app, install);
    if (settings.redisUrl === undefined) say('REDIS_URL is not set: PostgreSQL does its work.');
    await listen(app, settings);
    const url = `http://${settings.host.includes(':') ? `[${settings.host}]` : settings.host}:${portOf(app)}`;
    await serveDemo(app, install, url);
    say(`Holdfast is ready on ${url}`);
  } catch (error) {
    await app?.close();
    await install.release();
    throw error;
  }
}

/** Says at once, before anything is brought up, that the port is not to be had. */
async function requireFreePort({ host, port }: Settings): Promise<void> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', (error) => reject(portError(error, host, port)));
    probe.listen(port, host, resolve);
  });
  await new Promise((resolve) => probe.close(resolve));
}

async function listen(app: NestFastifyApplication, { host, port }: Settings): Promise<void> {
  try {
    await app.listen(port, host);
  } catch (error) {
    throw portError(error, host, port);
  }
}

function portError(error: unknown, host: string, port: number): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return new StartError(`Port ${port} on ${host} is taken. Set PORT to a free one.`);
  if (code === 'EACCES') return new StartError(`This user may not listen on port ${port}. Set PORT to one above 1023.`);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new StartError(`${host} is no address of this machine. Set HOST.`);
  return error instanceof Error ? error : new Error(String(error));
}

function portOf(app: NestFastifyApplication): number {
  const address = app.getHttpServer().address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Seeds the demo clinic into an empty database, where demo mode is on, and keeps its address in demo.json right. */
async function serveDemo(app: NestFastifyApplication, { config, embedded }: Install, baseUrl: string): Promise<void> {
  if (!(config.demo ?? embedded) || config.role === 'worker') return;
  const file = path.join(config.dataDir, 'demo.json');
  const seeded = await app.get(DemoService, { strict: false }).seed();
  if (seeded) {
    await mkdir(config.dataDir, { recursive: true });
    await writeFile(file, `${JSON.stringify({ baseUrl, ...seeded }, null, 2)}\n`, { mode: 0o600 });
    await app.get(DayPlanner, { strict: false }).planAhead();
    say(`Seeded a demo clinic; its ids and its API key are in ${file}`);
    return;
  }
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  if (kept === undefined) return;
  const demo = JSON.parse(kept) as { baseUrl: string };
  if (demo.baseUrl !== baseUrl && !(await answers(demo.baseUrl))) {
    await writeFile(file, `${JSON.stringify({ ...demo, baseUrl }, null, 2)}\n`, { mode: 0o600 });
  }
}

const answers = (url: string): Promise<boolean> =>
  fetch(`${url}/health/live`, { signal: AbortSignal.timeout(1_000) }).then(
    (response) => response.ok,
    () => false,
  );

/** Stops taking requests, finishes those that run, then the database that was brought up. Within ten seconds, whatever hangs. */
function stopOnSignal(app: NestFastifyApplication, install: Install): void {
  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    say(`${signal}: finishing what runs, then stopping.`);
    setTimeout(() => process.exit(1), 9_500).unref();
    // A connection that was busy when this began stays open for the client's next request; it is closed once it rests.
    const server = app.getHttpServer();
    setInterval(() => server.closeIdleConnections(), 50).unref();
    app
      .close()
      .then(() => install.release())
      .then(
        () => process.exit(0),
        (error: unknown) => {
          process.stderr.write(`${String(error)}\n`);
          process.exit(1);
        },
      );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

main().catch((error: unknown) => {
  const plain = error instanceof SettingsError || error instanceof SchemaError || error instanceof StartError;
  const text = error instanceof Error ? (plain ? error.message : (error.stack ?? error.message)) : String(error);
  process.stderr.write(`Holdfast cannot start: ${text}\n`);
  process.exit(1);
});
