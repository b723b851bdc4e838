import { Idempotency } from '../../../src/platform';
import { addOrganization, type Caller } from '../../support/app';
import { maker } from '../../support/api';
import { pauseBefore } from '../../support/sessions';
import { DAY, openStand, SOUND, type Stand } from './stand';

/**
 * Mistake 14: "duplicate found, return the existing booking". Meant for a caller who repeats himself, it also answers the one
 * who lost the race, or who happened to use the same key: he is handed somebody else's appointment, with all that it tells,
 * and believes that he has one.
 *
 * Interleaving: Ada's booking is about to commit. Ben's insert waits for it, finds the duplicate, and returns what is there.
 *
 * In Holdfast an answer is given again only to the same caller (organization and API key), under the same key, for the same
 * request. Everybody else acts for himself, and is told no more than that the time is taken.
 */
describe('mistake 14: the existing booking is returned', () => {
  let stand: Stand;
  /** Another caller of the same clinic. */
  let other: Caller;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.booking (practitioner integer, starts_at timestamptz, ends_at timestamptz, patient text, notes text,
                                    UNIQUE (practitioner, starts_at));
      CREATE TABLE mistake.answer (key text PRIMARY KEY, answer text)`);
    const made = await stand.clinic.call('POST', '/v1/api-keys', {
      body: { name: 'Another one', role: 'receptionist' },
    });
    other = stand.app.as(made.body.key);
  });
  afterAll(() => stand.close());

  it("hands the one who lost the other one's appointment", async () => {
    const [ada, ben] = [await stand.stage.session(), await stand.stage.session()];
    const insert = `INSERT INTO mistake.booking VALUES (1, '2030-01-07T10:00Z', '2030-01-07T11:00Z', $1, $2)
                    ON CONFLICT DO NOTHING RETURNING patient, notes`;
    const existing = `SELECT patient, notes FROM mistake.booking WHERE practitioner = 1 AND starts_at = '2030-01-07T10:00Z'`;
    for (const session of [ada, ben]) await session.run('BEGIN');
    await ada.run(insert, ['Ada', 'pregnant']);
    const waiting = ben.run(insert, ['Ben', null]);
    await ben.blocked();
    await ada.run('COMMIT');
    const inserted = await waiting;
    // The mistake: whatever is there is given for what was asked.
    const answer = inserted.length > 0 ? inserted : await ben.run(existing);
    await ben.run('COMMIT');

    expect(answer).toEqual([{ patient: 'Ada', notes: 'pregnant' }]);
  });

  it("hands another caller who uses the same key the first one's answer", async () => {
    const [ada, ben] = [await stand.stage.session(), await stand.stage.session()];
    const known = `SELECT answer FROM mistake.answer WHERE key = 'booking-1'`;
    expect(await ada.run(known)).toEqual([]);
    await ada.run(`INSERT INTO mistake.answer VALUES ('booking-1', 'Ada at ten')`);
    expect(await ben.run(known)).toEqual([{ answer: 'Ada at ten' }]);
  });

  const ADA = { phone: '+4915180000001', name: 'Ada Private', email: 'ada@example.org' };
  const BEN = { phone: '+4915180000002', name: 'Ben' };
  const ask = (call: Caller, time: string, patient: object, key?: string) =>
    call('POST', '/v1/appointments', {
      headers: key === undefined ? {} : { 'Idempotency-Key': key },
      body: {
        serviceId: stand.clinic.services[0]!.id,
        practitionerId: stand.clinic.practitioners[0]!.id,
        startsAt: `${DAY}T${time}:00Z`,
        patient,
        ...(patient === ADA ? { notes: 'pregnant', attendeeName: 'Ada Private', metadata: { file: 'A-17' } } : {}),
      },
    });
  /** That an answer tells nothing of another one's appointment, and was not taken from it. */
  const expectNothingOf = (
    appointment: { id: string; patientId: string },
    answer: { headers: Headers; body: unknown },
  ) => {
    const told = JSON.stringify([answer.body, [...answer.headers]]);
    for (const secret of [appointment.id, appointment.patientId, 'Private', 'pregnant', 'A-17', ADA.phone, ADA.email]) {
      expect(told).not.toContain(secret);
    }
    expect(answer.headers.get('idempotency-replayed')).toBeNull();
  };

  it('does not in Holdfast: who waited and lost is told that, and nothing of the other one', async () => {
    const pause = pauseBefore(stand.app.app.get(Idempotency, { strict: false }), 'keep');
    const first = ask(stand.clinic.call, '10:00', ADA, 'booking-1');
    await pause.reached;
    // The same key, the same time, by another caller: neither "in progress" nor the answer to come is his.
    const second = ask(other, '10:00', BEN, 'booking-1');
    await stand.stage.waiting(1);
    pause.resume();
    const ada = await first;
    expect(ada.status).toBe(201);
    const ben = await second;
    expect(ben).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expectNothingOf(ada.body, ben);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: the same request under the same key is replayed to its own caller alone', async () => {
    const first = await ask(stand.clinic.call, '11:00', ADA, 'booking-2');
    expect(first.status).toBe(201);
    const again = await ask(stand.clinic.call, '11:00', ADA, 'booking-2');
    expect([again.status, again.headers.get('idempotency-replayed'), again.body]).toEqual([201, 'true', first.body]);

    const copied = await ask(other, '11:00', ADA, 'booking-2');
    expect(copied).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect(copied.headers.get('idempotency-replayed')).toBeNull();
    expect(JSON.stringify(copied.body)).not.toContain(first.body.id);

    const own = await ask(other, '12:00', BEN, 'booking-2');
    expect(own.status).toBe(201);
    expectNothingOf(first.body, own);
    expect((await ask(other, '12:00', BEN, 'booking-2')).body).toEqual(own.body);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: another request under the same key is refused, another organization is another caller', async () => {
    const first = await ask(stand.clinic.call, '13:00', ADA, 'booking-3');
    expect(first.status).toBe(201);
    const reused = await ask(stand.clinic.call, '13:00', BEN, 'booking-3');
    expect(reused).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
    expectNothingOf(first.body, reused);

    const elsewhere = stand.app.as((await addOrganization(stand.app)).apiKey);
    const { practitioner, service } = maker(elsewhere);
    const who = await practitioner();
    const there = await elsewhere('POST', '/v1/appointments', {
      headers: { 'Idempotency-Key': 'booking-3' },
      body: { serviceId: (await service([who.id])).id, startsAt: `${DAY}T13:00:00Z`, patient: BEN },
    });
    expect(there.status).toBe(201);
    expectNothingOf(first.body, there);
    expect(await stand.ledger()).toEqual(SOUND);
  });

  it('does not in Holdfast: the same patient at the same time without a key gets no second one, nor the first', async () => {
    const first = await ask(stand.clinic.call, '14:00', ADA);
    expect(first.status).toBe(201);
    const again = await ask(stand.clinic.call, '14:00', ADA);
    expect(again).toMatchObject({ status: 409, body: { code: 'slot_taken' } });
    expect(JSON.stringify(again.body)).not.toContain(first.body.id);
  });

  it("does not in Holdfast: what somebody did to an appointment is not another one's answer either", async () => {
    const first = await ask(stand.clinic.call, '09:00', ADA);
    const cancel = (call: Caller) =>
      call('POST', `/v1/appointments/${first.body.id}/cancel`, {
        headers: { 'Idempotency-Key': 'cancel-1' },
        body: {},
      });
    const done = await cancel(stand.clinic.call);
    expect(done.status).toBe(200);
    expect((await cancel(stand.clinic.call)).headers.get('idempotency-replayed')).toBe('true');
    const late = await cancel(other);
    expect(late).toMatchObject({ status: 409, body: { code: 'invalid_transition', currentStatus: 'cancelled' } });
    expect(late.headers.get('idempotency-replayed')).toBeNull();
    expect(await stand.ledger()).toEqual(SOUND);
  });
});
