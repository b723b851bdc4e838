import { DAY, openStand, SOUND, type Stand } from './stand';

/**
 * Mistake 7: a job that was told which row to act on, and then asks for "the first one, for update" without the id. It locks,
 * and changes, somebody else's appointment; its own it neither protects nor changes.
 *
 * Interleaving: an operator works on appointment 2 under its lock. The job for appointment 2 queries the first open row for
 * update, gets appointment 1, does not wait for anybody, and cancels it. Its time is given away while it is being used.
 *
 * Holdfast locks by id, and reads what it locked.
 */
describe('mistake 7: the first row for update, without the id', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.appointment (id integer PRIMARY KEY, status text);
      INSERT INTO mistake.appointment VALUES (1, 'confirmed'), (2, 'confirmed')`);
  });
  afterAll(() => stand.close());

  it('changes another appointment, and does not wait for its own', async () => {
    const [operator, job] = [await stand.stage.session(), await stand.stage.session()];
    await operator.run('BEGIN');
    await operator.run('SELECT * FROM mistake.appointment WHERE id = 2 FOR UPDATE');
    await job.run('BEGIN');
    const [locked] = await job.run<{ id: number }>(
      `SELECT id FROM mistake.appointment WHERE status = 'confirmed' ORDER BY id LIMIT 1 FOR UPDATE`,
    );
    await job.run(`UPDATE mistake.appointment SET status = 'cancelled' WHERE id = $1`, [locked!.id]);
    await job.run('COMMIT');
    await operator.run('COMMIT');

    expect(await stand.stage.look('SELECT * FROM mistake.appointment ORDER BY id')).toEqual([
      { id: 1, status: 'cancelled' },
      { id: 2, status: 'confirmed' },
    ]);
  });

  it('is not what Holdfast does: a cancellation waits for its own appointment, and only that is changed', async () => {
    const [first, second] = [(await stand.book('10:00')).body, (await stand.book('11:00')).body];
    const operator = await stand.stage.session();
    await operator.run('BEGIN');
    await operator.run('SELECT 1 FROM appointment WHERE id = $1 FOR UPDATE', [second.id]);
    const cancelled = stand.cancel(second.id);
    await stand.stage.waiting(1);
    // Another one's cancellation is not in the way.
    const third = (await stand.book('12:00')).body;
    expect((await stand.cancel(third.id)).status).toBe(200);
    await operator.run('COMMIT');
    expect((await cancelled).status).toBe(200);

    expect((await stand.clinic.call('GET', `/v1/appointments/${first.id}`)).body.status).toBe('confirmed');
    expect((await stand.clinic.call('GET', `/v1/appointments/${second.id}`)).body.status).toBe('cancelled');
    expect((await stand.book('10:00')).status).toBe(409);
    expect((await stand.book('11:00')).status).toBe(201);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it.each([
    ['confirm', '13:00', {}],
    ['reschedule', '14:00', { startsAt: `${DAY}T14:30:00Z` }],
  ])(
    'is not what Holdfast does: to %s locks one of several whose only difference is the id',
    async (action, time, body) => {
      const { clinic, stage } = stand;
      // The same service, patient, status and time, on a schedule each.
      const holds = [];
      for (const { id: practitionerId } of clinic.practitioners.slice(1, 5)) {
        const made = await clinic.call('POST', '/v1/appointments', {
          body: {
            serviceId: clinic.services[0]!.id,
            practitionerId,
            startsAt: `${DAY}T${time}:00Z`,
            patient: { phone: '+4915199999999' },
            hold: true,
          },
        });
        expect(made.status).toBe(201);
        holds.push(made.body);
      }
      const [, other, wanted] = holds;
      const act = (id: string) => clinic.call('POST', `/v1/appointments/${id}/${action}`, { body });
      const operator = await stage.session();
      await operator.run('BEGIN');
      await operator.run('SELECT 1 FROM appointment WHERE id = $1 FOR UPDATE', [wanted.id]);
      const acting = act(wanted.id);
      await stage.waiting(1);
      // It waits for its own, and holds none of the others.
      const free = await stage.look<{ id: string }>(
        `SELECT id FROM appointment WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED`,
        [holds.map((each) => each.id)],
      );
      expect(free).toHaveLength(3);
      expect((await act(other.id)).status).toBe(200);
      await operator.run('COMMIT');
      expect((await acting).body.id).toBe(wanted.id);

      const unchanged = await stage.look<{ id: string }>(
        'SELECT id FROM appointment WHERE id = ANY($1) AND version = 1 ORDER BY id',
        [holds.map((each) => each.id)],
      );
      const others = holds.filter((each) => each !== other && each !== wanted);
      expect(unchanged).toEqual(others.map(({ id }) => ({ id })));
      expect(await stand.ledger()).toEqual(SOUND);
    },
  );
});
