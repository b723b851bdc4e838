import type { DataSource } from 'typeorm';
import { Database } from './database';
import { Log } from './logging';
import { Metrics } from './metrics';

/** A connection that breaks as a socket does, at one point of a transaction. */
function breakingAt(point: 'startTransaction' | 'commitTransaction', code: string): Database {
  const broken = () => Promise.reject(Object.assign(new Error(`write ${code}`), { code }));
  const fine = () => Promise.resolve();
  const runner = {
    isTransactionActive: false,
    isReleased: false,
    manager: {},
    startTransaction: fine,
    commitTransaction: fine,
    query: fine,
    release: fine,
    [point]: broken,
  };
  const roles = [
    { policy: 'organization_isolation', role: 'app' },
    { policy: 'system_access', role: 'system' },
    { policy: 'retention_access', role: 'retention' },
  ];
  const dataSource = { createQueryRunner: () => runner, query: () => Promise.resolve(roles), driver: {} };
  return new Database(dataSource as unknown as DataSource, Log.create('silent'), new Metrics());
}

describe('a connection that breaks', () => {
  it.each(['EPIPE', 'ECONNRESET'])('before the commit (%s) has changed nothing', async (code) => {
    const work = breakingAt('startTransaction', code).transaction('organization', () => Promise.resolve());
    await expect(work).rejects.toMatchObject({ code: 'busy', status: 503 });
  });

  // Five capital letters look like an SQLSTATE at first sight; taken for one, this would be told as a certain refusal.
  it.each(['EPIPE', 'ECONNRESET'])('during the commit (%s) leaves the outcome unknown', async (code) => {
    const work = breakingAt('commitTransaction', code).transaction('organization', () => Promise.resolve());
    await expect(work).rejects.toMatchObject({ code: 'outcome_unknown', status: 503 });
  });
});
