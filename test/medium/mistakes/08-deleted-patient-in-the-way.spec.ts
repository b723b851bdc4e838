import { uuidv7 } from 'uuidv7';
import { openStand, type Stand, statusesOf } from './stand';

/**
 * Mistake 8: unique (company, phone) over all customers, soft-deleted ones too. Who was deleted can never come back: the
 * insert is refused by a row that nobody can see, and the code that then looks for "the existing one" finds none. Dropping
 * the constraint instead lets two calls at once make two customers.
 *
 * Interleaving, without the constraint: both sessions look for the phone, find nothing, insert, commit.
 *
 * Holdfast's key is a unique index over the living alone, and one upsert that waits on it.
 */
describe('mistake 8: a deleted customer in the way of a living one', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand(`
      CREATE TABLE mistake.keyed (company integer, phone text, deleted_at timestamptz, UNIQUE (company, phone));
      CREATE TABLE mistake.unkeyed (company integer, phone text, deleted_at timestamptz)`);
  });
  afterAll(() => stand.close());

  const find = (table: string) => `SELECT 1 FROM mistake.${table} WHERE phone = '+491' AND deleted_at IS NULL`;
  const insert = (table: string) => `INSERT INTO mistake.${table} VALUES (1, '+491')`;

  it('refuses the caller for ever', async () => {
    const session = await stand.stage.session();
    await session.run(`INSERT INTO mistake.keyed VALUES (1, '+491', now())`);
    expect(await session.run(find('keyed'))).toEqual([]);
    await expect(session.run(insert('keyed'))).rejects.toMatchObject({ code: '23505' });
    expect(await session.run(find('keyed'))).toEqual([]);
  });

  it('without the key makes two of one caller', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    for (const session of [one, other]) await session.run('BEGIN');
    for (const session of [one, other]) expect(await session.run(find('unkeyed'))).toEqual([]);
    for (const session of [one, other]) await session.run(insert('unkeyed'));
    for (const session of [one, other]) await session.run('COMMIT');
    expect(await stand.stage.look(find('unkeyed'))).toHaveLength(2);
  });

  const create = (phone: string) => stand.clinic.call('POST', '/v1/patients', { body: { phone } });

  it('does not in Holdfast: the deleted one stays deleted, and a new one is made', async () => {
    const phone = '+4915112000001';
    const first = await create(phone);
    expect((await stand.clinic.call('DELETE', `/v1/patients/${first.body.id}`)).status).toBe(204);
    const second = await create(phone);
    expect(second.status).toBe(201);
    expect(second.body.id).not.toBe(first.body.id);
    expect(await create(phone)).toMatchObject({ status: 200, body: { id: second.body.id } });
  });

  it.each([
    ['COMMIT', [200, 200]],
    ['ROLLBACK', [200, 201]],
  ])(
    'does not in Holdfast: callers at once wait for the one who is being made, and share him (%s)',
    async (end, statuses) => {
      const [phone, id] = [end === 'COMMIT' ? '+4915112000002' : '+4915112000003', uuidv7()];
      const maker = await stand.stage.session();
      await maker.run('BEGIN');
      await maker.run('INSERT INTO patient (organization_id, id, phone) VALUES ($1, $2, $3)', [
        stand.clinic.organizationId,
        id,
        phone,
      ]);
      const race = [create(phone), create(phone)];
      await stand.stage.waiting(2);
      await maker.run(end);

      const answers = await Promise.all(race);
      expect(statusesOf(answers)).toEqual(statuses);
      const living = await stand.stage.look('SELECT id FROM patient WHERE phone = $1 AND deleted_at IS NULL', [phone]);
      expect(living).toEqual([{ id: answers[0]!.body.id }]);
      expect(answers[1]!.body.id).toBe(answers[0]!.body.id);
    },
  );
});
