import { mkdir, readdir, readFile, rename, rm, rmdir, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

let taken = 0;

/**
 * Runs `work` while no other process (and no other call in this one) does so for the same `lock` folder, whose parent must
 * exist. Waits for a living owner up to `waitMilliseconds`, then throws an Error that names it; a dead owner's lock is
 * taken over at once.
 *
 * The lock is a folder that holds one file named after its owner. Taking it renames a prepared folder over it, which fails
 * while it is not empty. A dead owner's lock is broken by deleting the file of exactly that name: two processes that break
 * it at once cannot delete the lock of the one that was faster.
 */
export async function withStartLock<T>(lock: string, waitMilliseconds: number, work: () => Promise<T>): Promise<T> {
  const owner = `${process.pid}-${await startOf(process.pid)}-${++taken}`;
  const prepared = `${lock}.${owner}`;
  await mkdir(prepared, { recursive: true });
  await writeFile(path.join(prepared, owner), '');
  const deadline = Date.now() + waitMilliseconds;
  try {
    while (!(await tryRename(prepared, lock))) {
      const others = await readdir(lock).catch(() => [] as string[]);
      for (const other of others) {
        if (!(await isAlive(other))) await unlink(path.join(lock, other)).catch(ignoreGone);
      }
      if (Date.now() > deadline) {
        throw new Error(`Process ${others[0]?.split('-')[0] ?? '?'} has been holding ${lock} for too long.`);
      }
      await sleep(50);
    }
    try {
      return await work();
    } finally {
      await unlink(path.join(lock, owner)).catch(ignoreGone);
      await rmdir(lock).catch(ignoreGone);
    }
  } finally {
    await rm(prepared, { recursive: true, force: true });
  }
}

async function tryRename(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(codeOf(error))) return false;
    throw error;
  }
}

async function isAlive(owner: string): Promise<boolean> {
  const [pid, start] = owner.split('-');
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (codeOf(error) === 'ESRCH') return false;
  }
  return (await startOf(Number(pid))) === start;
}

/**
 * When a process started, in a form that only serves comparison. A pid alone is not enough: after a restart of the machine
 * it may be anybody's. Only Linux tells cheaply; elsewhere a reused pid makes the lock wait and then say whom it waits for.
 */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie holds nothing: it is dead, only not yet collected by its parent.
    return fields[0] === 'Z' ? 'dead' : (fields[19] ?? 'unknown');
  } catch {
    return 'unknown';
  }
}

function ignoreGone(error: unknown): void {
  // ENOTEMPTY: the next owner is in already. ENOENT: somebody else has cleaned up.
  if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(codeOf(error))) throw error;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}
