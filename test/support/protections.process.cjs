// Another program beside Holdfast, for test/medium/rate-limits.spec.ts and locks.spec.ts: it joins an install's limits and locks through
// their module, and does what it is told, one message after another. It compiles what it loads.
const { transformFileSync } = require('@swc/core');

require.extensions['.ts'] = (module, file) =>
  module._compile(
    transformFileSync(file, {
      jsc: {
        target: 'es2023',
        parser: { syntax: 'typescript', decorators: true },
        transform: { legacyDecorator: true, decoratorMetadata: true, useDefineForClassFields: false },
        keepClassNames: true,
      },
      module: { type: 'commonjs' },
    }).code,
    file,
  );
require('reflect-metadata');
const { openProtections } = require('../../src/platform/index.ts');

/** Instants that two processes of one machine agree on, in milliseconds. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

const tasks = {
  /** Takes one token after another, several at a time, for so long. Tells of those that were had when they were asked for and had. */
  async hammer({ limits }, { take, abreast, milliseconds }) {
    const had = [];
    const until = now() + milliseconds;
    const one = async () => {
      while (now() < until) {
        const sent = now();
        if ((await limits.take(take)).allowed) had.push([sent, now()]);
      }
    };
    await Promise.all(Array.from({ length: abreast }, one));
    return had;
  },

  /** Holds a lock, says so, waits to be told, then writes under its fence. */
  async hold({ locks, database }, { key, ttl, table }) {
    const report = { aborted: false, outcome: 'written' };
    const work = async (lock) => {
      lock.signal.addEventListener('abort', () => (report.aborted = true));
      process.send({ holding: lock.fencingToken });
      await new Promise((resolve) => process.once('message', resolve));
      await database
        .system('write under a fence', async (tx) => {
          await locks.requireFence(tx, lock);
          await tx.query(`INSERT INTO ${table} VALUES ($1)`, [lock.fencingToken]);
        })
        .catch((error) => (report.outcome = error.constructor.name));
    };
    await locks.withLock(key, work, { ttl }).catch((error) => (report.lost = error.constructor.name));
    return report;
  },

  /** Adds to a counter under a lock, reading and writing apart, so that two at once lose one. */
  async count({ locks, database }, { key, contenders, table }) {
    const one = () =>
      locks.withLock(
        key,
        async () => {
          const [{ n }] = await database.system('read', (tx) => tx.query(`SELECT n FROM ${table}`));
          await database.system('write', (tx) => tx.query(`UPDATE ${table} SET n = $1`, [n + 1]));
        },
        { maxRetries: 1_000 },
      );
    await Promise.all(Array.from({ length: contenders }, one));
  },
};

/** One for each install that this program is told of. */
const joined = new Map();
function join(config) {
  const name = `${config.databaseUrl} ${config.redisUrl}`;
  if (!joined.has(name)) joined.set(name, openProtections(config));
  return joined.get(name);
}

process.on('message', async (message) => {
  const task = tasks[message.task];
  if (task) process.send({ done: (await task(await join(message.config), message)) ?? null });
});
process.send({ ready: true });
