import { audit } from '../../src/operations';
import { Database } from '../../src/platform';
import { after, ALWAYS, contentsOf, inDays, maker, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';
import { Stage } from '../support/sessions';

const NOBODY = '01890000-0000-7000-8000-000000000000';

describe('published slots', () => {
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
    expect(await audit(app.app.get(Database, { strict: false }))).toEqual([]);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const START = inDays(10, '08:00');
  const at = (minutes: number) => after(START, minutes);
  const made = (answer: Answer) => {
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const slot = (minutes = 0, length = 60, more: object = {}) => ({
    startsAt: at(minutes),
    endsAt: at(minutes + length),
    ...more,
  });

  /** A practitioner who is there at no hours, with a service of half an hour, in person or by video. */
  async function stage(fields: object = {}, hours: object[] = []) {
    const practitioner = await make.practitioner({ hours });
    const service = await make.service([practitioner.id], { modes: ['in_person', 'video'], ...fields });
    const path = `/v1/schedules/${practitioner.scheduleId}/published-slots`;
    const publish = (body: object, headers: Record<string, string> = { 'If-Match': '*' }) =>
      call('POST', path, { body, headers });
    const withdraw = (id: string, headers: Record<string, string> = { 'If-Match': '*' }) =>
      call('DELETE', `${path}/${id}`, { headers });
    const book = (minutes = 0, more: object = {}) =>
      make.book({ serviceId: service.id, startsAt: at(minutes), ...more });
    const offered = async (query = ''): Promise<Array<[number, number]>> => {
      const range = `from=${at(-120)}&to=${at(300)}`;
      const { data } = (await call('GET', `/v1/slots?serviceId=${service.id}&${range}${query}`)).body;
      return data.map((each: { startsAt: string; remaining: number }) => [(Date.parse(each.startsAt) - Date.parse(START)) / 60_000, each.remaining]); // prettier-ignore
    };
    return { practitioner, service, path, publish, withdraw, book, offered };
  }

  it('are published, read, listed and withdrawn', async () => {
    const { practitioner, path, publish, withdraw } = await stage();
    const { headers } = await call('GET', `/v1/schedules/${practitioner.scheduleId}`);
    const version = Number(headers.get('etag')!.slice(1, -1));
    const tag = (number: number) => `"${number}"`;
    const one = await publish(slot(0, 60, { mode: 'video', capacity: 4 }), { 'If-Match': tag(version) });
    expect([one.status, one.headers.get('etag')]).toEqual([201, tag(version + 1)]);
    const { affectedAppointments, ...shown } = one.body;
    expect(affectedAppointments).toEqual([]);
    const publishedBy = (await sql('SELECT published_by FROM published_slot WHERE id = $1', [one.body.id]))[0]
      .published_by;
    expect(shown).toEqual({
      id: expect.any(String),
      startsAt: START,
      endsAt: at(60),
      mode: 'video',
      capacity: 4,
      publishedBy,
      createdAt: expect.stringMatching(/Z$/),
    });
    const keys = (await call('GET', '/v1/api-keys')).body.data.map((key: { id: string }) => key.id);
    expect(keys).toContain(publishedBy);
    expect(one.headers.get('location')).toContain(`${path}/${one.body.id}`);
    const two = await publish(slot(60), { 'If-Match': tag(version + 1) });
    expect(two.body).toMatchObject({ mode: null, capacity: null });
    expect((await call('GET', `${path}/${one.body.id}`)).body).toEqual(shown);
    const list = await call('GET', path);
    expect([list.body.data.map((each: { id: string }) => each.id), list.headers.get('etag')]).toEqual([[one.body.id, two.body.id], tag(version + 2)]); // prettier-ignore
    const first = await call('GET', `${path}?limit=1`);
    const next = await call('GET', `${path}?limit=1&cursor=${first.body.nextCursor}`);
    expect([...first.body.data, ...next.body.data]).toEqual(list.body.data);
    const gone = await withdraw(one.body.id, { 'If-Match': tag(version + 2) });
    expect([gone.status, gone.headers.get('etag'), gone.body]).toEqual([200, tag(version + 3), { ...shown, affectedAppointments: [] }]); // prettier-ignore
    expect(problemOf(await call('GET', `${path}/${one.body.id}`))).toEqual(problem(404, 'not_found'));
    expect(problemOf(await withdraw(one.body.id))).toEqual(problem(404, 'not_found'));
    expect((await call('GET', path)).body.data).toEqual([two.body]
      .map(({ affectedAppointments: _, ...rest }) => rest)); // prettier-ignore
    const events = await sql('SELECT type FROM outbox_event WHERE subject_id = $1 ORDER BY version DESC LIMIT 3', [practitioner.scheduleId]); // prettier-ignore
    expect(events.map((each) => each.type)).toEqual(['schedule.slot_withdrawn', 'schedule.slot_published', 'schedule.slot_published']); // prettier-ignore
  });

  it('need the version of the schedule, and one that is not stale', async () => {
    const { publish, withdraw } = await stage();
    const { id } = made(await publish(slot(0)));
    const before = await contentsOf(sql);
    expect(problemOf(await publish(slot(100), {}))).toEqual(problem(428, 'precondition_required'));
    expect(problemOf(await withdraw(id, {}))).toEqual(problem(428, 'precondition_required'));
    expect(problemOf(await publish(slot(100), { 'If-Match': '"1"' }))).toEqual(problem(412, 'version_stale'));
    expect(problemOf(await withdraw(id, { 'If-Match': '"1"' }))).toEqual(problem(412, 'version_stale'));
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('are published once under one Idempotency-Key', async () => {
    const { publish, path } = await stage();
    const headers = { 'If-Match': '*', 'Idempotency-Key': `publish ${path}` };
    const [one, again] = [await publish(slot(), headers), await publish(slot(), headers)];
    expect([one.status, again.status, again.body]).toEqual([201, 201, one.body]);
    expect((await call('GET', path)).body.data).toHaveLength(1);
  });

  it('do not overlap on one schedule', async () => {
    const { publish, path } = await stage();
    made(await publish(slot(0, 60)));
    const before = await contentsOf(sql);
    for (const [minutes, length] of [
      [0, 60],
      [-30, 31],
      [59, 60],
      [10, 10],
      [-10, 100],
    ] as const)
      // prettier-ignore
      expect(problemOf(await publish(slot(minutes, length)))).toEqual(problem(409, 'already_exists'));
    expect(await contentsOf(sql)).toEqual(before);
    made(await publish(slot(60, 30)));
    made(await publish(slot(-30, 30)));
    const other = await stage();
    made(await other.publish(slot(0, 60)));
    expect((await call('GET', path)).body.data).toHaveLength(3);
  });

  it('of several that are published at once and overlap, one is', async () => {
    const { publish, path } = await stage();
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.all([0, 10, 20].map((minutes) => publish(slot(round * 120 + minutes))));
      expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([201, 409, 409]);
    }
    expect((await call('GET', path)).body.data).toHaveLength(5);
  });

  it.each<[string, object, string]>([
    ['that end before they start', { startsAt: at(60), endsAt: START }, '/endsAt'],
    ['without length', { startsAt: START, endsAt: START }, '/endsAt'],
    ['longer than a day', { startsAt: START, endsAt: at(1441) }, '/endsAt'],
    ['without a start', { endsAt: START }, '/startsAt'],
    ['for nobody', slot(0, 60, { capacity: 0 }), '/capacity'],
    ['for too many', slot(0, 60, { capacity: 1001 }), '/capacity'],
    ['in what is no mode', slot(0, 60, { mode: 'By Video' }), '/mode'],
    ['with a field that nobody knows', slot(0, 60, { kind: 'open' }), '/kind'],
    ['before there were calendars', { startsAt: '1969-01-01T00:00:00Z', endsAt: '1969-01-01T01:00:00Z' }, '/startsAt'],
  ])('are refused %s', async (_, body, pointer) => {
    const { publish } = await stage();
    const before = await contentsOf(sql);
    expect(problemOf(await publish(body))).toEqual(problem(400, 'validation_failed', pointer));
    expect(await contentsOf(sql)).toEqual(before);
  });

  it("are another organization's business, or nobody's", async () => {
    const { publish, path } = await stage();
    const { id } = made(await publish(slot()));
    const other = app.as((await addOrganization(app)).apiKey);
    const own = await maker(other).practitioner();
    const before = await contentsOf(sql);
    const headers = { 'If-Match': '*' };
    const answers = [
      await other('GET', path),
      await other('POST', path, { body: slot(120), headers }),
      await other('GET', `${path}/${id}`),
      await other('DELETE', `${path}/${id}`, { headers }),
      await other('GET', `/v1/schedules/${own.scheduleId}/published-slots/${id}`),
      await other('DELETE', `/v1/schedules/${own.scheduleId}/published-slots/${id}`, { headers }),
      await call('GET', `${path}/${NOBODY}`),
      await call('POST', `/v1/schedules/${NOBODY}/published-slots`, { body: slot(120), headers }),
    ];
    for (const answer of answers) expect(problemOf(answer)).toEqual(problem(404, 'not_found'));
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('can be booked outside of all hours, and step like hours do', async () => {
    const { publish, withdraw, book, offered } = await stage({ slotIntervalMinutes: 15 });
    expect(problemOf(await book())).toEqual(problem(422, 'outside_hours'));
    const { id } = made(await publish(slot(5, 75)));
    expect(await offered()).toEqual([[5, 1], [20, 1], [35, 1], [50, 1]]); // prettier-ignore
    made(await book(20));
    expect(await offered()).toEqual([[50, 1]]);
    made(await book(50));
    expect(problemOf(await book(5))).toEqual(problem(409, 'slot_taken'));
    for (const minutes of [4, 51]) expect(problemOf(await book(minutes))).toEqual(problem(422, 'outside_hours'));
    expect((await withdraw(id)).status).toBe(200);
    expect(problemOf(await book(20))).toEqual(problem(422, 'outside_hours'));
  });

  it('lie beside the hours and within them', async () => {
    const { publish, book, offered } = await stage({}, ALWAYS);
    made(await publish(slot(0, 60, { mode: 'video' })));
    const inPerson = (await offered()).map(([minutes]) => minutes);
    const byVideo = (await offered('&mode=video')).map(([minutes]) => minutes);
    expect(inPerson).not.toEqual(expect.arrayContaining([0]));
    expect(inPerson).toEqual(expect.arrayContaining([-30, 60]));
    expect(byVideo).toEqual(expect.arrayContaining([-30, 0, 30, 60]));
    for (const minutes of [0, 30, -29, 59]) {
      const refused = await book(minutes, { mode: 'in_person' });
      expect([minutes, problemOf(refused)]).toEqual([minutes, problem(422, 'outside_hours')]);
    }
    for (const minutes of [0, 30]) made(await book(minutes, { mode: 'video' }));
    for (const minutes of [-30, 60]) made(await book(minutes, { mode: 'in_person' }));
  });

  it('of any mode take all modes of the service, and no other', async () => {
    const { publish, book, offered } = await stage();
    made(await publish(slot(0, 60)));
    expect([await offered('&mode=video'), await offered()]).toEqual([[[0, 1], [30, 1]], [[0, 1], [30, 1]]]); // prettier-ignore
    made(await book(0, { mode: 'video' }));
    made(await book(30, { mode: 'in_person' }));
    expect(problemOf(await book(0, { mode: 'phone' }))).toEqual(problem(400, 'validation_failed', '/mode'));
  });

  it('are shared by as many as was published, from their start on', async () => {
    const { publish, book, offered, practitioner } = await stage();
    made(await publish(slot(0, 60, { capacity: 3 })));
    expect(await offered()).toEqual([[0, 3], [30, 1]]); // prettier-ignore
    const other = await make.service([practitioner.id]);
    for (const left of [2, 1, 0]) {
      made(await book(0, left === 1 ? { mode: 'video' } : {}));
      expect(await offered()).toEqual([...(left > 0 ? [[0, left]] : []), [30, 1]]);
      // It is one service's by now.
      const others = await make.book({ serviceId: other.id, startsAt: START });
      expect(problemOf(others)).toEqual(problem(409, 'slot_taken'));
    }
    expect(problemOf(await book())).toEqual(problem(409, 'slot_taken'));
    made(await book(30));
    expect(problemOf(await book(30))).toEqual(problem(409, 'slot_taken'));
  });

  it('are shared by exactly as many of twelve at once as was published', async () => {
    const { publish, book } = await stage();
    made(await publish(slot(0, 30, { capacity: 5 })));
    const statuses = (await Promise.all(Array.from({ length: 12 }, () => book())))
      .map((answer) => answer.status)
      .sort((a, b) => a - b);
    expect(statuses).toEqual([...Array<number>(5).fill(201), ...Array<number>(7).fill(409)]);
  });

  it('are for one alone of a service for several, where that was published', async () => {
    const { publish, book, offered } = await stage({ capacity: 4 });
    made(await publish(slot(0, 30, { capacity: 1 })));
    made(await publish(slot(60, 30)));
    expect(await offered()).toEqual([[0, 1], [60, 4]]); // prettier-ignore
    made(await book(0));
    expect(problemOf(await book(0))).toEqual(problem(409, 'slot_taken'));
    made(await book(60));
    made(await book(60));
    expect(await offered()).toEqual([[60, 2]]);
  });

  it('are closed where an exception closes them', async () => {
    const { practitioner, publish, book, offered } = await stage();
    made(await publish(slot(0, 120)));
    const booked = made(await book(30));
    const closed = await make.exception(practitioner.scheduleId, { startsAt: at(30), endsAt: at(60), kind: 'closed' });
    expect(closed.body.affectedAppointments).toMatchObject([{ id: booked.id }]);
    expect(await offered()).toEqual([[0, 1], [60, 1], [90, 1]]); // prettier-ignore
    expect(problemOf(await book(15))).toEqual(problem(422, 'outside_hours'));
    made(await publish(slot(200, 60)));
    made(await book(60));
  });

  it('are withdrawn without touching what is booked, which is told', async () => {
    const { publish, withdraw, book } = await stage();
    const { id } = made(await publish(slot(0, 60, { capacity: 2 })));
    const ids = [made(await book(0)).id, made(await book(0)).id, made(await book(30)).id];
    const withdrawn = await withdraw(id);
    const told = withdrawn.body.affectedAppointments.map((each: { id: string }) => each.id);
    expect(new Set(told)).toEqual(new Set(ids));
    for (const each of ids) expect((await call('GET', `/v1/appointments/${each}`)).body.status).toBe('confirmed');
    expect(problemOf(await book(30))).toEqual(problem(422, 'outside_hours'));
    // Published again, they stand where they stood.
    made(await publish(slot(0, 60, { capacity: 3 })));
    made(await book(0));
    expect(problemOf(await book(0))).toEqual(problem(409, 'slot_taken'));
    expect((await make.act(ids[0], 'cancel')).status).toBe(200);
    made(await book(0));
  });

  it('are booked and withdrawn at once: booked before, or outside hours', async () => {
    for (let round = 0; round < 5; round++) {
      const { publish, withdraw, book } = await stage();
      const { id } = made(await publish(slot(0, 30)));
      const [booked, withdrawn] = await Promise.all([book(0), withdraw(id)]);
      expect(withdrawn.status).toBe(200);
      const told = withdrawn.body.affectedAppointments.length;
      expect([booked.status, booked.body.code, told]).toEqual(
        told === 1 ? [201, undefined, 1] : [422, 'outside_hours', 0],
      );
    }
  });

  it('published while somebody books another mode: his comes first, or not at all', async () => {
    const { publish, book } = await stage({}, ALWAYS);
    for (let round = 0; round < 8; round++) {
      const [published, booked] = await Promise.all([
        publish(slot(round * 60, 60, { mode: 'video' })),
        book(round * 60, { mode: 'in_person' }),
      ]);
      expect([published.status, [201, 422].includes(booked.status)]).toEqual([201, true]);
      const later = await book(round * 60 + 30, { mode: 'in_person' });
      expect(problemOf(later)).toEqual(problem(422, 'outside_hours'));
    }
  });

  it('published while somebody else, who has looked before, waits for the day: he looks again', async () => {
    const { practitioner, publish, book, path } = await stage({}, ALWAYS);
    made(await book(300));
    const { scheduleId } = practitioner;
    const day = START.slice(0, 10);
    const stageOf = await Stage.open(app.databaseUrl);
    try {
      const publisher = await stageOf.session();
      await publisher.run('BEGIN');
      await publisher.run('SELECT 1 FROM schedule_day WHERE schedule_id = $1 AND day = $2 FOR NO KEY UPDATE', [scheduleId, day]); // prettier-ignore
      const booking = book(0, { mode: 'in_person', practitionerId: practitioner.id });
      await stageOf.waiting(1);
      await publisher.run(
        `UPDATE schedule_day SET version = version + 1, published = jsonb_build_array(jsonb_build_array(
           extract(epoch FROM $3::timestamptz)::bigint, extract(epoch FROM $4::timestamptz)::bigint, 'video', NULL))
         WHERE schedule_id = $1 AND day = $2`,
        [scheduleId, day, START, at(60)],
      );
      await publisher.run('COMMIT');
      expect(problemOf(await booking)).toEqual(problem(422, 'outside_hours'));
    } finally {
      await stageOf.close();
    }
    // As it is done properly: the day's row is made anew.
    const { id } = made(await publish(slot(0, 30)));
    await call('DELETE', `${path}/${id}`, { headers: { 'If-Match': '*' } });
    made(await book(0, { mode: 'in_person' }));
  });

  it('over midnight', async () => {
    const { publish, book } = await stage({ durationMinutes: 60 });
    const night = (Date.parse(inDays(11, '20:00')) - Date.parse(START)) / 60_000;
    made(await publish(slot(night, 360, { mode: 'video' })));
    for (let minutes = night; minutes < night + 360; minutes += 60) {
      expect(problemOf(await book(minutes, { mode: 'in_person' }))).toEqual(problem(422, 'outside_hours'));
      made(await book(minutes, { mode: 'video' }));
    }
    expect(problemOf(await book(night + 330, { mode: 'video' }))).toEqual(problem(422, 'outside_hours'));
  });

  it('keep visits of several segments to their mode, and alone', async () => {
    const { publish, practitioner } = await stage();
    made(await publish(slot(0, 60, { mode: 'video', capacity: 3 })));
    const segments = [10, 10].map((durationMinutes, index) => ({ name: `${index}`, durationMinutes, practitionerIds: [practitioner.id] })); // prettier-ignore
    const service = await call('POST', '/v1/services', {
      body: { name: 'Visit', segments, modes: ['in_person', 'video'] },
    });
    const book = (mode: string) => make.book({ serviceId: service.body.id, startsAt: START, mode });
    expect(problemOf(await book('in_person'))).toEqual(problem(422, 'outside_hours'));
    made(await book('video'));
    expect(problemOf(await book('video'))).toEqual(problem(409, 'slot_taken'));
  });
});
