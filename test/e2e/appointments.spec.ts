import { inDays, maker, newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/;

describe('appointments', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  let clinic: Awaited<ReturnType<typeof seedClinic>>;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    make = maker(call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  /** A practitioner of the test's own, and a service that he alone offers. */
  async function lane(fields: object = {}) {
    const practitioner = await make.practitioner();
    const service = await make.service([practitioner.id], fields);
    return { practitioner, service };
  }
  const cancel = (id: string, body: object = {}, headers: Record<string, string> = {}) =>
    call('POST', `/v1/appointments/${id}/cancel`, { body, headers });

  describe('booking', () => {
    it('answers with the appointment as the contract shows it, its Location and its ETag', async () => {
      const { practitioner, service } = await lane({ modes: ['in_person', 'video'] });
      const patient = await make.patient({ name: 'A. Example' });
      const started = Date.now();
      const answer = await make.book({
        serviceId: service.id,
        practitionerId: practitioner.id,
        patientId: patient.id,
        startsAt: inDays(10, '09:00').replace('Z', '+01:00'),
        attendeeName: 'Little Example',
        mode: 'video',
        notes: 'Brings X-rays',
        metadata: { ticket: 7, tags: ['a', 'b'] },
      });
      const [startsAt, endsAt] = [inDays(10, '08:00'), inDays(10, '08:30')];
      expect(answer.status).toBe(201);
      expect(answer.body).toEqual({
        id: expect.stringMatching(UUID7),
        status: 'confirmed',
        version: 1,
        serviceId: service.id,
        patientId: patient.id,
        attendeeName: 'Little Example',
        startsAt,
        endsAt,
        holdExpiresAt: null,
        pendingUntil: null,
        mode: 'video',
        segments: [
          { name: null, scheduleId: practitioner.scheduleId, practitionerId: practitioner.id, startsAt, endsAt },
        ],
        confirmationStatus: 'none',
        payment: null,
        cancellation: null,
        source: 'api',
        notes: 'Brings X-rays',
        metadata: { ticket: 7, tags: ['a', 'b'] },
        createdAt: expect.stringMatching(INSTANT),
        updatedAt: answer.body.createdAt,
      });
      expect(Date.parse(answer.body.createdAt)).toBeGreaterThanOrEqual(started - 1000);
      expect(Date.parse(answer.body.createdAt)).toBeLessThanOrEqual(Date.now() + 1000);
      expect(answer.headers.get('location')).toBe(`/v1/appointments/${answer.body.id}`);
      expect(answer.headers.get('etag')).toBe('"1"');
      expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
      const read = await call('GET', answer.headers.get('location')!);
      expect([read.status, read.headers.get('etag'), read.body]).toEqual([200, '"1"', answer.body]);
    });

    it('fills in what was left out', async () => {
      const { practitioner, service } = await lane();
      const phone = newPhone();
      const answer = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00'), patient: { phone } });
      expect(answer.body).toMatchObject({
        attendeeName: null,
        mode: 'in_person',
        notes: null,
        metadata: {},
        segments: [{ practitionerId: practitioner.id, scheduleId: practitioner.scheduleId }],
      });
      const patient = await call('GET', `/v1/patients/${answer.body.patientId}`);
      expect(patient.body).toMatchObject({ phone, name: null, source: 'api' });
    });

    it('makes the patient once, fills what was empty, and keeps what was there', async () => {
      const { service } = await lane();
      const phone = newPhone();
      const at = (time: string, patient: object) =>
        make.book({ serviceId: service.id, startsAt: inDays(10, time), patient: { phone, ...patient } });
      const first = await at('08:00', { name: 'First Name' });
      const second = await at('09:00', { name: 'Second Name', email: 'a@example.com' });
      expect(second.body.patientId).toBe(first.body.patientId);
      const patient = await call('GET', `/v1/patients/${first.body.patientId}`);
      expect(patient.body).toMatchObject({ name: 'First Name', email: 'a@example.com' });
    });

    it('for a deleted patient is not found', async () => {
      const { service } = await lane();
      const patient = await make.patient();
      expect((await call('DELETE', `/v1/patients/${patient.id}`)).status).toBe(204);
      const answer = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00'), patientId: patient.id });
      expect(problemOf(answer)).toEqual(problem(404, 'not_found'));
    });

    it('stores history and event with it', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') });
      const events = await sql('SELECT organization_id, type, version FROM outbox_event WHERE subject_id = $1', [
        body.id,
      ]);
      expect(events).toEqual([{ organization_id: clinic.organizationId, type: 'appointment.confirmed', version: 1 }]);
      const claims = await sql('SELECT starts_at, ends_at, expires_at FROM claim WHERE holder = $1', [body.id]);
      expect(claims).toHaveLength(1);
      const history = await call('GET', `/v1/appointments/${body.id}/history`);
      expect(history.body).toEqual({
        data: [
          {
            version: 1,
            fromVersion: null,
            action: 'book',
            fromStatus: null,
            toStatus: 'confirmed',
            actor: expect.any(String),
            channel: 'api',
            reason: null,
            details: {},
            at: body.createdAt,
          },
        ],
        nextCursor: null,
      });
    });

    it('with nobody named spreads over all who are free, then is refused', async () => {
      const practitioners = await Promise.all([make.practitioner(), make.practitioner(), make.practitioner()]);
      const service = await make.service(practitioners.map((each) => each.id));
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') })),
      );
      const booked = answers.filter((answer) => answer.status === 201);
      const named = booked.map((answer) => answer.body.segments[0].practitionerId as string);
      expect(named.sort()).toEqual(practitioners.map((each) => each.id as string).sort());
      const lost = answers.filter((answer) => answer.status !== 201);
      expect(lost.map(problemOf)).toEqual(lost.map(() => problem(409, 'slot_taken')));
      expect(lost).toHaveLength(5);
    });
  });

  describe('cancelling', () => {
    it('frees the time for the next, who can book it at once', async () => {
      const { service } = await lane({ bufferBeforeMinutes: 10, bufferAfterMinutes: 15 });
      const want = () => make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      const first = await want();
      expect((await want()).status).toBe(409);
      const answer = await cancel(first.body.id, { reason: 'Has a cold' });
      expect(answer.status).toBe(200);
      expect(answer.headers.get('etag')).toBe('"2"');
      expect(answer.body).toEqual({
        ...first.body,
        status: 'cancelled',
        version: 2,
        cancellation: 'in_time',
        updatedAt: expect.stringMatching(INSTANT),
      });
      expect(Date.parse(answer.body.updatedAt)).toBeGreaterThanOrEqual(Date.parse(first.body.updatedAt));
      expect((await call('GET', `/v1/appointments/${first.body.id}`)).body).toEqual(answer.body);
      const second = await want();
      expect([second.status, second.body.id === first.body.id]).toEqual([201, false]);
      expect(problemOf(await cancel(first.body.id))).toEqual(problem(409, 'invalid_transition'));
      expect((await want()).status).toBe(409);
    });

    it('is told in the history and in the outbox', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      const cancelled = await cancel(body.id, { reason: 'Has a cold' });
      const history = await call('GET', `/v1/appointments/${body.id}/history`);
      expect(history.body.data).toMatchObject([
        { version: 1, action: 'book', fromStatus: null, toStatus: 'confirmed', reason: null },
        {
          version: 2,
          action: 'cancel',
          fromStatus: 'confirmed',
          toStatus: 'cancelled',
          reason: 'Has a cold',
          channel: 'api',
          at: cancelled.body.updatedAt,
        },
      ]);
      const keys = await call('GET', '/v1/api-keys');
      expect(history.body.data[1].actor).toBe(keys.body.data[0].id);
      const events = await sql('SELECT type, version FROM outbox_event WHERE subject_id = $1 ORDER BY version', [
        body.id,
      ]);
      expect(events).toEqual([
        { type: 'appointment.confirmed', version: 1 },
        { type: 'appointment.cancelled', version: 2 },
      ]);
      expect(await sql('SELECT 1 FROM claim WHERE holder = $1', [body.id])).toEqual([]);
    });

    it('pages the history', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      await cancel(body.id);
      const first = await call('GET', `/v1/appointments/${body.id}/history?limit=1`);
      const second = await call('GET', `/v1/appointments/${body.id}/history?limit=1&cursor=${first.body.nextCursor}`);
      expect(
        [first, second].flatMap((page) => page.body.data.map((line: { version: number }) => line.version)),
      ).toEqual([1, 2]);
      expect(second.body.nextCursor).toBeNull();
    });

    it('twice is refused with the present status', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      await cancel(body.id);
      const again = await cancel(body.id);
      expect(problemOf(again)).toEqual(problem(409, 'invalid_transition'));
      expect(again.body.currentStatus).toBe('cancelled');
      expect((await call('GET', `/v1/appointments/${body.id}`)).body.version).toBe(2);
    });

    it('ten times at once happens once', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      const answers = await Promise.all(Array.from({ length: 10 }, () => cancel(body.id)));
      expect(answers.filter((answer) => answer.status === 200)).toHaveLength(1);
      expect(answers.filter((answer) => answer.body.code === 'invalid_transition')).toHaveLength(9);
      expect((await call('GET', `/v1/appointments/${body.id}/history`)).body.data).toHaveLength(2);
    });

    it('holds to If-Match', async () => {
      const { service } = await lane();
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:00') });
      for (const stale of ['"2"', '"7", "8"', 'W/"1"', '"x"']) {
        const answer = await cancel(body.id, {}, { 'If-Match': stale });
        expect([stale, problemOf(answer)]).toEqual([stale, problem(412, 'version_stale')]);
      }
      expect((await call('GET', `/v1/appointments/${body.id}`)).body.status).toBe('confirmed');
      expect((await cancel(body.id, {}, { 'If-Match': '"5", "1"' })).status).toBe(200);
      expect(problemOf(await cancel(body.id, {}, { 'If-Match': '"1"' }))).toEqual(problem(412, 'version_stale'));
      expect(problemOf(await cancel(body.id, {}, { 'If-Match': '*' }))).toEqual(problem(409, 'invalid_transition'));
    });

    it('of what does not exist is not found', async () => {
      expect(problemOf(await cancel('01890000-0000-7000-8000-000000000000'))).toEqual(problem(404, 'not_found'));
    });

    it('frees its own time alone, where neighbours touch it', async () => {
      const { service } = await lane({ bufferAfterMinutes: 10, slotIntervalMinutes: 5 });
      const at = (time: string) => make.book({ serviceId: service.id, startsAt: inDays(11, time) });
      const [before, middle, after] = [await at('08:00'), await at('08:40'), await at('09:20')];
      expect([before, middle, after].map((each) => each.status)).toEqual([201, 201, 201]);
      await cancel(middle.body.id);
      expect((await at('08:35')).status).toBe(409);
      expect((await at('08:45')).status).toBe(409);
      expect((await at('08:40')).status).toBe(201);
    });
  });

  describe('the list', () => {
    const idsOf = (answer: Answer) => answer.body.data.map((each: { id: string }) => each.id);
    let mine: { practitioner: { id: string }; service: { id: string } };
    let family: { id: string };
    let booked: Record<'one' | 'two' | 'three' | 'four', Answer['body']>;
    beforeAll(async () => {
      mine = await lane();
      family = await make.patient();
      const at = async (time: string, fields: object = {}) =>
        (await make.book({ serviceId: mine.service.id, startsAt: inDays(20, time), ...fields })).body;
      // Not in the order of their starts.
      booked = {
        three: await at('10:00', { patientId: family.id }),
        one: await at('08:00', { patientId: family.id }),
        four: await at('11:00'),
        two: await at('09:00'),
      };
      booked.two = (await cancel(booked.two.id)).body;
    });
    const of = (query: string) => call('GET', `/v1/appointments?practitionerId=${mine.practitioner.id}${query}`);
    const names = (answer: Answer) =>
      idsOf(answer).map((id: string) => Object.entries(booked).find(([, each]) => each.id === id)?.[0]);

    it('shows each as it is read alone, in the order of starts', async () => {
      const answer = await of('');
      expect(names(answer)).toEqual(['one', 'two', 'three', 'four']);
      expect(answer.body).toEqual({
        data: [booked.one, booked.two, booked.three, booked.four],
        nextCursor: null,
      });
    });

    it.each<[string, string[]]>([
      ['&status=cancelled', ['two']],
      ['&status=confirmed', ['one', 'three', 'four']],
      ['&status=confirmed,cancelled', ['one', 'two', 'three', 'four']],
      ['&status=held,pending', []],
      ['&confirmationStatus=none', ['one', 'two', 'three', 'four']],
      ['&confirmationStatus=declined', []],
    ])('by %s', async (query, expected) => {
      const answer = await of(query);
      expect([answer.status, names(answer)]).toEqual([200, expected]);
    });

    it('by time: from is within, to is not; any offset', async () => {
      expect(names(await of(`&from=${inDays(20, '09:00')}`))).toEqual(['two', 'three', 'four']);
      expect(names(await of(`&from=${inDays(20, '09:00').replace(':00Z', ':01Z')}`))).toEqual(['three', 'four']);
      expect(names(await of(`&to=${inDays(20, '10:00')}`))).toEqual(['one', 'two']);
      expect(names(await of(`&from=${inDays(20, '09:00')}&to=${inDays(20, '10:00')}`))).toEqual(['two']);
      const offset = encodeURIComponent(inDays(20, '12:00').replace('Z', '+02:00'));
      expect(names(await of(`&from=${offset}`))).toEqual(['three', 'four']);
      expect(names(await of(`&from=${inDays(20, '12:00').replace('Z', '+02:00')}`))).toEqual(['three', 'four']);
    });

    it('by patient, and by all together', async () => {
      expect(names(await call('GET', `/v1/appointments?patientId=${family.id}`))).toEqual(['one', 'three']);
      expect(names(await of(`&patientId=${family.id}&status=confirmed&from=${inDays(20, '09:00')}`))).toEqual([
        'three',
      ]);
      const nobody = await call('GET', '/v1/appointments?patientId=01890000-0000-7000-8000-000000000000');
      expect([nobody.status, nobody.body]).toEqual([200, { data: [], nextCursor: null }]);
    });

    it('pages through all without loss or repetition while others are inserted', async () => {
      const own = await lane();
      const book = async (index: number) => {
        const minute = String((index % 2) * 30).padStart(2, '0');
        const time = `${String(Math.floor(index / 2) % 24).padStart(2, '0')}:${minute}`;
        const answer = await make.book({
          serviceId: own.service.id,
          startsAt: inDays(30 + Math.floor(index / 48), time),
        });
        if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
        return answer.body.id as string;
      };
      // Every second slot is there before, the others come while the pages are read.
      const before = [];
      for (let index = 0; index < 60; index += 2) before.push(await book(index));
      const seen: string[] = [];
      const starts: string[] = [];
      let next = 1;
      for (let cursor: string | null = ''; cursor !== null;) {
        const path = `/v1/appointments?practitionerId=${own.practitioner.id}&limit=4${cursor && `&cursor=${cursor}`}`;
        const answer: Answer = await call('GET', path);
        expect(answer.status).toBe(200);
        seen.push(...idsOf(answer));
        starts.push(...answer.body.data.map((each: { startsAt: string }) => each.startsAt));
        cursor = answer.body.nextCursor;
        for (let count = 0; count < 3 && next < 60; count++, next += 2) await book(60 - next);
      }
      expect(new Set(seen).size).toBe(seen.length);
      expect(before.filter((id) => !seen.includes(id))).toEqual([]);
      expect(starts).toEqual([...starts].sort());
    });

    it('pages through many that start at the same instant', async () => {
      const practitioners = await Promise.all(Array.from({ length: 7 }, () => make.practitioner()));
      const service = await make.service(practitioners.map((each) => each.id));
      const patient = await make.patient();
      const made = [];
      for (let index = 0; index < 7; index++) {
        const answer = await make.book({ serviceId: service.id, patientId: patient.id, startsAt: inDays(33, '08:00') });
        made.push(answer.body.id as string);
      }
      const seen: string[] = [];
      for (let cursor: string | null = ''; cursor !== null;) {
        const answer: Answer = await call(
          'GET',
          `/v1/appointments?patientId=${patient.id}&limit=2${cursor && `&cursor=${cursor}`}`,
        );
        seen.push(...idsOf(answer));
        cursor = answer.body.nextCursor;
      }
      expect(seen).toEqual([...made].sort());
    });

    it('ends with null when the last page is full', async () => {
      const answer = await of('&limit=4');
      expect([answer.body.data.length, answer.body.nextCursor]).toEqual([4, null]);
    });
  });
});
