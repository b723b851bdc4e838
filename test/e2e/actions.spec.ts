import {
  after,
  contentsOf,
  inDays,
  inSeconds,
  maker,
  openSql,
  passing,
  problem,
  problemOf,
  type Sql,
} from '../support/api';
import { addOrganization, type Answer, type Caller, seedClinic, startApp, type TestApp } from '../support/app';

/** What every action on an appointment has in common; what each of them does is told by the specs of life, holds and moves. */
const ACTIONS = {
  confirm: 'confirmed',
  cancel: 'cancelled',
  reschedule: 'confirmed',
  'check-in': 'checked_in',
  complete: 'completed',
  'no-show': 'no_show',
};
type Action = keyof typeof ACTIONS;
const START = inDays(10, '08:00');
const NOBODY = '01890000-0000-7000-8000-000000000000';

describe('what every action has in common:', () => {
  let app: TestApp;
  let call: Caller;
  let other: Caller;
  let make: ReturnType<typeof maker>;
  let sql: Sql;
  let keys = 0;
  beforeAll(async () => {
    app = await startApp();
    call = (await seedClinic(app)).call;
    other = app.as((await addOrganization(app)).apiKey);
    make = maker(call);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });

  describe.each(Object.keys(ACTIONS) as Action[])('%s', (action) => {
    /** Appointments that allow the action. Each test takes those that it changes. */
    const ready: Array<Answer['body']> = [];
    beforeAll(async () => {
      const practitioners = await Promise.all(Array.from({ length: 8 }, () => make.practitioner()));
      const service = await make.service(practitioners.map(({ id }) => id));
      const startsAt = action === 'no-show' ? inSeconds(3) : START;
      const booked = await Promise.all(
        practitioners.map(() => make.book({ serviceId: service.id, startsAt, hold: action === 'confirm' })),
      );
      if (action === 'no-show') await passing(startsAt);
      for (const { body } of booked) {
        ready.push(action === 'complete' ? (await make.act(body.id, 'check-in')).body : body);
      }
      expect(ready.map(({ id }) => id)).toEqual(booked.map(() => expect.any(String)));
    });

    const body = (fields: object = {}) => ({
      ...(action === 'reschedule' && { startsAt: after(START, 120) }),
      ...fields,
    });
    const pathOf = (id: string) => `/v1/appointments/${id}/${action}`;
    const act = (id: string, fields: object = {}, headers: Record<string, string> = {}, caller = call) =>
      caller('POST', pathOf(id), { body: body(fields), headers });
    const invalid = (...pointers: string[]) => problem(400, 'validation_failed', ...pointers);
    const linesOf = async (id: string) => (await call('GET', `/v1/appointments/${id}/history`)).body.data;
    async function unchanged(work: () => Promise<void>) {
      const before = await contentsOf(sql);
      await work();
      expect(await contentsOf(sql)).toEqual(before);
    }

    it('what is wrong in the body is refused', () =>
      unchanged(async () => {
        const [{ id }] = ready;
        const wrong: Array<[object, string]> = [
          [{ surprise: 1 }, '/surprise'],
          [{ status: 'confirmed' }, '/status'],
          [{ version: 1 }, '/version'],
          ...[1, true, [], {}, ['x'], '', '   ', 'x'.repeat(501), 'a\u0000b', '\ud800'].map(
            (reason): [object, string] => [{ reason }, '/reason'],
          ),
        ];
        if (action === 'reschedule') {
          for (const startsAt of [
            undefined,
            null,
            1,
            true,
            [],
            {},
            '',
            'tomorrow',
            '2027-02-29T09:00:00Z',
            START.slice(0, -1),
          ])
            wrong.push([{ startsAt }, '/startsAt']);
          for (const practitionerId of [1, true, [], {}, '', 'x', [NOBODY]])
            wrong.push([{ practitionerId }, '/practitionerId']);
          wrong.push([{ serviceId: NOBODY }, '/serviceId'], [{ endsAt: START }, '/endsAt']);
        } else {
          wrong.push([{ startsAt: START }, '/startsAt']);
        }
        for (const [fields, pointer] of wrong) {
          expect([fields, problemOf(await act(id, fields))]).toEqual([fields, invalid(pointer)]);
        }
        for (const raw of ['[]', '[{}]', 'null', '"x"', '1', 'false', '{', '']) {
          expect([raw, problemOf(await call('POST', pathOf(id), { raw }))]).toEqual([raw, invalid()]);
        }
        const plain = { body: body(), headers: { 'Content-Type': 'text/plain' } };
        expect(problemOf(await call('POST', pathOf(id), plain))).toEqual(problem(415, 'unsupported_media_type'));
        if (action === 'reschedule') expect(problemOf(await call('POST', pathOf(id)))).toEqual(invalid());
      }));

    it('what is wrong in the path, or belongs to somebody else, is not found', () =>
      unchanged(async () => {
        const [{ id, patientId, serviceId }] = ready;
        for (const [name, answer] of Object.entries({
          nobody: await act(NOBODY),
          'somebody else': await act(id, {}, {}, other),
          'somebody else with his version': await act(id, {}, { 'If-Match': '"1"' }, other),
          'a patient': await act(patientId),
          'a service': await act(serviceId),
        })) {
          expect([name, problemOf(answer)]).toEqual([name, problem(404, 'not_found')]);
        }
        for (const wrong of ['x', '1', 'null', '%00', '..%2f', `${id}0`, "1'--"]) {
          const answer = await act(wrong);
          expect([wrong, [400, 404].includes(answer.status), typeof answer.body.code]).toEqual([wrong, true, 'string']);
        }
        for (const method of ['GET', 'PUT', 'PATCH', 'DELETE']) {
          const answer = await call(method, pathOf(id));
          expect([method, [404, 405].includes(answer.status)]).toEqual([method, true]);
        }
        expect(problemOf(await app.as(undefined)('POST', pathOf(id), { body: body() }))).toEqual(
          problem(401, 'unauthenticated'),
        );
      }));

    it('another version than the present is refused', async () => {
      const { id, version } = ready.pop()!;
      await unchanged(async () => {
        for (const tag of ['abc', '"1', "'1'", '', '-1', '"1" "2"', '*, "1"']) {
          expect([tag, problemOf(await act(id, {}, { 'If-Match': tag }))]).toEqual([tag, invalid('If-Match')]);
        }
        for (const tag of [`"${version + 1}"`, `"${version - 1}"`, `W/"${version}"`, '"x"', '"7", "8"']) {
          const answer = await act(id, {}, { 'If-Match': tag });
          expect([tag, problemOf(answer), answer.body.currentVersion]).toEqual([
            tag,
            problem(412, 'version_stale'),
            version,
          ]);
        }
      });
      const answer = await act(id, {}, { 'If-Match': `"7", "${version}"` });
      expect([answer.status, answer.headers.get('etag')]).toEqual([200, `"${version + 1}"`]);
      // The version is looked at before the status.
      const again = await act(id, {}, { 'If-Match': `"${version}"` });
      expect(problemOf(again)).toEqual(problem(412, 'version_stale'));
    });

    it('any version is taken with *', async () => {
      const { id } = ready.pop()!;
      const answer = await act(id, { reason: null }, { 'If-Match': '*' });
      expect([answer.status, answer.body.status]).toEqual([200, ACTIONS[action]]);
    });

    it('ten at once without a key happen one after the other', async () => {
      const { id, version } = ready.pop()!;
      const answers = await Promise.all(Array.from({ length: 10 }, () => act(id)));
      const happened = action === 'reschedule' ? 10 : 1;
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(happened);
      for (const answer of answers.filter(({ status }) => status !== 200)) {
        expect(problemOf(answer)).toEqual(problem(409, 'invalid_transition'));
        expect(answer.body.currentStatus).toBe(ACTIONS[action]);
      }
      expect(await linesOf(id)).toHaveLength(version + happened);
    });

    it('ten at once with one version happen once', async () => {
      const { id, version } = ready.pop()!;
      const answers = await Promise.all(Array.from({ length: 10 }, () => act(id, {}, { 'If-Match': `"${version}"` })));
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      const others = answers.filter(({ status }) => status !== 200);
      expect(others.map(problemOf)).toEqual(others.map(() => problem(412, 'version_stale')));
      expect(await linesOf(id)).toHaveLength(version + 1);
    });

    it('under one key happens once, at once or later, and belongs to this action alone', async () => {
      const { id, version } = ready.pop()!;
      const headers = { 'Idempotency-Key': `${action}-${keys++}`, 'If-Match': `"${version}"` };
      const answers = await Promise.all(Array.from({ length: 6 }, () => act(id, { reason: 'Once' }, headers)));
      const told = answers.filter(({ status }) => status === 200);
      expect(told.filter((answer) => answer.headers.get('idempotency-replayed') === null)).toHaveLength(1);
      const others = answers.filter(({ status }) => status !== 200);
      expect(others.map(problemOf)).toEqual(others.map(() => problem(409, 'request_in_progress')));
      const later = await act(id, { reason: 'Once' }, headers);
      expect([later.status, later.headers.get('idempotency-replayed')]).toEqual([200, 'true']);
      for (const answer of [...told, later]) {
        expect([answer.body, answer.headers.get('etag')]).toEqual([told[0]!.body, `"${version + 1}"`]);
      }
      expect(await linesOf(id)).toHaveLength(version + 1);

      await unchanged(async () => {
        const reused = problem(422, 'idempotency_key_reused');
        const key = { 'Idempotency-Key': headers['Idempotency-Key'] };
        expect(problemOf(await act(id, { reason: 'Twice' }, key))).toEqual(reused);
        expect(problemOf(await act(id, {}, key))).toEqual(reused);
        expect(problemOf(await act(ready[0]!.id, { reason: 'Once' }, key))).toEqual(reused);
        for (const another of Object.keys(ACTIONS).filter((each) => each !== action)) {
          const fields = { reason: 'Once', ...(another === 'reschedule' && { startsAt: after(START, 120) }) };
          expect([another, problemOf(await make.act(id, another, fields, key))]).toEqual([another, reused]);
        }
      });
    });

    it('a refusal leaves the key free', async () => {
      const { id, version } = ready.pop()!;
      const key = { 'Idempotency-Key': `${action}-${keys++}` };
      const refused = await act(id, {}, { ...key, 'If-Match': `"${version + 1}"` });
      expect(problemOf(refused)).toEqual(problem(412, 'version_stale'));
      expect(problemOf(await act(id, { surprise: 1 }, key))).toEqual(invalid('/surprise'));
      const answer = await act(id, {}, key);
      expect([answer.status, answer.headers.get('idempotency-replayed')]).toEqual([200, null]);
    });
  });
});
