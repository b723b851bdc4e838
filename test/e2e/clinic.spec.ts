import { contentsOf, inDays, maker, newPhone, openSql, problem, problemOf, type Sql } from '../support/api';
import { type Answer, type Caller, type Clinic, seedClinic, startApp, type TestApp } from '../support/app';

type Kind = 'locations' | 'practitioners' | 'rooms' | 'services' | 'patients';

describe('the clinic', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  let practitioner: { id: string; scheduleId: string };
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    make = maker(call);
    sql = await openSql(app);
    practitioner = await make.practitioner();
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const dates = { createdAt: expect.stringMatching(/Z$/), updatedAt: expect.stringMatching(/Z$/) };
  const ID = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/);
  /** The least that makes one, what is shown of it, and a change. */
  const kinds: Record<Kind, { least: () => object; shown: (body: object) => object; change: object }> = {
    locations: {
      least: () => ({ name: 'Branch', timeZone: 'Europe/Vienna' }),
      shown: (body) => ({ id: ID, ...body, address: null, ...dates }),
      change: { name: 'Changed', address: '1 Road' },
    },
    practitioners: {
      least: () => ({ name: 'Dr. New' }),
      shown: (body) => ({ id: ID, ...body, locationId: null, scheduleId: ID, ...dates }),
      change: { name: 'Dr. Changed' },
    },
    rooms: {
      least: () => ({ name: 'Room' }),
      shown: (body) => ({ id: ID, ...body, locationId: null, scheduleId: ID, ...dates }),
      change: { name: 'Changed' },
    },
    services: {
      least: () => ({ name: 'Service', durationMinutes: 25, practitionerIds: [practitioner.id] }),
      shown: (body) => ({
        id: ID,
        bufferBeforeMinutes: 0,
        bufferAfterMinutes: 0,
        slotIntervalMinutes: null,
        capacity: 1,
        requiresConfirmation: false,
        pendingMinutes: null,
        price: null,
        paymentRequired: false,
        holdMinutes: 10,
        minNoticeMinutes: 0,
        maxDaysAhead: 90,
        modes: ['in_person'],
        ...body,
        segments: expect.any(Array),
        ...dates,
      }),
      change: { name: 'Changed', bufferAfterMinutes: 5, price: { amount: 2500, currency: 'EUR' } },
    },
    patients: {
      least: () => ({ phone: newPhone() }),
      shown: (body) => ({
        id: ID,
        name: null,
        email: null,
        locationId: null,
        locale: null,
        source: 'api',
        status: 'active',
        notes: null,
        verifiedAt: null,
        ...body,
        ...dates,
      }),
      change: { name: 'Changed', email: 'c@example.com', locale: 'de-DE', notes: 'n', status: 'inactive' },
    },
  };
  const KINDS = Object.keys(kinds) as Kind[];
  const create = async (kind: Kind, fields: object = {}) => {
    const answer = await call('POST', `/v1/${kind}`, { body: { ...kinds[kind].least(), ...fields } });
    if (answer.status !== 201) throw new Error(`${kind}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer;
  };
  const idsOf = (answer: Answer): string[] => answer.body.data.map((each: { id: string }) => each.id);
  async function all(kind: string, limit = 200): Promise<string[]> {
    const ids: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const answer: Answer = await call('GET', `/v1/${kind}?limit=${limit}${cursor && `&cursor=${cursor}`}`);
      expect(answer.status).toBe(200);
      ids.push(...idsOf(answer));
      cursor = answer.body.nextCursor;
    }
    return ids;
  }

  describe.each(KINDS)('%s', (kind) => {
    it('are made with defaults, and read as they were shown', async () => {
      const body = kinds[kind].least();
      const made = await call('POST', `/v1/${kind}`, { body });
      expect(made.status).toBe(201);
      expect(made.body).toEqual(kinds[kind].shown(body));
      expect(made.headers.get('location')).toBe(`/v1/${kind}/${made.body.id}`);
      expect(made.headers.get('etag')).toBe('"1"');
      const read = await call('GET', `/v1/${kind}/${made.body.id}`);
      expect([read.status, read.headers.get('etag'), read.body]).toEqual([200, '"1"', made.body]);
      const listed = (await call('GET', `/v1/${kind}?limit=200`)).body.data;
      expect(listed.find((each: { id: string }) => each.id === made.body.id)).toEqual(made.body);
    });

    it('are changed in the fields sent alone, and their version goes up', async () => {
      const made = await create(kind);
      const changed = await call('PATCH', `/v1/${kind}/${made.body.id}`, { body: kinds[kind].change });
      expect([changed.status, changed.headers.get('etag')]).toEqual([200, '"2"']);
      expect(changed.body).toEqual({ ...made.body, ...kinds[kind].change, updatedAt: changed.body.updatedAt });
      expect(changed.body.updatedAt >= made.body.updatedAt).toBe(true);
      const read = await call('GET', `/v1/${kind}/${made.body.id}`);
      expect([read.headers.get('etag'), read.body]).toEqual(['"2"', changed.body]);
    });

    it('keep to If-Match: stale changes nothing, * and the right one do', async () => {
      const { body } = await create(kind);
      const path = `/v1/${kind}/${body.id}`;
      const patch = (name: string, ifMatch: string) =>
        call('PATCH', path, { body: { name }, headers: { 'If-Match': ifMatch } });
      expect((await patch('One', '"1"')).status).toBe(200);
      const before = await contentsOf(sql);
      for (const stale of ['"1"', '"3"', 'W/"2"', '"nonsense"']) {
        const answer = await patch('Two', stale);
        expect([stale, problemOf(answer)]).toEqual([stale, problem(412, 'version_stale')]);
      }
      expect(problemOf(await call('DELETE', path, { headers: { 'If-Match': '"1"' } }))).toEqual(
        problem(412, 'version_stale'),
      );
      for (const malformed of ['two', '"2', '']) {
        expect(problemOf(await patch('Two', malformed))).toEqual(problem(400, 'validation_failed', 'If-Match'));
      }
      expect(await contentsOf(sql)).toEqual(before);
      expect((await patch('Three', '*')).headers.get('etag')).toBe('"3"');
      expect((await patch('Four', '"9", "3"')).headers.get('etag')).toBe('"4"');
      expect((await call('DELETE', path, { headers: { 'If-Match': '"4"' } })).status).toBe(204);
    });

    it('let one of two editors win', async () => {
      for (let round = 0; round < 5; round++) {
        const { body } = await create(kind);
        const edit = (name: string) =>
          call('PATCH', `/v1/${kind}/${body.id}`, { body: { name }, headers: { 'If-Match': '"1"' } });
        const answers = await Promise.all([edit('Left'), edit('Right')]);
        expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([200, 412]);
        const winner = answers.find((answer) => answer.status === 200)!.body;
        expect((await call('GET', `/v1/${kind}/${body.id}`)).body).toEqual(winner);
      }
    });

    it('are deleted softly: gone for everybody, still in the table', async () => {
      const { body } = await create(kind);
      const path = `/v1/${kind}/${body.id}`;
      const deleted = await call('DELETE', path);
      expect([deleted.status, deleted.body]).toEqual([204, '']);
      const answers = [
        await call('GET', path),
        await call('PATCH', path, { body: { name: 'X' } }),
        await call('DELETE', path),
      ];
      expect(answers.map(problemOf)).toEqual(answers.map(() => problem(404, 'not_found')));
      expect(await all(kind)).not.toContain(body.id);
      const rows = await sql(`SELECT deleted_at IS NOT NULL AS deleted FROM ${kind.slice(0, -1)} WHERE id = $1`, [
        body.id,
      ]);
      expect(rows).toEqual([{ deleted: true }]);
      if (body.scheduleId) expect((await call('GET', `/v1/schedules/${body.scheduleId}`)).status).toBe(404);
    });

    it('are listed in pages that neither lose nor repeat while others come', async () => {
      const before = await all(kind);
      expect(before).toEqual([...before].sort());
      const seen: string[] = [];
      let pages = 0;
      for (let cursor: string | null = ''; cursor !== null; pages++) {
        const answer: Answer = await call('GET', `/v1/${kind}?limit=3${cursor && `&cursor=${cursor}`}`);
        expect(answer.body.data.length).toBeLessThanOrEqual(3);
        seen.push(...idsOf(answer));
        cursor = answer.body.nextCursor;
        if (pages < 2) await create(kind);
      }
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.slice(0, before.length)).toEqual(before);
      expect(seen).toHaveLength(before.length + 2);
    });

    it('outlive the deletion of the row that a cursor points to', async () => {
      const made = [await create(kind), await create(kind), await create(kind)].map((answer) => answer.body.id);
      const page = await call('GET', `/v1/${kind}?limit=${(await all(kind)).length - 2}`);
      expect(idsOf(page).at(-1)).toBe(made[0]);
      await call('DELETE', `/v1/${kind}/${made[0]}`);
      const next = await call('GET', `/v1/${kind}?cursor=${page.body.nextCursor}`);
      expect(idsOf(next)).toEqual(made.slice(1));
    });

    it('are not found when nobody made them', async () => {
      const path = `/v1/${kind}/01890000-0000-7000-8000-000000000000`;
      const answers = [
        await call('GET', path),
        await call('PATCH', path, { body: { name: 'X' } }),
        await call('DELETE', path),
      ];
      expect(answers.map(problemOf)).toEqual(answers.map(() => problem(404, 'not_found')));
    });
  });

  it('pages have 50 rows unless told', async () => {
    for (let count = 0; count < 51; count++) await create('locations');
    const page = await call('GET', '/v1/locations');
    expect([page.body.data.length, page.body.nextCursor]).toEqual([50, expect.any(String)]);
  });

  describe('the organization', () => {
    it('is read and changed, with its version', async () => {
      const before = await call('GET', '/v1/organization');
      expect(before.body).toEqual({
        id: clinic.organizationId,
        name: 'Demo Clinic',
        timeZone: 'Europe/Berlin',
        defaultLocationId: clinic.locations[0]!.id,
        patientRules: {
          allowOverlap: true,
          maxOpenHolds: null,
          cancellationWindowMinutes: null,
          lateCancellationRoles: ['practitioner', 'receptionist', 'administrator'],
          lateCancellationKind: 'late_cancellation',
        },
        ...dates,
      });
      const location = await make.location();
      const change = { name: 'New Name', timeZone: 'Europe/Zurich', defaultLocationId: location.id };
      const etag = before.headers.get('etag')!;
      const changed = await call('PATCH', '/v1/organization', { body: change, headers: { 'If-Match': etag } });
      expect(changed.body).toEqual({ ...before.body, ...change, updatedAt: expect.any(String) });
      const stale = await call('PATCH', '/v1/organization', { body: { name: 'Y' }, headers: { 'If-Match': etag } });
      expect(problemOf(stale)).toEqual(problem(412, 'version_stale'));
      const emptied = await call('PATCH', '/v1/organization', { body: { defaultLocationId: null } });
      expect(emptied.body).toMatchObject({ name: 'New Name', defaultLocationId: null });
      expect((await call('GET', '/v1/organization')).body).toEqual(emptied.body);
      await call('PATCH', '/v1/organization', {
        body: { timeZone: 'Europe/Berlin', defaultLocationId: clinic.locations[0]!.id },
      });
    });

    it('lets one of two editors win', async () => {
      for (let round = 0; round < 5; round++) {
        const etag = (await call('GET', '/v1/organization')).headers.get('etag')!;
        const edit = (name: string) =>
          call('PATCH', '/v1/organization', { body: { name }, headers: { 'If-Match': etag } });
        const answers = await Promise.all([edit('Left'), edit('Right')]);
        expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([200, 412]);
        const winner = answers.find((answer) => answer.status === 200)!.body;
        expect((await call('GET', '/v1/organization')).body).toEqual(winner);
      }
    });

    it('never keeps a default location that is gone', async () => {
      const location = await make.location();
      await call('PATCH', '/v1/organization', { body: { defaultLocationId: location.id } });
      const deleted = await call('DELETE', `/v1/locations/${location.id}`);
      const { defaultLocationId } = (await call('GET', '/v1/organization')).body;
      await call('PATCH', '/v1/organization', { body: { defaultLocationId: clinic.locations[0]!.id } });
      expect([
        [204, null],
        [409, location.id],
      ]).toContainEqual([deleted.status, defaultLocationId]);
    });
  });

  describe('what has future appointments is in use', () => {
    async function booked() {
      const location = await make.location();
      const own = await make.practitioner({ locationId: location.id });
      const service = await make.service([own.id]);
      const patient = await make.patient();
      const answer = await make.book({ serviceId: service.id, patientId: patient.id, startsAt: inDays(10, '08:00') });
      expect(answer.status).toBe(201);
      return { location, practitioner: own, service, patient, appointment: answer.body };
    }
    const cancel = (id: string) => call('POST', `/v1/appointments/${id}/cancel`, { body: {} });

    it.each(['practitioner', 'service', 'patient'] as const)('%s, until it is cancelled', async (what) => {
      const made = await booked();
      const path = `/v1/${what}s/${made[what].id}`;
      const before = await contentsOf(sql);
      expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
      expect(await contentsOf(sql)).toEqual(before);
      expect((await call('GET', path)).status).toBe(200);
      expect((await cancel(made.appointment.id)).status).toBe(200);
      expect((await call('DELETE', path)).status).toBe(204);
      const read = await call('GET', `/v1/appointments/${made.appointment.id}`);
      expect([read.status, read.body.status]).toEqual([200, 'cancelled']);
    });

    it('a location, while practitioners, rooms or hours belong to it', async () => {
      const { location, practitioner: own, appointment } = await booked();
      const path = `/v1/locations/${location.id}`;
      expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
      await cancel(appointment.id);
      await call('DELETE', `/v1/practitioners/${own.id}`);
      const room = await make.room({ locationId: location.id });
      expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
      await call('DELETE', `/v1/rooms/${room.id}`);
      const other = await make.practitioner({
        hours: [{ weekday: 1, start: '08:00', end: '09:00', locationId: location.id }],
      });
      expect(problemOf(await call('DELETE', path))).toEqual(problem(409, 'in_use'));
      await make.setHours(other.scheduleId, []);
      expect((await call('DELETE', path)).status).toBe(204);
    });

    it('a deletion and a booking at once: never a booking on what is gone', async () => {
      for (let round = 0; round < 6; round++) {
        const own = await make.practitioner();
        const service = await make.service([own.id]);
        const patient = await make.patient();
        const target = [`/v1/practitioners/${own.id}`, `/v1/services/${service.id}`, `/v1/patients/${patient.id}`][
          round % 3
        ]!;
        const [deleted, answer] = await Promise.all([
          call('DELETE', target),
          make.book({ serviceId: service.id, patientId: patient.id, startsAt: inDays(10, '08:00') }),
        ]);
        expect([
          [204, 404],
          [204, 422],
          [409, 201],
        ]).toContainEqual([deleted.status, answer.status]);
      }
    });

    it('a deleted practitioner is no more among those of a service', async () => {
      const [one, two] = [await make.practitioner(), await make.practitioner()];
      const service = await make.service([one.id, two.id]);
      expect((await call('DELETE', `/v1/practitioners/${one.id}`)).status).toBe(204);
      const shown = (await call('GET', `/v1/services/${service.id}`)).body;
      expect(shown.practitionerIds).toEqual([two.id]);
      const again = await call('PATCH', `/v1/services/${service.id}`, {
        body: { practitionerIds: shown.practitionerIds },
      });
      expect(again.status).toBe(200);
    });
  });

  describe('patients', () => {
    const post = (body: object) => call('POST', '/v1/patients', { body });

    it.each([
      ['+49 151 23456701', '+4915123456701'],
      ['+49-151-234.567 02', '+4915123456702'],
      ['+49 (151) 23456703', '+4915123456703'],
      ['+1 (212) 555-0104', '+12125550104'],
      ['+44 20 7946 0105', '+442079460105'],
    ])('the phone %s is kept as %s', async (written, stored) => {
      const made = await post({ phone: written });
      expect([made.status, made.body.phone]).toEqual([201, stored]);
      const again = await post({ phone: stored });
      expect([again.status, again.body.id]).toEqual([200, made.body.id]);
      const found = await call('GET', `/v1/patients?phone=${encodeURIComponent(written)}`);
      expect(idsOf(found)).toEqual([made.body.id]);
    });

    it('what is stored wins, only what is empty is filled', async () => {
      const phone = newPhone();
      const location = await make.location();
      const made = await post({ phone, name: 'First' });
      expect(made.status).toBe(201);
      const again = await post({
        phone,
        name: 'Second',
        email: 'a@example.com',
        locationId: location.id,
        locale: 'fr',
        notes: 'Note',
        source: 'web',
        status: 'blocked',
      });
      expect([again.status, again.headers.get('etag')]).toEqual([200, '"2"']);
      expect(again.body).toEqual({
        ...made.body,
        email: 'a@example.com',
        locationId: location.id,
        locale: 'fr',
        notes: 'Note',
        updatedAt: expect.any(String),
      });
      const third = await post({ phone, name: 'Third', email: 'b@example.com', locale: 'de', notes: 'Other' });
      expect([third.status, third.headers.get('etag'), third.body]).toEqual([200, '"2"', again.body]);
      const none = await post({ phone, name: null, email: null });
      expect([none.status, none.body]).toEqual([200, again.body]);
    });

    it('e-mail is not unique', async () => {
      const email = 'family@example.com';
      const answers = [await post({ phone: newPhone(), email }), await post({ phone: newPhone(), email })];
      expect(answers.map((answer) => answer.status)).toEqual([201, 201]);
    });

    it('fifty at once make one', async () => {
      const phone = newPhone();
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          post({ phone, name: `Name ${index}`, email: `e${index}@example.com` }),
        ),
      );
      const statuses = answers.map((answer) => answer.status);
      expect(statuses.filter((status) => status === 201)).toHaveLength(1);
      expect(statuses.filter((status) => status === 200)).toHaveLength(49);
      expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
      const rows = await sql('SELECT count(*)::int AS n FROM patient WHERE phone = $1', [phone]);
      expect(rows).toEqual([{ n: 1 }]);
      const winner = answers.find((answer) => answer.status === 201)!.body;
      expect((await call('GET', `/v1/patients/${winner.id}`)).body).toEqual(winner);
      const events = await sql("SELECT 1 FROM outbox_event WHERE type = 'patient.created' AND subject_id = $1", [
        winner.id,
      ]);
      expect(events).toHaveLength(1);
    });

    it('fifty bookings at once for an unknown phone make one', async () => {
      const phone = newPhone();
      const service = await make.service([practitioner.id], { durationMinutes: 5 });
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          make.book({
            serviceId: service.id,
            startsAt: new Date(Date.parse(inDays(12)) + index * 300_000).toISOString(),
            patient: { phone },
          }),
        ),
      );
      expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 201));
      expect(new Set(answers.map((answer) => answer.body.patientId)).size).toBe(1);
    });

    it('callers nobody asked for a name get the default location and a note', async () => {
      const made = await post({ phone: newPhone(), source: 'phone_anonymous' });
      expect(made.body).toMatchObject({
        source: 'phone_anonymous',
        name: null,
        locationId: clinic.locations[0]!.id,
        notes: expect.stringMatching(/\S/),
      });
      const branch = clinic.locations[1]!.id;
      const told = await post({ phone: newPhone(), source: 'phone_anonymous', locationId: branch, notes: 'Told' });
      expect(told.body).toMatchObject({ locationId: branch, notes: 'Told' });
      const plain = await post({ phone: newPhone() });
      expect(plain.body).toMatchObject({ locationId: null, notes: null });
      const service = await make.service([practitioner.id]);
      const booked = await make.book({
        serviceId: service.id,
        startsAt: inDays(14, '08:00'),
        patient: { phone: newPhone(), source: 'phone_anonymous' },
      });
      const patient = await call('GET', `/v1/patients/${booked.body.patientId}`);
      expect(patient.body).toMatchObject({ source: 'phone_anonymous', locationId: clinic.locations[0]!.id });
    });

    it('the phone of a deleted one is free again', async () => {
      const phone = newPhone();
      const first = await post({ phone, name: 'Old' });
      expect((await call('DELETE', `/v1/patients/${first.body.id}`)).status).toBe(204);
      const second = await post({ phone });
      expect([second.status, second.body.name]).toEqual([201, null]);
      expect(second.body.id).not.toBe(first.body.id);
      expect(idsOf(await call('GET', `/v1/patients?phone=${encodeURIComponent(phone)}`))).toEqual([second.body.id]);
    });

    it('a phone cannot be moved to where another patient has it', async () => {
      const [one, two] = [await make.patient(), await make.patient()];
      const moved = await call('PATCH', `/v1/patients/${one.id}`, { body: { phone: two.phone } });
      expect(problemOf(moved)).toEqual(problem(409, 'already_exists'));
      const free = newPhone();
      const changed = await call('PATCH', `/v1/patients/${one.id}`, {
        body: { phone: `${free.slice(0, 3)} ${free.slice(3)}` },
      });
      expect([changed.status, changed.body.phone]).toEqual([200, free]);
      expect((await post({ phone: one.phone })).status).toBe(201);
    });

    it('null empties a field', async () => {
      const made = await make.patient({ name: 'N', email: 'a@example.com', notes: 'x', locale: 'de' });
      const nulls = { name: null, email: null, notes: null, locale: null, locationId: null };
      const changed = await call('PATCH', `/v1/patients/${made.id}`, { body: nulls });
      expect(changed.body).toMatchObject(nulls);
    });

    it.each([
      [{ status: 'dead' }, '/status'],
      [{ email: 'x' }, '/email'],
      [{ locale: '' }, '/locale'],
      [{ verifiedAt: '2027-01-01T00:00:00Z' }, '/verifiedAt'],
      [{ id: '01890000-0000-7000-8000-000000000000' }, '/id'],
      [{ version: 7 }, '/version'],
    ])('%j is refused', async (fields, pointer) => {
      expect(problemOf(await post({ phone: newPhone(), ...fields }))).toEqual(
        problem(400, 'validation_failed', pointer),
      );
      const made = await make.patient();
      const changed = await call('PATCH', `/v1/patients/${made.id}`, { body: fields });
      expect(problemOf(changed)).toEqual(problem(400, 'validation_failed', pointer));
    });
  });

  describe('services', () => {
    const post = (fields: object) =>
      call('POST', '/v1/services', {
        body: { name: 'S', durationMinutes: 30, practitionerIds: [practitioner.id], ...fields },
      });

    it.each<[string, object, string]>([
      ['neither practitioners nor segments', { practitionerIds: undefined }, '/practitionerIds'],
      ['no practitioners', { practitionerIds: [] }, '/practitionerIds'],
      ['no duration', { durationMinutes: undefined }, '/durationMinutes'],
      ['payment without a price', { paymentRequired: true }, '/price'],
      ['notice as long as the window', { minNoticeMinutes: 1440, maxDaysAhead: 1 }, '/minNoticeMinutes'],
      ['no modes', { modes: [] }, '/modes'],
      ['a mode twice', { modes: ['video', 'video'] }, '/modes'],
      ['a mode that is no word', { modes: ['By Phone!'] }, '/modes'],
      ['capacity 0', { capacity: 0 }, '/capacity'],
      ['an interval of 0', { slotIntervalMinutes: 0 }, '/slotIntervalMinutes'],
      ['a negative buffer', { bufferBeforeMinutes: -5 }, '/bufferBeforeMinutes'],
      ['an endless buffer', { bufferAfterMinutes: 721 }, '/bufferAfterMinutes'],
      ['a window of no days', { maxDaysAhead: 0 }, '/maxDaysAhead'],
      ['a window of 4 years', { maxDaysAhead: 1461 }, '/maxDaysAhead'],
      ['no time to pay', { holdMinutes: 0 }, '/holdMinutes'],
      ['a flag that is none', { requiresConfirmation: 'yes' }, '/requiresConfirmation'],
      [
        'a segment without anybody',
        { practitionerIds: undefined, durationMinutes: undefined, segments: [{ name: 'a', durationMinutes: 5 }] },
        '/segments/0',
      ],
    ])('with %s are refused', async (_, fields, pointer) => {
      expect(problemOf(await post(fields))).toEqual(problem(400, 'validation_failed', pointer));
    });

    it('have practitioners or segments, never both; a segment has a practitioner or a room', async () => {
      const room = await make.room();
      const segment = { name: 'a', durationMinutes: 30, practitionerIds: [practitioner.id] };
      expect(problemOf(await post({ segments: [segment] }))).toEqual(problem(400, 'validation_failed', '/segments'));
      const both = { ...segment, roomIds: [room.id] };
      expect(problemOf(await post({ practitionerIds: undefined, segments: [both] }))).toEqual(
        problem(400, 'validation_failed', '/segments/0'),
      );
      const wrong = await post({ practitionerIds: undefined, segments: [segment, segment] });
      expect(problemOf(wrong)).toEqual(problem(400, 'validation_failed', '/durationMinutes'));
    });

    it('of several segments last as long as these, with the gaps between them', async () => {
      const room = await make.room();
      const made = await post({
        practitionerIds: undefined,
        durationMinutes: undefined,
        segments: [
          { name: 'Scan', durationMinutes: 20, gapAfterMinutes: 15, roomIds: [room.id] },
          { name: 'Talk', durationMinutes: 25, gapAfterMinutes: 99, practitionerIds: [practitioner.id] },
        ],
      });
      expect([made.status, made.body.durationMinutes, made.body.practitionerIds]).toEqual([201, 60, []]);
      const alone = { maxWaitMinutes: 0, startsWithPrevious: false };
      expect(made.body.segments).toEqual([
        { name: 'Scan', durationMinutes: 20, gapAfterMinutes: 15, ...alone, practitionerIds: [], roomIds: [room.id] },
        {
          name: 'Talk',
          durationMinutes: 25,
          gapAfterMinutes: 99,
          ...alone,
          practitionerIds: [practitioner.id],
          roomIds: [],
        },
      ]);
      expect((await call('GET', `/v1/services/${made.body.id}`)).body).toEqual(made.body);
      const simple = await call('PATCH', `/v1/services/${made.body.id}`, {
        body: { segments: [], practitionerIds: [practitioner.id], durationMinutes: 10 },
      });
      expect([simple.status, simple.body.segments, simple.body.durationMinutes]).toEqual([200, [], 10]);
    });

    it('are held to the same rules when changed', async () => {
      const { body } = await post({ price: { amount: 100, currency: 'EUR' }, paymentRequired: true });
      const patch = (fields: object) => call('PATCH', `/v1/services/${body.id}`, { body: fields });
      for (const [fields, pointer] of [
        [{ price: null }, '/price'],
        [{ practitionerIds: [] }, '/practitionerIds'],
        [{ minNoticeMinutes: 90 * 1440 }, '/minNoticeMinutes'],
        [{ maxDaysAhead: 0 }, '/maxDaysAhead'],
      ] as const) {
        expect([fields, problemOf(await patch(fields))]).toEqual([fields, problem(400, 'validation_failed', pointer)]);
      }
      expect((await call('GET', `/v1/services/${body.id}`)).body).toEqual(body);
      const free = await patch({ paymentRequired: false, price: null, slotIntervalMinutes: 5 });
      expect(free.body).toMatchObject({ paymentRequired: false, price: null, slotIntervalMinutes: 5 });
      expect((await patch({ slotIntervalMinutes: null })).body.slotIntervalMinutes).toBeNull();
    });

    it('are changed by one of two editors, and nothing is left of the other', async () => {
      const [one, two, three] = [await make.practitioner(), await make.practitioner(), await make.practitioner()];
      const offeredBy = async (id: string) =>
        (await sql('SELECT practitioner_id AS id FROM service_practitioner WHERE service_id = $1', [id])).map(
          (row) => row.id,
        );
      for (let round = 0; round < 6; round++) {
        const { body } = await post({ practitionerIds: [one.id] });
        const edit = (fields: object) =>
          call('PATCH', `/v1/services/${body.id}`, { body: fields, headers: { 'If-Match': '"1"' } });
        const answers = await Promise.all([
          edit({ practitionerIds: [two.id, three.id], name: 'Two' }),
          edit({ practitionerIds: [three.id], name: 'Three' }),
        ]);
        expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([200, 412]);
        const winner = answers.find((answer) => answer.status === 200)!.body;
        const read = await call('GET', `/v1/services/${body.id}`);
        expect([read.headers.get('etag'), read.body]).toEqual(['"2"', winner]);
        expect(new Set(await offeredBy(body.id))).toEqual(new Set(winner.practitionerIds));
        const before = await contentsOf(sql);
        const stale = await edit({ practitionerIds: [one.id], segments: [], durationMinutes: 5, name: 'Late' });
        expect(problemOf(stale)).toEqual(problem(412, 'version_stale'));
        expect(await contentsOf(sql)).toEqual(before);
      }
    });

    it('tell who edits an old version that first, whatever his change would make of the new one', async () => {
      const { body } = await post({});
      const segments = [{ name: 'Talk', durationMinutes: 30, practitionerIds: [practitioner.id] }];
      const path = `/v1/services/${body.id}`;
      const headers = { 'If-Match': '"1"' };
      const parted = await call('PATCH', path, { body: { practitionerIds: [], segments }, headers });
      expect(parted.status).toBe(200);
      const late = await call('PATCH', path, { body: { practitionerIds: [practitioner.id] }, headers });
      expect(problemOf(late)).toEqual(problem(412, 'version_stale'));
    });

    it('a change of who offers them is seen at once', async () => {
      const [one, two] = [await make.practitioner(), await make.practitioner()];
      const { body } = await post({ practitionerIds: [one.id] });
      const offering = async () => {
        const slots = await call('GET', `/v1/slots?serviceId=${body.id}&from=${inDays(10)}&to=${inDays(11)}`);
        return [...new Set(slots.body.data.map((slot: { practitionerId: string }) => slot.practitionerId))];
      };
      expect(await offering()).toEqual([one.id]);
      await call('PATCH', `/v1/services/${body.id}`, { body: { practitionerIds: [two.id] } });
      expect(await offering()).toEqual([two.id]);
    });
  });
});
