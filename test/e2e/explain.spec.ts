import { after, inDays, lapse, maker, openSql, problem, problemOf, type Sql } from '../support/api';
import { addOrganization, type Caller, startApp, type TestApp } from '../support/app';

const DAY = 10;
const NINE_TO_FIVE = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '09:00', end: '17:00' }));
const at = (time: string) => inDays(DAY, time);

describe('why a time can or cannot be booked', () => {
  let app: TestApp;
  let call: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  beforeAll(async () => {
    app = await startApp();
    call = app.as((await addOrganization(app)).apiKey);
    make = maker(call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  const lane = async (fields: object = {}) => {
    const practitioner = await make.practitioner({ hours: NINE_TO_FIVE, timeZone: 'Etc/UTC' });
    return { practitioner, service: await make.service([practitioner.id], fields) };
  };
  const explain = async (query: Record<string, string>) =>
    call('GET', `/v1/slots/explain?${new URLSearchParams(query).toString()}`);
  const reasonsFor = async (query: Record<string, string>) => {
    const { status, body } = await explain(query);
    expect(status).toBe(200);
    expect(body.bookable).toBe(body.reasons.length === 0);
    return body.reasons.map(({ code }: { code: string }) => code);
  };

  it('none where it can be, and then it can', async () => {
    const { practitioner, service } = await lane();
    const answer = await explain({ serviceId: service.id, practitionerId: practitioner.id, startsAt: at('10:00') });
    expect(answer.body).toEqual({
      serviceId: service.id,
      startsAt: at('10:00'),
      mode: 'in_person',
      bookable: true,
      reasons: [],
      segments: [
        {
          name: null,
          startsAt: at('10:00'),
          endsAt: at('10:30'),
          candidates: [
            { practitionerId: practitioner.id, scheduleId: practitioner.scheduleId, bookable: true, reasons: [] },
          ],
        },
      ],
      asOf: expect.any(String),
    });
    expect((await make.book({ serviceId: service.id, startsAt: at('10:00') })).status).toBe(201);
  });

  it('every reason there is, in the order in which a booking meets them, and the booking is refused for the first', async () => {
    const { practitioner, service } = await lane({
      minNoticeMinutes: 1440,
      maxDaysAhead: 20,
      bufferBeforeMinutes: 10,
      modes: ['in_person', 'video'],
    });
    const { scheduleId } = practitioner;
    const stranger = await make.practitioner({ hours: NINE_TO_FIVE, timeZone: 'Etc/UTC' });
    await make.exception(scheduleId, { startsAt: at('11:00'), endsAt: at('12:00'), kind: 'closed', reason: 'Secret' });
    await call('POST', `/v1/schedules/${scheduleId}/published-slots`, {
      body: { startsAt: at('14:00'), endsAt: at('15:00'), mode: 'video' },
      headers: { 'If-Match': '*' },
    });
    await make.book({ serviceId: service.id, startsAt: at('09:30'), notes: 'Secret' });
    const cases: Array<[string, Record<string, string>, string[], string]> = [
      ['somebody else', { practitionerId: stranger.id, startsAt: at('10:30') }, ['practitioner_not_eligible'], 'practitioner_not_eligible'], // prettier-ignore
      ['over', { startsAt: inDays(-1, '10:00') }, ['in_the_past'], 'in_the_past'],
      ['too soon', { startsAt: inDays(0, '23:59') }, ['notice_too_short', 'outside_hours'], 'notice_too_short'],
      ['too far', { startsAt: inDays(30, '10:00') }, ['too_far_ahead'], 'too_far_ahead'],
      ['closed', { startsAt: at('08:00') }, ['outside_hours'], 'outside_hours'],
      ['half closed', { startsAt: at('16:45') }, ['outside_hours'], 'outside_hours'],
      ['an exception', { startsAt: at('11:30') }, ['closed_exception'], 'outside_hours'],
      ['another mode', { startsAt: at('14:00'), mode: 'in_person' }, ['published_for_other_mode'], 'outside_hours'],
      ['any mode', { startsAt: at('14:00') }, [], ''],
      ['taken', { startsAt: at('09:30') }, ['slot_taken'], 'slot_taken'],
      ['in its own buffer', { startsAt: at('10:05') }, ['buffer'], 'slot_taken'],
      ['free', { startsAt: at('10:10') }, [], ''],
      ['the mode', { startsAt: at('14:00'), mode: 'video' }, [], ''],
      ['an unknown mode', { startsAt: at('15:30'), mode: 'phone' }, ['mode_not_offered'], 'validation_failed'],
    ];
    for (const [what, query, codes, refusal] of cases) {
      expect([what, await reasonsFor({ serviceId: service.id, ...query })]).toEqual([what, codes]);
      if (refusal === '') continue;
      const booked = await make.book({ serviceId: service.id, ...query });
      expect([what, booked.body.code]).toEqual([what, refusal]);
    }
    const taken = await explain({ serviceId: service.id, startsAt: at('09:30') });
    expect(taken.body.reasons[0]).toMatchObject({ startsAt: at('09:30'), endsAt: at('10:00'), scheduleId });
    expect(JSON.stringify(taken.body)).not.toContain('Secret');
  });

  it('for all who offer it: each of them, and it can be booked if one of them is free', async () => {
    const { practitioner: one } = await lane();
    const two = await make.practitioner({ hours: NINE_TO_FIVE, timeZone: 'Etc/UTC' });
    const service = await make.service([one.id, two.id]);
    const book = (practitionerId: string) =>
      make.book({ serviceId: service.id, practitionerId, startsAt: at('10:00') });
    await book(one.id);
    const half = await explain({ serviceId: service.id, startsAt: at('10:00') });
    expect([half.body.bookable, half.body.reasons]).toEqual([true, []]);
    expect(half.body.segments[0].candidates.map((each: { bookable: boolean }) => each.bookable)).toEqual([false, true]);
    await book(two.id);
    const none = await explain({ serviceId: service.id, startsAt: at('10:00') });
    expect(none.body.reasons.map((each: { practitionerId: string }) => each.practitionerId)).toEqual([one.id, two.id]);
  });

  it('is linked from the refusal of a booking that was lost', async () => {
    const { practitioner, service } = await lane();
    const wish = { serviceId: service.id, practitionerId: practitioner.id, startsAt: at('10:00') };
    await make.book(wish);
    const lost = await make.book(wish);
    expect(problemOf(lost)).toEqual(problem(409, 'slot_taken'));
    const answer = await call('GET', lost.body.explain);
    expect(answer.body.reasons).toEqual([
      expect.objectContaining({ code: 'slot_taken', practitionerId: practitioner.id, startsAt: at('10:00') }),
    ]);
  });

  it('tells of a full session, and of holds only while they hold', async () => {
    const { service } = await lane({ capacity: 2 });
    const wish = { serviceId: service.id, startsAt: at('10:00') };
    await make.book(wish);
    expect(await reasonsFor(wish)).toEqual([]);
    const held = await make.book({ ...wish, hold: true });
    expect(await reasonsFor(wish)).toEqual(['session_full']);
    await lapse(sql, held.body.id);
    expect(await reasonsFor(wish)).toEqual([]);

    const alone = await lane();
    const other = { serviceId: alone.service.id, startsAt: at('10:00') };
    const hold = await make.book({ ...other, hold: true });
    expect(await reasonsFor(other)).toEqual(['slot_taken']);
    await lapse(sql, hold.body.id);
    expect(await reasonsFor(other)).toEqual([]);
  });

  it('of a visit of several segments: for each of them, and when they do not fit together', async () => {
    const [one, two] = [await lane(), await lane()].map((each) => each.practitioner) as [any, any]; // eslint-disable-line @typescript-eslint/no-explicit-any -- as they come
    const service = await make.service([], {
      practitionerIds: undefined,
      durationMinutes: undefined,
      segments: [
        { name: 'first', durationMinutes: 30, gapAfterMinutes: 10, practitionerIds: [one.id] },
        { name: 'second', durationMinutes: 20, practitionerIds: [two.id] },
      ],
    });
    const wish = { serviceId: service.id, startsAt: at('10:00') };
    expect(await reasonsFor(wish)).toEqual([]);
    const simple = await make.service([two.id], { durationMinutes: 10 });
    await make.book({ serviceId: simple.id, startsAt: at('10:50') });
    const { body } = await explain(wish);
    expect(body.segments.map((each: { startsAt: string }) => each.startsAt)).toEqual([
      at('10:00'),
      after(at('10:00'), 40),
    ]);
    expect(body.reasons).toEqual([
      expect.objectContaining({ code: 'slot_taken', practitionerId: two.id, startsAt: at('10:50') }),
    ]);
    const sideBySide = await make.service([], {
      practitionerIds: undefined,
      durationMinutes: undefined,
      segments: [
        { name: 'one hand', durationMinutes: 30, practitionerIds: [one.id, two.id] },
        { name: 'other hand', durationMinutes: 30, startsWithPrevious: true, practitionerIds: [one.id, two.id] },
      ],
    });
    expect(await reasonsFor({ serviceId: sideBySide.id, startsAt: at('15:00') })).toEqual([]);
    await make.book({ serviceId: simple.id, startsAt: at('15:10') });
    expect(await reasonsFor({ serviceId: sideBySide.id, startsAt: at('15:00') })).toEqual(['no_fitting_set']);
  });

  it('is told to nobody of another organization, and not for nonsense', async () => {
    const { practitioner, service } = await lane();
    const stranger = app.as((await addOrganization(app)).apiKey);
    const own = `/v1/slots/explain?serviceId=${service.id}&startsAt=${at('10:00')}`;
    expect(problemOf(await stranger('GET', own))).toEqual(problem(404, 'not_found'));
    const theirs = maker(stranger);
    const { service: other } = await theirs.lane();
    const query = `/v1/slots/explain?serviceId=${other.id}&startsAt=${at('10:00')}&practitionerId=${practitioner.id}`;
    expect(problemOf(await stranger('GET', query))).toEqual(problem(404, 'not_found'));
    expect(problemOf(await call('GET', '/v1/slots/explain?serviceId=1'))).toEqual(
      problem(400, 'validation_failed', '/serviceId', '/startsAt'),
    );
    expect(problemOf(await call('GET', `${own}&at=1`))).toEqual(problem(400, 'validation_failed', '/at'));
  });
});
