import { openStand, type Stand } from './stand';

/**
 * Mistake 4: a new one-time code deletes the old one and then inserts itself. Under READ COMMITTED two requests at once delete
 * what they see, and then there are two codes, each of which opens the door.
 *
 * Interleaving: both sessions delete the old code (the second waits for the first, and finds it gone), both insert, both commit.
 *
 * Holdfast's table has the phone as its key, and a new code is one upsert: the second waits, and takes the place of the first.
 */
describe('mistake 4: delete, then insert', () => {
  let stand: Stand;
  beforeAll(async () => {
    stand = await openStand('CREATE TABLE mistake.otp (phone text, code text)');
  });
  afterAll(() => stand.close());

  it('leaves two codes of one phone', async () => {
    const [one, other] = [await stand.stage.session(), await stand.stage.session()];
    for (const session of [one, other]) await session.run('BEGIN');
    for (const session of [one, other]) await session.run(`DELETE FROM mistake.otp WHERE phone = '+491'`);
    for (const session of [one, other]) await session.run(`INSERT INTO mistake.otp VALUES ('+491', random()::text)`);
    for (const session of [one, other]) await session.run('COMMIT');
    expect(await stand.stage.look('SELECT code FROM mistake.otp')).toHaveLength(2);
  });

  it.each(['COMMIT', 'ROLLBACK'])('does not in Holdfast: a request waits for the one before it (%s)', async (end) => {
    const phone = end === 'COMMIT' ? '+4915112000041' : '+4915112000042';
    const first = await stand.stage.session();
    await first.run('BEGIN');
    await first.run(
      `INSERT INTO otp_code (organization_id, phone, purpose, code_hash, expires_at)
       VALUES ($1, $2, 'sign_in', 'the first', now() + interval '5 minutes')`,
      [stand.clinic.organizationId, phone],
    );
    let answered = false;
    const body = { organizationId: stand.clinic.organizationId, phone };
    const second = stand.app
      .as(undefined)('POST', '/v1/auth/otp', { body })
      .finally(() => (answered = true));
    await stand.stage.waiting(1);
    expect(answered).toBe(false);
    await first.run(end);
    expect((await second).status).toBe(202);
    const codes = await stand.stage.look<{ code_hash: Buffer }>(
      `SELECT code_hash FROM otp_code WHERE phone = '${phone}'`,
    );
    expect(codes.map((row) => row.code_hash.length)).toEqual([32]);
  });
});
