import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import type { Figure, Unit } from './figures';
import { ENOUGH } from './pace';
import type { Server } from './server';
import { type Bound, half, judge, type Verdict } from './statistics';

/** A line of the table with what it means. A row that could not be measured has no figure, and is missed. */
export interface Line extends Partial<Figure> {
  row: string;
  what: string;
  verdict: Verdict;
  about: string;
}

/** What the figures depend on. */
export interface Surroundings {
  holdfast: string;
  node: string;
  postgres: string;
  commits: string;
  processors: string;
  appointments: { large: number; small: number };
  form: string;
}

/** @param free share of the processors that the run could have, at least */
export function lineOf(row: string, figure: Figure, isShort: boolean, free: number): Line {
  // The short form is for machines that nobody knows: times and rates are shown there, and ratios judged.
  const bound = !isShort ? figure.bound : TIMED.has(figure.unit) ? undefined : half(figure.bound);
  const verdict = judge(figure.range, bound);
  // Times and rates of a machine that is busy with something else convict nobody.
  if (verdict === 'missed' && TIMED.has(figure.unit) && free < ENOUGH)
    return {
      row,
      ...figure,
      bound,
      verdict: 'unclear',
      about: `${figure.about}, the machine was busy`.replace(/^, /, ''),
    };
  return { row, ...figure, bound, verdict };
}

const TIMED: ReadonlySet<Unit> = new Set(['ms', '/s', 's']);

export async function surroundings(server: Server): Promise<Omit<Surroundings, 'appointments' | 'form'>> {
  const [found] = await server.query<{ postgres: string; commits: string }>(
    `SELECT current_setting('server_version') AS postgres, 'synchronous_commit ' || current_setting('synchronous_commit')
       || ', fsync ' || current_setting('fsync') || ', full_page_writes ' || current_setting('full_page_writes') AS commits`,
  );
  const file = path.resolve(__dirname, '../../../package.json');
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  const models = cpus();
  return {
    holdfast: `${version}${commit()}`,
    node: process.version,
    postgres: found!.postgres,
    commits: found!.commits,
    processors: `${models.length} × ${models[0]?.model.trim() ?? 'unknown'}`,
  };
}

function commit(): string {
  try {
    return ` (${execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: __dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()})`;
  } catch {
    return '';
  }
}

const HEADS = ['row', 'figure', 'value', '95 %', 'bound', 'verdict', 'made of', 'in absolute terms'];

export function table(lines: readonly Line[]): string {
  const cells = [
    HEADS,
    ...lines.map((line) => [
      line.row,
      line.what,
      line.value === undefined ? '-' : show(line.value, line.unit),
      line.range ? `${bare(line.range.low, line.unit)}–${bare(line.range.high, line.unit)}` : '-',
      line.bound ? showBound(line.bound, line.unit) : '-',
      line.verdict,
      line.of ?? '-',
      line.about,
    ]),
  ];
  const widths = HEADS.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const rows = cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  rows.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '));
  return rows.join('\n');
}

const showBound = ({ is, value, aim }: Bound, unit?: Unit): string =>
  `${is === 'at least' ? '≥' : '≤'} ${show(value, unit)}${aim === undefined ? '' : `, aim ${show(aim, unit)}`}`;

const show = (value: number, unit?: Unit): string =>
  unit === 'x' || unit === undefined ? bare(value, unit) : `${bare(value, unit)}${unit === '/s' ? '' : ' '}${unit}`;

const bare = (value: number, unit?: Unit): string =>
  ['/s', 'MB', 'times'].includes(unit ?? '') || Math.abs(value) >= 100
    ? value.toFixed(0)
    : value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
