import { Client } from './client';
import { type Install, InstallError, openGiven, startFresh } from './install';
import { checkOverHttp, HTTP_CHECKS } from './invariants';
import { DATABASE_CHECKS } from './invariants.sql';
import type { LedgerReader } from './ledger-reader';
import { HISTORY_CHECKS } from './history-checks';
import { HELP, type Options, OptionsError, readOptions } from './options';
import { Random, subSeed } from './random';
import { Figures, Progress, type Report, showReport, violationsOf, writeJson } from './report';
import { type Judge, type Storm, StormContext } from './storm';
import { STORMS } from './storms';
import { World } from './world';

/** Exit codes: 0 all invariants held, 1 a violation, 2 nothing could be shown (options, install), 130 interrupted. */
async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  const progress = new Progress();
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // The second one is meant: whoever cannot wait for the clean-up does not get it.
      if (interruption.signal.aborted) process.exit(130);
      progress.say('Interrupted: cleaning up. Once more to stop at once.');
      interruption.abort();
    });
  }

  progress.say(`Seed ${options.seed}.`);
  if (options.urls.length === 0) progress.say('Starting a fresh install ...');
  const install =
    options.urls.length > 0
      ? await openGiven(options.urls, options.apiKey)
      : await startFresh(options, interruption.signal);
  let report: Report;
  try {
    report = await prove(options, install, interruption.signal, progress);
  } finally {
    progress.update('Stopping ...');
    for (const complaint of await install.close()) progress.say(`Note: ${complaint}.`);
  }
  progress.say('');
  process.stdout.write(showReport(report));
  if (options.json !== undefined) writeJson(options.json, report);
  if (violationsOf(report).length > 0) return 1;
  if (report.interrupted) return 130;
  return report.storms.length === 0 ? 2 : 0;
}

async function prove(options: Options, install: Install, signal: AbortSignal, progress: Progress): Promise<Report> {
  const startedAt = new Date();
  const until = options.minutes === undefined ? Infinity : performance.now() + options.minutes * 60_000;
  const admin = new Client(0, install.urls[0] as string, install.apiKey);
  const crowd = new Crowd(install);
  const overall = new Figures('prove', 'the run as a whole', 0);
  const world = new World(admin, new Random(subSeed(options.seed, 'world')), options.clients);
  const rows = rowsOf(options, install);
  const notChecked: Report['notChecked'] = [];
  let ledger: LedgerReader | undefined;
  try {
    await world.create();
    try {
      ledger = await openLedger(install, world);
    } catch (error) {
      const reason = (error as Error).message;
      notChecked.push(...[...DATABASE_CHECKS, 'deadlocks'].map((check) => ({ check, reason })));
    }
    const judge: Judge = async (clients, lives) => {
      const overHttp = await checkOverHttp(world, clients, lives);
      const inDatabase = await ledger?.check(world, lives);
      return {
        made: overHttp.made + (inDatabase?.made ?? 0),
        findings: [...overHttp.findings, ...(inDatabase?.findings ?? [])],
      };
    };
    const again = () => options.minutes !== undefined && performance.now() < until;
    for (let cycle = 0; cycle === 0 || again(); cycle++) {
      for (const [index, { storm, figures }] of rows.run.entries()) {
        if (signal.aborted || performance.now() > until) break;
        // Every storm has its turn: an equal share of the time that is left.
        const share = performance.now() + (until - performance.now()) / (rows.run.length - index);
        const clients = crowd.take(figures.clients, storm);
        const random = new Random(subSeed(options.seed, storm.name, figures.clients, cycle));
        const { codesTo, limitsCodes } = install;
        const fresh = install.kind === 'fresh';
        const limits = { rounds: options.rounds, fresh, codesTo, limitsCodes, until: share, signal };
        const before = await ledger?.deadlocks();
        try {
          await storm.run(new StormContext(storm, clients, world, random, figures, judge, limits, progress));
        } catch (error) {
          figures.violation('the storm could be run to its end', (error as Error).stack ?? String(error));
          await world
            .tidy(clients)
            .catch((failed: Error) => figures.violation('its bookings could be cancelled', failed.message));
        }
        countDeadlocks(figures, install, before, await ledger?.deadlocks());
      }
    }
  } catch (error) {
    overall.violation('the test location could be made and used', (error as Error).message);
  } finally {
    progress.update('Removing the test location ...');
    // Of an install that is removed as a whole, in a hurry, its parts need not be.
    if (install.kind === 'given' || !signal.aborted) {
      for (const failure of await world.remove(crowd.take(options.clients))) {
        overall.violation('the test location was removed', failure);
      }
    }
    await ledger?.close();
    crowd.close();
    admin.close();
  }
  return {
    seed: options.seed,
    startedAt: startedAt.toISOString(),
    finishedAt: new Date().toISOString(),
    interrupted: signal.aborted,
    install: { kind: install.kind, processes: install.urls.length },
    versions: {
      holdfast: install.version,
      node: process.versions.node,
      postgres: ledger?.serverVersion ?? null,
    },
    storms: rows.run.map(({ figures }) => figures).filter((figures) => figures.attempts > 0),
    notRun: rows.notRun,
    checked: [...Object.values(HISTORY_CHECKS), ...Object.values(HTTP_CHECKS), ...(ledger ? DATABASE_CHECKS : [])],
    notChecked,
    overall,
  };
}

