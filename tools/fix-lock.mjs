/**
 * Makes package-lock.json complete and free of hosts (`npm run lock:fix`, after every change of a dependency).
 *
 * A lock file made from a registry that does not serve the optional packages of other platforms lacks their entries, and
 * `npm ci` then stops everywhere with EUSAGE ("Missing: @swc/core-darwin-arm64@ from lock file"). A stub entry (version,
 * os, cpu, libc, optional) satisfies it: npm skips the stub where the platform differs and resolves it by name and version
 * where it fits. `resolved` is removed because it would bind every install to the registry the lock was made with.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const LOCK = new URL('../package-lock.json', import.meta.url);
const OPERATING_SYSTEMS = 'aix android darwin freebsd linux netbsd openbsd openharmony sunos win32'.split(' ');
const PROCESSORS = 'arm arm64 ia32 loong64 mips64el ppc64 riscv64 s390x wasm32 x64'.split(' ');
const C_LIBRARIES = { gnu: 'glibc', gnueabihf: 'glibc', musl: 'musl', musleabihf: 'musl' };

/** What the name says of the platform. Whole words only: "openharmony" contains "arm". */
function platformOf(name) {
  const words = name.split(/[-/.]/);
  const os = OPERATING_SYSTEMS.find((word) => words.includes(word));
  const cpu = PROCESSORS.find((word) => words.includes(word));
  const libc = C_LIBRARIES[words.find((word) => word in C_LIBRARIES)];
  return { ...(os && { os: [os] }), ...(cpu && { cpu: [cpu] }), ...(libc && os === 'linux' && { libc: [libc] }) };
}

/** Where Node would find `name` from the package at `place`, innermost first. */
function placesFor(name, place) {
  const places = [];
  for (let at = place; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    // What is left in front of the outermost node_modules is the root package itself.
    const outermost = at === '' || !at.includes('/node_modules/');
    if (at !== '') places.push(`${at}/node_modules/${name}`);
    if (outermost) return [...places, `node_modules/${name}`];
  }
}

const lock = JSON.parse(readFileSync(LOCK, 'utf8'));
const { packages } = lock;
let added = 0;
let stripped = 0;

for (const entry of Object.values(packages)) {
  // A path is the place of a workspace or a linked package and belongs in the lock; an address does not.
  if (/^https?:/.test(entry.resolved ?? '')) {
    delete entry.resolved;
    stripped += 1;
  }
}

for (const [place, entry] of Object.entries(packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const version = /\d+\.\d+\.\d+[\w.+-]*/.exec(range)?.[0];
    if (version === undefined) throw new Error(`${place || 'package.json'} wants ${name}@${range}: no version to lock`);
    const places = placesFor(name, place);
    const found = places.find((candidate) => candidate in packages);
    // An entry of another version (two releases of the parent in one tree) does not serve an exact pin.
    if (found !== undefined && (range !== version || packages[found].version === version)) continue;
    const free = found === undefined ? places.at(-1) : places[0];
    packages[free] = { version, ...(entry.dev && { dev: true }), ...platformOf(name), optional: true };
    added += 1;
  }
}

lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(LOCK, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${added} entries added for other platforms, ${stripped} addresses removed`);
