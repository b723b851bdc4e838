import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  type Config,
  type EmbeddedPostgres,
  migrate,
  SchemaError,
  type Settings,
  startEmbeddedPostgres,
} from './platform';

/** An install that is ready to serve: its settings are complete, its database is up. */
export interface Install {
  config: Config;
  /** Whether the embedded PostgreSQL serves it. */
  embedded: boolean;
  /** Stops what this process brought up, unless somebody else uses it. */
  release(): Promise<void>;
}

/** Brings up what the settings leave out (database, secret) and migrates, unless told not to. `say` tells a person what is going on. */
export async function prepare(
  settings: Settings,
  say: (line: string) => void,
  { migrating = true } = {},
): Promise<Install> {
  const postgres = settings.databaseUrl === undefined ? await startEmbedded(settings, say) : undefined;
  try {
    const databaseUrl = settings.databaseUrl ?? postgres!.url;
    const secretKey = settings.secretKey ?? (await keptSecret(settings.dataDir, say));
    const publicUrl = settings.publicUrl ?? `http://${settings.host}:${settings.port}`;
    // A demo has no channels to people, and no people.
    const logCodes = settings.logCodes ?? settings.demo ?? postgres !== undefined;
    const config = { ...settings, databaseUrl, secretKey, publicUrl, logCodes };
    if (migrating) await migrate(config, say);
    return { config, embedded: postgres !== undefined, release: async () => postgres?.release() };
  } catch (error) {
    await postgres?.release();
    throw error;
  }
}

async function startEmbedded(settings: Settings, say: (line: string) => void): Promise<EmbeddedPostgres> {
  say('DATABASE_URL is not set: using the embedded PostgreSQL, for evaluation and one machine.');
  try {
    return await startEmbeddedPostgres({ dataDir: settings.dataDir, say });
  } catch (error) {
    throw new SchemaError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** The secret of an install that was given none: made once, kept where only its owner can read it. */
async function keptSecret(dataDir: string, say: (line: string) => void): Promise<string> {
  const file = path.join(dataDir, 'secret.key');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  try {
    await writeFile(file, randomBytes(32).toString('base64url'), { mode: 0o600, flag: 'wx' });
    say(`SECRET_KEY is not set: made one in ${file}; processes on other machines need the same.`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return (await readFile(file, 'utf8')).trim();
}
