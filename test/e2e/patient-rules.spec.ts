import { ExpiryService } from '../../src/appointments';
import {
  after,
  contentsOf,
  inDays,
  inSeconds,
  lapse,
  maker,
  newPhone,
  openSql,
  passing,
  problem,
  problemOf,
  type Sql,
} from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('rules that bind patients', () => {
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
  afterEach(async () => {
    expect((await patch({ patientRules: OFF })).status).toBe(200);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const OFF = {
    allowOverlap: true,
    maxOpenHolds: null,
    cancellationWindowMinutes: null,
    lateCancellationRoles: ['practitioner', 'receptionist', 'administrator'],
    lateCancellationKind: 'late_cancellation',
  };
  const START = inDays(10, '08:00');
  const at = (minutes: number) => after(START, minutes);
  const patch = (body: object, headers: Record<string, string> = {}) =>
    call('PATCH', '/v1/organization', { body, headers });
  const rule = async (patientRules: object) => {
    const answer = await patch({ patientRules });
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
  };
  const rules = async () => (await call('GET', '/v1/organization')).body.patientRules;
  const made = (answer: Answer) => {
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const statusOf = async (id: string) => (await call('GET', `/v1/appointments/${id}`)).body.status;
  /** Practitioners who offer the same, and a patient who wants it. */
  async function stage(count: number, fields: object = {}) {
    const practitioners: Array<{ id: string }> = [];
    for (let index = 0; index < count; index++) practitioners.push(await make.practitioner());
    const service = await make.service(
      practitioners.map(({ id }) => id),
      { slotIntervalMinutes: 5, ...fields },
    );
    const patient = await make.patient();
    const want = (startsAt: string, more: object = {}) =>
      make.book({ serviceId: service.id, startsAt, patientId: patient.id, ...more });
    return { practitioners, service, patient, want };
  }

  describe('as settings of the organization', () => {
    it('are off at first', async () => {
      const { apiKey } = await addOrganization(app);
      expect((await app.as(apiKey)('GET', '/v1/organization')).body.patientRules).toEqual(OFF);
    });

    it.each<[string, object]>([
      ['allowOverlap', { allowOverlap: false }],
      ['maxOpenHolds', { maxOpenHolds: 3 }],
      ['cancellationWindowMinutes', { cancellationWindowMinutes: 1440 }],
      ['lateCancellationRoles', { lateCancellationRoles: ['administrator'] }],
      ['lateCancellationRoles, nobody', { lateCancellationRoles: [] }],
      ['lateCancellationKind', { lateCancellationKind: 'short_notice' }],
      ['nothing', {}],
    ])('change alone: %s', async (_, change) => {
      const others = { ...OFF, allowOverlap: false, maxOpenHolds: 7, cancellationWindowMinutes: 60 };
      await rule(others);
      const before = await call('GET', '/v1/organization');
      const answer = await patch({ patientRules: change });
      expect(answer.body).toEqual({
        ...before.body,
        patientRules: { ...others, ...change },
        updatedAt: answer.body.updatedAt,
      });
      expect(Number(answer.headers.get('etag')!.replaceAll('"', ''))).toBe(
        Number(before.headers.get('etag')!.replaceAll('"', '')) + 1,
      );
      expect((await call('GET', '/v1/organization')).body).toEqual(answer.body);
    });

    it('stay as they are when something else changes', async () => {
      await rule({ maxOpenHolds: 2, allowOverlap: false });
      const answer = await patch({ name: 'Renamed' });
      expect(answer.body).toMatchObject({
        name: 'Renamed',
        patientRules: { ...OFF, maxOpenHolds: 2, allowOverlap: false },
      });
    });

    it('keep to If-Match, and let one of two editors win', async () => {
      const etag = (await call('GET', '/v1/organization')).headers.get('etag')!;
      const answers = await Promise.all([
        patch({ patientRules: { maxOpenHolds: 4 } }, { 'If-Match': etag }),
        patch({ patientRules: { cancellationWindowMinutes: 30 } }, { 'If-Match': etag }),
      ]);
      expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 412]);
      const winner = answers.find(({ status }) => status === 200)!.body;
      const before = await contentsOf(sql);
      const stale = await patch({ patientRules: { allowOverlap: false } }, { 'If-Match': etag });
      expect(problemOf(stale)).toEqual(problem(412, 'version_stale'));
      expect(await contentsOf(sql)).toEqual(before);
      expect(await rules()).toEqual(winner.patientRules);
    });

    it('are refused where they are wrong', async () => {
      const before = await contentsOf(sql);
      const wrong: Array<[string, unknown[]]> = [
        ['', [null, 1, 'x', [], [{}], true]],
        ['/allowOverlap', [null, 0, 1, 'true', [], {}]],
        ['/maxOpenHolds', [0, -1, 1.5, '3', 1001, true, [], {}]],
        ['/cancellationWindowMinutes', [0, -60, 1.5, '60', 525_601, true, [], {}]],
        [
          '/lateCancellationRoles',
          [null, 'administrator', [1], ['patient'], ['operator'], ['nobody'], ['administrator', 'administrator'], {}],
        ],
        ['/lateCancellationKind', [null, 1, '', ' ', 'Short', 'short notice', '1st', 'x'.repeat(41), [], {}]],
        ['/surprise', [1]],
      ];
      for (const [pointer, values] of wrong) {
        for (const value of values) {
          const answer = await patch({
            name: 'X',
            patientRules: pointer === '' ? value : { [pointer.slice(1)]: value },
          });
          const expected = problem(400, 'validation_failed', `/patientRules${pointer}`);
          expect([pointer, value, problemOf(answer)]).toEqual([pointer, value, expected]);
        }
      }
      const { key } = (await call('POST', '/v1/api-keys', { body: { name: 'Desk', role: 'receptionist' } })).body;
      const answer = await app.as(key)('PATCH', '/v1/organization', {
        body: { patientRules: { allowOverlap: false } },
      });
      expect(problemOf(answer)).toEqual(problem(403, 'forbidden'));
      expect(await rules()).toEqual(OFF);
      // The key that was made for it, and the entry that tells of that.
      const made = { api_key: '', audit_pending: '' };
      expect({ ...(await contentsOf(sql)), ...made }).toEqual({ ...before, ...made });
    });

    it("bind nobody of another organization's", async () => {
      await rule({ allowOverlap: false, maxOpenHolds: 1 });
      const theirs = maker(app.as((await addOrganization(app)).apiKey));
      const practitioners = [await theirs.practitioner(), await theirs.practitioner()];
      const service = await theirs.service(practitioners.map(({ id }) => id));
      const { id: patientId } = await theirs.patient();
      for (let count = 0; count < 2; count++)
        made(await theirs.book({ serviceId: service.id, startsAt: START, patientId, hold: true }));
    });
  });

  it('ask nothing of anybody while they are off', async () => {
    const { want } = await stage(4);
    const booked = [];
    for (const hold of [true, true, true, false]) booked.push(made(await want(START, { hold })));
    expect((await make.act(booked[3].id, 'reschedule', { startsAt: at(10) })).status).toBe(200);
    const soon = made(await want(inSeconds(30)));
    const answer = await make.act(soon.id, 'cancel');
    expect([answer.status, answer.body.cancellation]).toEqual([200, 'in_time']);
  });

  describe('allow one appointment at a time', () => {
    beforeEach(() => rule({ allowOverlap: false }));
    const overlap = problem(409, 'patient_overlap');

    it.each<[string, number, boolean]>([
      ['the same time', 0, false],
      ['the end of the first', 25, false],
      ['the beginning of the first', -25, false],
      ['right after it', 30, true],
      ['right before it', -30, true],
    ])('when booking %s', async (_, minutes, free) => {
      const { patient, want, service } = await stage(2, { bufferAfterMinutes: 10 });
      made(await want(START));
      const before = await contentsOf(sql);
      const answer = await want(at(minutes));
      if (free) {
        expect(answer.status).toBe(201);
      } else {
        expect(problemOf(answer)).toEqual(overlap);
        const byPhone = await make.book({
          serviceId: service.id,
          startsAt: at(minutes),
          patient: { phone: patient.phone, name: 'Filled In' },
        });
        expect(problemOf(byPhone)).toEqual(overlap);
        expect(problemOf(await want(at(minutes), { hold: true }))).toEqual(overlap);
        expect(await contentsOf(sql)).toEqual(before);
        made(await make.book({ serviceId: service.id, startsAt: at(minutes) }));
      }
    });

    it('that is long, whatever begins within it', async () => {
      const { want } = await stage(2, { durationMinutes: 1440 });
      const { want: short } = await stage(1);
      const { patientId } = made(await want(START));
      for (const minutes of [0, 700, 1439]) {
        expect(problemOf(await short(at(minutes), { patientId }))).toEqual(overlap);
      }
      expect((await short(at(1440), { patientId })).status).toBe(201);
    });

    it('as long as that occupies its time', async () => {
      const { want, service } = await stage(3);
      const { want: ask } = await stage(2, { requiresConfirmation: true });
      const first = made(await want(START, { hold: true }));
      expect(problemOf(await want(START))).toEqual(overlap);
      await lapse(sql, first.id);
      const second = made(await ask(START, { patientId: first.patientId }));
      expect(second.status).toBe('pending');
      expect(problemOf(await want(START))).toEqual(overlap);
      await lapse(sql, second.id);
      const third = made(await want(START));
      expect(problemOf(await want(START))).toEqual(overlap);
      await make.act(third.id, 'check-in');
      expect(problemOf(await want(START))).toEqual(overlap);
      await make.act(third.id, 'complete');
      const fourth = made(await want(START));
      await make.act(fourth.id, 'cancel');
      made(await want(START));
      expect((await make.book({ serviceId: service.id, startsAt: START })).status).toBe(201);
    });

    it('when moving, its own time left aside', async () => {
      const { want } = await stage(3);
      const [one, two] = [made(await want(START)), made(await want(at(60)))];
      const before = await contentsOf(sql);
      for (const minutes of [35, 60, 85]) {
        const answer = await make.act(one.id, 'reschedule', {
          startsAt: at(minutes),
          practitionerId: one.segments[0].practitionerId,
        });
        expect([minutes, problemOf(answer)]).toEqual([minutes, overlap]);
      }
      expect(await contentsOf(sql)).toEqual(before);
      for (const minutes of [10, 30, 90, 100]) {
        const answer = await make.act(one.id, 'reschedule', { startsAt: at(minutes) });
        expect([minutes, answer.status]).toEqual([minutes, 200]);
      }
      expect((await make.act(two.id, 'reschedule', { startsAt: at(70) })).status).toBe(200);
    });

    it.each([false, true])('when confirming too late (written down: %s)', async (swept) => {
      const { want } = await stage(2);
      const first = made(await want(START, { hold: true }));
      await lapse(sql, first.id);
      if (swept) await app.app.get(ExpiryService, { strict: false }).sweep();
      const second = made(await want(at(15)));
      const before = await contentsOf(sql);
      expect(problemOf(await make.act(first.id, 'confirm'))).toEqual(overlap);
      expect(await contentsOf(sql)).toEqual(before);
      await make.act(second.id, 'cancel');
      expect((await make.act(first.id, 'confirm')).status).toBe(200);
    });

    it('but keep nobody from confirming in time what he had before the rule', async () => {
      await rule({ allowOverlap: true });
      const { want } = await stage(2);
      const [one, two] = [made(await want(START, { hold: true })), made(await want(START))];
      await rule({ allowOverlap: false });
      expect((await make.act(one.id, 'confirm')).status).toBe(200);
      expect((await make.act(two.id, 'check-in')).status).toBe(200);
    });

    it.each(['patientId', 'phone'])('for one who wants ten at once, by %s', async (by) => {
      for (let round = 0; round < 3; round++) {
        const { practitioners, service, patient } = await stage(10);
        const phone = newPhone();
        const answers = await Promise.all(
          practitioners.map(({ id }, index) =>
            make.book({
              serviceId: service.id,
              practitionerId: id,
              startsAt: at(index * 2),
              ...(by === 'patientId' ? { patientId: patient.id } : { patient: { phone } }),
            }),
          ),
        );
        expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
        const others = answers.filter(({ status }) => status !== 201);
        expect(others.map(problemOf)).toEqual(others.map(() => overlap));
      }
    });

    it('for one who books, moves and confirms at once', async () => {
      for (let round = 0; round < 5; round++) {
        const { want, practitioners } = await stage(3);
        const [one, two, three] = practitioners.map(({ id }) => id);
        const lapsed = made(await want(START, { practitionerId: one, hold: true }));
        await lapse(sql, lapsed.id);
        const far = made(await want(at(300), { practitionerId: two }));
        const answers = await Promise.all([
          want(at(5), { practitionerId: three }),
          make.act(far.id, 'reschedule', { startsAt: at(10) }),
          make.act(lapsed.id, 'confirm'),
        ]);
        const lost = answers.filter(({ status }) => status >= 400);
        expect(lost.map(problemOf)).toEqual([overlap, overlap]);
      }
    });
  });

  describe('allow so many open holds', () => {
    const tooMany = problem(409, 'too_many_holds');
    beforeEach(() => rule({ maxOpenHolds: 2 }));

    it('and no more', async () => {
      const { want, patient, service } = await stage(1);
      for (const minutes of [0, 30]) made(await want(at(minutes), { hold: true }));
      const before = await contentsOf(sql);
      expect(problemOf(await want(at(60), { hold: true }))).toEqual(tooMany);
      expect(problemOf(await want(at(60), { hold: { seconds: 5 } }))).toEqual(tooMany);
      const phone = { patient: { phone: patient.phone }, serviceId: service.id, startsAt: at(60), hold: true };
      expect(problemOf(await make.book(phone))).toEqual(tooMany);
      expect(await contentsOf(sql)).toEqual(before);
      made(await want(at(60)));
      made(await make.book({ serviceId: service.id, startsAt: at(90), hold: true }));
    });

    it('whatever they are held for', async () => {
      const { want, patient } = await stage(1, { paymentRequired: true, price: { amount: 100, currency: 'EUR' } });
      for (const minutes of [0, 30]) made(await want(at(minutes)));
      expect(problemOf(await want(at(60)))).toEqual(tooMany);
      const { want: ask } = await stage(1, { requiresConfirmation: true });
      for (const minutes of [0, 30, 60]) made(await ask(at(minutes), { patientId: patient.id }));
    });

    it('and count none that is confirmed, cancelled or over', async () => {
      const { want } = await stage(1);
      const held = async (minutes: number) => made(await want(at(minutes), { hold: true })).id as string;
      await held(0);
      const ends: Array<(id: string) => Promise<unknown>> = [
        (id) => make.act(id, 'confirm'),
        (id) => make.act(id, 'cancel'),
        (id) => lapse(sql, id),
        async (id) => {
          await lapse(sql, id);
          await app.app.get(ExpiryService, { strict: false }).sweep();
        },
      ];
      for (const [index, end] of ends.entries()) {
        const id = await held((index + 1) * 30);
        expect(problemOf(await want(at(600), { hold: true }))).toEqual(tooMany);
        await end(id);
      }
      await held(600);
    });

    it('that can be moved and confirmed, too late as well', async () => {
      const { want } = await stage(1);
      const ids: string[] = [];
      for (const minutes of [0, 30]) ids.push(made(await want(at(minutes), { hold: true })).id);
      expect((await make.act(ids[0]!, 'reschedule', { startsAt: at(300) })).status).toBe(200);
      await lapse(sql, ids[0]!);
      ids.push(made(await want(at(90), { hold: true })).id);
      for (const id of ids) expect((await make.act(id, 'confirm')).status).toBe(200);
    });

    it.each(['patientId', 'phone'])('to one who wants eight at once, by %s', async (by) => {
      for (let round = 0; round < 3; round++) {
        const { practitioners, service, patient } = await stage(4);
        const phone = newPhone();
        const answers = await Promise.all(
          Array.from({ length: 8 }, (_, index) =>
            make.book({
              serviceId: service.id,
              practitionerId: practitioners[index % 4]!.id,
              startsAt: at(index * 30),
              hold: true,
              ...(by === 'patientId' ? { patientId: patient.id } : { patient: { phone } }),
            }),
          ),
        );
        expect(answers.filter(({ status }) => status === 201)).toHaveLength(2);
        const others = answers.filter(({ status }) => status !== 201);
        expect(others.map(problemOf)).toEqual(others.map(() => tooMany));
      }
    });
  });

  describe('tell when it is late to cancel', () => {
    const WINDOW = 60;
    let callers: Record<string, ReturnType<typeof maker>>;
    beforeAll(async () => {
      const entries = [];
      for (const role of OFF.lateCancellationRoles) {
        const { body } = await call('POST', '/v1/api-keys', { body: { name: role, role } });
        entries.push([role, maker(app.as(body.key))] as const);
      }
      callers = Object.fromEntries(entries);
    });
    beforeEach(() => rule({ cancellationWindowMinutes: WINDOW }));
    const tooLate = problem(422, 'cancellation_too_late');
    /** Within the window, and out of it. */
    const late = () => inSeconds(WINDOW * 60 - 60);
    const early = () => inSeconds(WINDOW * 60 + 300);

    it('and allow it to everybody, under its name, unless told', async () => {
      for (const [role, caller] of Object.entries(callers)) {
        const { want } = await stage(2);
        const [soon, later] = [made(await want(late())), made(await want(early()))];
        expect([soon.cancellation, later.cancellation]).toEqual([null, null]);
        const answers = [await caller.act(soon.id, 'cancel'), await caller.act(later.id, 'cancel')];
        expect([role, ...answers.map(({ status, body }) => [status, body.status, body.cancellation])]).toEqual([
          role,
          [200, 'cancelled', 'late_cancellation'],
          [200, 'cancelled', 'in_time'],
        ]);
        for (const answer of answers) {
          expect((await call('GET', `/v1/appointments/${answer.body.id}`)).body).toEqual(answer.body);
        }
      }
    });

    it('to those who may, under the name that the clinic gives it', async () => {
      await rule({ lateCancellationRoles: ['receptionist'], lateCancellationKind: 'short_notice' });
      for (const [role, may] of [
        ['practitioner', false],
        ['administrator', false],
        ['receptionist', true],
      ] as const) {
        const { want } = await stage(2);
        const [soon, later] = [made(await want(late())), made(await want(early()))];
        const key = { 'Idempotency-Key': `late-${role}` };
        const before = await contentsOf(sql);
        const answer = await callers[role]!.act(soon.id, 'cancel', {}, key);
        if (may) {
          expect([answer.status, answer.body.cancellation]).toEqual([200, 'short_notice']);
        } else {
          expect(problemOf(answer)).toEqual(tooLate);
          expect(answer.body.cancellationWindowMinutes).toBe(WINDOW);
          expect(await contentsOf(sql)).toEqual(before);
          // Moving it away first is no way round that; one who may cancel it may move it.
          expect(problemOf(await callers[role]!.act(soon.id, 'reschedule', { startsAt: at(0) }))).toEqual(tooLate);
          expect((await callers['receptionist']!.act(soon.id, 'reschedule', { startsAt: at(0) })).status).toBe(200);
          const again = await callers[role]!.act(soon.id, 'cancel', {}, key);
          expect([again.status, again.body.cancellation]).toEqual([200, 'in_time']);
        }
        expect((await callers[role]!.act(later.id, 'cancel')).body.cancellation).toBe('in_time');
      }
    });

    it('to nobody, where that is the rule', async () => {
      await rule({ lateCancellationRoles: [] });
      const { want } = await stage(1);
      const { id } = made(await want(late()));
      for (const caller of Object.values(callers)) expect(problemOf(await caller.act(id, 'cancel'))).toEqual(tooLate);
      await rule({ cancellationWindowMinutes: null });
      expect((await make.act(id, 'cancel')).body.cancellation).toBe('in_time');
    });

    it('of what was agreed on alone: holds and requests are never late', async () => {
      await rule({ lateCancellationRoles: [] });
      const { want } = await stage(2);
      const { want: ask } = await stage(1, { requiresConfirmation: true });
      for (const open of [made(await want(late(), { hold: true })), made(await ask(late()))]) {
        const answer = await make.act(open.id, 'cancel');
        expect([open.status, answer.status, answer.body.cancellation]).toEqual([open.status, 200, 'in_time']);
      }
      const here = made(await want(late()));
      await make.act(here.id, 'check-in');
      expect(problemOf(await make.act(here.id, 'cancel'))).toEqual(tooLate);
      const held = made(await want(late(), { hold: true }));
      await make.act(held.id, 'confirm');
      expect(problemOf(await make.act(held.id, 'cancel'))).toEqual(tooLate);
    });

    it('after its start, too', async () => {
      const { want } = await stage(2);
      const startsAt = inSeconds(2);
      const [one, two] = [made(await want(startsAt)), made(await want(startsAt))];
      await passing(startsAt);
      expect((await make.act(one.id, 'cancel')).body.cancellation).toBe('late_cancellation');
      await rule({ lateCancellationRoles: [] });
      expect(problemOf(await make.act(two.id, 'cancel'))).toEqual(tooLate);
      expect((await make.act(two.id, 'no-show')).status).toBe(200);
    });

    it('by the version first, and by the status where there is nothing to cancel', async () => {
      await rule({ lateCancellationRoles: [] });
      const { want } = await stage(1);
      const { id } = made(await want(late()));
      expect(problemOf(await make.act(id, 'cancel', {}, { 'If-Match': '"2"' }))).toEqual(problem(412, 'version_stale'));
      await make.act(id, 'check-in');
      await make.act(id, 'complete');
      const answer = await make.act(id, 'cancel');
      expect([problemOf(answer), answer.body.currentStatus]).toEqual([problem(409, 'invalid_transition'), 'completed']);
      expect(await statusOf(id)).toBe('completed');
    });
  });
});
