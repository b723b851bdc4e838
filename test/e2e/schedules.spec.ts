import { ALWAYS, inDays, maker, problem, problemOf, openSql, type Sql } from '../support/api';
import { type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

const DAY = 86_400_000;

describe('schedules', () => {
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

  const get = (id: string) => call('GET', `/v1/schedules/${id}`);
  const putHours = (id: string, hours: object[], ifMatch: string | undefined, timeZone = 'Europe/Berlin') =>
    call('PUT', `/v1/schedules/${id}/hours`, {
      body: { timeZone, hours },
      headers: ifMatch === undefined ? {} : { 'If-Match': ifMatch },
    });
  const remove = (id: string, exceptionId: string, ifMatch: string | undefined) =>
    call('DELETE', `/v1/schedules/${id}/exceptions/${exceptionId}`, {
      headers: ifMatch === undefined ? {} : { 'If-Match': ifMatch },
    });
  const starts = async (serviceId: string, from: string, to: string, query = ''): Promise<string[]> => {
    const answer = await call('GET', `/v1/slots?serviceId=${serviceId}&from=${from}&to=${to}&limit=1000${query}`);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body.data.map((slot: { startsAt: string }) => slot.startsAt);
  };
  const everyDay = (start: string, end: string, fields: object = {}) =>
    [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start, end, ...fields }));
  const lane = async (hours: object[], timeZone: string, fields: object = {}) => {
    const practitioner = await make.practitioner({ hours, timeZone });
    const service = await make.service([practitioner.id], { maxDaysAhead: 1095, ...fields });
    return { practitioner, service, scheduleId: practitioner.scheduleId as string };
  };
  const dateOf = (days: number) => inDays(days).slice(0, 10);
  const versionOf = async (id: string) => (await get(id)).headers.get('etag');
  /** The last Sunday of a month in a year that is still to come: when Europe's clocks change. */
  const lastSunday = (month: number): string => {
    const now = new Date();
    for (let year = now.getUTCFullYear(); ; year++) {
      const last = new Date(Date.UTC(year, month, 0));
      last.setUTCDate(last.getUTCDate() - last.getUTCDay());
      if (last.getTime() > now.getTime() + 3 * DAY) return last.toISOString().slice(0, 10);
    }
  };

  it('shows itself', async () => {
    const location = await make.location();
    const hours = [
      {
        weekday: 1,
        start: '09:00',
        end: '12:00',
        locationId: location.id,
        validFrom: '2027-01-01',
        validUntil: '2027-12-31',
      },
      { weekday: 1, start: '13:30', end: '24:00', locationId: null, validFrom: null, validUntil: null },
      { weekday: 7, start: '00:00', end: '00:01', locationId: null, validFrom: null, validUntil: null },
    ];
    const { scheduleId, practitioner } = await lane(hours, 'Asia/Kathmandu');
    const answer = await get(scheduleId);
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      id: scheduleId,
      practitionerId: practitioner.id,
      timeZone: 'Asia/Kathmandu',
      places: 1,
      hours,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
    const room = await make.room();
    expect((await get(room.scheduleId)).body).toMatchObject({ id: room.scheduleId, roomId: room.id, hours: [] });
  });

  it('takes the zone of the location, else of the organization, unless told', async () => {
    const location = await make.location({ timeZone: 'America/Lima' });
    const zoneOf = async (fields: object) => {
      const made = await call('POST', '/v1/practitioners', { body: { name: 'X', ...fields } });
      return (await get(made.body.scheduleId)).body.timeZone;
    };
    expect(await zoneOf({})).toBe('Europe/Berlin');
    expect(await zoneOf({ locationId: location.id })).toBe('America/Lima');
    expect(await zoneOf({ locationId: location.id, timeZone: 'Asia/Tokyo' })).toBe('Asia/Tokyo');
  });

  describe('If-Match', () => {
    it('is required: 428', async () => {
      const { scheduleId } = await lane(ALWAYS, 'Europe/Berlin');
      const span = { startsAt: inDays(10), endsAt: inDays(11), kind: 'closed' };
      const exception = await make.exception(scheduleId, span);
      const before = await get(scheduleId);
      const answers = [
        await putHours(scheduleId, [], undefined),
        await call('POST', `/v1/schedules/${scheduleId}/exceptions`, { body: span }),
        await remove(scheduleId, exception.body.id, undefined),
      ];
      expect(answers.map(problemOf)).toEqual(answers.map(() => problem(428, 'precondition_required')));
      const after = await get(scheduleId);
      expect([after.headers.get('etag'), after.body]).toEqual([before.headers.get('etag'), before.body]);
    });

    it('stale changes nothing: 412', async () => {
      const { scheduleId, service } = await lane(everyDay('08:00', '10:00'), 'Etc/UTC');
      const span = { startsAt: inDays(10, '08:00'), endsAt: inDays(10, '09:00'), kind: 'closed' };
      const exception = await make.exception(scheduleId, span);
      const [before, slots] = [await get(scheduleId), await starts(service.id, inDays(9), inDays(12))];
      for (const stale of ['"1"', '"99"', 'W/"3"', '"1", "2"']) {
        const answers = [
          await putHours(scheduleId, [], stale),
          await make.exception(scheduleId, { ...span, endsAt: inDays(12) }, stale),
          await remove(scheduleId, exception.body.id, stale),
        ];
        expect(answers.map(problemOf)).toEqual(answers.map(() => problem(412, 'version_stale')));
      }
      const after = await get(scheduleId);
      expect([after.headers.get('etag'), after.body]).toEqual(['"3"', before.body]);
      expect(await starts(service.id, inDays(9), inDays(12))).toEqual(slots);
    });

    it('two editors at once: one wins', async () => {
      for (let round = 0; round < 5; round++) {
        const { scheduleId } = await lane(ALWAYS, 'Europe/Berlin');
        const etag = (await versionOf(scheduleId))!;
        const answers = await Promise.all([
          putHours(scheduleId, everyDay('08:00', '12:00'), etag),
          putHours(scheduleId, everyDay('13:00', '17:00'), etag),
          make.exception(scheduleId, { startsAt: inDays(10), endsAt: inDays(11), kind: 'closed' }, etag),
        ]);
        expect(answers.filter((answer) => answer.status < 300)).toHaveLength(1);
        const lost = answers.filter((answer) => answer.status >= 300);
        expect(lost.map(problemOf)).toEqual(lost.map(() => problem(412, 'version_stale')));
        expect(await versionOf(scheduleId)).toBe(answers.find((answer) => answer.status < 300)!.headers.get('etag'));
      }
    });

    it('the version is raised by rules and never by bookings', async () => {
      const { scheduleId, service } = await lane(ALWAYS, 'Etc/UTC');
      const before = await versionOf(scheduleId);
      const booked = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') });
      await call('POST', `/v1/appointments/${booked.body.id}/cancel`, { body: {} });
      expect(await versionOf(scheduleId)).toBe(before);
      const hours = await putHours(scheduleId, ALWAYS, before!, 'Etc/UTC');
      const exception = await make.exception(
        scheduleId,
        { startsAt: inDays(10), endsAt: inDays(11), kind: 'closed' },
        hours.headers.get('etag')!,
      );
      const removed = await remove(scheduleId, exception.body.id, exception.headers.get('etag')!);
      expect(
        [before, hours, exception, removed].map((each) =>
          typeof each === 'string' ? each : each!.headers.get('etag'),
        ),
      ).toEqual(['"2"', '"3"', '"4"', '"5"']);
      expect(await versionOf(scheduleId)).toBe('"5"');
    });
  });

  describe('hours', () => {
    it('are local times, 24:00 the end of the day', async () => {
      const date = dateOf(10);
      const weekday = new Date(date).getUTCDay() || 7;
      const { service } = await lane([{ weekday, start: '22:00', end: '24:00' }], 'America/New_York', {
        durationMinutes: 60,
      });
      const summer = new Intl.DateTimeFormat('en-US', { timeZone: 'America/New_York', timeZoneName: 'longOffset' })
        .format(new Date(`${date}T12:00:00Z`))
        .includes('-04:00');
      const hour = summer ? 2 : 3;
      const tomorrow = new Date(Date.parse(`${date}T00:00:00Z`) + DAY).toISOString().slice(0, 10);
      expect(await starts(service.id, `${date}T12:00:00Z`, `${tomorrow}T12:00:00Z`)).toEqual([
        `${tomorrow}T0${hour}:00:00Z`,
        `${tomorrow}T0${hour + 1}:00:00Z`,
      ]);
    });

    it('join over midnight', async () => {
      const { service } = await lane([...everyDay('22:00', '24:00'), ...everyDay('00:00', '01:00')], 'Etc/UTC', {
        durationMinutes: 90,
        slotIntervalMinutes: 30,
      });
      const offered = await starts(service.id, inDays(10, '12:00'), inDays(11, '12:00'));
      expect(offered).toEqual([inDays(10, '22:00'), inDays(10, '22:30'), inDays(10, '23:00'), inDays(10, '23:30')]);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '23:30') })).status).toBe(201);
      expect(await starts(service.id, inDays(10, '12:00'), inDays(11, '12:00'))).toEqual([inDays(10, '22:00')]);
    });

    it('are valid from a first to a last day', async () => {
      const hours = [
        ...everyDay('08:00', '08:30', { validUntil: dateOf(11) }),
        ...everyDay('09:00', '09:30', { validFrom: dateOf(12), validUntil: dateOf(12) }),
        ...everyDay('10:00', '10:30', { validFrom: dateOf(13) }),
      ];
      const { service } = await lane(hours, 'Etc/UTC');
      expect(await starts(service.id, inDays(10), inDays(15))).toEqual([
        inDays(10, '08:00'),
        inDays(11, '08:00'),
        inDays(12, '09:00'),
        inDays(13, '10:00'),
        inDays(14, '10:00'),
      ]);
      const refused = await make.book({ serviceId: service.id, startsAt: inDays(12, '08:00') });
      expect(problemOf(refused)).toEqual(problem(422, 'outside_hours'));
    });

    it('may overlap where they are never valid on one day', async () => {
      const { scheduleId } = await lane([], 'Etc/UTC');
      const hours = [
        { weekday: 1, start: '08:00', end: '12:00', validUntil: '2027-03-31' },
        { weekday: 1, start: '10:00', end: '14:00', validFrom: '2027-04-01' },
      ];
      expect((await putHours(scheduleId, hours, '*')).status).toBe(200);
      const touching = [
        { weekday: 1, start: '08:00', end: '12:00', validUntil: '2027-04-01' },
        { weekday: 1, start: '10:00', end: '14:00', validFrom: '2027-04-01' },
      ];
      expect(problemOf(await putHours(scheduleId, touching, '*'))).toEqual(
        problem(400, 'validation_failed', '/hours/1'),
      );
    });

    it('when changed apply to days that were booked before, too', async () => {
      const { service, scheduleId } = await lane(everyDay('08:00', '10:00'), 'Etc/UTC');
      const inside = await make.book({ serviceId: service.id, startsAt: inDays(10, '09:00') });
      const outside = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:00') });
      const other = await make.book({ serviceId: service.id, startsAt: inDays(11, '08:30') });
      const answer = await putHours(scheduleId, everyDay('09:00', '11:00'), '"2"', 'Etc/UTC');
      expect(answer.status).toBe(200);
      expect(answer.body.affectedAppointments).toEqual(
        [outside, other].map(({ body: { id, startsAt, endsAt } }) => ({ id, startsAt, endsAt })),
      );
      expect(await starts(service.id, inDays(10), inDays(11))).toEqual([
        inDays(10, '09:30'),
        inDays(10, '10:00'),
        inDays(10, '10:30'),
      ]);
      for (const { body } of [inside, outside, other]) {
        expect((await call('GET', `/v1/appointments/${body.id}`)).body.status).toBe('confirmed');
      }
      expect(problemOf(await make.book({ serviceId: service.id, startsAt: inDays(10, '08:30') }))).toEqual(
        problem(422, 'outside_hours'),
      );
      expect(problemOf(await make.book({ serviceId: service.id, startsAt: inDays(10, '09:00') }))).toEqual(
        problem(409, 'slot_taken'),
      );
      const events = await sql(
        "SELECT version, payload FROM outbox_event WHERE subject_id = $1 AND type = 'schedule.hours_changed' ORDER BY version DESC LIMIT 1",
        [scheduleId],
      );
      expect(events).toEqual([{ version: 3, payload: { affectedAppointmentIds: [outside.body.id, other.body.id] } }]);
    });
  });

  describe('exceptions', () => {
    it('are made, listed, read and removed', async () => {
      const { scheduleId } = await lane(ALWAYS, 'Europe/Berlin');
      const span = { startsAt: inDays(10, '08:00'), endsAt: inDays(12, '09:00'), kind: 'closed', reason: 'Holiday' };
      const made = await make.exception(scheduleId, span, '"2"');
      expect(made.status).toBe(201);
      const { affectedAppointments, ...exception } = made.body;
      expect(affectedAppointments).toEqual([]);
      expect(exception).toEqual({ id: expect.any(String), ...span, createdAt: expect.any(String) });
      expect(made.headers.get('location')).toBe(`/v1/schedules/${scheduleId}/exceptions/${exception.id}`);
      const read = await call('GET', made.headers.get('location')!);
      expect([read.status, read.body]).toEqual([200, exception]);
      const plain = await make.exception(scheduleId, { ...span, kind: 'open', reason: undefined });
      expect(plain.body.reason).toBeNull();
      const list = await call('GET', `/v1/schedules/${scheduleId}/exceptions`);
      expect(list.body.data.map((each: { id: string }) => each.id)).toEqual([exception.id, plain.body.id]);
      const first = await call('GET', `/v1/schedules/${scheduleId}/exceptions?limit=1`);
      const second = await call(
        'GET',
        `/v1/schedules/${scheduleId}/exceptions?limit=1&cursor=${first.body.nextCursor}`,
      );
      expect([...first.body.data, ...second.body.data]).toEqual(list.body.data);
      expect(second.body.nextCursor).toBeNull();
      expect((await remove(scheduleId, exception.id, '*')).status).toBeLessThan(300);
      expect((await call('GET', made.headers.get('location')!)).status).toBe(404);
      expect((await remove(scheduleId, exception.id, '*')).status).toBe(404);
      const other = await lane(ALWAYS, 'Europe/Berlin');
      expect((await remove(other.scheduleId, plain.body.id, '*')).status).toBe(404);
      expect((await call('GET', `/v1/schedules/${other.scheduleId}/exceptions/${plain.body.id}`)).status).toBe(404);
      expect((await call('GET', `/v1/schedules/${scheduleId}/exceptions`)).body.data).toHaveLength(1);
    });

    it('close, open, and closed wins', async () => {
      const { service, scheduleId } = await lane(everyDay('08:00', '10:00'), 'Etc/UTC');
      const day = () => starts(service.id, inDays(10), inDays(11));
      const at = (...times: string[]) => times.map((time) => inDays(10, time));
      expect(await day()).toEqual(at('08:00', '08:30', '09:00', '09:30'));
      const closed = await make.exception(scheduleId, {
        startsAt: inDays(10, '08:40'),
        endsAt: inDays(10, '09:10'),
        kind: 'closed',
      });
      expect(await day()).toEqual(at('08:00', '09:30'));
      await make.exception(scheduleId, { startsAt: inDays(10, '08:30'), endsAt: inDays(10, '11:05'), kind: 'open' });
      expect(await day()).toEqual(at('08:00', '09:30', '10:00', '10:30'));
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '10:30') })).status).toBe(201);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:45') })).body.code).toBe(
        'outside_hours',
      );
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '09:10') })).status).toBe(201);
      expect((await remove(scheduleId, closed.body.id, '*')).status).toBeLessThan(300);
      expect(await day()).toEqual(at('08:00', '08:30', '10:00'));
    });

    it('start a grid of their own', async () => {
      const { service, scheduleId } = await lane([], 'Etc/UTC');
      await make.exception(scheduleId, { startsAt: inDays(10, '08:07'), endsAt: inDays(10, '09:10'), kind: 'open' });
      expect(await starts(service.id, inDays(10), inDays(11))).toEqual([inDays(10, '08:07'), inDays(10, '08:37')]);
    });

    it('go over several days', async () => {
      const { service, scheduleId } = await lane(everyDay('08:00', '09:00'), 'Etc/UTC', { durationMinutes: 60 });
      await make.exception(scheduleId, { startsAt: inDays(10, '12:00'), endsAt: inDays(13, '08:00'), kind: 'closed' });
      expect(await starts(service.id, inDays(10), inDays(14))).toEqual([inDays(10, '08:00'), inDays(13, '08:00')]);
      await make.exception(scheduleId, { startsAt: inDays(20, '23:30'), endsAt: inDays(22, '02:00'), kind: 'open' });
      const night = await starts(service.id, inDays(20, '20:00'), inDays(22, '06:00'));
      expect(night.slice(0, 3)).toEqual([inDays(20, '23:30'), inDays(21, '00:30'), inDays(21, '01:30')]);
      expect(night.at(-1)).toBe(inDays(22, '00:30'));
      for (const startsAt of night.slice(0, 2))
        expect((await make.book({ serviceId: service.id, startsAt })).status).toBe(201);
    });

    it('tell which appointments they leave outside, and cancel none', async () => {
      const { service, scheduleId } = await lane(everyDay('08:00', '12:00'), 'Etc/UTC');
      const booked: Answer[] = [];
      for (const time of ['08:00', '09:00', '10:00']) {
        booked.push(await make.book({ serviceId: service.id, startsAt: inDays(10, time) }));
      }
      const answer = await make.exception(scheduleId, {
        startsAt: inDays(10, '09:29'),
        endsAt: inDays(10, '10:01'),
        kind: 'closed',
      });
      expect(answer.body.affectedAppointments).toEqual(
        booked.slice(1).map(({ body: { id, startsAt, endsAt } }) => ({ id, startsAt, endsAt })),
      );
      for (const { body } of booked) {
        expect((await call('GET', `/v1/appointments/${body.id}`)).body.status).toBe('confirmed');
      }
      await call('POST', `/v1/appointments/${booked[1]!.body.id}/cancel`, { body: {} });
      const again = await make.exception(scheduleId, {
        startsAt: inDays(10, '09:00'),
        endsAt: inDays(10, '11:00'),
        kind: 'closed',
      });
      expect(again.body.affectedAppointments.map((each: { id: string }) => each.id)).toEqual([booked[2]!.body.id]);
      const events = await sql(
        "SELECT payload FROM outbox_event WHERE subject_id = $1 AND type = 'schedule.exceptions_changed' ORDER BY version",
        [scheduleId],
      );
      expect(events.map(({ payload }) => payload.affectedAppointmentIds)).toEqual([
        booked.slice(1).map(({ body }) => body.id),
        [booked[2]!.body.id],
      ]);
    });

    it('when an open one is removed tell the appointments that stood in it', async () => {
      const { service, scheduleId } = await lane([], 'Etc/UTC');
      const span = { startsAt: inDays(10, '08:00'), endsAt: inDays(10, '09:00'), kind: 'open' };
      const exception = await make.exception(scheduleId, span);
      const { body } = await make.book({ serviceId: service.id, startsAt: inDays(10, '08:30') });
      const removed = await remove(scheduleId, exception.body.id, '*');
      expect(removed.body.affectedAppointments).toEqual([
        { id: body.id, startsAt: body.startsAt, endsAt: body.endsAt },
      ]);
      expect(await starts(service.id, inDays(10), inDays(11))).toEqual([]);
    });
  });

  describe('zones', () => {
    it('a change of zone moves open time and keeps bookings where they are', async () => {
      const { service, scheduleId } = await lane(everyDay('08:00', '10:00'), 'Etc/UTC');
      const booked = await make.book({ serviceId: service.id, startsAt: inDays(10, '09:00') });
      const answer = await putHours(scheduleId, everyDay('08:00', '10:00'), '*', 'Asia/Kolkata');
      expect(answer.body.timeZone).toBe('Asia/Kolkata');
      expect(answer.body.affectedAppointments.map((each: { id: string }) => each.id)).toEqual([booked.body.id]);
      expect(await starts(service.id, inDays(10), inDays(11))).toEqual([
        inDays(10, '02:30'),
        inDays(10, '03:00'),
        inDays(10, '03:30'),
        inDays(10, '04:00'),
      ]);
      expect((await call('GET', `/v1/appointments/${booked.body.id}`)).body.startsAt).toBe(inDays(10, '09:00'));
      const open = everyDay('00:00', '24:00');
      await putHours(scheduleId, open, '*', 'Pacific/Kiritimati');
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '09:00') })).status).toBe(409);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:31') })).status).toBe(409);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '08:30') })).status).toBe(201);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '10:00') })).status).toBe(201);
      const cancelled = await call('POST', `/v1/appointments/${booked.body.id}/cancel`, { body: {} });
      expect(cancelled.status).toBe(200);
      expect((await make.book({ serviceId: service.id, startsAt: inDays(10, '09:00') })).status).toBe(201);
    });

    it("another zone than the client's", async () => {
      const { service } = await lane(everyDay('09:00', '10:00'), 'Pacific/Auckland', { durationMinutes: 60 });
      const [start] = await starts(service.id, inDays(10), inDays(11));
      const local = new Intl.DateTimeFormat('en-GB', {
        timeZone: 'Pacific/Auckland',
        hour: '2-digit',
        minute: '2-digit',
      }).format(new Date(start!));
      expect(local).toBe('09:00');
      const shifted = new Date(Date.parse(start!) - 7 * 3_600_000).toISOString().replace('.000Z', '-07:00');
      const booked = await make.book({ serviceId: service.id, startsAt: shifted });
      expect([booked.status, booked.body.startsAt]).toEqual([201, start]);
    });
  });

  describe('the nights when clocks change', () => {
    const spring = lastSunday(3);
    const autumn = lastSunday(10);
    const hour = 3_600_000;
    /** From Saturday 22:00 UTC or earlier to Sunday noon, in steps of an hour. */
    const instants = (date: string, from: number, to: number) =>
      Array.from({ length: to - from }, (_, n) =>
        new Date(Date.parse(`${date}T00:00:00Z`) + (from + n) * hour).toISOString().replace('.000Z', 'Z'),
      );

    it('the short day has 23 hours', async () => {
      const { service } = await lane([{ weekday: 7, start: '00:00', end: '24:00' }], 'Europe/Berlin', {
        durationMinutes: 60,
      });
      const offered = await starts(service.id, `${spring}T00:00:00Z`, `${spring}T22:00:00Z`);
      const all = await starts(service.id, instants(spring, -6, -5)[0]!, instants(spring, 30, 31)[0]!);
      expect(all).toEqual(instants(spring, -1, 22));
      expect(offered).toEqual(instants(spring, 0, 22));
      for (const startsAt of instants(spring, -1, 3)) {
        expect((await make.book({ serviceId: service.id, startsAt })).status).toBe(201);
      }
      expect(await starts(service.id, instants(spring, -6, -5)[0]!, instants(spring, 30, 31)[0]!)).toEqual(
        instants(spring, 3, 22),
      );
    });

    it('the long day has 25 hours', async () => {
      const { service } = await lane([{ weekday: 7, start: '00:00', end: '24:00' }], 'Europe/Berlin', {
        durationMinutes: 60,
      });
      const all = () => starts(service.id, instants(autumn, -6, -5)[0]!, instants(autumn, 30, 31)[0]!);
      expect(await all()).toEqual(instants(autumn, -2, 23));
      // 02:00 comes twice: two different hours, both to be had.
      expect((await make.book({ serviceId: service.id, startsAt: `${autumn}T02:00:00+02:00` })).status).toBe(201);
      expect((await make.book({ serviceId: service.id, startsAt: `${autumn}T02:00:00+02:00` })).status).toBe(409);
      expect((await make.book({ serviceId: service.id, startsAt: `${autumn}T02:00:00+01:00` })).status).toBe(201);
      expect(await all()).toEqual(instants(autumn, -2, 23).filter((_, index) => index !== 2 && index !== 3));
    });

    it('hours within the gap begin and end an hour later on the clock; hours around it are an hour shorter', async () => {
      const night = [
        { weekday: 7, start: '01:00', end: '02:00' },
        { weekday: 7, start: '02:30', end: '04:00' },
      ];
      const { service } = await lane(night, 'Europe/Berlin', { slotIntervalMinutes: 15, durationMinutes: 15 });
      const quarter = (time: string) => `${spring}T${time}:00Z`;
      // 01:00-02:00 is 00:00-01:00 UTC; 02:30 does not exist and is read as 03:30 (+02:00), 04:00 is 02:00 UTC.
      expect(await starts(service.id, `${spring}T00:00:00Z`, `${spring}T12:00:00Z`)).toEqual(
        ['00:00', '00:15', '00:30', '00:45', '01:30', '01:45'].map(quarter),
      );
      expect((await make.book({ serviceId: service.id, startsAt: quarter('01:15') })).body.code).toBe('outside_hours');
    });

    it('a time that comes twice is the first of the two', async () => {
      const { service } = await lane([{ weekday: 7, start: '02:00', end: '02:30' }], 'Europe/Berlin', {
        durationMinutes: 30,
      });
      expect(await starts(service.id, instants(autumn, -6, -5)[0]!, instants(autumn, 12, 13)[0]!)).toEqual([
        `${autumn}T00:00:00Z`,
      ]);
      const over = await lane([{ weekday: 7, start: '02:00', end: '03:00' }], 'Europe/Berlin', { durationMinutes: 60 });
      expect(await starts(over.service.id, instants(autumn, -6, -5)[0]!, instants(autumn, 12, 13)[0]!)).toEqual([
        `${autumn}T00:00:00Z`,
        `${autumn}T01:00:00Z`,
      ]);
    });

    it('an appointment over the change lasts as long as any', async () => {
      const { service } = await lane(ALWAYS, 'Europe/Berlin', { durationMinutes: 180, bufferAfterMinutes: 60 });
      for (const date of [spring, autumn]) {
        const startsAt = instants(date, -1, 0)[0]!;
        const booked = await make.book({ serviceId: service.id, startsAt });
        expect([booked.status, booked.body.endsAt]).toEqual([201, instants(date, 2, 3)[0]]);
        const next = await make.book({ serviceId: service.id, startsAt: instants(date, 2, 3)[0]! });
        expect(next.body.code).toBe('slot_taken');
        expect((await make.book({ serviceId: service.id, startsAt: instants(date, 3, 4)[0]! })).status).toBe(201);
      }
    });

    it('working hours stay at nine, before and after', async () => {
      const { service } = await lane(everyDay('09:00', '10:00'), 'Europe/Berlin', { durationMinutes: 60 });
      const around = (date: string) => starts(service.id, instants(date, -24, -23)[0]!, instants(date, 48, 49)[0]!);
      expect((await around(spring)).map((start) => start.slice(11, 16))).toEqual(['08:00', '07:00', '07:00']);
      expect((await around(autumn)).map((start) => start.slice(11, 16))).toEqual(['07:00', '08:00', '08:00']);
    });
  });
});
