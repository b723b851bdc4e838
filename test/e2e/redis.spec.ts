import { Client } from 'pg';
import { type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { hasRedis, TestRedis } from '../support/redis';

// Left out, and said so, where no Redis server can be had; under CI its absence fails the run instead.
(hasRedis() ? describe : describe.skip)('with Redis', () => {
  let redis: TestRedis;
  let api: TestApp;
  let clinic: Clinic;
  beforeAll(async () => {
    redis = await TestRedis.start();
    api = await startApp({ redisUrl: redis.url });
    clinic = await seedClinic(api);
  });
  afterAll(async () => {
    await api.stop();
    await redis.kill();
  });

  const plannedDays = async (client: Client): Promise<number> =>
    (await client.query<{ days: number }>('SELECT count(*)::int AS days FROM schedule_day')).rows[0]!.days;

  it('a worker plans the days to come through a queue on Redis', async () => {
    const client = new Client({ connectionString: api.databaseUrl });
    await client.connect();
    const worker = await startApp({ databaseUrl: api.databaseUrl, redisUrl: redis.url, role: 'worker' });
    const deadline = Date.now() + 30_000;
    while ((await plannedDays(client)) < 11 * 36 && Date.now() < deadline)
      await new Promise((next) => setTimeout(next, 100));
    expect(await plannedDays(client)).toBe(11 * 36);
    await worker.stop();
    await client.end();
  });

  it('bookings go on when Redis is gone, and a worker starts without it', async () => {
    await redis.kill();
    const worker = await startApp({ databaseUrl: api.databaseUrl, redisUrl: redis.url, role: 'worker' });
    const body = {
      serviceId: clinic.services[0]!.id,
      practitionerId: clinic.practitioners[0]!.id,
      startsAt: `${workday()}T10:00:00Z`,
      patient: { phone: '+4915112345678' },
    };
    expect((await clinic.call('POST', '/v1/appointments', { body })).status).toBe(201);
    expect((await worker.as(undefined)('GET', '/health/ready')).status).toBe(200);
    await redis.up();
    await worker.stop();
  });
});
