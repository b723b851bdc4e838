import { createHash, randomBytes } from 'node:crypto';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { uuidv7 } from 'uuidv7';
import { type AppProcess, startOn } from '../prove/install';
import { Random } from '../prove/random';
import { template } from './dataset';
import { SERVICES } from './dataset.sql';
import type { Limits } from './load';
import type { Options } from './options';
import { Server, withClient } from './server';
import { headersOf } from './wire';

/** A practitioner or room whose time is booked. */
export interface Lane {
  id: string;
  scheduleId: string;
}

/** A time that nobody else of this run books, of a day that has its row. */
export interface Seat extends Lane {
  day: string;
  startsAt: Date;
}

/** What is known of a copy's data. */
export interface Clinic {
  organizationId: string;
  appRole: string;
  principalId: string;
  services: Record<keyof typeof SERVICES, string>;
  lanes: Record<'booking' | 'consultation' | 'hot', Lane[]>;
  patients: Array<{ id: string; phone: string }>;
}

/** One process of Holdfast on a copy of its own, and the seats of that copy. */
export interface Place {
  databaseUrl: string;
  app: AppProcess;
  /** Headers of a request with the API key. */
  headers: string;
  clinic: Clinic;
  seats: Generator<Seat>;
  /** Confirmed appointments, each handed out once. */
  stock: Stock;
}

interface Stock {
  take(): { id: string; version: number };
}

/** What the references are started with. */
export interface ReferenceSettings {
  databaseUrl: string;
  organizationId: string;
  appRole: string;
  principalId: string;
}

const PRELOAD = path.join(__dirname, 'preload');
/** Adds the endpoint that does nothing but ask the database for 1. */
export const ROUND_TRIP = path.join(PRELOAD, 'round-trip.js');
/** Takes away what protects a time. */
export const UNPROTECTED = path.join(PRELOAD, 'unprotected.js');

/** Quarters of an hour from six in the morning on; before lie the appointments that are there from the start. */
const [FIRST_QUARTER, LAST_QUARTER] = [24, 91];
const SEAT_DAYS = { from: 2, to: 34 };

/** The short form ends within two minutes on slow machines, too: what is left after this is measured three times. */
const HURRY_AFTER_MS = 50_000;

/** Everything that a run has running, and how to be rid of it. */
export class Stage {
  readonly random = new Random(20_260_101);
  private readonly folder = mkdtempSync(path.join(tmpdir(), 'holdfast-bench-'));
  private readonly kept = new Map<string, Place>();
  private readonly closers: Array<() => Promise<unknown>> = [];
  private readonly openedAt = performance.now();
  private copies = 0;

  private constructor(
    readonly options: Options,
    readonly server: Server,
    readonly say: (line: string) => void,
  ) {}

  static async open(options: Options, say: (line: string) => void): Promise<Stage> {
    const server = await Server.open(say);
    const stage = new Stage(options, server, say);
    // What a killed run has left behind: nobody is connected to it, and nobody of that number is about to be.
    const left = await server.query<{ name: string }>(
      `SELECT datname AS name FROM pg_database d WHERE datname ~ '^holdfast_bench_run_' AND NOT EXISTS (
         SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname)`,
    );
    for (const { name } of left) if (!isRunning(Number(name.split('_')[3]))) await server.drop(name);
    return stage;
  }

  /** Appointments in the data of most rows, and in that of rows that compare with less of it. */
  get sizes(): { large: number; small: number } {
    const { form } = this.options;
    if (form === 'short') return { large: 20_000, small: 20_000 };
    return form === 'full' ? { large: 5_000_000, small: 100_000 } : { large: 500_000, small: 100_000 };
  }

  /** How often something is measured in turns; few times where the run is short. */
  rounds(usual: number): Limits {
    if (this.options.form === 'short' && performance.now() - this.openedAt > HURRY_AFTER_MS)
      return { most: 3, fewest: 3, milliseconds: 0 };
    return this.options.form === 'short'
      ? { most: Math.round(usual / 3), fewest: 4, milliseconds: 5_000 }
      : { most: usual, fewest: 8, milliseconds: 33_000 };
  }

  get seconds(): number {
    return this.options.form === 'short' ? 0.4 : 0.5;
  }

  /** The process that most rows measure, on the large data. */
  main(): Promise<Place> {
    return this.keep('main', () => this.place(this.sizes.large, [ROUND_TRIP]));
  }

  /** The same on the small data. */
  small(): Promise<Place> {
    return this.keep('small', () => this.place(this.sizes.small, [ROUND_TRIP]));
  }

  /** One with neither lock nor constraint, on a copy of the small data. */
  unprotected(): Promise<Place> {
    return this.keep('unprotected', () =>
      this.place(this.sizes.small, [UNPROTECTED], 'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap'),
    );
  }

