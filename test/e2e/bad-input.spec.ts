import {
  ALWAYS,
  contentsOf,
  inDays,
  maker,
  newPhone,
  openSql,
  problem,
  problemOf,
  sendRaw,
  type Sql,
} from '../support/api';
import {
  addOrganization,
  type Answer,
  type Caller,
  type Clinic,
  seedClinic,
  startApp,
  type TestApp,
} from '../support/app';

const NUL = '\u0000';
const NOWHERE = '01890000-0000-7000-8000-000000000000';

describe('bad input is refused with a problem, and nothing is written', () => {
  let app: TestApp;
  let clinic: Clinic;
  let call: Caller;
  let other: Caller;
  let sql: Sql;
  /** What paths and bodies of the cases refer to. */
  let ids: Record<
    | 'service'
    | 'practitioner'
    | 'schedule'
    | 'room'
    | 'location'
    | 'patient'
    | 'appointment'
    | 'spare'
    | 'exception'
    | 'composite'
    | 'published'
    | 'foreignRoom'
    | 'foreignService'
    | 'foreignPractitioner'
    | 'foreignPatient'
    | 'foreignLocation',
    string
  >;
  let before: Record<string, string>;

  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    call = clinic.call;
    sql = await openSql(app);
    const make = maker(call);
    const practitioner = await make.practitioner();
    const service = await make.service([practitioner.id], { modes: ['in_person', 'video'] });
    const patient = await make.patient({ name: 'A. Example' });
    const booked = await make.book({ serviceId: service.id, startsAt: inDays(9, '08:00') });
    const spare = await make.book({ serviceId: service.id, startsAt: inDays(9, '12:00') });
    const exception = await make.exception(practitioner.scheduleId, {
      startsAt: inDays(40, '08:00'),
      endsAt: inDays(40, '09:00'),
      kind: 'closed',
    });
    const segments = ['one', 'two'].map((name) => ({ name, durationMinutes: 10, practitionerIds: [practitioner.id] }));
    const composite = await call('POST', '/v1/services', { body: { name: 'Visit', segments } });
    const published = await call('POST', `/v1/schedules/${practitioner.scheduleId}/published-slots`, {
      body: { startsAt: inDays(41, '08:00'), endsAt: inDays(41, '09:00') },
      headers: { 'If-Match': '*' },
    });
    other = app.as((await addOrganization(app)).apiKey);
    const foreign = maker(other);
    const foreignPractitioner = await foreign.practitioner();
    ids = {
      service: service.id,
      practitioner: practitioner.id,
      schedule: practitioner.scheduleId,
      room: (await make.room()).id,
      location: (await make.location()).id,
      patient: patient.id,
      appointment: booked.body.id,
      spare: spare.body.id,
      exception: exception.body.id,
      composite: composite.body.id,
      published: published.body.id,
      foreignRoom: (await foreign.room()).id,
      foreignService: (await foreign.service([foreignPractitioner.id])).id,
      foreignPractitioner: foreignPractitioner.id,
      foreignPatient: (await foreign.patient()).id,
      foreignLocation: (await foreign.location()).id,
    };
    before = await contentsOf(sql);
  });
  afterEach(async () => {
    const after = await contentsOf(sql);
    const changed = Object.keys(after).filter((table) => after[table] !== before[table]);
    before = after;
    expect(changed).toEqual([]);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const booking = (fields: object = {}): object => ({
    serviceId: ids.service,
    practitionerId: ids.practitioner,
    startsAt: inDays(8, '10:00'),
    patient: { phone: '+4915199999999', name: 'B. Example' },
    ...fields,
  });
  const book = (fields: object) => call('POST', '/v1/appointments', { body: booking(fields) });
  const invalid = (...pointers: string[]) => problem(400, 'validation_failed', ...pointers);

  /** Every way to write, with a body that would be taken. */
  const writes = (): Array<{ name: string; method: string; path: string; body: object }> => [
    { name: 'POST appointments', method: 'POST', path: '/v1/appointments', body: booking() },
    { name: 'POST locations', method: 'POST', path: '/v1/locations', body: { name: 'X', timeZone: 'Europe/Berlin' } },
    { name: 'POST practitioners', method: 'POST', path: '/v1/practitioners', body: { name: 'X' } },
    { name: 'POST rooms', method: 'POST', path: '/v1/rooms', body: { name: 'X' } },
    {
      name: 'POST services',
      method: 'POST',
      path: '/v1/services',
      body: { name: 'X', durationMinutes: 30, practitionerIds: [ids.practitioner] },
    },
    { name: 'POST patients', method: 'POST', path: '/v1/patients', body: { phone: '+4915188888888' } },
    { name: 'POST api-keys', method: 'POST', path: '/v1/api-keys', body: { name: 'X' } },
    {
      name: 'POST exceptions',
      method: 'POST',
      path: `/v1/schedules/${ids.schedule}/exceptions`,
      body: { startsAt: inDays(50), endsAt: inDays(51), kind: 'closed' },
    },
    {
      name: 'POST published-slots',
      method: 'POST',
      path: `/v1/schedules/${ids.schedule}/published-slots`,
      body: { startsAt: inDays(50), endsAt: inDays(50, '01:00') },
    },
    {
      name: 'PUT hours',
      method: 'PUT',
      path: `/v1/schedules/${ids.schedule}/hours`,
      body: { timeZone: 'Europe/Berlin', hours: ALWAYS },
    },
    { name: 'PATCH organization', method: 'PATCH', path: '/v1/organization', body: { name: 'X' } },
    { name: 'PATCH locations', method: 'PATCH', path: `/v1/locations/${ids.location}`, body: { name: 'X' } },
    {
      name: 'PATCH practitioners',
      method: 'PATCH',
      path: `/v1/practitioners/${ids.practitioner}`,
      body: { name: 'X' },
    },
    { name: 'PATCH rooms', method: 'PATCH', path: `/v1/rooms/${ids.room}`, body: { name: 'X' } },
    { name: 'PATCH services', method: 'PATCH', path: `/v1/services/${ids.service}`, body: { name: 'X' } },
    { name: 'PATCH patients', method: 'PATCH', path: `/v1/patients/${ids.patient}`, body: { name: 'X' } },
    ...['confirm', 'cancel', 'reschedule', 'check-in', 'complete', 'no-show'].map((action) => ({
      name: `POST ${action}`,
      method: 'POST',
      path: `/v1/appointments/${ids.spare}/${action}`,
      body: { reason: 'X', ...(action === 'reschedule' && { startsAt: inDays(8, '15:00') }) },
    })),
  ];
  const onEveryWrite = async (send: (write: ReturnType<typeof writes>[number]) => Promise<Answer>) =>
    Object.fromEntries(
      await Promise.all(writes().map(async (write) => [write.name, problemOf(await send(write))] as const)),
    );
  const allOf = (expected: object) => Object.fromEntries(writes().map(({ name }) => [name, expected]));
  const withRules = (headers: Record<string, string> = {}) => ({ 'If-Match': '*', ...headers });

  describe('bodies that are no object', () => {
    it.each([
      ['malformed JSON', '{"name": "X",'],
      ['no JSON at all', 'name=X'],
      ['two documents', '{"name":"X"}{"name":"Y"}'],
      ['an empty body', ''],
      ['null', 'null'],
      ['an empty array', '[]'],
      ['an array of objects', '[{"name":"X","phone":"+4915177777777"}]'],
      ['a text', '"name"'],
      ['an empty text', '""'],
      ['a number', '1'],
      ['zero', '0'],
      ['true', 'true'],
      ['false', 'false'],
      ['__proto__ in it', '{"name":"X","__proto__":{"polluted":true}}'],
      ['a constructor with a prototype in it', '{"name":"X","constructor":{"prototype":{"polluted":true}}}'],
    ])('%s', async (_, raw) => {
      const answers = await onEveryWrite(({ method, path }) => call(method, path, { raw, headers: withRules() }));
      expect(answers).toEqual(allOf(invalid()));
      expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    });

    it('an unknown field', async () => {
      const answers = await onEveryWrite(({ method, path, body }) =>
        call(method, path, { body: { ...body, surprise: 1 }, headers: withRules() }),
      );
      expect(answers).toEqual(allOf(invalid('/surprise')));
    });

    it.each(['constructor', 'toString', 'hasOwnProperty', '__defineGetter__', 'valueOf', 'then', 'a/b~c'])(
      'a field called %s',
      async (name) => {
        const answers = await onEveryWrite(({ method, path, body }) =>
          call(method, path, { body: { ...body, [name]: 'X' }, headers: withRules() }),
        );
        expect(answers).toEqual(allOf(invalid()));
      },
    );
  });

  describe('nested unknown fields', () => {
    it.each<[string, () => Promise<Answer>, string]>([
      ['of the patient', () => book({ patient: { phone: '+4915112345678', age: 5 } }), '/patient/age'],
      ['__proto__ of the patient', () => call('POST', '/v1/appointments', { raw: '{"patient":{"__proto__":{}}}' }), ''],
      [
        'of an hour',
        () =>
          call('PUT', `/v1/schedules/${ids.schedule}/hours`, {
            body: { timeZone: 'Europe/Berlin', hours: [{ weekday: 1, start: '09:00', end: '10:00', note: 'x' }] },
            headers: withRules(),
          }),
        '/hours/0/note',
      ],
      [
        'of a segment',
        () =>
          call('POST', '/v1/services', {
            body: {
              name: 'X',
              segments: [{ name: 'a', durationMinutes: 5, practitionerIds: [ids.practitioner], x: 1 }],
            },
          }),
        '/segments/0/x',
      ],
      ['of a segment of a visit', () => book({ segments: [{ startsAt: inDays(8), x: 1 }] }), '/segments/0/x'],
      [
        'of a segment of a visit that is moved',
        () =>
          call('POST', `/v1/appointments/${ids.spare}/reschedule`, {
            body: { startsAt: inDays(8), segments: [{ startsAt: inDays(8), scheduleId: ids.schedule }] },
          }),
        '/segments/0/scheduleId',
      ],
      [
        'of a price',
        () =>
          call('POST', '/v1/services', {
            body: {
              name: 'X',
              durationMinutes: 5,
              practitionerIds: [ids.practitioner],
              price: { amount: 1, currency: 'EUR', tax: 2 },
            },
          }),
        '/price/tax',
      ],
    ])('%s', async (_, send, pointer) => {
      expect(problemOf(await send())).toEqual(invalid(pointer));
    });
  });

  describe('wrong types in a booking', () => {
    const anything = [1, 1.5, true, [], {}, ['x'], ''];
    const table: Array<[string, unknown[]]> = [
      ['/serviceId', [...anything, null, 'x', '0189-not-a-uuid', `${NOWHERE}0`]],
      ['/startsAt', [...anything, null, 'tomorrow']],
      ['/practitionerId', [...anything, 'x', [NOWHERE]]],
      ['/patientId', [...anything, 'x']],
      ['/patient', [1, true, 'x', '', [], [{ phone: '+4915112345678' }], null]],
      ['/patient/phone', [...anything, null, 4915112345678]],
      ['/patient/name', [...anything, '   ', 'x'.repeat(201)]],
      ['/patient/email', [...anything, 'x', 'a@', '@b.example', 'a b@c.example', `${'x'.repeat(250)}@c.example`]],
      ['/patient/locationId', [...anything, 'x']],
      ['/patient/locale', [...anything, 'x'.repeat(36)]],
      ['/patient/source', [...anything, 'x'.repeat(51)]],
      ['/attendeeName', [...anything, 'x'.repeat(201)]],
      ['/mode', [...anything, 'by_owl', 'x'.repeat(41)]],
      ['/notes', [1, 1.5, true, [], {}, ['x'], 'x'.repeat(5001)]],
      ['/metadata', [1, true, [], ['x'], '', 'x', { text: 'x'.repeat(16_400) }]],
      [
        '/hold',
        [
          null,
          0,
          1,
          60,
          'x',
          'true',
          '',
          [],
          [true],
          [{ seconds: 60 }],
          {},
          { seconds: 4 },
          { seconds: 3601 },
          { seconds: 5.5 },
          { seconds: '60' },
          { seconds: null },
          { seconds: -60 },
          { seconds: 1e9 },
          { seconds: 10, x: 1 },
          { minutes: 1 },
        ],
      ],
      ['/segments', [1, true, 'x', '', {}, [], [1], [null], [[]], Array(21).fill({ startsAt: inDays(8, '10:00') })]],
      ['/status', ['confirmed']],
    ];
    it.each(table)('%s', async (pointer, values) => {
      const [, outer, inner] = pointer.split('/') as [string, string, string?];
      const bodyWith = (value: unknown) => ({
        ...(outer === 'patientId' ? { patient: undefined } : {}),
        [outer]: inner === undefined ? value : { phone: '+4915112345678', [inner]: value },
      });
      const answers = await Promise.all(values.map(async (value) => [value, problemOf(await book(bodyWith(value)))]));
      expect(answers).toEqual(values.map((value) => [value, invalid(pointer)]));
    });

    it.each<[string, object]>([
      ['/segments/0/startsAt', { startsAt: 'now' }],
      ['/segments/0/startsAt', {}],
      ['/segments/0/practitionerId', { startsAt: inDays(8, '10:00'), practitionerId: 'x' }],
      ['/segments/0/roomId', { startsAt: inDays(8, '10:00'), roomId: 5 }],
    ])('%s: %j', async (pointer, segment) => {
      const segments = [segment, { startsAt: inDays(8, '10:00'), practitionerId: ids.practitioner }];
      const fields = { serviceId: ids.composite, practitionerId: undefined, segments };
      expect(problemOf(await book(fields))).toEqual(invalid(pointer));
      const path = `/v1/appointments/${ids.spare}/reschedule`;
      const moved = await call('POST', path, { body: { startsAt: inDays(8, '10:00'), segments } });
      expect(problemOf(moved)).toEqual(invalid(pointer));
    });

    it('tells all mistakes at once', async () => {
      const answer = await book({ serviceId: 1, startsAt: 2, patient: { phone: 3, name: 4 } });
      expect(problemOf(answer)).toEqual(invalid('/serviceId', '/startsAt', '/patient/phone', '/patient/name'));
      expect(answer.body).toMatchObject({
        type: expect.any(String),
        title: expect.any(String),
        status: 400,
        detail: expect.any(String),
        instance: '/v1/appointments',
      });
    });

    it.each(['serviceId', 'startsAt'])('%s left out', async (name) => {
      expect(problemOf(await book({ [name]: undefined }))).toEqual(invalid(`/${name}`));
    });

    it('neither patient nor patientId, or both', async () => {
      expect(problemOf(await book({ patient: undefined }))).toEqual(invalid());
      expect(problemOf(await book({ patientId: ids.patient }))).toEqual(invalid());
    });
  });

  describe('times', () => {
    it.each([
      '2026-02-30T09:00:00Z',
      '2027-02-29T09:00:00Z',
      '2027-13-01T09:00:00Z',
      '2027-00-10T09:00:00Z',
      '2027-01-00T09:00:00Z',
      '2027-01-05T24:00:00Z',
      '2027-01-05T23:59:60Z',
      '2016-12-31T23:59:60Z',
      '2027-01-05T09:60:00Z',
      '2027-01-05T09:00:00',
      '2027-01-05T09:00:00+25:00',
      '2027-01-05T09:00:00+01:99',
      '2027-01-05T09:00:00+0100',
      '2027-01-05T09:00:00 Europe/Berlin',
      '2027-01-05T09:00Z',
      '2027-01-05 09:00:00Z',
      '2027-01-05',
      '20270105T090000Z',
      '2027-W01-2T09:00:00Z',
      '0000-01-01T00:00:00Z',
      '-2027-01-05T09:00:00Z',
      '+12027-01-05T09:00:00Z',
      '12027-01-05T09:00:00Z',
      '27-01-05T09:00:00Z',
      ' 2027-01-05T09:00:00Z',
      '2027-01-05T09:00:00Z ',
      '२०२७-०१-०५T०९:००:००Z',
      'now',
      '1798880400',
    ])('%j is no instant', async (text) => {
      const exceptions = `/v1/schedules/${ids.schedule}/exceptions`;
      const answers = [
        await book({ startsAt: text }),
        await call('POST', exceptions, {
          body: { startsAt: text, endsAt: text, kind: 'closed' },
          headers: withRules(),
        }),
        await call('GET', `/v1/slots?serviceId=${ids.service}&to=${inDays(9)}&from=${encodeURIComponent(text)}`),
        await call('GET', `/v1/appointments?to=${encodeURIComponent(text)}`),
      ];
      expect(answers.map(problemOf)).toEqual([
        invalid('/startsAt'),
        invalid('/startsAt', '/endsAt'),
        invalid(),
        invalid(),
      ]);
    });

    it('a number is no instant', async () => {
      expect(problemOf(await book({ startsAt: Date.now() + 86_400_000 }))).toEqual(invalid('/startsAt'));
    });

    it('the first and the last year are read, and refused by the rules', async () => {
      expect(problemOf(await book({ startsAt: '0001-01-01T00:00:00Z' }))).toEqual(problem(422, 'in_the_past'));
      expect(problemOf(await book({ startsAt: '1969-12-31T23:59:59Z' }))).toEqual(problem(422, 'in_the_past'));
      expect(problemOf(await book({ startsAt: '9999-12-31T23:00:00Z' }))).toEqual(problem(422, 'too_far_ahead'));
    });

    it('searches in the first and the last year find nothing', async () => {
      for (const [from, to] of [
        ['0001-01-01T00:00:00Z', '0001-01-02T00:00:00Z'],
        ['9999-12-30T00:00:00Z', '9999-12-31T23:59:59Z'],
      ] as const) {
        const slots = await call('GET', `/v1/slots?serviceId=${ids.service}&from=${from}&to=${to}`);
        expect([slots.status, slots.body.data]).toEqual([200, []]);
        const list = await call('GET', `/v1/appointments?from=${from}&to=${to}`);
        expect([list.status, list.body.data]).toEqual([200, []]);
      }
    });

    it('an end that is not after its start', async () => {
      const at = inDays(30, '10:00');
      const exceptions = `/v1/schedules/${ids.schedule}/exceptions`;
      for (const endsAt of [at, inDays(30, '09:59'), inDays(29, '12:00')]) {
        const body = { startsAt: at, endsAt, kind: 'closed' };
        expect(problemOf(await call('POST', exceptions, { body, headers: withRules() }))).toEqual(invalid('/endsAt'));
        const path = `/v1/slots?serviceId=${ids.service}&from=${at}&to=${endsAt}`;
        expect(problemOf(await call('GET', path))).toEqual(invalid('to'));
      }
    });

    it('a published slot that ends before it starts, or lasts for days', async () => {
      const published = `/v1/schedules/${ids.schedule}/published-slots`;
      for (const endsAt of [inDays(30, '10:00'), inDays(29, '12:00'), inDays(31, '10:01')]) {
        const body = { startsAt: inDays(30, '10:00'), endsAt };
        expect(problemOf(await call('POST', published, { body, headers: withRules() }))).toEqual(invalid('/endsAt'));
      }
    });

    it('a range of years', async () => {
      const body = { startsAt: '1970-01-01T00:00:00Z', endsAt: '9999-12-31T00:00:00Z', kind: 'open' };
      const exceptions = `/v1/schedules/${ids.schedule}/exceptions`;
      expect(problemOf(await call('POST', exceptions, { body, headers: withRules() }))).toEqual(invalid());
      const slots = `/v1/slots?serviceId=${ids.service}&from=2027-01-01T00:00:00Z&to=2037-01-01T00:00:00Z`;
      expect(problemOf(await call('GET', slots))).toEqual(invalid('to'));
    });

    it.each([
      [{ weekday: 0, start: '09:00', end: '10:00' }, 'weekday'],
      [{ weekday: 8, start: '09:00', end: '10:00' }, 'weekday'],
      [{ weekday: 1.5, start: '09:00', end: '10:00' }, 'weekday'],
      [{ weekday: '1', start: '09:00', end: '10:00' }, 'weekday'],
      [{ weekday: 1, start: '9:00', end: '10:00' }, 'start'],
      [{ weekday: 1, start: '24:00', end: '24:00' }, 'start'],
      [{ weekday: 1, start: '09:00:00', end: '10:00' }, 'start'],
      [{ weekday: 1, start: 540, end: '10:00' }, 'start'],
      [{ weekday: 1, start: '09:00', end: '24:01' }, 'end'],
      [{ weekday: 1, start: '09:00', end: '25:00' }, 'end'],
      [{ weekday: 1, start: '09:00', end: '09:00' }, 'end'],
      [{ weekday: 1, start: '22:00', end: '06:00' }, 'end'],
      [{ weekday: 1, start: '09:00', end: '10:00', validFrom: '2026-02-30' }, 'validFrom'],
      [{ weekday: 1, start: '09:00', end: '10:00', validFrom: '2026-01-01T00:00:00Z' }, 'validFrom'],
      [{ weekday: 1, start: '09:00', end: '10:00', validFrom: 20260101 }, 'validFrom'],
      [{ weekday: 1, start: '09:00', end: '10:00', validFrom: '2027-01-02', validUntil: '2027-01-01' }, 'validUntil'],
      [{ weekday: 1, start: '09:00', end: '10:00', locationId: 'x' }, 'locationId'],
    ])('hours %j', async (hours, field) => {
      const path = `/v1/schedules/${ids.schedule}/hours`;
      const answer = await call('PUT', path, {
        body: { timeZone: 'Europe/Berlin', hours: [hours] },
        headers: withRules(),
      });
      expect(problemOf(answer)).toEqual(invalid(`/hours/0/${field}`));
    });

    it('hours that contradict each other', async () => {
      const hours = [
        { weekday: 1, start: '09:00', end: '12:00' },
        { weekday: 1, start: '11:59', end: '13:00' },
      ];
      const path = `/v1/schedules/${ids.schedule}/hours`;
      const answer = await call('PUT', path, { body: { timeZone: 'Europe/Berlin', hours }, headers: withRules() });
      expect(problemOf(answer)).toEqual(invalid('/hours/1'));
    });

    it.each(['Mars/Olympus', 'Berlin', '', '+01:00', 'UTC+1', 'Europe/Berlin ', 'europe\\berlin', 'Z', 5, null])(
      '%j is no zone',
      async (timeZone) => {
        const answers = [
          await call('POST', '/v1/locations', { body: { name: 'X', timeZone } }),
          await call('PATCH', '/v1/organization', { body: { timeZone } }),
          await call('POST', '/v1/practitioners', { body: { name: 'X', timeZone } }),
          await call('PUT', `/v1/schedules/${ids.schedule}/hours`, {
            body: { timeZone, hours: [] },
            headers: withRules(),
          }),
        ];
        expect(answers.map(problemOf)).toEqual(answers.map(() => invalid('/timeZone')));
      },
    );

    it.each([0, -30, 1.5, '30', 1441, 1e9, null, true, [30]])('a duration of %j minutes', async (durationMinutes) => {
      const body = { name: 'X', durationMinutes, practitionerIds: [ids.practitioner] };
      expect(problemOf(await call('POST', '/v1/services', { body }))).toEqual(invalid('/durationMinutes'));
      const path = `/v1/services/${ids.service}`;
      expect(problemOf(await call('PATCH', path, { body: { durationMinutes } }))).toEqual(invalid('/durationMinutes'));
    });
  });

  it.each([
    'abc',
    '',
    '+',
    '+49',
    '015112345678',
    '004915112345678',
    '4915112345678',
    '+49 151',
    '+999123456789',
    '+0015112345678',
    '++4915112345678',
    '＋4915112345678',
    '+49151١٢٣٤٥٦٧٨',
    '+49151123456781234567890',
    '+491511234567890123',
    '+4915112345678901',
    'tel:+4915112345678',
    '+4915112345678;ext=5',
    '+4915112345678 x5',
    '+49151FLOWERS',
    "+49'; DROP TABLE patient; --",
    `+49151${NUL}12345678`,
  ])('%j is no phone', async (phone) => {
    const answers = [
      await call('POST', '/v1/patients', { body: { phone } }),
      await call('PATCH', `/v1/patients/${ids.patient}`, { body: { phone } }),
      await book({ patient: { phone } }),
    ];
    expect(answers.map(problemOf)).toEqual([invalid('/phone'), invalid('/phone'), invalid('/patient/phone')]);
  });

  describe('ids', () => {
    /** A visit whose second part is served by somebody. */
    const visit = (who: object) => {
      const startsAt = inDays(8, '10:00');
      const segments = [
        { startsAt, practitionerId: ids.practitioner },
        { startsAt: inDays(8, '10:10'), ...who },
      ];
      return book({ serviceId: ids.composite, practitionerId: undefined, segments });
    };

    it('of the wrong kind are not found', async () => {
      const answers = {
        patientAsService: await book({ serviceId: ids.patient }),
        serviceAsPractitioner: await book({ practitionerId: ids.service }),
        roomAsPractitioner: await book({ practitionerId: ids.room }),
        practitionerAsPatient: await book({ patient: undefined, patientId: ids.practitioner }),
        scheduleAsPractitioner: await book({ practitionerId: ids.schedule }),
        patientAsLocation: await book({ patient: { phone: '+4915177777777', locationId: ids.patient } }),
        patientAsServiceInSearch: await call(
          'GET',
          `/v1/slots?serviceId=${ids.patient}&from=${inDays(1)}&to=${inDays(2)}`,
        ),
        practitionerAsSchedule: await call('GET', `/v1/schedules/${ids.practitioner}`),
        appointmentAsPatient: await call('GET', `/v1/patients/${ids.appointment}`),
        patientAsAppointment: await call('POST', `/v1/appointments/${ids.patient}/cancel`, { body: {} }),
        roomAsPractitionerOfSegment: await visit({ practitionerId: ids.room }),
        practitionerAsRoomOfSegment: await visit({ roomId: ids.practitioner }),
        exceptionAsPublished: await call('GET', `/v1/schedules/${ids.schedule}/published-slots/${ids.exception}`),
        publishedAsException: await call('GET', `/v1/schedules/${ids.schedule}/exceptions/${ids.published}`),
        roomAsOffering: await call('POST', '/v1/services', {
          body: { name: 'X', durationMinutes: 5, practitionerIds: [ids.room] },
        }),
        serviceAsDefaultLocation: await call('PATCH', '/v1/organization', { body: { defaultLocationId: ids.service } }),
      };
      expect(Object.fromEntries(Object.entries(answers).map(([name, answer]) => [name, problemOf(answer)]))).toEqual(
        Object.fromEntries(Object.keys(answers).map((name) => [name, problem(404, 'not_found')])),
      );
    });

    it('of another organization, and of nothing, are not found', async () => {
      const answers = [
        await book({ serviceId: ids.foreignService, practitionerId: undefined }),
        await book({ practitionerId: ids.foreignPractitioner }),
        await book({ patient: undefined, patientId: ids.foreignPatient }),
        await book({ patient: { phone: '+4915177777777', locationId: ids.foreignLocation } }),
        await visit({ practitionerId: ids.foreignPractitioner }),
        await visit({ roomId: ids.foreignRoom }),
        await visit({ practitionerId: NOWHERE }),
        await book({ serviceId: NOWHERE }),
        await book({ practitionerId: NOWHERE }),
        await book({ patient: undefined, patientId: NOWHERE }),
        await call('POST', '/v1/patients', { body: { phone: '+4915177777777', locationId: ids.foreignLocation } }),
        await call('PATCH', `/v1/patients/${ids.patient}`, { body: { locationId: ids.foreignLocation } }),
        await call('POST', '/v1/practitioners', { body: { name: 'X', locationId: ids.foreignLocation } }),
        await call('PATCH', '/v1/organization', { body: { defaultLocationId: ids.foreignLocation } }),
        await call('PATCH', `/v1/services/${ids.service}`, { body: { practitionerIds: [ids.foreignPractitioner] } }),
        await call('PUT', `/v1/schedules/${ids.schedule}/hours`, {
          body: {
            timeZone: 'Europe/Berlin',
            hours: [{ weekday: 1, start: '09:00', end: '10:00', locationId: ids.foreignLocation }],
          },
          headers: withRules(),
        }),
      ];
      expect(answers.map(problemOf)).toEqual(answers.map(() => problem(404, 'not_found')));
    });

    it('an unknown id outweighs a time that the rules refuse', async () => {
      const startsAt = inDays(-3, '10:00');
      const patient = { phone: '+4915177777777', locationId: NOWHERE };
      const answers = [
        await book({ startsAt, serviceId: NOWHERE }),
        await book({ startsAt, practitionerId: NOWHERE }),
        await book({ startsAt, patient: undefined, patientId: NOWHERE }),
        await book({ startsAt, patient }),
        await book({ startsAt: inDays(9, '08:00'), patient }),
      ];
      expect(answers.map(problemOf)).toEqual(answers.map(() => problem(404, 'not_found')));
    });

    it('of a practitioner who does not offer the service', async () => {
      const answer = await book({ practitionerId: clinic.practitioners[0]!.id });
      expect(problemOf(answer)).toEqual(problem(422, 'practitioner_not_eligible'));
    });

    it.each(['x', '1', 'null', 'undefined', '%00', '..', `${NOWHERE}0`, "1'--", '%F0%9F%92%A5', 'g'.repeat(36)])(
      'the path /%s is answered with a problem',
      async (id) => {
        for (const list of [
          'locations',
          'practitioners',
          'rooms',
          'services',
          'patients',
          'schedules',
          'appointments',
        ]) {
          const answer = await call('GET', `/v1/${list}/${id}`);
          expect([400, 404]).toContain(answer.status);
          expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
        }
      },
    );

    it('a path that cannot be decoded is answered with a problem', async () => {
      const answer = await sendRaw(`${app.url}/v1/patients/%E0%A4%A`, {
        method: 'GET',
        headers: { Authorization: `Bearer ${clinic.apiKey}` },
      });
      expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      expect([400, 404]).toContain(answer.status);
    });

    it('a list that names one id twice, in capitals the second time', async () => {
      const body = {
        name: 'X',
        durationMinutes: 5,
        practitionerIds: [ids.practitioner, ids.practitioner.toUpperCase()],
      };
      expect(problemOf(await call('POST', '/v1/services', { body }))).toEqual(invalid());
    });
  });

  describe('cursors', () => {
    let cursor: string;
    beforeAll(async () => {
      cursor = (await call('GET', '/v1/practitioners?limit=2')).body.nextCursor;
    });
    const refused = async (path: string, caller: Caller = call) => problemOf(await caller('GET', path));

    it('with one character flipped', async () => {
      for (let index = 0; index < cursor.length; index++) {
        const flipped = `${cursor.slice(0, index)}${cursor[index] === 'A' ? 'B' : 'A'}${cursor.slice(index + 1)}`;
        expect(await refused(`/v1/practitioners?limit=2&cursor=${flipped}`)).toEqual(invalid('cursor'));
      }
    });
    it('of another list', async () => {
      for (const list of ['rooms', 'locations', 'services', 'patients', 'appointments', 'api-keys']) {
        expect(await refused(`/v1/${list}?cursor=${cursor}`)).toEqual(invalid('cursor'));
      }
      expect(await refused(`/v1/schedules/${ids.schedule}/exceptions?cursor=${cursor}`)).toEqual(invalid('cursor'));
      expect(await refused(`/v1/appointments/${ids.appointment}/history?cursor=${cursor}`)).toEqual(invalid('cursor'));
    });
    it('of another organization', async () => {
      expect(await refused(`/v1/practitioners?cursor=${cursor}`, other)).toEqual(invalid('cursor'));
    });
    it.each(['', 'x', 'null', '%00', '====', 'W10', 'eyJpZCI6MX0', 'A'.repeat(999), 'A'.repeat(5000)])(
      '%.20s that is none',
      async (text) => {
        expect(await refused(`/v1/practitioners?cursor=${text}`)).toEqual(invalid());
      },
    );
    it('cut short, or with something after it', async () => {
      expect(await refused(`/v1/practitioners?cursor=${cursor.slice(0, -1)}`)).toEqual(invalid('cursor'));
      expect(await refused(`/v1/practitioners?cursor=${cursor}A`)).toEqual(invalid('cursor'));
      expect(await refused(`/v1/practitioners?cursor=${cursor}%3D`)).toEqual(invalid('cursor'));
    });
  });

  describe('text that cannot be stored', () => {
    const storable = (text: string): Array<[string, () => Promise<Answer>]> => [
      ['a name', () => call('POST', '/v1/locations', { body: { name: text, timeZone: 'Europe/Berlin' } })],
      ['a patient', () => call('POST', '/v1/patients', { body: { phone: '+4915177777777', name: text } })],
      [
        'an e-mail',
        () => call('POST', '/v1/patients', { body: { phone: '+4915177777777', email: `${text}@b.example` } }),
      ],
      ['a changed name', () => call('PATCH', `/v1/practitioners/${ids.practitioner}`, { body: { name: text } })],
      ['a reason', () => call('POST', `/v1/appointments/${ids.appointment}/cancel`, { body: { reason: text } })],
      ['a key in metadata', () => book({ metadata: { [text]: 1 } })],
      ['a value in metadata', () => book({ metadata: { a: text } })],
      ['a key nested in metadata', () => book({ metadata: { a: [{ b: { [text]: 1 } }] } })],
      ['a value nested in metadata', () => book({ metadata: { a: [1, { b: [text] }] } })],
      ['attendee and notes', () => book({ attendeeName: text, notes: text })],
      ['the name of an API key', () => call('POST', '/v1/api-keys', { body: { name: text } })],
      ['a mode', () => book({ mode: text })],
    ];
    it.each(['a\u0000b', '\u0000', 'a\ud800b', '\udc00', '\udc00\ud800'])('%j', async (text) => {
      const cases = storable(text);
      const answers = await Promise.all(cases.map(async ([name, send]) => [name, problemOf(await send())]));
      expect(answers).toEqual(cases.map(([name]) => [name, invalid()]));
    });

    it('names the place in metadata', async () => {
      expect(problemOf(await book({ metadata: { a: [1, { b: [NUL] }] } }))).toEqual(invalid('/metadata/a/1/b/0'));
    });

    it('in a query', async () => {
      for (const path of [
        '/v1/patients?cursor=%00',
        '/v1/appointments?status=%00',
        '/v1/appointments?confirmationStatus=%00',
        `/v1/slots?serviceId=${ids.service}&from=${inDays(1)}&to=${inDays(2)}&mode=%00`,
        '/v1/patients?%00=1',
        '/v1/patients?phone=%00',
      ]) {
        expect([path, problemOf(await call('GET', path))]).toEqual([path, invalid()]);
      }
    });
  });

  describe('size', () => {
    const large = (bytes: number) => JSON.stringify({ name: 'x'.repeat(bytes), timeZone: 'Europe/Berlin' });
    const headers = () => ({ Authorization: `Bearer ${clinic.apiKey}`, 'Content-Type': 'application/json' });

    it.each([300_000, 1_000_000, 4_000_000])('a body of %d bytes', async (bytes) => {
      const answer = await call('POST', '/v1/locations', { raw: large(bytes) });
      expect(problemOf(answer)).toEqual(problem(413, 'payload_too_large'));
    });
    it('a large body in chunks, its length not told', async () => {
      const body = large(300_000).match(/[^]{1,50000}/g)!;
      const answer = await sendRaw(`${app.url}/v1/locations`, { method: 'POST', headers: headers(), body });
      expect(problemOf(answer)).toEqual(problem(413, 'payload_too_large'));
    });
    it.each([
      ['objects in metadata', `{"metadata":${'{"a":'.repeat(40_000)}1${'}'.repeat(40_000)}}`],
      ['arrays in metadata', `{"metadata":{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}}`],
      ['arrays alone', `${'['.repeat(125_000)}${']'.repeat(125_000)}`],
      ['arrays without an end', '['.repeat(250_000)],
    ])('a nesting bomb of %s', async (_, raw) => {
      expect(problemOf(await call('POST', '/v1/appointments', { raw }))).toEqual(invalid());
    });
    it('many members', async () => {
      const fields = Object.fromEntries(Array.from({ length: 15_000 }, (_, index) => [`field${index}`, 1]));
      expect(problemOf(await call('POST', '/v1/locations', { body: fields }))).toEqual(invalid());
      const practitionerIds = Array.from({ length: 5_000 }, () => NOWHERE);
      const body = { name: 'X', durationMinutes: 5, practitionerIds };
      expect(problemOf(await call('POST', '/v1/services', { body }))).toEqual(invalid('/practitionerIds'));
    });
    it('long texts', async () => {
      const long = 'x'.repeat(200_000);
      expect(problemOf(await book({ notes: long }))).toEqual(invalid('/notes'));
      expect(problemOf(await book({ patient: { phone: `+${'1'.repeat(200_000)}` } }))).toEqual(
        invalid('/patient/phone'),
      );
      expect(problemOf(await book({ patient: { phone: '+4915112345678', email: `${long}@b.example` } }))).toEqual(
        invalid('/patient/email'),
      );
      expect(problemOf(await book({ startsAt: `${inDays(8)}${long}` }))).toEqual(invalid('/startsAt'));
      expect(problemOf(await book({ metadata: { long } }))).toEqual(invalid('/metadata'));
      const answer = await call('POST', '/v1/locations', {
        body: { name: 'x'.repeat(201), timeZone: 'Europe/Berlin' },
      });
      expect(problemOf(answer)).toEqual(invalid('/name'));
    });
    it('a path and a query of 10 kB', async () => {
      for (const path of [`/v1/patients/${'x'.repeat(10_000)}`, `/v1/patients?cursor=${'x'.repeat(10_000)}`]) {
        const answer = await call('GET', path);
        expect([400, 404, 414]).toContain(answer.status);
        expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
      }
    });
  });

  describe('headers', () => {
    const raw = (headers: Record<string, string | string[]>, method = 'POST', path = '/v1/appointments') =>
      sendRaw(app.url + path, {
        method,
        headers: {
          Authorization: `Bearer ${clinic.apiKey}`,
          ...(method === 'DELETE' ? {} : { 'Content-Type': 'application/json' }),
          ...headers,
        },
        body: method === 'DELETE' ? undefined : JSON.stringify(method === 'PATCH' ? { name: 'Changed' } : booking()),
      });

    it('two Idempotency-Keys', async () => {
      expect(problemOf(await raw({ 'Idempotency-Key': ['one', 'two'] }))).toEqual(invalid());
      expect(problemOf(await raw({ 'Idempotency-Key': ['one', 'one'] }))).toEqual(invalid());
    });
    it('two If-Match', async () => {
      const answers = [
        await raw({ 'If-Match': ['"1"', '"2"'] }, 'PATCH', `/v1/patients/${ids.patient}`),
        await raw({ 'If-Match': ['*', '"7"'] }, 'DELETE', `/v1/schedules/${ids.schedule}/exceptions/${ids.exception}`),
      ];
      expect(answers.map(problemOf)).toEqual([invalid(), invalid()]);
    });
    it('two Authorizations', async () => {
      const answer = await raw({
        Authorization: [`Bearer ${clinic.apiKey}`, 'Bearer hf_somebody_else_altogether_1234'],
      });
      expect([400, 401]).toContain(answer.status);
      expect(answer.body.code).toMatch(/^(validation_failed|unauthenticated)$/);
    });
    it('two Content-Types', async () => {
      const answer = await raw({ 'Content-Type': ['application/json', 'text/plain'] });
      expect([400, 415]).toContain(answer.status);
    });
    it.each([
      ['256 characters', 'k'.repeat(256)],
      ['10 kB', 'k'.repeat(10_000)],
      ['256 characters in quotes', `"${'k'.repeat(256)}"`],
      ['nothing', ''],
      ['nothing in quotes', '""'],
      ['letters beyond ASCII', 'schl\u00fcssel'],
      ['a tab', 'a\tb'],
    ])('an Idempotency-Key of %s', async (_, key) => {
      expect(problemOf(await raw({ 'Idempotency-Key': key }))).toEqual(invalid('Idempotency-Key'));
    });
    it.each(['abc', '"1', '1"', "'1'", '', '-1', '"1" "2"', '*, "1"'])('an If-Match of %j', async (tag) => {
      const answers = [
        await raw({ 'If-Match': tag }, 'PATCH', `/v1/patients/${ids.patient}`),
        await raw({ 'If-Match': tag }, 'DELETE', `/v1/schedules/${ids.schedule}/exceptions/${ids.exception}`),
      ];
      expect(answers.map(problemOf)).toEqual([invalid('If-Match'), invalid('If-Match')]);
    });

    it.each([
      'text/plain',
      'text/plain; charset=utf-8',
      'application/xml',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/octet-stream',
      'application/jsonp',
      'nonsense',
    ])('a Content-Type of %s', async (type) => {
      const answers = await onEveryWrite(({ method, path, body }) =>
        call(method, path, { body, headers: withRules({ 'Content-Type': type }) }),
      );
      expect(answers).toEqual(allOf(problem(415, 'unsupported_media_type')));
    });
    it('a form that says what a JSON body would', async () => {
      const answer = await call('POST', '/v1/locations', {
        raw: 'name=Old+Town&timeZone=Europe%2FBerlin',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      });
      expect(problemOf(answer)).toEqual(problem(415, 'unsupported_media_type'));
    });
    it('no Content-Type', async () => {
      const answer = await sendRaw(`${app.url}/v1/appointments`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${clinic.apiKey}` },
        body: JSON.stringify(booking()),
      });
      expect(problemOf(answer)).toEqual(problem(415, 'unsupported_media_type'));
    });
  });

  describe('queries', () => {
    it.each([
      'limit=0',
      'limit=-1',
      'limit=100000',
      'limit=1.5',
      'limit=1e1',
      'limit=',
      'limit=ten',
      'limit=%2010',
      'limit=99999999999999999999',
      'limit=1&limit=2',
      'limit[]=1',
      'limit[a]=1',
      'surprise=1',
      '__proto__=1',
      'constructor=1',
      'toString=1',
    ])('?%s', async (query) => {
      const lists = ['locations', 'practitioners', 'rooms', 'services', 'patients', 'appointments', 'api-keys'];
      const paths = [
        ...lists.map((list) => `/v1/${list}?${query}`),
        `/v1/schedules/${ids.schedule}/exceptions?${query}`,
        `/v1/schedules/${ids.schedule}/published-slots?${query}`,
        `/v1/slots/explain?serviceId=${ids.service}&startsAt=${inDays(1)}&${query}`,
        `/v1/appointments/${ids.appointment}/history?${query}`,
        `/v1/slots?serviceId=${ids.service}&from=${inDays(1)}&to=${inDays(2)}&${query}`,
      ];
      const answers = await Promise.all(paths.map(async (path) => [path, problemOf(await call('GET', path))]));
      expect(answers).toEqual(paths.map((path) => [path, invalid()]));
    });

    it('repeated parameters', async () => {
      const slots = `/v1/slots?serviceId=${ids.service}&from=${inDays(1)}&to=${inDays(2)}`;
      for (const path of [
        `${slots}&serviceId=${ids.service}`,
        `${slots}&from=${inDays(1)}`,
        `${slots}&to=${inDays(2)}`,
        `${slots}&practitionerId=${ids.practitioner}&practitionerId=${ids.practitioner}`,
        `${slots}&mode=video&mode=in_person`,
        '/v1/appointments?status=confirmed&status=cancelled',
        `/v1/appointments?patientId=${ids.patient}&patientId=${ids.patient}`,
        '/v1/patients?cursor=a&cursor=b',
        '/v1/patients?phone=%2B4915112345678&phone=%2B4915112345678',
      ]) {
        expect([path, problemOf(await call('GET', path))]).toEqual([path, invalid()]);
      }
    });

    it('parameters that are missing or of the wrong type', async () => {
      const range = `from=${inDays(1)}&to=${inDays(2)}`;
      for (const [path, pointer] of [
        [`/v1/slots?${range}`, '/serviceId'],
        [`/v1/slots?serviceId=x&${range}`, '/serviceId'],
        [`/v1/slots?serviceId=${ids.service}&to=${inDays(2)}`, '/from'],
        [`/v1/slots?serviceId=${ids.service}&from=${inDays(2)}`, '/to'],
        [`/v1/slots?serviceId=${ids.service}&${range}&practitionerId=x`, '/practitionerId'],
        [`/v1/slots?serviceId=${ids.service}&${range}&locationId=x`, '/locationId'],
        ['/v1/appointments?practitionerId=x', '/practitionerId'],
        ['/v1/appointments?patientId=1', '/patientId'],
        ['/v1/patients?phone=abc', '/phone'],
      ] as const) {
        const answer = problemOf(await call('GET', path));
        expect([path, answer]).toEqual([path, invalid()]);
        expect(answer.pointers.map((each: string) => each.replace(/^\//, ''))).toContain(pointer.slice(1));
      }
      expect(problemOf(await call('GET', '/v1/appointments?status=booked'))).toEqual(invalid());
      expect(problemOf(await call('GET', '/v1/appointments?status=confirmed,booked'))).toEqual(invalid());
    });
  });

  it.each(['PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND'])('%s where it is not offered', async (method) => {
    const answer = await sendRaw(`${app.url}/v1/appointments`, {
      method,
      headers: { Authorization: `Bearer ${clinic.apiKey}` },
    });
    expect([404, 405]).toContain(answer.status);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(['not_found', 'method_not_allowed']).toContain(answer.body.code);
  });

  it('a route that does not exist', async () => {
    for (const path of ['/v1/nothing', '/v2/appointments', '/', '/v1/appointments/', '/v1//appointments']) {
      expect([path, problemOf(await call('GET', path))]).toEqual([path, problem(404, 'not_found')]);
    }
  });

  it('prices in what is no currency', async () => {
    const values = [
      [{ amount: -1, currency: 'EUR' }, '/price/amount'],
      [{ amount: 1.5, currency: 'EUR' }, '/price/amount'],
      [{ amount: '1', currency: 'EUR' }, '/price/amount'],
      [{ amount: 1e300, currency: 'EUR' }, '/price/amount'],
      [{ amount: 1, currency: 'eur' }, '/price/currency'],
      [{ amount: 1, currency: 'E€R' }, '/price/currency'],
      [{ amount: 1, currency: '123' }, '/price/currency'],
      [{ amount: 1, currency: 'EURO' }, '/price/currency'],
      [{ amount: 1 }, '/price/currency'],
      [{ currency: 'EUR' }, '/price/amount'],
      ['10 EUR', '/price'],
      [[], '/price'],
    ] as const;
    for (const [price, pointer] of values) {
      const body = { name: 'X', durationMinutes: 5, practitionerIds: [ids.practitioner], price };
      expect([price, problemOf(await call('POST', '/v1/services', { body }))]).toEqual([price, invalid(pointer)]);
    }
  });

  it('null for what cannot be empty, in a change', async () => {
    const nulls: Array<[string, string[]]> = [
      ['/v1/organization', ['name', 'timeZone']],
      [`/v1/locations/${ids.location}`, ['name', 'timeZone']],
      [`/v1/practitioners/${ids.practitioner}`, ['name']],
      [`/v1/rooms/${ids.room}`, ['name']],
      [`/v1/patients/${ids.patient}`, ['phone', 'source', 'status']],
      [
        `/v1/services/${ids.service}`,
        [
          'name',
          'durationMinutes',
          'bufferBeforeMinutes',
          'bufferAfterMinutes',
          'capacity',
          'requiresConfirmation',
          'paymentRequired',
          'holdMinutes',
          'minNoticeMinutes',
          'maxDaysAhead',
          'modes',
          'practitionerIds',
          'segments',
        ],
      ],
    ];
    for (const [path, fields] of nulls) {
      for (const field of fields) {
        const answer = await call('PATCH', path, { body: { [field]: null } });
        expect([path, field, problemOf(answer)]).toEqual([path, field, invalid(`/${field}`)]);
      }
    }
  });

  it('a refused booking leaves nothing of its patient', async () => {
    const patient = { phone: '+4915166666666', name: 'C. Example' };
    expect((await book({ startsAt: inDays(9, '08:00'), patient })).status).toBe(409);
    expect((await book({ startsAt: inDays(-1, '08:00'), patient })).status).toBe(422);
    expect((await book({ startsAt: inDays(900, '08:00'), patient })).status).toBe(422);
  });
});

describe('unusual input that is right is taken', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let practitioner: { id: string; scheduleId: string };
  let service: { id: string };
  beforeAll(async () => {
    app = await startApp();
    const clinic = await seedClinic(app);
    call = clinic.call;
    make = maker(call);
    practitioner = await make.practitioner();
    service = await make.service([practitioner.id]);
  });
  afterAll(() => app.stop());

  it.each([
    '👩‍⚕️ Dr. 王小明 🏳️‍🌈',
    'ד״ר שרה כהן',
    'د. محمد الأحمد',
    '\u202Eright to left\u202C',
    'e\u0301 is not é',
    "Robert'); DROP TABLE patient; --",
    '<script>alert(1)</script>',
    'line\nbreak\ttab',
    '😀'.repeat(90),
    '\u{10FFFF}',
  ])('%j as a name', async (name) => {
    const location = await make.location({ name, address: name });
    const shown = (await call('GET', `/v1/locations/${location.id}`)).body;
    expect([location.name, location.address, shown.name, shown.address]).toEqual([name, name, name, name]);
    const patient = await make.patient({ name, notes: name });
    expect((await call('GET', `/v1/patients/${patient.id}`)).body).toMatchObject({ name, notes: name });
    const metadata = { [name]: name, nested: [{ [name]: [name] }] };
    const [slot] = (await call('GET', `/v1/slots?serviceId=${service.id}&from=${inDays(3)}&to=${inDays(5)}&limit=1`))
      .body.data;
    const booked = await make.book({
      serviceId: service.id,
      startsAt: slot.startsAt,
      patientId: patient.id,
      attendeeName: name,
      notes: name,
      metadata,
    });
    expect(booked.status).toBe(201);
    const read = (await call('GET', `/v1/appointments/${booked.body.id}`)).body;
    expect(read).toEqual(booked.body);
    expect(read).toMatchObject({ attendeeName: name, metadata });
  });

  const METADATA: object[] = [
    { constructor: 'x' },
    { toString: 'x', valueOf: 1, hasOwnProperty: false },
    { then: 'x' },
    { a: { constructor: { name: 'x' } } },
    { constructor: null },
    { prototype: {} },
    { '': '' },
    { a: null, b: [null, []], c: {} },
    { 'a/b': { '~0': 1 } },
    { n: -0.5, big: 9007199254740991, small: 1e-7 },
    { length: 3, size: 2 },
  ];
  it.each(METADATA.map((metadata) => [JSON.stringify(metadata), metadata] as const))(
    'metadata %s',
    async (text, metadata) => {
      const range = `from=${inDays(6)}&to=${inDays(8)}`;
      const [slot] = (await call('GET', `/v1/slots?serviceId=${service.id}&${range}&limit=1`)).body.data;
      const booked = await make.book({ serviceId: service.id, startsAt: slot.startsAt, metadata });
      expect([booked.status, JSON.stringify(booked.body.metadata)]).toEqual([201, text]);
      const read = (await call('GET', `/v1/appointments/${booked.body.id}`)).body;
      const sorted = (members: object) => JSON.stringify(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1)));
      expect(sorted(read.metadata)).toBe(sorted(metadata));
    },
  );

  it('UUIDs in capitals are the same ids', async () => {
    const location = await make.location();
    const patient = await make.patient();
    const upper = (id: string) => id.toUpperCase();
    for (const [list, id] of [
      ['locations', location.id],
      ['practitioners', practitioner.id],
      ['patients', patient.id],
      ['services', service.id],
      ['schedules', practitioner.scheduleId],
    ]) {
      const answer = await call('GET', `/v1/${list}/${upper(id)}`);
      expect([list, answer.status, answer.body.id]).toEqual([list, 200, id]);
    }
    const range = `from=${inDays(10)}&to=${inDays(11)}`;
    const slots = await call(
      'GET',
      `/v1/slots?serviceId=${upper(service.id)}&practitionerId=${upper(practitioner.id)}&${range}&limit=1`,
    );
    expect(slots.body.data).toHaveLength(1);
    const booked = await make.book({
      serviceId: upper(service.id),
      practitionerId: upper(practitioner.id),
      patientId: upper(patient.id),
      startsAt: slots.body.data[0].startsAt,
    });
    expect(booked.status).toBe(201);
    expect(booked.body).toEqual((await call('GET', `/v1/appointments/${booked.body.id}`)).body);
    expect(booked.body).toMatchObject({
      serviceId: service.id,
      patientId: patient.id,
      segments: [{ practitionerId: practitioner.id }],
    });
    const listed = await call('GET', `/v1/appointments?patientId=${upper(patient.id)}`);
    expect(listed.body.data.map((each: { id: string }) => each.id)).toEqual([booked.body.id]);
    const offered = await make.service([upper(practitioner.id)]);
    expect(offered.practitionerIds).toEqual([practitioner.id]);
    const moved = await call('PATCH', `/v1/patients/${patient.id}`, { body: { locationId: upper(location.id) } });
    expect(moved.body.locationId).toBe(location.id);
  });

  it('a booking in capitals is held against the same day, whoever asks in which letters', async () => {
    const startsAt = inDays(12, '10:00');
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        make.book({
          serviceId: index % 2 ? service.id.toUpperCase() : service.id,
          practitionerId: index % 3 ? practitioner.id : practitioner.id.toUpperCase(),
          startsAt,
        }),
      ),
    );
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
    expect(answers.filter((answer) => answer.status === 409)).toHaveLength(11);
  });

  it.each([255, 1])('an Idempotency-Key of %d characters', async (length) => {
    const headers = { 'Idempotency-Key': 'k'.repeat(length) };
    const options = { body: { name: 'Keyed', timeZone: 'Europe/Berlin' }, headers };
    const [first, second] = [
      await call('POST', '/v1/locations', options),
      await call('POST', '/v1/locations', options),
    ];
    expect([first.status, second.status, second.body.id]).toEqual([201, 201, first.body.id]);
  });

  it.each(['application/json; charset=utf-8', 'APPLICATION/JSON', 'application/json;charset=UTF-8'])(
    'a Content-Type of %s',
    async (type) => {
      const answer = await call('POST', '/v1/locations', {
        body: { name: 'X', timeZone: 'Europe/Berlin' },
        headers: { 'Content-Type': type },
      });
      expect(answer.status).toBe(201);
    },
  );

  it.each(['2027-06-01T09:00:00z', '2027-06-01t09:00:00Z', '2027-06-01T11:00:00+02:00', '2027-06-01T09:00:00.000Z'])(
    'the instant %s',
    async (startsAt) => {
      const own = await make.practitioner();
      const far = await make.service([own.id], { maxDaysAhead: 1095 });
      const booked = await make.book({ serviceId: far.id, startsAt });
      expect([booked.status, booked.body.startsAt]).toEqual([201, '2027-06-01T09:00:00Z']);
    },
  );

  it.each([
    ['0001-01-01T00:00:00Z', '0001-01-01T05:00:00Z', 'America/New_York'],
    ['0001-01-01T00:00:00Z', '0001-01-02T00:00:00Z', 'Europe/Berlin'],
    ['9999-12-31T20:00:00Z', '9999-12-31T23:59:59Z', 'Asia/Tokyo'],
    ['9999-12-30T20:00:00Z', '9999-12-31T23:59:59Z', 'America/New_York'],
  ])('an exception from %s to %s in %s is taken or refused, never an error', async (startsAt, endsAt, timeZone) => {
    const own = await make.practitioner({ timeZone });
    const answer = await make.exception(own.scheduleId, { startsAt, endsAt, kind: 'open' });
    expect([201, 400]).toContain(answer.status);
    const far = await make.service([own.id]);
    const slots = await call('GET', `/v1/slots?serviceId=${far.id}&from=${inDays(1)}&to=${inDays(2)}`);
    expect(slots.status).toBe(200);
  });

  it('hours that are valid in the first and the last year', async () => {
    const own = await make.practitioner({
      hours: [{ weekday: 1, start: '09:00', end: '10:00', validFrom: '0001-01-01', validUntil: '9999-12-31' }],
    });
    const shown = (await call('GET', `/v1/schedules/${own.scheduleId}`)).body;
    expect(shown.hours[0]).toMatchObject({ validFrom: '0001-01-01', validUntil: '9999-12-31' });
  });

  it('a cancellation without a body', async () => {
    const [slot] = (await call('GET', `/v1/slots?serviceId=${service.id}&from=${inDays(15)}&to=${inDays(16)}&limit=1`))
      .body.data;
    const booked = await make.book({ serviceId: service.id, startsAt: slot.startsAt });
    const answer = await call('POST', `/v1/appointments/${booked.body.id}/cancel`);
    expect([answer.status, answer.body.status]).toEqual([200, 'cancelled']);
  });
});

describe('150,000 appointments', () => {
  const COUNT = 150_000;
  let app: TestApp;
  let clinic: Clinic;
  let sql: Sql;
  const START = Date.parse('2020-01-01T00:00:00Z');

  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    sql = await openSql(app);
    const patient = await maker(clinic.call).patient({ phone: newPhone() });
    const { id: practitionerId, scheduleId } = clinic.practitioners[0]!;
    const values = [clinic.organizationId, clinic.services[0]!.id, patient.id, COUNT];
    // Many share a start, and ids are in no order of time: a page must break off between equals.
    await sql(
      `INSERT INTO appointment (organization_id, id, status, service_id, patient_id, starts_at, ends_at, mode)
       SELECT $1, gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'cancelled' ELSE 'completed' END, $2, $3,
              timestamptz '2020-01-01Z' + (n / 7) * interval '10 minutes',
              timestamptz '2020-01-01Z' + (n / 7) * interval '10 minutes' + interval '30 minutes', 'in_person'
       FROM generate_series(0, $4::integer - 1) AS n`,
      values,
    );
    await sql(
      `INSERT INTO appointment_segment (organization_id, appointment_id, position, schedule_id, practitioner_id,
                                        starts_at, ends_at, appointment_starts_at)
       SELECT organization_id, id, 0, $1, $2, starts_at, ends_at, starts_at FROM appointment`,
      [scheduleId, practitionerId],
    );
    await sql('ANALYZE appointment, appointment_segment');
  }, 120_000);
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const idsOf = (answer: Answer) => answer.body.data.map((each: { id: string }) => each.id);
  const expected = async (where: string, offset: number, limit: number) =>
    (await sql(`SELECT id FROM appointment WHERE ${where} ORDER BY starts_at, id OFFSET ${offset} LIMIT ${limit}`)).map(
      ({ id }) => id,
    );

  it('the first page', async () => {
    const answer = await clinic.call('GET', '/v1/appointments?limit=200');
    expect([answer.status, answer.body.nextCursor]).toEqual([200, expect.any(String)]);
    expect(idsOf(answer)).toEqual(await expected('true', 0, 200));
  });

  it('pages deep within, reached by time and then by cursor', async () => {
    const from = new Date(START + 20_000 * 600_000).toISOString();
    let path = `/v1/appointments?limit=100&from=${from}`;
    for (let page = 0; page < 3; page++) {
      const answer = await clinic.call('GET', path);
      expect(answer.status).toBe(200);
      expect(idsOf(answer)).toEqual(await expected(`starts_at >= '${from}'`, page * 100, 100));
      path = `/v1/appointments?limit=100&from=${from}&cursor=${answer.body.nextCursor}`;
    }
  });

  it('every page, one after the other: each row once, and then the end', async () => {
    const seen: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const answer: Answer = await clinic.call('GET', `/v1/appointments?limit=200${cursor && `&cursor=${cursor}`}`);
      if (answer.status !== 200) throw new Error(`${answer.status} after ${seen.length} rows`);
      seen.push(...idsOf(answer));
      cursor = answer.body.nextCursor;
    }
    expect(seen.length).toBe(COUNT);
    expect(seen).toEqual(await expected('true', 0, COUNT));
  }, 180_000);

  it('a page deep within one practitioner and one status', async () => {
    const from = new Date(START + 15_000 * 600_000).toISOString();
    const path = `/v1/appointments?limit=50&from=${from}&status=cancelled&practitionerId=${clinic.practitioners[0]!.id}`;
    const first = await clinic.call('GET', path);
    const second = await clinic.call('GET', `${path}&cursor=${first.body.nextCursor}`);
    expect([first.status, second.status]).toEqual([200, 200]);
    const where = `status = 'cancelled' AND starts_at >= '${from}'`;
    expect([...idsOf(first), ...idsOf(second)]).toEqual(await expected(where, 0, 100));
  });
});