/** @throws Error that says why the database cannot be looked into */
async function openLedger(install: Install, world: World): Promise<LedgerReader> {
  if (install.databaseUrl === undefined) throw new Error('it needs DATABASE_URL');
  // Brings the app's own auditor along, and with it most of the app: only where it is of use.
  const { LedgerReader } = await import('./ledger-reader.js');
  const ledger = await LedgerReader.open(install.databaseUrl);
  try {
    if (await ledger.holds(world)) return ledger;
  } catch {
    // It has no such tables.
  }
  await ledger.close();
  throw new Error('DATABASE_URL is not the database of this install');
}

/** The rows of the table: each storm at each number of clients. */
function rowsOf(options: Options, install: Install) {
  const chosen = STORMS.filter((storm) => options.storms.length === 0 || options.storms.includes(storm.name));
  const why = (storm: Storm): string | undefined => {
    if (storm.severalProcesses && install.urls.length < 2) return 'it needs the URLs of two processes or more';
    if (storm.makesAccounts && install.kind === 'given') return 'it makes accounts, which would stay';
    return undefined;
  };
  const possible = chosen.filter((storm) => why(storm) === undefined);
  return {
    run: possible.flatMap((storm) => {
      const sizes = storm.defaults.clients(options.clients).filter((size) => size <= options.clients);
      return [...new Set(sizes)].map((size) => ({ storm, figures: new Figures(storm.name, storm.title, size) }));
    }),
    notRun: chosen.flatMap((storm) => {
      const reason = why(storm);
      return reason === undefined ? [] : [{ storm: storm.title, reason }];
    }),
  };
}

/** Callers with open connections, kept from storm to storm. */
class Crowd {
  private readonly clients = new Map<string, Client>();

  constructor(private readonly install: Install) {}

  /** The processes of a given install share the work in every storm; of a fresh one, where the storm is about that. */
  take(count: number, storm?: Storm): Client[] {
    const { urls, apiKey, kind } = this.install;
    const used = kind === 'given' || storm?.severalProcesses || storm?.everyProcess ? urls : urls.slice(0, 1);
    return Array.from({ length: count }, (_, number) => {
      const url = used[number % used.length] as string;
      const known = this.clients.get(`${number} ${url}`) ?? new Client(number, url, apiKey);
      this.clients.set(`${number} ${url}`, known);
      return known;
    });
  }

  close(): void {
    for (const client of this.clients.values()) client.close();
  }
}

/**
 * The server adds a connection's deadlocks to its statistics up to seconds late, so one may be shown in the row after its own.
 * In a fresh install nobody else can have caused them.
 */
function countDeadlocks(
  figures: Figures,
  install: Install,
  before: number | undefined,
  after: number | undefined,
): void {
  if (before === undefined || after === undefined) return;
  figures.deadlocks = (figures.deadlocks ?? 0) + after - before;
  if (install.kind === 'given') return;
  figures.checks++;
  if (after > before) figures.violation('no deadlocks', `${after - before} in pg_stat_database`);
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const expected = error instanceof OptionsError || error instanceof InstallError;
    process.stderr.write(`${expected ? error.message : ((error as Error).stack ?? String(error))}\n`);
    process.exitCode = 2;
  },
);
