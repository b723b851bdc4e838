import { DayPlanner, LaneLists, OpeningsService } from '../../src/availability';
import { Clock } from '../../src/platform';
import { inDays, maker, openSql, type Sql } from '../support/api';
import { type Clinic, seedClinic, startApp, type TestApp } from '../support/app';

declare const PROPERTIES: { runs?: number };

/**
 * A search of many schedules reads only the days that PostgreSQL names as openings, of no more practitioners than it takes. Here
 * each is asked twice, so and with all days of all of them read, about days that are full, in remains, open at midnight, published,
 * without a row, or held until just now: the answers are the same. Fails when an opening is left out, or said to be later than it
 * is, or when a search stops too early.
 */
describe('searches by openings', () => {
  const LANES = 110;
  const DAYS = 7;
  // The long form: HOLDFAST_PROPERTY_RUNS.
  const ROUNDS = PROPERTIES.runs ?? 5;
  const SEARCHES = 14;
  const HOUR = 3_600_000;
  const ZONES = ['Europe/Berlin', 'Europe/Berlin', 'America/New_York', 'Pacific/Auckland'];

  let app: TestApp;
  let clinic: Clinic;
  let sql: Sql;
  let random: () => number;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
    sql = await openSql(app);
  });
  afterAll(async () => {
    await sql.close();
    await app.stop();
  });
  afterEach(() => jest.restoreAllMocks());

  const upTo = (most: number) => Math.floor(random() * (most + 1));
  const oneOf = <T>(choices: readonly T[]): T => choices[upTo(choices.length - 1)]!;
  const ranges = (pairs: number[][]) =>
    `{${pairs.map(([start, end]) => `["${new Date(start!).toISOString()}","${new Date(end!).toISOString()}")`).join()}}`;

  /** Something that may be taken of a day, as pairs of instants. */
  function someTaken(start: number, end: number): number[][] {
    const every = (minutes: number, free: number) => {
      const taken: number[][] = [];
      for (let at = start; at < end; at += minutes * 60_000)
        taken.push([at, Math.min(end, at + (minutes - free) * 60_000)]);
      return taken;
    };
    const kinds = [
      () => [],
      () => [[start, end]],
      () => every(20, 10),
      () => every(60, oneOf([15, 30, 45])),
      () => [[start, end - oneOf([5, 20, 90]) * 60_000]],
      () => [[start + oneOf([5, 20, 90]) * 60_000, end]],
      () =>
        Array.from({ length: 1 + upTo(9) }, () => {
          const from = start + upTo(22 * 60) * 60_000 + oneOf([0, 0, 0, 1, 500]);
          return [from, Math.min(end, from + (1 + upTo(180)) * 60_000)];
        }),
    ];
    return oneOf(kinds)().filter(([from, to]) => from! < to!);
  }

  /** Hours of a day: where they begin anchors the grid, with a location or none. */
  function someHours(start: number, end: number, locations: readonly string[]) {
    const kinds = [
      () => [],
      () => [[start, end]],
      () => [[start - oneOf([0, 90, 121]) * 60_000, end]],
      () => [[start + 8 * HOUR, start + 16 * HOUR]],
      () => [
        [start + 7 * HOUR + upTo(59) * 60_000, start + 12 * HOUR],
        [start + 13 * HOUR + oneOf([0, 1, 250]), end],
      ],
    ];
    const hours = oneOf(kinds)();
    const open = hours.map(([from, to]) => [Math.max(start, from!), Math.min(end, to!)]);
    const grid = hours.map(([from, to]) => [from! / 1000, to! / 1000, oneOf([null, ...locations])]);
    return { open, grid };
  }

  it.each([1, 2, 3])(
    'find what a look at every day finds (%i)',
    async (seed) => {
      let state = seed * 7919;
      // Numerical Recipes' generator: a failure comes back with its seed.
      random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
      const make = maker(clinic.call);
      const locations = await Promise.all([1, 2].map(() => make.location().then((made) => made.id as string)));
      const practitioners = await Promise.all(
        Array.from({ length: LANES }, () =>
          make.practitioner({ timeZone: oneOf(ZONES), locationId: oneOf([undefined, ...locations]) }),
        ),
      );
      const ids = practitioners.map((each) => each.id as string);
      const schedules = practitioners.map((each) => each.scheduleId as string);
      const serviceOf = (fields: object) => make.service(ids, fields);
      const services = await Promise.all(
        [
          { durationMinutes: 10, slotIntervalMinutes: 5 },
          { durationMinutes: 15, bufferBeforeMinutes: 5, bufferAfterMinutes: 10 },
          { durationMinutes: 29 },
          { durationMinutes: 30, modes: ['in_person', 'video'] },
          { durationMinutes: 60, slotIntervalMinutes: 20, minNoticeMinutes: 30 * 60 },
          { durationMinutes: 90, slotIntervalMinutes: 7, maxDaysAhead: 4 },
          { durationMinutes: 1440, slotIntervalMinutes: 60, bufferBeforeMinutes: 720, bufferAfterMinutes: 720 },
        ].map(serviceOf),
      );
      await app.app.get(DayPlanner, { strict: false }).planAhead();
      const now = Date.now();
      jest.spyOn(app.app.get(Clock, { strict: false }), 'now').mockImplementation(() => now);

      const lists = app.app.get(LaneLists, { strict: false });
      let readsAll = false;
      const remember = lists.remember.bind(lists);
      const find = lists.find.bind(lists);
      jest
        .spyOn(lists, 'remember')
        .mockImplementation((...list) => (readsAll ? (undefined as never) : remember(...list)));
      jest.spyOn(lists, 'find').mockImplementation((service) => (readsAll ? undefined : find(service)));
      const first = jest.spyOn(app.app.get(OpeningsService, { strict: false }), 'first');
      const among = jest.spyOn(OpeningsService.prototype as never, 'among');

      let found = 0;
      for (let round = 0; round < ROUNDS; round++) {
        await fillDays(schedules, locations);
        for (let each = 0; each < SEARCHES; each++) {
          const service = oneOf(services);
          const from = Date.parse(inDays(1)) + upTo(4 * 24 * 60) * 60_000 + oneOf([0, 0, 1, 333]);
          const query = new URLSearchParams({
            serviceId: service.id,
            from: new Date(from).toISOString(),
            to: new Date(from + (1 + upTo(60)) * HOUR).toISOString(),
            limit: String(oneOf([1, 2, 10, 1 + upTo(119)])),
            ...(upTo(9) === 0 && { locationId: oneOf(locations) }),
            ...(service.modes.length > 1 && upTo(1) === 0 && { mode: 'video' }),
          });
          readsAll = false;
          const few = await clinic.call('GET', `/v1/slots?${query.toString()}`);
          readsAll = true;
          const all = await clinic.call('GET', `/v1/slots?${query.toString()}`);
          expect([round, query.toString(), few.status, few.body.data]).toEqual([
            round,
            query.toString(),
            200,
            all.body.data,
          ]);
          found += all.body.data.length;
        }
      }
      // The test itself has asked for something: most searches were led by openings, many stopped at a part, and they found times.
      const stopped = among.mock.calls.filter(
        (call) =>
          (call as unknown as [unknown, unknown, { parts: unknown[]; lanes: unknown[] }])[2].lanes.length < LANES,
      );
      expect(stopped.length).toBeGreaterThan(ROUNDS);
      expect(first.mock.calls.length).toBeGreaterThan((ROUNDS * SEARCHES) / 2);
      expect(found).toBeGreaterThan(ROUNDS * SEARCHES * 2);
    },
    240_000,
  );

  /** Gives the rows of the next days another life each, whatever the rules of their schedules say. */
  async function fillDays(schedules: readonly string[], locations: readonly string[]): Promise<void> {
    await sql('DELETE FROM claim WHERE schedule_id = ANY($1)', [schedules]);
    const rows = await sql(
      `SELECT schedule_id, day::text, extract(epoch FROM lower(covers)) * 1000 AS start, extract(epoch FROM upper(covers)) * 1000 AS end
       FROM schedule_day WHERE schedule_id = ANY($1) AND day < current_date + $2::integer ORDER BY 1, 2`,
      [schedules, DAYS + 4],
    );
    const fullness = random();
    // Where nothing is published and nothing is missing it is known when days begin.
    const isPlain = random() < 0.6;
    const isTidy = random() < 0.5;
    // Only where little is taken services of a day and more find their place.
    const isQuiet = random() < 0.3;
    const filled = rows.map((row) => {
      const [start, end] = [Number(row.start), Number(row.end)];
      const { open, grid } = isQuiet
        ? { open: [[start, end]], grid: [[start / 1000, end / 1000, null]] }
        : isTidy
          ? { open: [[start + 8 * HOUR, end]], grid: [[(start + 8 * HOUR) / 1000, end / 1000, null]] }
          : someHours(start, end, locations);
      const slot = [start + 10 * HOUR, start + 11 * HOUR];
      const isPublished = !isPlain && random() < 0.04;
      return {
        schedule_id: row.schedule_id,
        day: row.day,
        open: ranges(isPublished ? [...open, slot] : open),
        taken: ranges(isQuiet && upTo(9) > 0 ? [] : random() < fullness ? [[start, end]] : someTaken(start, end)),
        grid: isPublished ? [...grid, [slot[0]! / 1000, slot[1]! / 1000, null]] : grid,
        published: isPublished ? [[slot[0]! / 1000, slot[1]! / 1000, oneOf([null, 'video']), oneOf([null, 1, 3])]] : [],
        claim: random() < 0.05 ? new Date(start + upTo(20) * HOUR).toISOString() : null,
      };
    });
    const given = [JSON.stringify(filled)];
    const ROWS = `jsonb_to_recordset($1) AS f (schedule_id uuid, day date, open text, taken text, grid jsonb, published jsonb, claim timestamptz)`;
    await sql(
      `UPDATE schedule_day d SET open = f.open::tstzmultirange, taken = f.taken::tstzmultirange, grid = f.grid, published = f.published,
                                 version = version + 1
       FROM ${ROWS} WHERE d.schedule_id = f.schedule_id AND d.day = f.day`,
      given,
    );
    // Whoever changes days by their rules changes the version of these.
    await sql('UPDATE schedule SET version = version + 1 WHERE id = ANY($1)', [schedules.slice(0, 1)]);
    // Holds of which some are over and some are not.
    await sql(
      `INSERT INTO claim (organization_id, schedule_id, starts_at, ends_at, core_starts_at, core_ends_at, holder, expires_at)
       SELECT d.organization_id, schedule_id, claim, claim + interval '2 hours', claim, claim + interval '2 hours', gen_random_uuid(),
              now() + CASE WHEN d.version % 3 = 0 THEN interval '1 day' ELSE interval '-1 minute' END
       FROM ${ROWS} JOIN schedule_day d USING (schedule_id, day) WHERE claim IS NOT NULL`,
      given,
    );
    if (!isPlain && random() < 0.3) {
      const missing = oneOf(rows);
      await sql('DELETE FROM schedule_day WHERE schedule_id = $1 AND day = $2', [missing.schedule_id, missing.day]);
    }
  }
});
