import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { cpus, loadavg } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Client as Postgres } from 'pg';
import { Client } from '../prove/client';
import { startFresh } from '../prove/install';
import { measureLists, measureSweep, type Timing } from './records';

/**
 * How fast bookings are: over REST with everything on, against a bare node:http + pg server that sends the same statements.
 * How long lists take among many appointments, and writing down many expiries at once. What is compared takes turns in one
 * run on one database, for machines are noisy; the ratio is the figure, the rest is information.
 */
const USAGE = `Usage: npm run bench -- [--connections 16] [--pairs 8] [--seconds 3] [--json FILE]

Bookings per second at distinct times, durable commits, against a bare node:http + pg reference in the same run; then pages of
lists among 150,000 appointments, and the seconds that it takes to write down 10,000 holds that are over.`;

const [APPOINTMENTS, OVERDUE] = [150_000, 10_000];

interface Target {
  name: string;
  url: string;
  headers: Record<string, string>;
  body(seat: Seat): string;
}

/** A time nobody else of this run books. */
interface Seat {
  practitionerId: string;
  scheduleId: string;
  startsAt: string;
}

interface Round {
  perSecond: number;
  latencies: number[];
  failed: Map<number, number>;
}

const [MINUTES, DAYS] = [15, 20];
const SEATS_A_DAY = (24 * 60) / MINUTES;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      connections: { type: 'string', default: '16' },
      pairs: { type: 'string', default: '8' },
      seconds: { type: 'string', default: '3' },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return say(USAGE);
  const [connections, pairs, seconds] = [values.connections, values.pairs, values.seconds].map(Number) as [
    number,
    number,
    number,
  ];
  if (![connections, pairs, seconds].every((number) => number > 0)) throw new Error(USAGE);

  note('Starting a fresh install …');
  const install = await startFresh({ preload: [] }, new AbortController().signal);
  let reference: ChildProcess | undefined;
  try {
    if (!install.databaseUrl) throw new Error('The database of the install cannot be reached.');
    const clinic = await prepare(
      install.urls[0]!,
      install.apiKey,
      // Enough for the overdue ones, too, which take the evenings.
      Math.max(80, Math.ceil((connections * pairs * seconds * 400) / (DAYS * SEATS_A_DAY))),
    );
    const postgres = new Postgres(install.databaseUrl);
    await postgres.connect();
    const started = await startReference(install.databaseUrl, clinic.organizationId, postgres);
    reference = started.process;
    const product: Target = {
      name: 'Holdfast',
      url: `${install.urls[0]}/v1/appointments`,
      headers: { authorization: `Bearer ${install.apiKey}` },
      body: ({ practitionerId, startsAt }) =>
        JSON.stringify({
          serviceId: clinic.serviceId,
          practitionerId,
          startsAt,
          patient: { phone: clinic.phone, name: 'Bench' },
        }),
    };
    const bare: Target = {
      name: 'bare node:http + pg',
      url: started.url,
      headers: {},
      body: (seat) => JSON.stringify({ ...seat, serviceId: clinic.serviceId, minutes: MINUTES, phone: clinic.phone }),
    };
    await measure(product, connections, 2, clinic.seats);
    await measure(bare, connections, 2, clinic.seats);
    const rounds: Array<[Round, Round]> = [];
    for (let pair = 1; pair <= pairs; pair++) {
      note(`Pair ${pair} of ${pairs} …`);
      rounds.push([
        await measure(product, connections, seconds, clinic.seats),
        await measure(bare, connections, seconds, clinic.seats),
      ]);
    }
    const { rows } = await postgres.query<{ version: string; commits: string }>(
      `SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') || ', fsync ' || current_setting('fsync') AS commits`,
    );
    note(`Writing down ${OVERDUE} expiries …`);
    const sweepSeconds = await measureSweep(postgres, clinic, OVERDUE);
    note(`Loading ${APPOINTMENTS} appointments and listing them …`);
    const lists = await measureLists(new Client(0, install.urls[0]!, install.apiKey), postgres, clinic, APPOINTMENTS);
    await postgres.end();
    const on = { connections, seconds, postgres: rows[0]!.version, commits: rows[0]!.commits };
    report(rounds, on, sweepSeconds, lists, values.json);
  } finally {
    reference?.kill();
    for (const complaint of await install.close()) note(complaint);
  }
}

/** Practitioners open around the clock, with their days planned, and a generator of free seats. */
async function prepare(url: string, apiKey: string, practitioners: number) {
  const client = new Client(0, url, apiKey);
  note(`Making ${practitioners} practitioners …`);
  const { id: organizationId } = (await client.must('GET', '/v1/organization')).body as { id: string };
  const lanes: Array<{ id: string; scheduleId: string }> = [];
  for (let index = 0; index < practitioners; index++) {
    const lane = (await client.must('POST', '/v1/practitioners', { body: { name: `Bench ${index}`, timeZone: 'UTC' } }))
      .body as {
      id: string;
      scheduleId: string;
    };
    const hours = [1, 2, 3, 4, 5, 6, 7].map((weekday) => ({ weekday, start: '00:00', end: '24:00' }));
    await client.must('PUT', `/v1/schedules/${lane.scheduleId}/hours`, {
      body: { timeZone: 'UTC', hours },
      headers: { 'if-match': '"1"' },
    });
    lanes.push(lane);
  }
  const service = { name: 'Bench', durationMinutes: MINUTES, practitionerIds: lanes.map((lane) => lane.id) };
  const { id: serviceId } = (await client.must('POST', '/v1/services', { body: service })).body as { id: string };
  const [phone, first] = ['+447700900123', Math.ceil(Date.now() / 86_400_000) * 86_400_000 + 86_400_000];
  const { id: patientId } = (await client.must('POST', '/v1/patients', { body: { phone, name: 'Bench' } })).body as {
    id: string;
  };
  const seats = (function* (): Generator<Seat> {
    for (let seat = 0; seat < SEATS_A_DAY; seat++) {
      for (let day = 0; day < DAYS; day++) {
        for (const { id, scheduleId } of lanes) {
          const startsAt = new Date(first + day * 86_400_000 + seat * MINUTES * 60_000).toISOString();
          yield { practitionerId: id, scheduleId, startsAt };
        }
      }
    }
  })();
  // The first seat of every day goes into preparation: it makes the day's row, which no round shall pay for.
  note(`Planning ${lanes.length * DAYS} days …`);
  for (let day = 0; day < lanes.length * DAYS; day++) {
    const { practitionerId, startsAt } = seats.next().value as Seat;
    await client.must('POST', '/v1/appointments', {
      body: { serviceId, practitionerId, startsAt, patient: { phone } },
    });
  }
  client.close();
  return { organizationId, serviceId, patientId, lanes, phone, seats };
}

