import { ExpiryService } from '../../src/appointments';
import {
  after,
  contentsOf,
  inDays,
  inSeconds,
  lapse,
  maker,
  openSql,
  passing,
  problem,
  problemOf,
  type Sql,
} from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

/** No worker runs here: whatever ends does so by time alone, unless a test sweeps. */
describe('holds and requests', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  beforeAll(async () => {
    app = await startApp();
    call = (await seedClinic(app)).call;
    make = maker(call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const START = inDays(10, '08:00');
  const PAID = { paymentRequired: true, price: { amount: 100, currency: 'EUR' } };
  const sweep = () => app.app.get(ExpiryService, { strict: false }).sweep();
  const statusOf = async (id: string) => (await call('GET', `/v1/appointments/${id}`)).body.status;
  const startsOf = async (serviceId: string, from = START, to = inDays(11)): Promise<string[]> => {
    const answer = await call('GET', `/v1/slots?serviceId=${serviceId}&from=${from}&to=${to}`);
    return answer.body.data.map((slot: { startsAt: string }) => slot.startsAt);
  };
  const idsOf = async (query: string): Promise<string[]> =>
    (await call('GET', `/v1/appointments?${query}`)).body.data.map((each: { id: string }) => each.id);
  const made = (answer: Answer) => {
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  async function hold(fields: object = {}, wish: object = {}) {
    const { service, practitioner } = await make.lane(fields);
    const held = made(await make.book({ serviceId: service.id, startsAt: START, hold: true, ...wish }));
    const again = (more: object = {}) => make.book({ serviceId: service.id, startsAt: START, ...more });
    return { service, practitioner, held, again };
  }
  /** A hold that is over, as nobody or the sweeper has noticed. */
  async function lapsed(fields: object = {}, swept = false) {
    const one = await hold(fields);
    await lapse(sql, one.held.id);
    if (swept) await sweep();
    return one;
  }
  const NOTICED: Array<[string, boolean]> = [
    ['not written down yet', false],
    ['written down', true],
  ];

  describe('are held as long as was asked for:', () => {
    it.each<[string, object, boolean | { seconds: number }, number]>([
      ["the service's own time", { holdMinutes: 7 }, true, 420],
      ['ten minutes where the service says nothing', {}, true, 600],
      ['so many seconds', { holdMinutes: 7 }, { seconds: 90 }, 90],
      ['the least', {}, { seconds: 5 }, 5],
      ['the most', {}, { seconds: 3600 }, 3600],
      ['where a payment is due, without being asked', { ...PAID, holdMinutes: 3 }, false, 180],
      ['where a payment is due, as it was asked', { ...PAID, holdMinutes: 3 }, { seconds: 60 }, 60],
      ['first, where the clinic is to be asked', { requiresConfirmation: true, holdMinutes: 4 }, true, 240],
      ['first, where both is so', { ...PAID, requiresConfirmation: true, holdMinutes: 4 }, false, 240],
    ])('%s', async (_, fields, wish, seconds) => {
      const { held } = await hold(fields, { hold: wish });
      expect(held).toMatchObject({
        status: 'held',
        holdExpiresAt: after(held.createdAt, seconds / 60),
        pendingUntil: null,
      });
      expect((await call('GET', `/v1/appointments/${held.id}`)).body).toEqual(held);
      const [claim] = await sql('SELECT expires_at FROM claim WHERE holder = $1', [held.id]);
      expect(claim.expires_at).toEqual(new Date(held.holdExpiresAt));
    });

    it('not at all where nobody asked', async () => {
      const { held } = await hold({}, { hold: false });
      expect(held).toMatchObject({ status: 'confirmed', holdExpiresAt: null, pendingUntil: null });
    });
  });

  it('are announced as what they are', async () => {
    const { held } = await hold();
    const { held: request } = await hold({ requiresConfirmation: true }, { hold: false });
    for (const { id, status } of [held, request]) {
      expect(await sql('SELECT type, version FROM outbox_event WHERE subject_id = $1', [id])).toEqual([
        { type: `appointment.${status}`, version: 1 },
      ]);
      const history = (await call('GET', `/v1/appointments/${id}/history`)).body.data;
      expect(history).toMatchObject([{ action: 'book', fromStatus: null, toStatus: status, version: 1 }]);
    }
    expect([held.status, request.status]).toEqual(['held', 'pending']);
  });

  describe('while they last', () => {
    it('keep their time, buffers and all, from everybody else', async () => {
      const { service, again, held } = await hold({ bufferAfterMinutes: 10, slotIntervalMinutes: 5 });
      for (const minutes of [-35, -5, 0, 5, 35]) {
        const lost = await again({ startsAt: after(START, minutes), hold: minutes === 5 });
        expect([minutes, problemOf(lost)]).toEqual([minutes, problem(409, 'slot_taken')]);
        expect(lost.body.alternatives).toHaveLength(3);
        const offered = lost.body.alternatives.map((slot: { startsAt: string }) => slot.startsAt);
        expect(offered).not.toContain(START);
        expect(await startsOf(service.id, inDays(10))).toEqual(expect.arrayContaining(offered));
      }
      expect((await startsOf(service.id, after(START, -60))).slice(0, 7)).toEqual([
        ...[-60, -55, -50, -45, -40].map((minutes) => after(START, minutes)),
        ...[40, 45].map((minutes) => after(START, minutes)),
      ]);
      expect(await statusOf(held.id)).toBe('held');
      expect((await again({ startsAt: after(START, 40) })).status).toBe(201);
    });

    it('are taken by one of many who want them at once', async () => {
      const { service } = await make.lane();
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          make.book({ serviceId: service.id, startsAt: START, hold: index % 2 === 0 || { seconds: 60 } }),
        ),
      );
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([201, ...Array<number>(9).fill(409)]);
    });

    it('keep what they need from being deleted, and no longer', async () => {
      const { service, practitioner, held } = await hold();
      const paths = [
        `/v1/services/${service.id}`,
        `/v1/practitioners/${practitioner.id}`,
        `/v1/patients/${held.patientId}`,
      ];
      for (const path of paths) expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
      await lapse(sql, held.id);
      for (const path of paths) expect([path, (await call('DELETE', path)).status]).toEqual([path, 204]);
    });

    it('are repeated under their key as they were', async () => {
      const { service } = await make.lane();
      const body = { serviceId: service.id, startsAt: START, hold: true, patient: { phone: '+4915155555555' } };
      const book = () => call('POST', '/v1/appointments', { body, headers: { 'Idempotency-Key': 'a-hold' } });
      const first = await book();
      await lapse(sql, first.body.id);
      const second = await book();
      expect([second.status, second.headers.get('idempotency-replayed'), second.body]).toEqual([
        201,
        'true',
        first.body,
      ]);
      expect(await statusOf(first.body.id)).toBe('expired');
    });
  });

  describe('when their time is over', () => {
    it('are gone in that moment, not before and not after', async () => {
      const { service, held, again } = await hold({}, { hold: { seconds: 5 } });
      const end = Date.parse(held.holdExpiresAt);
      expect(await startsOf(service.id)).not.toContain(START);
      let sent: number;
      let answer: Answer;
      do {
        sent = Date.now();
        answer = await again();
        // Whoever asked after the end had it.
        if (answer.status !== 201) expect(sent).toBeLessThanOrEqual(end);
      } while (answer.status === 409);
      // And nobody had it before: `createdAt` tells when the booking began, which may have waited for that moment.
      expect(Date.now()).toBeGreaterThanOrEqual(end);
      expect(answer.status).toBe(201);
      expect(await statusOf(held.id)).toBe('expired');
      const rows = await sql('SELECT status, version FROM appointment WHERE id = $1', [held.id]);
      expect(rows).toEqual([{ status: 'held', version: 1 }]);
    });

    it('are offered again, and read as expired everywhere', async () => {
      const { service, practitioner, held, again } = await hold({}, { hold: { seconds: 5 } });
      const request = await hold({ requiresConfirmation: true }, { hold: false });
      await passing(held.holdExpiresAt);
      await lapse(sql, request.held.id);
      expect(await startsOf(service.id)).toContain(START);
      expect(await startsOf(request.service.id)).toContain(START);
      const read = await call('GET', `/v1/appointments/${held.id}`);
      expect([read.headers.get('etag'), read.body]).toEqual([
        '"1"',
        { ...held, status: 'expired', updatedAt: held.holdExpiresAt },
      ]);
      for (const [mine, was] of [
        [held, 'held'],
        [request.held, 'pending'],
      ] as const) {
        const whose = `practitionerId=${mine.segments[0].practitionerId}`;
        for (const scope of [whose, `patientId=${mine.patientId}`, `from=${START}&to=${after(START, 1)}&limit=1000`]) {
          const others = (query: string) => idsOf(`${scope}&${query}`);
          expect(await others('status=expired')).toContain(mine.id);
          expect(await others(`status=${was}`)).not.toContain(mine.id);
          expect(await others(`status=${was},expired`)).toContain(mine.id);
          expect(await others('status=held,pending,confirmed,checked_in')).not.toContain(mine.id);
        }
        const [row] = (await call('GET', `/v1/appointments?${whose}`)).body.data;
        expect(row).toEqual((await call('GET', `/v1/appointments/${mine.id}`)).body);
      }
      expect((await again({ practitionerId: practitioner.id })).status).toBe(201);
    });

    it('are a change for whoever follows what changes', async () => {
      const { held } = await hold();
      const { held: later } = await hold();
      await lapse(sql, held.id);
      const { updatedAt } = (await call('GET', `/v1/appointments/${held.id}`)).body;
      const changed = await idsOf(`updatedSince=${updatedAt}`);
      expect(changed).toContain(held.id);
      expect(changed).not.toContain(later.id);
    });

    it('are written down once, however many sweep', async () => {
      const { held, again } = await lapsed();
      await Promise.all([sweep(), sweep(), sweep()]);
      await sweep();
      const history = (await call('GET', `/v1/appointments/${held.id}/history`)).body.data;
      expect(history.map((line: { action: string }) => line.action)).toEqual(['book', 'expire']);
      expect(await statusOf(held.id)).toBe('expired');
      expect((await again()).status).toBe(201);
    });

    it('leave the one who was there before them alone, when they are swept', async () => {
      const { held, again } = await lapsed();
      const next = await again();
      expect(next.status).toBe(201);
      await sweep();
      expect([await statusOf(held.id), await statusOf(next.body.id)]).toEqual(['expired', 'confirmed']);
      expect(problemOf(await again())).toEqual(problem(409, 'slot_taken'));
    });

    it('never end what was confirmed in time', async () => {
      const { service, held, again } = await hold({}, { hold: { seconds: 5 } });
      const answer = await make.act(held.id, 'confirm', {}, { 'If-Match': '"1"' });
      expect([answer.status, answer.body.status, answer.body.holdExpiresAt]).toEqual([200, 'confirmed', null]);
      await passing(held.holdExpiresAt);
      await sweep();
      expect((await call('GET', `/v1/appointments/${held.id}`)).body).toEqual(answer.body);
      expect(await startsOf(service.id)).not.toContain(START);
      expect(problemOf(await again())).toEqual(problem(409, 'slot_taken'));
    });
  });

  describe.each(NOTICED)('confirmed too late, %s,', (_, swept) => {
    it('take their time again', async () => {
      const { service, held, again } = await lapsed({}, swept);
      const answer = await make.act(held.id, 'confirm');
      expect([answer.status, answer.body.status, answer.body.startsAt]).toEqual([200, 'confirmed', START]);
      expect(await startsOf(service.id)).not.toContain(START);
      expect(problemOf(await again())).toEqual(problem(409, 'slot_taken'));
      await sweep();
      expect(await statusOf(held.id)).toBe('confirmed');
    });

    it.each([
      ['all of it', {}, 0],
      ['its beginning', {}, -15],
      ['its end', {}, 15],
      ['its buffer', { bufferAfterMinutes: 20 }, 40],
    ])('are gone where somebody has %s, until he gives it back', async (__, fields, minutes) => {
      const { held, again } = await lapsed(fields, swept);
      const taker = made(await again({ startsAt: after(START, minutes) }));
      const before = await contentsOf(sql);
      for (const headers of [undefined, { 'If-Match': '"1"' }]) {
        expect(problemOf(await make.act(held.id, 'confirm', {}, headers))).toEqual(problem(410, 'hold_expired'));
      }
      expect(await contentsOf(sql)).toEqual(before);
      expect([await statusOf(held.id), await statusOf(taker.id)]).toEqual(['expired', 'confirmed']);
      await make.act(taker.id, 'cancel');
      expect((await make.act(held.id, 'confirm')).status).toBe(200);
    });

    it('are gone where another hold has the time, until that is over as well', async () => {
      const { held, again } = await lapsed({}, swept);
      const other = made(await again({ hold: true }));
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
      await lapse(sql, other.id);
      expect((await make.act(held.id, 'confirm')).status).toBe(200);
      expect(problemOf(await make.act(other.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
      expect([await statusOf(held.id), await statusOf(other.id)]).toEqual(['confirmed', 'expired']);
    });

    it('are gone with their start', async () => {
      const { service } = await make.lane();
      const held = made(await make.book({ serviceId: service.id, startsAt: inSeconds(2), hold: true }));
      await lapse(sql, held.id);
      if (swept) await sweep();
      await passing(held.startsAt);
      const before = await contentsOf(sql);
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
      expect(await contentsOf(sql)).toEqual(before);
    });

    it('are asked of the clinic, where the service asks', async () => {
      const { held, again } = await lapsed({ requiresConfirmation: true, pendingMinutes: 30 }, swept);
      const answer = await make.act(held.id, 'confirm');
      expect([answer.status, answer.body.status]).toEqual([200, 'pending']);
      expect(Date.parse(answer.body.pendingUntil)).toBeGreaterThanOrEqual(Date.parse(after(held.createdAt, 30)));
      expect(problemOf(await again())).toEqual(problem(409, 'slot_taken'));
      expect((await make.act(held.id, 'confirm')).body).toMatchObject({ status: 'confirmed', pendingUntil: null });
    });

    it('are not confirmed by hand where a payment is due', async () => {
      const { held } = await lapsed(PAID, swept);
      const before = await contentsOf(sql);
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(409, 'payment_required'));
      expect(await contentsOf(sql)).toEqual(before);
    });

    it('go by the version that the caller knows', async () => {
      const { held } = await lapsed({}, swept);
      const version = swept ? 2 : 1;
      for (const action of ['confirm', 'cancel', 'check-in', 'complete', 'no-show']) {
        const stale = [version + 1, ...(swept && action !== 'confirm' ? [1] : [])];
        for (const each of stale) {
          const answer = await make.act(held.id, action, {}, { 'If-Match': `"${each}"` });
          expect([action, each, problemOf(answer)]).toEqual([action, each, problem(412, 'version_stale')]);
        }
      }
      // That time went by is nobody's doing: who saw the hold may confirm it.
      const answer = await make.act(held.id, 'confirm', {}, { 'If-Match': '"1"' });
      // The expiry is written down first, where it is not: the version does not tell which it was.
      expect([answer.status, answer.headers.get('etag')]).toEqual([200, '"3"']);
      for (const each of ['"1"', '"2"']) {
        const again = await make.act(held.id, 'confirm', {}, { 'If-Match': each });
        expect(problemOf(again)).toEqual(problem(412, 'version_stale'));
      }
    });

    it.each(['service', 'practitioner', 'patient'] as const)('are gone with their %s', async (what) => {
      const { held, service, practitioner } = await lapsed({}, swept);
      const id = { service: service.id, practitioner: practitioner.id, patient: held.patientId }[what];
      expect((await call('DELETE', `/v1/${what}s/${id}`)).status).toBe(204);
      const answer = await make.act(held.id, 'confirm');
      expect([problem(410, 'hold_expired'), problem(404, 'not_found')]).toContainEqual(problemOf(answer));
      expect(await statusOf(held.id)).toBe('expired');
    });

    it('are gone when nobody is there any more at that time', async () => {
      const { held, practitioner } = await lapsed({}, swept);
      await make.exception(practitioner.scheduleId, { startsAt: START, endsAt: after(START, 60), kind: 'closed' });
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
    });
  });

  describe('in a race', () => {
    it('a late confirm, a booking and the sweeper leave the time to one of the first two', async () => {
      for (let round = 0; round < 8; round++) {
        const { held, again } = await lapsed();
        const [confirmed, booked] = await Promise.all([
          make.act(held.id, 'confirm'),
          again(),
          ...(round % 2 ? [sweep()] : []),
        ]);
        expect([
          [200, 409],
          [410, 201],
        ]).toContainEqual([confirmed.status, booked.status]);
        const status = confirmed.status === 200 ? 'confirmed' : 'expired';
        expect(await statusOf(held.id)).toBe(status);
        expect(await sql('SELECT 1 FROM claim WHERE holder = $1', [held.id])).toHaveLength(
          status === 'confirmed' ? 1 : 0,
        );
      }
    });

    it('of two late confirms of the same time one has it', async () => {
      for (let round = 0; round < 6; round++) {
        const { held, again } = await lapsed();
        const other = made(await again({ startsAt: after(START, round % 2 ? 0 : 15), hold: true }));
        await lapse(sql, other.id);
        const answers = await Promise.all([held, other].map(({ id }) => make.act(id, 'confirm')));
        expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 410]);
      }
    });

    it('ten confirms are one', async () => {
      for (const { held } of [await hold(), await lapsed(), await lapsed({}, true)]) {
        const answers = await Promise.all(Array.from({ length: 10 }, () => make.act(held.id, 'confirm')));
        expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
        const others = answers.filter(({ status }) => status !== 200);
        expect(others.map(problemOf)).toEqual(others.map(() => problem(409, 'invalid_transition')));
        expect(new Set(others.map(({ body }) => body.currentStatus))).toEqual(new Set(['confirmed']));
      }
    });
  });

  describe('where the clinic is asked', () => {
    it('go from hold to request to appointment', async () => {
      const { held, again } = await hold({ requiresConfirmation: true, pendingMinutes: 30 });
      const request = await make.act(held.id, 'confirm');
      expect([request.status, request.body.status, request.body.holdExpiresAt]).toEqual([200, 'pending', null]);
      const until = Date.parse(request.body.pendingUntil) - 30 * 60_000;
      expect(until).toBeGreaterThanOrEqual(Date.parse(held.createdAt));
      expect(until).toBeLessThanOrEqual(Date.parse(request.body.updatedAt));
      expect(problemOf(await again())).toEqual(problem(409, 'slot_taken'));
      const confirmed = await make.act(held.id, 'confirm');
      expect([confirmed.status, confirmed.body.status, confirmed.body.pendingUntil]).toEqual([200, 'confirmed', null]);
      const [claim] = await sql('SELECT expires_at FROM claim WHERE holder = $1', [held.id]);
      expect(claim.expires_at).toBeNull();
      const history = (await call('GET', `/v1/appointments/${held.id}/history`)).body.data;
      const steps = history.map((line: Record<string, string>) => [
        line['action'],
        line['fromStatus'],
        line['toStatus'],
      ]);
      expect(steps).toEqual([
        ['book', null, 'held'],
        ['confirm', 'held', 'pending'],
        ['confirm', 'pending', 'confirmed'],
      ]);
      const events = await sql('SELECT type FROM outbox_event WHERE subject_id = $1 ORDER BY version', [held.id]);
      expect(events.map(({ type }) => type)).toEqual([
        'appointment.held',
        'appointment.pending',
        'appointment.confirmed',
      ]);
    });

    it.each<[string, number | null, (request: Answer['body']) => string]>([
      ['as long as the service says', 45, ({ createdAt }) => after(createdAt, 45)],
      ['until its start, where it says nothing', null, ({ startsAt }) => startsAt],
      ['until its start, where it says more', 60 * 24 * 30, ({ startsAt }) => startsAt],
    ])('wait %s', async (_, pendingMinutes, until) => {
      const { held: request } = await hold({ requiresConfirmation: true, pendingMinutes }, { hold: false });
      expect(request).toMatchObject({ status: 'pending', pendingUntil: until(request), holdExpiresAt: null });
      const [claim] = await sql('SELECT expires_at FROM claim WHERE holder = $1', [request.id]);
      expect(claim.expires_at).toEqual(new Date(request.pendingUntil));
    });

    it('are over at their start, undecided', async () => {
      const { service } = await make.lane({ requiresConfirmation: true });
      const startsAt = inSeconds(2);
      const request = made(await make.book({ serviceId: service.id, startsAt }));
      await passing(startsAt);
      const answer = await make.act(request.id, 'confirm');
      expect([problemOf(answer), answer.body.currentStatus]).toEqual([problem(409, 'invalid_transition'), 'expired']);
      expect((await make.book({ serviceId: service.id, startsAt: inSeconds(5) })).status).toBe(201);
    });

    it('are no request any more once they begin as holds', async () => {
      const { service } = await make.lane({ requiresConfirmation: true });
      const startsAt = inSeconds(2);
      const held = made(await make.book({ serviceId: service.id, startsAt, hold: { seconds: 60 } }));
      await passing(startsAt);
      expect(problemOf(await make.act(held.id, 'confirm'))).toEqual(problem(410, 'hold_expired'));
    });

    it.each(NOTICED)('stay expired when a request is over, %s', async (_, swept) => {
      const { held } = await hold({ requiresConfirmation: true });
      expect((await make.act(held.id, 'confirm')).body.status).toBe('pending');
      await lapse(sql, held.id);
      if (swept) await sweep();
      const answer = await make.act(held.id, 'confirm', {}, { 'If-Match': swept ? '"3"' : '"2"' });
      expect([problemOf(answer), answer.body.currentStatus]).toEqual([problem(409, 'invalid_transition'), 'expired']);
      if (swept) {
        const stale = await make.act(held.id, 'confirm', {}, { 'If-Match': '"2"' });
        expect(problemOf(stale)).toEqual(problem(412, 'version_stale'));
      }
    });
  });

  it('cancelled, free their time at once', async () => {
    const { held, again } = await hold();
    const answer = await make.act(held.id, 'cancel', { reason: 'Changed his mind' });
    expect(answer.body).toMatchObject({ status: 'cancelled', holdExpiresAt: null, cancellation: 'in_time' });
    expect((await again()).status).toBe(201);
    const confirm = await make.act(held.id, 'confirm');
    expect([problemOf(confirm), confirm.body.currentStatus]).toEqual([problem(409, 'invalid_transition'), 'cancelled']);
  });

  it('that are to be paid are not confirmed by hand, but cancelled and moved like others', async () => {
    const { held, again } = await hold(PAID, { hold: false });
    const before = await contentsOf(sql);
    for (const [name, value] of [
      ['If-Match', '"1"'],
      ['If-Match', '*'],
      ['Idempotency-Key', 'by-hand'],
    ] as const) {
      expect(problemOf(await make.act(held.id, 'confirm', {}, { [name]: value }))).toEqual(
        problem(409, 'payment_required'),
      );
    }
    expect(problemOf(await make.act(held.id, 'confirm', {}, { 'If-Match': '"2"' }))).toEqual(
      problem(412, 'version_stale'),
    );
    expect(await contentsOf(sql)).toEqual(before);
    const moved = await make.act(held.id, 'reschedule', { startsAt: after(START, 60) });
    expect(moved.body).toMatchObject({ status: 'held', holdExpiresAt: held.holdExpiresAt });
    expect((await make.act(held.id, 'cancel')).body.status).toBe('cancelled');
    expect((await again({ startsAt: after(START, 60) })).status).toBe(201);
  });

  it('moved, are held no longer than before, and free the time that they have then', async () => {
    const { held, again } = await hold({}, { hold: { seconds: 3600 } });
    const moved = await make.act(held.id, 'reschedule', { startsAt: after(START, 60) });
    expect([moved.status, moved.body]).toEqual([
      200,
      expect.objectContaining({ status: 'held', startsAt: after(START, 60), holdExpiresAt: held.holdExpiresAt }),
    ]);
    expect((await again()).status).toBe(201);
    expect(problemOf(await again({ startsAt: after(START, 60) }))).toEqual(problem(409, 'slot_taken'));
    await lapse(sql, held.id);
    expect((await again({ startsAt: after(START, 60) })).status).toBe(201);
    expect(await statusOf(held.id)).toBe('expired');
  });

  it.each<[string, number | null, number, (request: Answer['body']) => string]>([
    ['keep their limit', 60, 1440, ({ createdAt }) => after(createdAt, 60)],
    ['end with their new start', null, -1440, ({ startsAt }) => after(startsAt, -1440)],
    ['end with their new start, a later one too', null, 1440, ({ startsAt }) => after(startsAt, 1440)],
  ])('asked of the clinic and moved, %s', async (_, pendingMinutes, minutes, until) => {
    const { held: request } = await hold({ requiresConfirmation: true, pendingMinutes }, { hold: false });
    const moved = await make.act(request.id, 'reschedule', { startsAt: after(START, minutes) });
    expect(moved.body).toMatchObject({ status: 'pending', pendingUntil: until(request) });
    const [claim] = await sql('SELECT expires_at FROM claim WHERE holder = $1', [request.id]);
    expect(claim.expires_at).toEqual(new Date(moved.body.pendingUntil));
  });
});
