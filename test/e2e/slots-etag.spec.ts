import { after, ALWAYS, inDays, lapse, maker, openSql, type Sql } from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

describe('the entity tag of free times', () => {
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
  const search = (query: string, ifNoneMatch?: string) =>
    call('GET', `/v1/slots?${query}`, { headers: ifNoneMatch === undefined ? {} : { 'If-None-Match': ifNoneMatch } });
  const range = `from=${START}&to=${at(240)}`;
  const ok = (answer: Answer) => {
    if (answer.status >= 300) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };

  it('is weak, the same while nothing happens, and saves the answer', async () => {
    const { service } = await make.lane();
    const query = `serviceId=${service.id}&${range}`;
    const first = await search(query);
    const tag = first.headers.get('etag')!;
    expect(tag).toMatch(/^W\/"[\w-]{20,}"$/);
    expect((await search(query)).headers.get('etag')).toBe(tag);
    const strong = tag.slice(2);
    for (const sent of [tag, strong, `"other", ${tag}`, `${strong}, W/"other"`, ` ${tag} `, '*']) {
      const answer = await search(query, sent);
      expect([sent, answer.status, answer.body, answer.headers.get('etag')]).toEqual([sent, 304, '', tag]);
    }
    for (const sent of ['"other"', 'W/"other"', strong.slice(1, -1), `W/"${strong.slice(1, -2)}"`, '']) {
      const answer = await search(query, sent);
      expect([sent, answer.status, answer.body.data]).toEqual([sent, 200, first.body.data]);
    }
    // What another day row, or none, would say is the same for as long as it says the same.
    made(await make.book({ serviceId: service.id, startsAt: inDays(14, '08:00') }));
    expect((await search(query, tag)).status).toBe(304);
  });

  it('is another one for another question', async () => {
    const { service, practitioner } = await make.lane({ modes: ['in_person', 'video'] });
    const other = await make.service([practitioner.id]);
    const location = await make.location();
    const queries = [
      `serviceId=${service.id}&${range}`,
      `serviceId=${other.id}&${range}`,
      `serviceId=${service.id}&${range}&mode=video`,
      `serviceId=${service.id}&${range}&limit=3`,
      `serviceId=${service.id}&${range}&locationId=${location.id}`,
      `serviceId=${service.id}&from=${START}&to=${at(300)}`,
    ];
    const tags = await Promise.all(queries.map(async (query) => (await search(query)).headers.get('etag')));
    expect(new Set(tags).size).toBe(queries.length);
  });

  it("does not hide what was never found, nor another organization's", async () => {
    const { service } = await make.lane();
    const other = app.as((await addOrganization(app)).apiKey);
    const headers = { 'If-None-Match': '*' };
    expect((await other('GET', `/v1/slots?serviceId=${service.id}&${range}`, { headers })).status).toBe(404);
    expect((await app.as(undefined)('GET', `/v1/slots?serviceId=${service.id}&${range}`, { headers })).status).toBe(
      401,
    );
  });

  /** Everything that can be asked, and everything that can happen to it. */
  async function world() {
    const [north, south] = [await make.location(), await make.location()];
    const [one, two] = [
      await make.practitioner({ locationId: north.id }),
      await make.practitioner({ locationId: south.id }),
    ];
    const room = await make.room();
    await make.setHours(room.scheduleId, ALWAYS);
    const simple = await make.service([one.id, two.id], { modes: ['in_person', 'video'] });
    const group = await make.service([one.id], { capacity: 5 });
    const segments = [
      { name: 'talk', durationMinutes: 10, gapAfterMinutes: 10, practitionerIds: [one.id, two.id] },
      { name: 'scan', durationMinutes: 10, roomIds: [room.id] },
    ];
    const visit = ok(await call('POST', '/v1/services', { body: { name: 'Visit', segments } }));
    const queries = [
      `serviceId=${simple.id}&${range}&limit=1000`,
      `serviceId=${simple.id}&${range}&limit=3`,
      `serviceId=${simple.id}&${range}&mode=video`,
      `serviceId=${simple.id}&${range}&locationId=${north.id}`,
      `serviceId=${simple.id}&practitionerId=${two.id}&${range}`,
      `serviceId=${group.id}&${range}`,
      `serviceId=${group.id}&${range}&locationId=${north.id}`,
      `serviceId=${visit.id}&${range}`,
    ];
    return { north, one, two, room, simple, group, visit, queries };
  }

  it('is another one after every kind of write that changes the answer', async () => {
    const { north, one, two, simple, group, visit, queries } = await world();
    const [, , , , , ofGroup] = queries;
    const ids: string[] = [];
    let [exception, published] = ['', ''];
    const version = { 'If-Match': '*' };
    const book = async (fields: object) =>
      ids.push(made(await make.book({ startsAt: START, practitionerId: one.id, ...fields })).id);
    const writes: Array<[string, string, () => Promise<unknown>]> = [
      ['a booking', queries[0]!, () => book({ serviceId: simple.id })],
      ['its cancellation', queries[0]!, () => make.act(ids.pop()!, 'cancel')],
      ['a hold', queries[1]!, () => book({ serviceId: simple.id, hold: true })],
      ['its end', queries[1]!, () => lapse(sql, ids.at(-1)!)],
      ['a late confirm', queries[0]!, () => make.act(ids.at(-1)!, 'confirm')],
      ['a move', queries[0]!, () => make.act(ids.at(-1)!, 'reschedule', { startsAt: at(60) })],
      ['a session', ofGroup!, () => book({ serviceId: group.id, startsAt: at(90) })],
      ['somebody who joins', ofGroup!, () => book({ serviceId: group.id, startsAt: at(90) })],
      ['somebody who holds a seat', ofGroup!, () => book({ serviceId: group.id, startsAt: at(90), hold: true })],
      ['the end of that', ofGroup!, () => lapse(sql, ids.at(-1)!)],
      ['somebody who leaves', ofGroup!, () => make.act(ids.at(-2)!, 'cancel')],
      ['a visit', queries[7]!, () => book({ serviceId: visit.id, startsAt: at(120) })],
      [
        'an exception',
        queries[0]!,
        async () =>
          (exception = made(
            await make.exception(one.scheduleId, { startsAt: at(180), endsAt: at(210), kind: 'closed' }),
          ).id),
      ],
      [
        'its end',
        queries[0]!,
        () => call('DELETE', `/v1/schedules/${one.scheduleId}/exceptions/${exception}`, { headers: version }),
      ],
      [
        'a published slot',
        queries[0]!,
        async () =>
          (published = made(
            await call('POST', `/v1/schedules/${one.scheduleId}/published-slots`, {
              body: { startsAt: at(180), endsAt: at(210), mode: 'video', capacity: 2 },
              headers: version,
            }),
          ).id),
      ],
      [
        'its end',
        queries[0]!,
        () => call('DELETE', `/v1/schedules/${one.scheduleId}/published-slots/${published}`, { headers: version }),
      ],
      [
        'other hours',
        queries[0]!,
        () =>
          make.setHours(
            one.scheduleId,
            ALWAYS.map((each) => ({ ...each, start: '09:30' })),
          ),
      ],
      [
        'places',
        queries[0]!,
        () =>
          call('PUT', `/v1/schedules/${one.scheduleId}/hours`, {
            body: { timeZone: 'Europe/Berlin', hours: ALWAYS, places: 2 },
            headers: version,
          }),
      ],
      [
        'a longer service',
        queries[0]!,
        () => call('PATCH', `/v1/services/${simple.id}`, { body: { durationMinutes: 40 } }),
      ],
      [
        'who offers it',
        queries[0]!,
        () => call('PATCH', `/v1/services/${simple.id}`, { body: { practitionerIds: [two.id] } }),
      ],
      [
        'another location',
        queries[3]!,
        () => call('PATCH', `/v1/practitioners/${two.id}`, { body: { locationId: north.id } }),
      ],
      ['a practitioner who goes', queries[0]!, async () => ok(await call('DELETE', `/v1/practitioners/${two.id}`))],
    ];
    for (const [what, query, write] of writes) {
      const before = await search(query);
      await write();
      const later = await search(query, before.headers.get('etag')!);
      expect([what, later.status]).toEqual([what, 200]);
      expect([what, later.body.data]).not.toEqual([what, before.body.data]);
    }
  });

  it.each([1, 2])('is never the same for two answers, whatever happens (%d)', async (seed) => {
    const { one, two, room, simple, group, visit, queries } = await world();
    let state = seed * 104_729;
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((state / 2_147_483_648) * below);
    };
    const live: string[] = [];
    const held: string[] = [];
    const schedules = [one.scheduleId, two.scheduleId, room.scheduleId];
    const version = { 'If-Match': '*' };
    const some = () => at(random(16) * 15);
    const book = async (serviceId: string, more: object = {}) => {
      const answer = await make.book({ serviceId, startsAt: some(), ...more });
      if (answer.status === 201) ('hold' in more ? held : live).push(answer.body.id);
    };
    const span = () => {
      const start = random(12) * 20;
      return { startsAt: at(start), endsAt: at(start + 20 + random(3) * 20) };
    };
    const schedule = () => schedules[random(3)]!;
    const withdrawOne = async (kind: string) => {
      const path = `/v1/schedules/${schedule()}/${kind}`;
      const { data } = (await call('GET', path)).body;
      if (data.length > 0) ok(await call('DELETE', `${path}/${data[random(data.length)].id}`, { headers: version }));
    };
    const writes: Array<() => Promise<unknown>> = [
      () => book(simple.id),
      () => book(simple.id, { hold: true }),
      () => book(group.id),
      () => book(group.id, { hold: true }),
      () => book(group.id, { startsAt: at(60) }),
      () => book(visit.id),
      () => book(visit.id, { hold: true }),
      async () => held.length > 0 && lapse(sql, held.splice(random(held.length), 1)[0]!),
      async () => held.length > 0 && make.act(held.splice(random(held.length), 1)[0]!, 'confirm'),
      async () => live.length > 0 && make.act(live.splice(random(live.length), 1)[0]!, 'cancel'),
      async () => live.length > 0 && make.act(live[random(live.length)]!, 'reschedule', { startsAt: some() }),
      async () => ok(await make.exception(schedule(), { ...span(), kind: random(2) === 0 ? 'closed' : 'open' })),
      () => withdrawOne('exceptions'),
      () =>
        call('POST', `/v1/schedules/${schedule()}/published-slots`, {
          body: { ...span(), mode: ['video', null][random(2)], capacity: [2, null][random(2)] },
          headers: version,
        }),
      () => withdrawOne('published-slots'),
      async () =>
        ok(
          await call('PUT', `/v1/schedules/${schedule()}/hours`, {
            body: { timeZone: 'Europe/Berlin', hours: ALWAYS, places: 1 + random(2) },
            headers: version,
          }),
        ),
      async () => ok(await call('PATCH', `/v1/services/${simple.id}`, { body: { bufferAfterMinutes: random(3) * 5 } })),
      async () => ok(await call('PATCH', `/v1/services/${group.id}`, { body: { capacity: 2 + random(3) } })),
    ];
    const known = queries.map(() => new Map<string, string>());
    const last = queries.map(() => '');
    const count = { same: 0, others: 0 };
    for (let step = 0; step < 40; step++) {
      await writes[random(writes.length)]!();
      for (const [index, query] of queries.entries()) {
        const answer = await search(query, last[index] || undefined);
        if (answer.status === 304) {
          count.same += 1;
          // What it would have been told: the same as then.
          const told = await search(query);
          expect([step, query, JSON.stringify(told.body.data)]).toEqual([step, query, known[index]!.get(last[index]!)]);
          continue;
        }
        const [tag, data] = [answer.headers.get('etag')!, JSON.stringify(answer.body.data)];
        expect([step, query, known[index]!.get(tag) ?? data]).toEqual([step, query, data]);
        known[index]!.set(tag, data);
        last[index] = tag;
        count.others += 1;
      }
    }
    expect([count.same > 40, count.others > 40]).toEqual([true, true]);
  });
});