  /** A program of this folder that serves as a reference; it prints its port once it listens. */
  async reference(program: string, place: Place): Promise<string> {
    const { organizationId, appRole, principalId } = place.clinic;
    const settings: ReferenceSettings = { databaseUrl: place.databaseUrl, organizationId, appRole, principalId };
    const child = spawn(process.execPath, [path.join(__dirname, program), JSON.stringify(settings)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // Ctrl-C is for bench, which then stops it in order.
      detached: true,
    });
    const abandon = () => child.kill('SIGKILL');
    process.once('exit', abandon);
    child.once('exit', () => process.removeListener('exit', abandon));
    this.closers.push(() => ended(child));
    const port = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).once('line', resolve);
      child.once('exit', () => reject(new Error(`The reference ${program} did not start.`)));
    });
    return `http://127.0.0.1:${port}`;
  }

  /** Starts another process on a place's database, as the first one was started but for its settings. */
  another(place: Place, settings: NodeJS.ProcessEnv = {}): Promise<AppProcess> {
    return startOn(place.databaseUrl, this.folder, [], settings);
  }

  /** What a row has running besides, however it ends. */
  atTheEnd(closer: () => Promise<unknown>): void {
    this.closers.push(closer);
  }

  async close(): Promise<void> {
    for (const closer of this.closers.reverse()) await closer().catch((error: Error) => this.say(error.message));
    await this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async keep(name: string, make: () => Promise<Place>): Promise<Place> {
    const place = this.kept.get(name) ?? (await make());
    this.kept.set(name, place);
    return place;
  }

  private async place(appointments: number, preload: string[], sql?: string): Promise<Place> {
    const source = await template(this.server, appointments, this.say);
    const name = `holdfast_bench_run_${process.pid}_${++this.copies}`;
    await this.server.copy(source, name);
    this.closers.push(() => this.server.drop(name));
    const databaseUrl = this.server.url(name);
    if (sql !== undefined) await withClient(databaseUrl, (client) => client.query(sql));
    const apiKey = `hf_${randomBytes(32).toString('base64url')}`;
    const clinic = await readClinic(databaseUrl, apiKey);
    const app = await startOn(databaseUrl, this.folder, preload);
    this.closers.push(async () => {
      for (const complaint of await app.stop()) this.say(complaint);
    });
    const days = await daysOf(databaseUrl);
    return {
      databaseUrl,
      app,
      clinic,
      headers: headersOf({ authorization: `Bearer ${apiKey}` }),
      seats: seatsOf(clinic.lanes.booking, days),
      stock: await stockOf(databaseUrl, clinic),
    };
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill();
  await gone;
}

/** Finds again what was loaded, and gives the copy an API key. */
const readClinic = (url: string, apiKey: string): Promise<Clinic> =>
  withClient(url, async (client) => {
    const {
      rows: [ids],
    } = await client.query<{ organization: string; role: string }>(
      `SELECT o.id AS organization, r.rolname AS role FROM organization o, pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles)
       WHERE p.polrelid = 'appointment'::regclass AND p.polname = 'organization_isolation'`,
    );
    const [organizationId, principalId] = [ids!.organization, uuidv7()];
    await client.query(
      `INSERT INTO api_key (organization_id, id, name, role, prefix, key_hash) VALUES ($1, $2, 'bench', 'administrator', $3, $4)`,
      [organizationId, principalId, apiKey.slice(0, 9), createHash('sha256').update(apiKey).digest()],
    );
    const services = await client.query<{ id: string; name: string }>('SELECT id, name FROM service');
    const idOf = (name: string) => services.rows.find((service) => service.name === name)!.id;
    const lanesOf = async (kind: string) =>
      (
        await client.query<Lane>(
          `SELECT id, schedule_id AS "scheduleId" FROM practitioner WHERE starts_with(name, 'Dr. ' || $1) ORDER BY id`,
          [`${kind} `],
        )
      ).rows;
    return {
      organizationId,
      principalId,
      appRole: ids!.role,
      services: {
        booking: idOf(SERVICES.booking),
        consultation: idOf(SERVICES.consultation),
        crowded: idOf(SERVICES.crowded),
        hot: idOf(SERVICES.hot),
        visit: idOf(SERVICES.visit),
      },
      lanes: {
        booking: await lanesOf('booking'),
        consultation: await lanesOf('consultation'),
        hot: await lanesOf('hot'),
      },
      patients: (await client.query<{ id: string; phone: string }>('SELECT id, phone FROM patient')).rows,
    };
  });

/** The local days that bookings of a run lie on. */
export const daysOf = (url: string): Promise<Array<{ day: string; start: Date }>> =>
  withClient(url, async (client) => {
    const { rows } = await client.query<{ day: string; start: Date }>(
      `SELECT DISTINCT day::text, lower(covers) AS start FROM schedule_day
       WHERE lower(covers) BETWEEN now() + make_interval(days => $1) AND now() + make_interval(days => $2) ORDER BY day`,
      [SEAT_DAYS.from, SEAT_DAYS.to],
    );
    return rows;
  });

/** One practitioner and day after the other, so that what runs at the same time meets on no day. */
function* seatsOf(lanes: readonly Lane[], days: ReadonlyArray<{ day: string; start: Date }>): Generator<Seat> {
  for (let quarter = FIRST_QUARTER; quarter <= LAST_QUARTER; quarter++) {
    for (const { day, start } of days) {
      const startsAt = new Date(start.getTime() + quarter * 900_000);
      for (const lane of lanes) yield { ...lane, day, startsAt };
    }
  }
}

async function stockOf(url: string, clinic: Clinic): Promise<Stock> {
  const ids = await withClient(url, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `SELECT id FROM appointment WHERE service_id = $1 AND starts_at > now() + interval '1 day' AND status = 'confirmed' AND version = 1
       ORDER BY starts_at, id`,
      [clinic.services.booking],
    );
    return rows.map((row) => row.id);
  });
  let taken = 0;
  return {
    take() {
      const id = ids[taken++];
      if (id === undefined) throw new Error('The appointments of this run are used up.');
      return { id, version: 1 };
    },
  };
}

export function nextSeat({ seats }: Place): Seat {
  const { value } = seats.next() as { value: Seat | undefined };
  if (!value) throw new Error('The times of this run are used up.');
  return value;
}
