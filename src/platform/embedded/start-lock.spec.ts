import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withStartLock } from './start-lock';

describe('the start lock', () => {
  let folder: string;
  let lock: string;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-lock-'));
    lock = path.join(folder, 'lock');
  });

  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  async function heldBy(owner: string): Promise<void> {
    await mkdir(lock);
    await writeFile(path.join(lock, owner), '');
  }

  it('lets one in at a time and leaves nothing behind', async () => {
    let inside = 0;
    let most = 0;
    const work = async () => {
      most = Math.max(most, ++inside);
      await sleep(5);
      return inside--;
    };
    await expect(Promise.all(Array.from({ length: 8 }, () => withStartLock(lock, 10_000, work)))).resolves.toHaveLength(
      8,
    );
    expect(most).toBe(1);
    expect(await readdir(folder)).toEqual([]);
  });

  it('is given back when the work fails', async () => {
    await expect(withStartLock(lock, 1000, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await readdir(folder)).toEqual([]);
  });

  it('is taken over from a process that is gone', async () => {
    await heldBy('2147483647-123-1');
    await expect(withStartLock(lock, 1000, async () => 'in')).resolves.toBe('in');
  });

  it('is taken over when the pid belongs to a later process', async () => {
    if (process.platform !== 'linux') return;
    await heldBy(`${process.pid}-123-1`);
    await expect(withStartLock(lock, 1000, async () => 'in')).resolves.toBe('in');
  });

  it('is let go by one of two that find the same dead owner', async () => {
    await heldBy('2147483647-123-1');
    let inside = 0;
    const work = async () => {
      expect(++inside).toBe(1);
      await sleep(20);
      inside--;
    };
    await Promise.all([withStartLock(lock, 1000, work), withStartLock(lock, 1000, work)]);
  });

  it('says who holds it when that takes too long', async () => {
    await withStartLock(lock, 1000, async () => {
      await expect(withStartLock(lock, 100, async () => 'in')).rejects.toThrow(
        `Process ${process.pid} has been holding ${lock} for too long.`,
      );
    });
    expect(await readdir(folder)).toEqual([]);
  });
});
