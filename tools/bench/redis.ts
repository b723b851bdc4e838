import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { NotMeasured } from './rows/row';

/** A Redis server of this run's own on a free port, which keeps nothing. */
export interface OwnRedis {
  url: string;
  stop(): Promise<void>;
}

/** @throws NotMeasured where there is no `redis-server` */
export async function startRedis(): Promise<OwnRedis> {
  const port = await freePort();
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'ignore'],
      // Ctrl-C is for bench, which then stops it in order.
      detached: true,
    },
  );
  const abandon = () => child.kill('SIGKILL');
  process.once('exit', abandon);
  await new Promise<void>((resolve, reject) => {
    child.once('error', () => reject(new NotMeasured('there is no redis-server on this machine')));
    child.once('exit', () => reject(new Error('redis-server did not start')));
    child.stdout.on('data', (text: Buffer) => text.includes('Ready to accept connections') && resolve());
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    stop: () =>
      new Promise((resolve) => {
        child.once('exit', () => resolve());
        process.removeListener('exit', abandon);
        child.kill('SIGKILL');
      }),
  };
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
