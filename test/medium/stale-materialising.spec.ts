import type { Client } from 'pg';
import { Ledger, ScheduleDayRepository } from '../../src/availability';
import { Database } from '../../src/platform';
import { type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';
import { openClient } from '../support/database';

/**
 * Two sessions want a day that has no row. The slower one finds, when it comes to write, that the other has written it, and
 * that somebody is just releasing a claim on it. Was it to recompute what is taken on a row that it has not locked, it would
 * wait for the release and then write what it had read before: a claim that is gone would block the time for good.
 */
describe('a day that somebody else has materialised meanwhile', () => {
  let app: TestApp;
  let clinic: Clinic;
  let releasing: Client;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    releasing = await openClient(app.databaseUrl);
  });
  afterAll(async () => {
    await releasing.end();
    await app.stop();
  });

  it('is left to those who hold it', async () => {
    const day = workday();
    const { id: practitionerId, scheduleId } = clinic.practitioners[0]!;
    const body = {
      serviceId: clinic.services[0]!.id,
      practitionerId,
      startsAt: `${day}T10:00:00Z`,
      patient: { phone: '+4915112345678' },
    };
    expect((await clinic.call('POST', '/v1/appointments', { body })).status).toBe(201);

    // The slower session's look at the days came before the row was there.
    const days = app.app.get(ScheduleDayRepository, { strict: false });
    jest.spyOn(days, 'existing').mockResolvedValueOnce(new Set());
    const insertMissing = days.insertMissing.bind(days);
    jest.spyOn(days, 'insertMissing').mockImplementationOnce(async (...missing) => {
      const made = await insertMissing(...missing);
      await releasing.query('BEGIN');
      await releasing.query('DELETE FROM claim WHERE schedule_id = $1', [scheduleId]);
      await releasing.query(`UPDATE schedule_day SET taken = '{}' WHERE schedule_id = $1`, [scheduleId]);
      return made;
    });
    const ledger = app.app.get(Ledger, { strict: false });
    const database = app.app.get(Database, { strict: false });
    const materialising = database.transaction(clinic.organizationId, (tx) =>
      ledger.materialise(tx, clinic.organizationId, [{ scheduleId, day }]),
    );
    const waiting = async () => {
      const { rows } = await releasing.query(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`,
      );
      return rows.length > 0;
    };
    const state = { finished: false };
    const settled = materialising.finally(() => (state.finished = true));
    while (!state.finished && !(await waiting())) await new Promise((next) => setTimeout(next, 10));
    await releasing.query('COMMIT');
    await settled;

    const { rows } = await releasing.query<{ taken: string }>(
      'SELECT taken::text FROM schedule_day WHERE schedule_id = $1',
      [scheduleId],
    );
    expect(rows).toEqual([{ taken: '{}' }]);
  });
});
