import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

const LOOP_MS = 400;
const LOOP = `
  const before = process.threadCpuUsage();
  const started = performance.now();
  while (performance.now() - started < ${LOOP_MS});
  const { user, system } = process.threadCpuUsage(before);
  require('node:worker_threads').parentPort.postMessage((user + system) / 1000 / (performance.now() - started));`;

/** Below this share of the processors nothing that is counted in seconds says anything about Holdfast. */
export const ENOUGH = 0.8;

/**
 * What share of two processors this machine gives to who wants all of them: 1 when nothing else runs, half when twice as much
 * wants to run. Ratios do not mind, for both sides get the same; times and rates do.
 */
export async function freeProcessors(): Promise<number> {
  const loops = Array.from(
    { length: Math.min(2, availableParallelism()) },
    () =>
      new Promise<number>((resolve, reject) => {
        const worker = new Worker(LOOP, { eval: true });
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  const shares = await Promise.all(loops);
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}
