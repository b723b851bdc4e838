import { after, contentsOf, inDays, inSeconds, maker, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('moving an appointment', () => {
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
  const at = (minutes: number) => after(START, minutes);
  const made = (answer: Answer) => {
    if (answer.status !== 201) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const read = async (id: string) => (await call('GET', `/v1/appointments/${id}`)).body;
  const move = (id: string, body: object, headers: Record<string, string> = {}) =>
    make.act(id, 'reschedule', body, headers);
  const listed = async (query: string): Promise<string[]> =>
    (await call('GET', `/v1/appointments?${query}`)).body.data.map((each: { id: string }) => each.id);
  const startsOf = async (serviceId: string, practitionerId: string): Promise<string[]> => {
    const range = `from=${inDays(10)}&to=${inDays(11)}&limit=1000`;
    const { data } = (await call('GET', `/v1/slots?serviceId=${serviceId}&practitionerId=${practitionerId}&${range}`))
      .body;
    return data.map((slot: { startsAt: string }) => slot.startsAt);
  };

  /** Two practitioners who offer one service, and an appointment with the first of them at START. */
  async function stage(fields: object = {}) {
    const [one, two] = [await make.practitioner(), await make.practitioner()];
    const service = await make.service([one.id, two.id], { slotIntervalMinutes: 5, ...fields });
    const book = (startsAt: string, practitionerId = one.id, more: object = {}) =>
      make.book({ serviceId: service.id, practitionerId, startsAt, ...more });
    return { one, two, service, book, appointment: made(await book(START)) };
  }
  const placeOf = ({ startsAt, endsAt, segments }: Answer['body']) => ({ startsAt, endsAt, segments });
  const placed = (practitioner: { id: string; scheduleId: string }, startsAt: string, minutes = 30) => {
    const range = { startsAt, endsAt: after(startsAt, minutes) };
    return {
      ...range,
      segments: [{ name: null, scheduleId: practitioner.scheduleId, practitionerId: practitioner.id, ...range }],
    };
  };
  const claimsOf = (id: string) =>
    sql('SELECT schedule_id AS "scheduleId", core_starts_at AS "startsAt" FROM claim WHERE holder = $1', [id]);

  describe('takes it', () => {
    it.each<[string, number, boolean, boolean]>([
      ['to another time', 120, false, false],
      ['to another time of the practitioner who is named', 120, true, false],
      ['to another practitioner', 0, true, true],
      ['to another time and practitioner', 120, true, true],
      ['to another day', 1440, false, false],
      ['to a day before', -1440, false, false],
      ['ten minutes on, over its own time', 10, false, false],
      ['ten minutes back, over its own time', -10, false, false],
      ['nowhere, where that is what was asked for', 0, false, false],
    ])('%s', async (_, minutes, named, other) => {
      const { one, two, service, book, appointment } = await stage({ bufferBeforeMinutes: 5, bufferAfterMinutes: 10 });
      const target = other ? two : one;
      const answer = await move(appointment.id, {
        startsAt: at(minutes),
        ...(named && { practitionerId: target.id }),
      });
      expect([answer.status, answer.headers.get('etag')]).toEqual([200, '"2"']);
      expect(answer.body).toEqual({
        ...appointment,
        ...placed(target, at(minutes)),
        version: 2,
        updatedAt: answer.body.updatedAt,
      });
      expect(await read(appointment.id)).toEqual(answer.body);
      expect(await claimsOf(appointment.id)).toEqual([
        { scheduleId: target.scheduleId, startsAt: new Date(at(minutes)) },
      ]);
      expect(await listed(`practitionerId=${target.id}`)).toEqual([appointment.id]);
      expect(await listed(`practitionerId=${(other ? one : two).id}`)).toEqual([]);
      expect(await listed(`practitionerId=${target.id}&from=${at(minutes)}&to=${at(minutes + 1)}`)).toEqual([
        appointment.id,
      ]);
      if (minutes !== 0) {
        expect(await listed(`practitionerId=${target.id}&from=${START}&to=${at(1)}`)).toEqual([]);
        expect(await listed(`patientId=${appointment.patientId}&from=${START}&to=${at(1)}`)).toEqual([]);
      }
      // What it has now is taken, buffers and all; what it had and has no more is free, all of it.
      const now = Date.parse(at(minutes));
      for (const practitioner of [one, two]) {
        const offered = new Set(await startsOf(service.id, practitioner.id));
        for (let start = -60; start <= 180; start += 5) {
          const apart = Math.abs(Date.parse(at(start)) - now) >= 45 * 60_000;
          const free = practitioner !== target || apart;
          expect([practitioner === target, start, offered.has(at(start))]).toEqual([
            practitioner === target,
            start,
            free,
          ]);
        }
      }
      expect(problemOf(await book(at(minutes), target.id))).toEqual(problem(409, 'slot_taken'));
      if (other || Math.abs(minutes) >= 45) expect((await book(START)).status).toBe(201);
    });

    it('with the length that the service has by now', async () => {
      const { one, service, appointment, book } = await stage();
      await call('PATCH', `/v1/services/${service.id}`, { body: { durationMinutes: 45 } });
      const answer = await move(appointment.id, { startsAt: at(60) });
      expect(placeOf(answer.body)).toEqual(placed(one, at(60), 45));
      expect(problemOf(await book(at(100)))).toEqual(problem(409, 'slot_taken'));
    });

    it('for a reason, that its history tells with the places', async () => {
      const { one, two, appointment } = await stage();
      await move(appointment.id, { startsAt: at(60), practitionerId: two.id, reason: 'Missed the bus' });
      await move(appointment.id, { startsAt: at(90) });
      const { data } = (await call('GET', `/v1/appointments/${appointment.id}/history`)).body;
      const place = (practitioner: { id: string }, minutes: number) => ({
        startsAt: at(minutes),
        endsAt: at(minutes + 30),
        practitionerId: practitioner.id,
      });
      expect(data.slice(1)).toMatchObject([
        {
          action: 'reschedule',
          fromVersion: 1,
          version: 2,
          fromStatus: 'confirmed',
          toStatus: 'confirmed',
          reason: 'Missed the bus',
          details: { from: place(one, 0), to: place(two, 60) },
        },
        { fromVersion: 2, version: 3, reason: null, details: { from: place(two, 60), to: place(two, 90) } },
      ]);
      const events = await sql('SELECT type, version FROM outbox_event WHERE subject_id = $1 ORDER BY version', [
        appointment.id,
      ]);
      expect(events).toEqual([
        { type: 'appointment.confirmed', version: 1 },
        { type: 'appointment.rescheduled', version: 2 },
        { type: 'appointment.rescheduled', version: 3 },
      ]);
    });

    it('to a time that is written with another offset', async () => {
      const { one, appointment } = await stage();
      const answer = await move(appointment.id, { startsAt: at(240).replace('Z', '+02:00') });
      expect(placeOf(answer.body)).toEqual(placed(one, at(120)));
    });

    it('into the gap that only its own leaving makes', async () => {
      const { appointment, book, one } = await stage();
      made(await book(at(-30)));
      made(await book(at(40)));
      const answer = await move(appointment.id, { startsAt: at(10) });
      expect(placeOf(answer.body)).toEqual(placed(one, at(10)));
      expect(problemOf(await move(appointment.id, { startsAt: at(15) }))).toEqual(problem(409, 'slot_taken'));
    });

    it('over midnight, where the buffers lie on two days', async () => {
      const { appointment, book } = await stage({ bufferBeforeMinutes: 30, bufferAfterMinutes: 30 });
      // Midnight in Berlin, in winter and in summer.
      for (const midnight of [inDays(11, '22:00'), inDays(11, '23:00')]) {
        for (const minutes of [-15, 0, -45]) {
          const answer = await move(appointment.id, { startsAt: after(midnight, minutes) });
          expect([minutes, answer.status]).toEqual([minutes, 200]);
          expect(problemOf(await book(after(midnight, minutes + 85)))).toEqual(problem(409, 'slot_taken'));
          expect(await claimsOf(appointment.id)).toHaveLength(1);
        }
      }
      const back = made(await book(START));
      await make.act(back.id, 'cancel');
      expect((await move(appointment.id, { startsAt: START })).status).toBe(200);
      for (const midnight of [inDays(11, '22:00'), inDays(11, '23:30')]) made(await book(midnight));
    });
  });

  describe('to a time that somebody has', () => {
    it.each<[string, number, boolean]>([
      ['with the same practitioner', 120, false],
      ['with the same practitioner, and its own', 15, false],
      ['with another practitioner', 0, true],
    ])('%s is refused with alternatives, and leaves it where it was', async (_, minutes, other) => {
      const { one, two, service, book, appointment } = await stage();
      made(await book(at(Math.max(minutes, 30)), one.id));
      made(await book(at(0), two.id));
      const before = await contentsOf(sql);
      const body = { startsAt: at(minutes), ...(other && { practitionerId: two.id }) };
      const answer = await move(appointment.id, body);
      expect(problemOf(answer)).toEqual(problem(409, 'slot_taken'));
      expect(await contentsOf(sql)).toEqual(before);
      expect(await read(appointment.id)).toEqual(appointment);
      expect(answer.body.alternatives).toHaveLength(3);
      const free = await startsOf(service.id, (other ? two : one).id);
      for (const alternative of answer.body.alternatives) {
        expect(alternative.practitionerId).toBe((other ? two : one).id);
        expect(free).toContain(alternative.startsAt);
      }
      const [{ startsAt, practitionerId }] = answer.body.alternatives;
      expect((await move(appointment.id, { startsAt, practitionerId })).status).toBe(200);
    });

    it('and to one that was cancelled there is taken', async () => {
      const { book, appointment } = await stage();
      const other = made(await book(at(120)));
      await make.act(other.id, 'cancel');
      expect((await move(appointment.id, { startsAt: at(120) })).status).toBe(200);
    });
  });

  describe('is refused by the rules, and leaves everything as it was:', () => {
    it.each<[string, number, string, object, (stage: { closed: { id: string } }) => object | Promise<object>]>([
      [
        'outside the hours',
        422,
        'outside_hours',
        {},
        ({ closed }) => ({ startsAt: at(120), practitionerId: closed.id }),
      ],
      ['in the past', 422, 'in_the_past', {}, () => ({ startsAt: inDays(-1) })],
      ['too soon', 422, 'notice_too_short', { minNoticeMinutes: 60 }, () => ({ startsAt: inSeconds(600) })],
      ['too far ahead', 422, 'too_far_ahead', { maxDaysAhead: 20 }, () => ({ startsAt: inDays(22) })],
      [
        'to a practitioner who does not offer the service',
        422,
        'practitioner_not_eligible',
        {},
        async () => ({ startsAt: at(120), practitionerId: (await make.practitioner()).id }),
      ],
      [
        'to a practitioner whom nobody knows',
        404,
        'not_found',
        {},
        () => ({ startsAt: at(120), practitionerId: '01890000-0000-7000-8000-000000000000' }),
      ],
      [
        'to a practitioner of another organization',
        404,
        'not_found',
        {},
        async () => ({
          startsAt: at(120),
          practitionerId: (await maker(app.as((await addOrganization(app)).apiKey)).practitioner()).id,
        }),
      ],
      [
        'to a practitioner who is gone',
        404,
        'not_found',
        {},
        async () => {
          const { id } = await make.practitioner();
          await call('DELETE', `/v1/practitioners/${id}`);
          return { startsAt: at(120), practitionerId: id };
        },
      ],
      ['to a room', 404, 'not_found', {}, async () => ({ startsAt: at(120), practitionerId: (await make.room()).id })],
    ])('%s', async (_, status, code, fields, target) => {
      const [one, closed] = [await make.practitioner(), await make.practitioner({ hours: [] })];
      const service = await make.service([one.id, closed.id], fields);
      const appointment = made(await make.book({ serviceId: service.id, practitionerId: one.id, startsAt: START }));
      const body = await target({ closed });
      const before = await contentsOf(sql);
      expect(problemOf(await move(appointment.id, body))).toEqual(problem(status, code));
      expect(await contentsOf(sql)).toEqual(before);
      expect(await read(appointment.id)).toEqual(appointment);
    });
  });

  describe('tells of several reasons the first of:', () => {
    const NOBODY = '01890000-0000-7000-8000-000000000000';
    const STALE = { 'If-Match': '"7"' };
    it('not found, version, rules, status', async () => {
      const { one, two, appointment, service } = await stage();
      const stranger = await make.practitioner();
      const past = inDays(-1);
      const answers = async () => ({
        appointment: (await move(NOBODY, { startsAt: past, practitionerId: stranger.id }, STALE)).body.code,
        practitioner: (await move(appointment.id, { startsAt: past, practitionerId: NOBODY }, STALE)).body.code,
        eligible: (await move(appointment.id, { startsAt: at(60), practitionerId: stranger.id }, STALE)).body.code,
        version: (await move(appointment.id, { startsAt: past }, STALE)).body.code,
        past: (await move(appointment.id, { startsAt: past })).body.code,
        closed: (await move(appointment.id, { startsAt: at(300), practitionerId: two.id })).body.code,
        notEligible: (await move(appointment.id, { startsAt: at(60), practitionerId: stranger.id })).body.code,
      });
      await make.setHours(two.scheduleId, []);
      const expected = {
        appointment: 'not_found',
        practitioner: 'not_found',
        eligible: 'version_stale',
        version: 'version_stale',
        past: 'in_the_past',
        closed: 'outside_hours',
        notEligible: 'practitioner_not_eligible',
      };
      expect(await answers()).toEqual(expected);
      // The rules come before the status, which is told last.
      await make.act(appointment.id, 'cancel');
      expect(await answers()).toEqual(expected);
      const taken = made(await make.book({ serviceId: service.id, practitionerId: one.id, startsAt: at(120) }));
      for (const startsAt of [at(60), taken.startsAt]) {
        const answer = await move(appointment.id, { startsAt });
        expect([answer.body.code, answer.body.currentStatus]).toEqual(['invalid_transition', 'cancelled']);
      }
    });
  });

  it("of another organization's appointment is not found", async () => {
    const other = app.as((await addOrganization(app)).apiKey);
    const { appointment } = await stage();
    const before = await contentsOf(sql);
    for (const headers of [undefined, { 'If-Match': '"1"' }]) {
      const answer = await maker(other).act(appointment.id, 'reschedule', { startsAt: at(60) }, headers);
      expect(problemOf(answer)).toEqual(problem(404, 'not_found'));
    }
    expect(await contentsOf(sql)).toEqual(before);
  });

  it('holds to If-Match', async () => {
    const { appointment } = await stage();
    const before = await contentsOf(sql);
    for (const stale of ['"0"', '"2"', 'W/"1"', '"7", "8"']) {
      const answer = await move(appointment.id, { startsAt: at(60) }, { 'If-Match': stale });
      expect([stale, problemOf(answer)]).toEqual([stale, problem(412, 'version_stale')]);
    }
    expect(await contentsOf(sql)).toEqual(before);
    for (const [index, fresh] of ['"1"', '"9", "2"', '*'].entries()) {
      const answer = await move(appointment.id, { startsAt: at(60 * (index + 1)) }, { 'If-Match': fresh });
      expect([fresh, answer.status, answer.headers.get('etag')]).toEqual([fresh, 200, `"${index + 2}"`]);
    }
  });

  it('under one key happens once, and is told twice', async () => {
    const { appointment, book } = await stage();
    const again = () => move(appointment.id, { startsAt: at(60) }, { 'Idempotency-Key': 'a-move' });
    const first = await again();
    // By then it has gone on, and its place is somebody else's.
    const on = await move(appointment.id, { startsAt: at(120) });
    made(await book(at(60)));
    const before = await contentsOf(sql);
    const second = await again();
    expect([first.headers.get('idempotency-replayed'), second.headers.get('idempotency-replayed')]).toEqual([
      null,
      'true',
    ]);
    expect([second.status, second.headers.get('etag'), second.body]).toEqual([200, '"2"', first.body]);
    expect(await contentsOf(sql)).toEqual(before);
    expect(await read(appointment.id)).toEqual(on.body);
  });

  it('without a key happens as often as it is asked for', async () => {
    const { appointment } = await stage();
    const versions = [];
    for (let count = 0; count < 3; count++)
      versions.push((await move(appointment.id, { startsAt: at(60) })).body.version);
    expect(versions).toEqual([2, 3, 4]);
  });

  describe('in a race', () => {
    const sorted = (answers: Answer[]) => answers.map(({ status }) => status).sort((a, b) => a - b);

    it('of ten to one time one gets there, and nine stay', async () => {
      for (let round = 0; round < 3; round++) {
        const { one, two, book, appointment } = await stage();
        const all = [appointment];
        for (let index = 1; index < 10; index++)
          all.push(made(await book(at(index * 30), index % 2 ? two.id : one.id)));
        const answers = await Promise.all(
          all.map(({ id }) => move(id, { startsAt: at(600), ...(round < 2 && { practitionerId: two.id }) })),
        );
        const winners = round < 2 ? 1 : 2;
        expect(sorted(answers)).toEqual([
          ...Array<number>(winners).fill(200),
          ...Array<number>(10 - winners).fill(409),
        ]);
        for (const [index, answer] of answers.entries()) {
          if (answer.status === 409) expect(problemOf(answer)).toEqual(problem(409, 'slot_taken'));
          const now = answer.status === 200 ? answer.body : all[index];
          expect(await read(all[index].id)).toEqual(now);
          const [segment] = now.segments;
          expect(await claimsOf(now.id)).toEqual([
            { scheduleId: segment.scheduleId, startsAt: new Date(segment.startsAt) },
          ]);
        }
      }
    });

    it('of a move and a booking for one time one gets it', async () => {
      for (let round = 0; round < 6; round++) {
        const { book, appointment } = await stage();
        const [moved, booked] = await Promise.all([
          move(appointment.id, { startsAt: at(120) }),
          book(at(105 + round * 5)),
        ]);
        expect([
          [200, 409],
          [409, 201],
        ]).toContainEqual([moved.status, booked.status]);
      }
    });

    it('two that change places both stay where they are, or move to what is free', async () => {
      for (let round = 0; round < 4; round++) {
        const { book, appointment } = await stage();
        const other = made(await book(at(120)));
        const answers = await Promise.all([
          move(appointment.id, { startsAt: at(120) }),
          move(other.id, { startsAt: START }),
        ]);
        expect(answers.map(problemOf)).toEqual(answers.map(() => problem(409, 'slot_taken')));
        expect([await read(appointment.id), await read(other.id)]).toEqual([appointment, other]);
      }
    });

    it('of two with one ETag one moves', async () => {
      for (let round = 0; round < 5; round++) {
        const { appointment, two } = await stage();
        const answers = await Promise.all([
          move(appointment.id, { startsAt: at(60) }, { 'If-Match': '"1"' }),
          move(appointment.id, { startsAt: at(120), practitionerId: two.id }, { 'If-Match': '"1"' }),
        ]);
        expect(sorted(answers)).toEqual([200, 412]);
        const winner = answers.find(({ status }) => status === 200)!.body;
        expect(await read(appointment.id)).toEqual(winner);
        expect(await claimsOf(appointment.id)).toEqual([
          { scheduleId: winner.segments[0].scheduleId, startsAt: new Date(winner.startsAt) },
        ]);
      }
    });

    it.each([
      ['of one practitioner', false],
      ['between two practitioners', true],
    ])('many moves of one %s come one after the other', async (_, between) => {
      const { appointment, one, two } = await stage();
      const answers = await Promise.all(
        Array.from({ length: 10 }, (__, index) =>
          move(appointment.id, {
            startsAt: at(60 + index * 10),
            practitionerId: (between && index % 2 ? two : one).id,
          }),
        ),
      );
      // Who found it elsewhere too often is asked to come again.
      for (const answer of answers.filter(({ status }) => status !== 200)) {
        expect([between, problemOf(answer)]).toEqual([true, problem(503, 'busy')]);
        expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
      }
      const moved = answers.filter(({ status }) => status === 200).sort((a, b) => a.body.version - b.body.version);
      expect(moved.map(({ body }) => body.version)).toEqual(moved.map((__, index) => index + 2));
      expect(await read(appointment.id)).toEqual(moved.at(-1)!.body);
      expect(await claimsOf(appointment.id)).toHaveLength(1);
      const { data } = (await call('GET', `/v1/appointments/${appointment.id}/history`)).body;
      // Each left from where the one before had brought it.
      const lines = data.slice(1).map((line: { details: object }) => line.details);
      expect(lines).toHaveLength(moved.length);
      for (let index = 1; index < lines.length; index++) expect(lines[index].from).toEqual(lines[index - 1].to);
    });

    it('with a cancellation it ends cancelled, and neither time stays taken', async () => {
      for (let round = 0; round < 6; round++) {
        const { appointment, book } = await stage();
        const [moved, cancelled] = await Promise.all([
          move(appointment.id, { startsAt: at(120) }),
          make.act(appointment.id, 'cancel'),
        ]);
        expect([200, 409]).toContain(moved.status);
        expect(cancelled.status).toBe(200);
        if (moved.status === 409) {
          expect([problemOf(moved), moved.body.currentStatus]).toEqual([
            problem(409, 'invalid_transition'),
            'cancelled',
          ]);
        }
        expect((await read(appointment.id)).status).toBe('cancelled');
        expect([(await book(START)).status, (await book(at(120))).status]).toEqual([201, 201]);
      }
    });

    it('with a deletion of its practitioner: never an appointment with who is gone', async () => {
      for (let round = 0; round < 6; round++) {
        const { appointment, two } = await stage();
        const [moved, deleted] = await Promise.all([
          move(appointment.id, { startsAt: at(60), practitionerId: two.id }),
          call('DELETE', `/v1/practitioners/${two.id}`),
        ]);
        expect([
          [200, 409],
          [404, 204],
          [422, 204],
        ]).toContainEqual([moved.status, deleted.status]);
      }
    });
  });
});