async function startReference(databaseUrl: string, organizationId: string, postgres: Postgres) {
  const { rows } = await postgres.query<{ role: string }>(
    `SELECT r.rolname AS role FROM pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
     WHERE p.polrelid = 'appointment'::regclass AND p.polname = 'organization_isolation'`,
  );
  const settings = JSON.stringify({ databaseUrl, organizationId, appRole: rows[0]!.role });
  const child = spawn(process.execPath, [path.join(__dirname, 'reference.js'), settings], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const port = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('exit', () => reject(new Error('The reference server did not start.')));
  });
  return { process: child, url: `http://127.0.0.1:${port}/` };
}

/** Keeps so many connections busy for so long. */
async function measure(target: Target, connections: number, seconds: number, seats: Generator<Seat>): Promise<Round> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  const latencies: number[] = [];
  const failed = new Map<number, number>();
  const started = performance.now();
  const until = started + seconds * 1000;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < until) {
        const seat = seats.next();
        if (seat.done) throw new Error('The seats are used up: fewer --pairs or --seconds.');
        const sent = performance.now();
        const status = await post(target, agent, target.body(seat.value));
        if (status === 201) latencies.push(performance.now() - sent);
        else failed.set(status, (failed.get(status) ?? 0) + 1);
      }
    }),
  );
  agent.destroy();
  return { perSecond: latencies.length / ((performance.now() - started) / 1000), latencies, failed };
}

function post({ url, headers }: Target, agent: http.Agent, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      agent,
      headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    };
    const request = http.request(url, options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function report(
  rounds: Array<[Round, Round]>,
  on: Record<string, string | number>,
  sweepSeconds: number,
  lists: Timing[],
  file?: string,
): void {
  const ratios = rounds.map(([product, bare]) => product.perSecond / bare.perSecond).sort((a, b) => a - b);
  const of = (which: 0 | 1) => {
    const latencies = rounds.flatMap((pair) => pair[which].latencies).sort((a, b) => a - b);
    return {
      perSecond: median(rounds.map((pair) => pair[which].perSecond)),
      p50: latencies[Math.floor(latencies.length * 0.5)]!,
      p95: latencies[Math.floor(latencies.length * 0.95)]!,
      failed: rounds.reduce((sum, pair) => sum + [...pair[which].failed.values()].reduce((a, b) => a + b, 0), 0),
    };
  };
  const figures = {
    measure: 'bookings per second over REST, distinct times',
    ...on,
    node: process.version,
    processors: cpus().length,
    load: loadavg().map((each) => Number(each.toFixed(2))),
    holdfast: of(0),
    bare: of(1),
    ratio: { median: median(ratios), low: ratios[0]!, high: ratios.at(-1)! },
    sweep: { overdue: OVERDUE, seconds: sweepSeconds },
    lists: { appointments: APPOINTMENTS, pages: lists },
  };
  say(
    `Bookings at distinct times, ${on['connections']} connections, PostgreSQL ${on['postgres']}, synchronous_commit ${on['commits']}`,
  );
  for (const [name, row] of Object.entries({ Holdfast: figures.holdfast, 'bare node:http + pg': figures.bare })) {
    say(
      `  ${name.padEnd(20)} ${row.perSecond.toFixed(0).padStart(6)}/s   p50 ${row.p50.toFixed(1)} ms   p95 ${row.p95.toFixed(1)} ms   not booked ${row.failed}`,
    );
  }
  const { median: middle, low, high } = figures.ratio;
  say(
    `  ratio                ${middle.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)} over ${ratios.length} pairs), load ${figures.load.join(' ')}`,
  );
  say(`Writing down ${OVERDUE} expiries that are due at once: ${sweepSeconds.toFixed(1)} s`);
  say(`Pages of 50 among ${APPOINTMENTS} appointments, and their ratio to reading one row through the same stack`);
  for (const { name, p50, p95, ratio } of lists) {
    say(
      `  ${name.padEnd(30)} p50 ${p50.toFixed(1).padStart(6)} ms   p95 ${p95.toFixed(1).padStart(6)} ms   ratio ${ratio.toFixed(1)}`,
    );
  }
  if (file) writeFileSync(file, `${JSON.stringify(figures, null, 2)}\n`);
}

const median = (numbers: number[]): number => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const note = (line: string): void => void process.stderr.write(`${line}\n`);

main().catch((error: unknown) => {
  note(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
});
