import { after, inDays, maker, newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { type Answer, type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';
import { peopleOf } from '../support/people';

describe('whose rows', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let people: ReturnType<typeof peopleOf>;
  let sql: Sql;
  let branches: Array<{ id: string }>;
  /** A practitioner in each branch, and a service that each of them offers. */
  let lanes: Array<{ practitioner: { id: string; scheduleId: string }; service: { id: string } }>;
  let time = 0;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    sql = await openSql(app);
    people = peopleOf(app, clinic.organizationId, call);
    const make = maker(call);
    branches = [await make.location({ name: 'North' }), await make.location({ name: 'South' })];
    lanes = [];
    for (const { id: locationId } of branches) {
      const practitioner = await make.practitioner({ locationId });
      lanes.push({ practitioner, service: await make.service([practitioner.id]) });
    }
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  /** A time that nobody else in this file has. */
  const nextTime = () => after(inDays(5), 30 * time++);
  const bookIn = async (lane: number, fields: object = {}) => {
    const answer = await maker(call).book({ serviceId: lanes[lane]!.service.id, startsAt: nextTime(), ...fields });
    if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
    return answer.body as { id: string; patientId: string; startsAt: string };
  };
  const ACTIONS = ['confirm', 'cancel', 'reschedule', 'check-in', 'complete', 'no-show'];
  /** Everything that can be asked of an appointment. */
  const askAll = async (caller: Caller, id: string): Promise<Record<string, Answer>> => {
    const path = `/v1/appointments/${id}`;
    const answers: Record<string, Answer> = {
      get: await caller('GET', path),
      history: await caller('GET', `${path}/history`),
    };
    for (const action of ACTIONS) {
      const body = action === 'reschedule' ? { startsAt: nextTime() } : {};
      answers[action] = await caller('POST', `${path}/${action}`, { body, headers: { 'If-Match': '"7"' } });
    }
    return answers;
  };
  const codesOf = (answers: Record<string, Answer>) =>
    Object.fromEntries(Object.entries(answers).map(([what, answer]) => [what, answer.body.code ?? answer.status]));
  const listed = async (caller: Caller, query = '') =>
    (await caller('GET', `/v1/appointments?limit=1000${query}`)).body.data.map((each: { id: string }) => each.id);
  const stateOf = async (id: string) =>
    (await sql('SELECT status, version, starts_at FROM appointment WHERE id = $1', [id]))[0];
  const NOT_THERE = Object.fromEntries(['get', 'history', ...ACTIONS].map((what) => [what, 'not_found']));

  describe('a patient', () => {
    it('books for himself, and becomes a patient by that', async () => {
      const phone = newPhone();
      const { call: patient } = await people.patient(phone);
      expect((await patient('GET', '/v1/appointments')).body).toEqual({ data: [], nextCursor: null });
      const body = { serviceId: lanes[0]!.service.id, startsAt: nextTime() };
      const booked = await patient('POST', '/v1/appointments', { body });
      expect([booked.status, booked.body.status]).toEqual([201, 'confirmed']);
      const rows = await sql('SELECT id, phone FROM patient WHERE phone = $1', [phone]);
      expect(rows).toEqual([{ id: booked.body.patientId, phone }]);
      const named = { ...body, practitionerId: lanes[0]!.practitioner.id };
      const again = await patient('POST', '/v1/appointments', {
        body: { ...named, startsAt: nextTime(), patientId: booked.body.patientId },
      });
      const third = await patient('POST', '/v1/appointments', { body: { ...named, startsAt: nextTime(), patient: { phone, name: 'Me' } } }); // prettier-ignore
      expect([again.status, third.status]).toEqual([201, 201]);
      expect(await listed(patient)).toEqual([booked.body.id, again.body.id, third.body.id]);
      const moved = await patient('POST', `/v1/appointments/${again.body.id}/reschedule`, {
        body: { startsAt: nextTime() },
      });
      const cancelled = await patient('POST', `/v1/appointments/${third.body.id}/cancel`);
      expect([moved.status, cancelled.status]).toEqual([200, 200]);
    });

    it('books for nobody else', async () => {
      const { call: patient } = await people.patient(newPhone());
      const other = await bookIn(0);
      const body = { serviceId: lanes[0]!.service.id, startsAt: nextTime(), practitionerId: lanes[0]!.practitioner.id };
      const forOther = (fields: object) => patient('POST', '/v1/appointments', { body: { ...body, ...fields } });
      expect(problemOf(await forOther({ patientId: other.patientId }))).toEqual(problem(404, 'not_found'));
      expect(problemOf(await forOther({ patient: { phone: newPhone() } }))).toEqual(problem(403, 'forbidden'));
      expect(await sql('SELECT 1 FROM appointment WHERE starts_at = $1', [body.startsAt])).toEqual([]);
    });

    it("sees nothing of others', and changes nothing of it", async () => {
      const { call: patient } = await people.patient(newPhone());
      const other = await bookIn(0);
      const before = await stateOf(other.id);
      const answers = codesOf(await askAll(patient, other.id));
      const staffs = { 'check-in': 'forbidden', complete: 'forbidden', 'no-show': 'forbidden' };
      expect(answers).toEqual({ ...NOT_THERE, ...staffs });
      expect(await stateOf(other.id)).toEqual(before);
      for (const query of ['', `&patientId=${other.patientId}`, '&status=confirmed', `&updatedSince=${inDays(-1)}`])
        expect(await listed(patient, query)).toEqual([]);
    });

    it('does not decide on his own request', async () => {
      const { call: patient } = await people.patient(newPhone());
      const service = await maker(call).service([lanes[0]!.practitioner.id], { requiresConfirmation: true });
      const asked = await patient('POST', '/v1/appointments', {
        body: { serviceId: service.id, startsAt: nextTime() },
      });
      expect(asked.body.status).toBe('pending');
      const path = `/v1/appointments/${asked.body.id}/confirm`;
      expect(problemOf(await patient('POST', path))).toEqual(problem(403, 'forbidden'));
      expect((await call('POST', path)).status).toBe(200);
    });

    it('confirms what he holds', async () => {
      const { call: patient } = await people.patient(newPhone());
      const body = { serviceId: lanes[0]!.service.id, startsAt: nextTime(), hold: true };
      const held = await patient('POST', '/v1/appointments', { body });
      const confirmed = await patient('POST', `/v1/appointments/${held.body.id}/confirm`);
      expect([held.body.status, confirmed.body.status]).toEqual(['held', 'confirmed']);
    });

    it('has nothing to do with the rest', async () => {
      const { call: patient } = await people.patient(newPhone());
      const schedule = lanes[0]!.practitioner.scheduleId;
      for (const path of ['/v1/patients', `/v1/schedules/${schedule}`, '/v1/users', '/v1/api-keys', '/metrics'])
        expect([path, (await patient('GET', path)).status]).toEqual([path, 403]);
      const slots = `/v1/slots?serviceId=${lanes[0]!.service.id}&from=${inDays(1)}&to=${inDays(2)}`;
      for (const path of ['/v1/services', '/v1/practitioners', '/v1/locations', slots])
        expect([path, (await patient('GET', path)).status]).toEqual([path, 200]);
    });
  });

  const STAFF: Array<[string, () => object]> = [
    ['a practitioner', () => ({ role: 'practitioner', practitionerId: lanes[0]!.practitioner.id })],
    ['a receptionist of a branch', () => ({ role: 'receptionist', locationIds: [branches[0]!.id] })],
  ];
  describe.each(STAFF)('%s', (who, post) => {
    /** As a user, and as an API key. */
    let callers: Caller[];
    beforeAll(async () => {
      const user = await people.member(`${who.replaceAll(' ', '.')}@example.org`, post());
      const made = await call('POST', '/v1/api-keys', { body: { name: who, ...post() } });
      callers = [user.call, app.as(made.body.key)];
    });

    it('sees and changes what is his own', async () => {
      for (const own of callers) {
        const { id } = await bookIn(0);
        expect(await listed(own)).toContain(id);
        const path = `/v1/appointments/${id}`;
        expect((await own('POST', `${path}/reschedule`, { body: { startsAt: nextTime() } })).status).toBe(200);
        expect((await own('POST', `${path}/check-in`)).status).toBe(200);
        expect((await own('GET', `${path}/history`)).body.data).toHaveLength(3);
      }
    });

    it("sees and changes nothing of others'", async () => {
      const other = await bookIn(1);
      const before = await stateOf(other.id);
      for (const own of callers) {
        expect(codesOf(await askAll(own, other.id))).toEqual(NOT_THERE);
        const practitioner = `&practitionerId=${lanes[1]!.practitioner.id}`;
        for (const query of ['', practitioner, '&status=confirmed', `&updatedSince=${inDays(-1)}`])
          expect(await listed(own, query)).not.toContain(other.id);
        expect(await listed(own, practitioner)).toEqual([]);
      }
      expect(await stateOf(other.id)).toEqual(before);
    });

    it('books what is his own, and nothing else', async () => {
      for (const own of callers) {
        const practitionerId = lanes[1]!.practitioner.id;
        // That everything about the other's time is known by then, and about the patient, must make no difference.
        const { patientId } = await bookIn(1, { practitionerId });
        const startsAt = nextTime();
        const book = (lane: number, fields: object = {}) =>
          own('POST', '/v1/appointments', {
            body: { serviceId: lanes[lane]!.service.id, startsAt, patientId, ...fields },
          });
        expect(problemOf(await book(1, { practitionerId }))).toEqual(problem(403, 'forbidden'));
        expect(await sql('SELECT 1 FROM appointment WHERE starts_at = $1', [startsAt])).toEqual([]);
        expect((await book(0)).status).toBe(201);
      }
    });

    it('moves nothing away to others', async () => {
      const both = await maker(call).service(lanes.map((lane) => lane.practitioner.id));
      for (const own of callers) {
        const booked = await bookIn(0, { serviceId: both.id, practitionerId: lanes[0]!.practitioner.id });
        const body = { startsAt: nextTime(), practitionerId: lanes[1]!.practitioner.id };
        const moved = await own('POST', `/v1/appointments/${booked.id}/reschedule`, { body });
        expect(problemOf(moved)).toEqual(problem(403, 'forbidden'));
        expect((await stateOf(booked.id)).starts_at.toISOString()).toBe(new Date(booked.startsAt).toISOString());
      }
    });

    it('has his own schedule, and no other', async () => {
      const closed = { startsAt: inDays(100), endsAt: inDays(101), kind: 'closed' };
      const headers = { 'If-Match': '*' };
      const [mine, other] = lanes.map((lane) => `/v1/schedules/${lane.practitioner.scheduleId}`) as [string, string];
      for (const own of callers) {
        expect((await own('GET', mine)).status).toBe(200);
        expect((await own('POST', `${mine}/exceptions`, { body: closed, headers })).status).toBe(201);
        const published = { startsAt: inDays(102), endsAt: inDays(102, '01:00') };
        const answers = [
          await own('GET', other),
          await own('PUT', `${other}/hours`, { body: { timeZone: 'Europe/Berlin', hours: [] }, headers }),
          await own('POST', `${other}/exceptions`, { body: closed, headers }),
          await own('GET', `${other}/exceptions`),
          await own('POST', `${other}/published-slots`, { body: published, headers }),
          await own('GET', `${other}/published-slots`),
        ];
        expect(answers.map(problemOf)).toEqual(answers.map(() => problem(404, 'not_found')));
      }
    });

    it('changes nothing that others share', async () => {
      for (const own of callers) {
        const answers = [
          await own('POST', '/v1/locations', { body: { name: 'X', timeZone: 'Europe/Berlin' } }),
          await own('DELETE', `/v1/practitioners/${lanes[1]!.practitioner.id}`),
          await own('PATCH', `/v1/services/${lanes[1]!.service.id}`, { body: { name: 'X' } }),
        ];
        expect(answers.map((answer) => answer.status)).toEqual([403, 403, 403]);
      }
    });
  });
});
