import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { InstallError } from '../prove/install';
import type { Figure } from './figures';
import { helpFor, type Options, OptionsError, readOptions } from './options';
import { freeProcessors } from './pace';
import { type Line, lineOf, surroundings, table } from './report';
import { ROWS } from './rows';
import { NotMeasured, type Row } from './rows/row';
import { Stage } from './stage';

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const note = (line: string): void => void process.stderr.write(`${line}\n`);

async function main(): Promise<number> {
  const options = readOptions(
    process.argv.slice(2),
    ROWS.map((row) => row.name),
  );
  if (options === 'help') {
    process.stdout.write(helpFor(ROWS));
    return 0;
  }
  const started = performance.now();
  const before = loadavg();
  let isStopped = false;
  // Whoever is started here goes with this process; copies of the data are dropped by the next run.
  process.once('SIGTERM', () => process.exit(143));
  process.once('SIGINT', () => {
    isStopped = true;
    note('Stopping after this row; once more stops at once.');
  });
  const stage = await Stage.open(options, note);
  try {
    const on = await surroundings(stage.server);
    const rows = ROWS.filter((row) => isWanted(row, options));
    const lines: Line[] = [];
    const seconds: Record<string, number> = {};
    const shares: number[] = [];
    for (const [index, row] of rows.entries()) {
      if (isStopped) break;
      note(`Row ${index + 1} of ${rows.length}: ${row.name} …`);
      const begun = performance.now();
      const free = await freeProcessors();
      const measurements = await measured(row, stage);
      const least = Math.min(free, await freeProcessors());
      shares.push(least);
      lines.push(
        ...measurements.map((each) =>
          'verdict' in each ? each : lineOf(row.name, each, options.form === 'short', least),
        ),
      );
      seconds[row.name] = (performance.now() - begun) / 1000;
    }
    const took = (performance.now() - started) / 1000;
    const about = { ...on, form: options.form, appointments: stage.sizes };
    const load = { before, after: loadavg() };
    say(
      `Holdfast ${on.holdfast}, node ${on.node}, PostgreSQL ${on.postgres} (${on.commits}), ${on.processors}, ` +
        `${about.appointments.large.toLocaleString('en')} appointments`,
    );
    say(
      `Load average ${load.before.map(two).join(' ')} before, ${load.after.map(two).join(' ')} after; ` +
        `at least ${(Math.min(1, ...shares) * 100).toFixed(0)} % of two processors to be had; took ${took.toFixed(0)} s`,
    );
    say('');
    say(table(lines));
    const missed = lines.filter((line) => line.verdict === 'missed');
    say('');
    const half = options.form === 'short' ? ' (short form: bounds are twice as wide)' : '';
    say(
      missed.length === 0
        ? `No bound is missed${half}.`
        : `MISSED${half}: ${missed.map((line) => `${line.row}: ${line.what}`).join('; ')}.`,
    );
    if (options.json) {
      const report = { ...about, load, freeProcessors: shares, seconds, took, isStopped, lines };
      writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
    }
    return isStopped ? 130 : missed.length === 0 ? 0 : 1;
  } finally {
    await stage.close();
  }
}

/** What cannot be measured is said in its place, and the other rows are measured all the same. */
async function measured(row: Row, stage: Stage): Promise<Figure[] | Line[]> {
  try {
    const figures = await row.measure(stage);
    if (figures.length === 0) throw new Error('nothing was measured');
    return figures;
  } catch (error) {
    const about = error instanceof Error ? error.message : String(error);
    note(`${row.name}: ${about}`);
    if (error instanceof NotMeasured) return [{ row: row.name, what: 'not measured', verdict: 'unclear', about }];
    return [{ row: row.name, what: 'could not be measured', verdict: 'missed', about: about.split('\n')[0]! }];
  }
}

function isWanted(row: Row, { only, form }: Options): boolean {
  if (only.length > 0) return only.includes(row.name);
  return (
    row.in === 'every form' || (form !== 'short' && row.in === 'default') || (form === 'full' && row.in === 'full')
  );
}

const two = (value: number): string => value.toFixed(2);

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    note(error instanceof Error ? error.message : String(error));
    process.exitCode = error instanceof OptionsError || error instanceof InstallError ? 2 : 1;
  },
);
