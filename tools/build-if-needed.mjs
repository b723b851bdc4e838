// Builds dist/ when the sources have changed since the last build, so that `npm start` on a fresh clone just works.
// Whether they have is judged by content, not by time: a checkout or a copy changes times without changing anything.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
} from 'node:fs';
import { rmSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const dist = path.join(root, 'dist');
const stampFile = path.join(dist, '.build-stamp');
const entry = path.join(dist, 'src', 'main.js');
const nest = path.join(root, 'node_modules', '@nestjs', 'cli', 'bin', 'nest.js');
const LONGEST_BUILD_MS = 300_000;

main();

function main() {
  if (Number(process.versions.node.split('.')[0]) < 24) {
    fail(`Holdfast needs Node 24 or newer; this is ${process.version}.`);
  }
  // A production image carries dist/ alone.
  if (!existsSync(path.join(root, 'src'))) return;
  if (isUpToDate(hashOfSources())) return;

  if (!canBuild()) {
    if (existsSync(entry)) {
      if (existsSync(stampFile))
        process.stderr.write('The build in dist/ is older than the sources and cannot be renewed here.\n');
      return;
    }
    fail('Holdfast is not built, and cannot be built here: run `npm ci` in a folder that you may write to.');
  }
  withBuildLock(() => {
    // Taken again under the lock: another process may just have built this very state. And taken before the build, so
    // that a source edited meanwhile is seen as a change the next time.
    const hash = hashOfSources();
    if (!isUpToDate(hash)) build(hash);
  });
}

function build(hash) {
  process.stdout.write('Building Holdfast …\n');
  const result = spawnSync(process.execPath, [nest, 'build'], { cwd: root, encoding: 'utf8' });
  if (result.status !== 0 || !existsSync(dist)) {
    process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
    fail(`The build failed${result.error ? `: ${result.error.message}` : ''}.`);
  }
  const fresh = `${stampFile}.${process.pid}`;
  writeFileSync(fresh, `${hash}\n`);
  renameSync(fresh, stampFile);
}

function isUpToDate(hash) {
  try {
    return readFileSync(stampFile, 'utf8').trim() === hash;
  } catch {
    return false;
  }
}

function hashOfSources() {
  const files = [
    ...filesBelow('src', () => true),
    ...filesBelow('migrations', () => true),
    ...filesBelow('tools', (file) => file.endsWith('.ts')),
    ...readdirSync(root).filter(
      (name) => /^tsconfig.*\.json$/.test(name) || ['nest-cli.json', '.swcrc', 'package.json'].includes(name),
    ),
  ].sort();
  const hash = createHash('sha256');
  for (const file of files) {
    const content = readFileSync(path.join(root, file));
    // The length keeps the end of one file from reading as the name of the next.
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

/** Specs are left out: they are not built, so a changed one is no reason to build. */
function filesBelow(folder, wanted) {
  if (!existsSync(path.join(root, folder))) return [];
  return readdirSync(path.join(root, folder), { withFileTypes: true }).flatMap((item) => {
    const file = `${folder}/${item.name}`;
    if (item.isDirectory()) return filesBelow(file, wanted);
    return item.isFile() && wanted(file) && !file.endsWith('.spec.ts') ? [file] : [];
  });
}

function canBuild() {
  try {
    accessSync(existsSync(dist) ? dist : root, constants.W_OK);
    accessSync(path.join(root, 'node_modules'), constants.W_OK);
    return existsSync(nest);
  } catch {
    return false;
  }
}

/**
 * One build at a time; a second process waits, then finds the work done. The lock is a folder that holds one file named
 * after its owner. Taking it renames a prepared folder over it, which fails while it is not empty; a dead owner's lock is
 * broken by deleting the file of that name, so nobody can ever break the lock of a living successor by mistake.
 * It cannot lie in dist/, which the build empties.
 */
function withBuildLock(work) {
  const cache = path.join(root, 'node_modules', '.cache');
  const lock = path.join(cache, 'holdfast-build.lock');
  const owner = `${process.pid}-${startOf(process.pid)}`;
  const prepared = `${lock}.${owner}`;
  mkdirSync(prepared, { recursive: true });
  writeFileSync(path.join(prepared, owner), '');
  const deadline = Date.now() + LONGEST_BUILD_MS;
  while (!tryRename(prepared, lock)) {
    for (const other of namesIn(lock)) if (!isAlive(other)) quietly(() => unlinkSync(path.join(lock, other)));
    if (Date.now() > deadline) {
      rmSync(prepared, { recursive: true, force: true });
      fail(`Another build has been running for too long. If there is none, delete ${lock} and try again.`);
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  }
  const release = () => {
    quietly(() => unlinkSync(path.join(lock, owner)));
    quietly(() => rmdirSync(lock));
  };
  process.on('exit', release);
  work();
}

function tryRename(from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code)) return false;
    throw error;
  }
}

function namesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isAlive(owner) {
  const [pid, start] = owner.split('-');
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (error.code === 'ESRCH') return false;
  }
  return startOf(Number(pid)) === start;
}

/** A pid alone is not enough: after a restart of the machine it may be anybody's. Only Linux tells the start cheaply. */
function startOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return 'unknown';
  }
}

function quietly(work) {
  try {
    work();
  } catch {
    // Gone already, or taken over by somebody who judged us dead: nothing of ours is left to undo.
  }
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
