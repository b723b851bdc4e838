import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { Outcome } from './history';

/** Durations in milliseconds, counted in buckets 1 % wide, so that hours of them take no more room than seconds. */
export class Durations {
  private readonly buckets = new Map<number, number>();
  private count = 0;
  private longest = 0;

  add(milliseconds: number): void {
    const bucket = Math.round(Math.log(Math.max(milliseconds, 0.001)) / WIDTH);
    this.buckets.set(bucket, (this.buckets.get(bucket) ?? 0) + 1);
    this.count++;
    this.longest = Math.max(this.longest, milliseconds);
  }

  get max(): number {
    return this.longest;
  }

  /** 0 where nothing was counted. */
  quantile(share: number): number {
    let left = Math.max(1, Math.ceil(this.count * share));
    for (const [bucket, count] of [...this.buckets].sort(([a], [b]) => a - b)) {
      left -= count;
      if (left <= 0) return Math.min(Math.exp(bucket * WIDTH), this.longest);
    }
    return 0;
  }
}
const WIDTH = Math.log(1.01);

/** How many examples of one broken check are kept; all are counted. */
const EXAMPLES = 5;

interface Violation {
  storm: string;
  check: string;
  count: number;
  examples: string[];
}

/** Figures of one storm at one number of clients, over all its rounds and repetitions. */
export class Figures {
  rounds = 0;
  attempts = 0;
  winners = 0;
  busy = 0;
  serverErrors = 0;
  unknown = 0;
  checks = 0;
  /** Undefined where pg_stat_database cannot be read. */
  deadlocks?: number;
  /** Refusals by code, 2xx answers that booked nothing new, and what a storm has seen beside its answers. */
  readonly answers = new Map<string, number>();
  readonly latency = new Durations();
  readonly lastLoser = new Durations();
  private readonly broken = new Map<string, Violation>();

  constructor(
    readonly storm: string,
    readonly title: string,
    readonly clients: number,
  ) {}

  /** Counts one answer. `note` is the code of a refusal, or says why an `ok` is no winner (replayed, existing). */
  count(outcome: Outcome, status: number, milliseconds: number, note?: string): void {
    this.attempts++;
    this.latency.add(milliseconds);
    if (outcome === 'unknown') this.unknown++;
    if (status >= 500 && note !== 'busy') this.serverErrors++;
    if (note === 'busy') this.busy++;
    else if (note !== undefined) this.answers.set(note, (this.answers.get(note) ?? 0) + 1);
    else if (outcome === 'ok') this.winners++;
  }

  /** Counts something that no answer tells. */
  remark(what: string): void {
    this.answers.set(what, (this.answers.get(what) ?? 0) + 1);
  }

  violation(check: string, detail: string): void {
    const known = this.broken.get(check) ?? { storm: `${this.storm} ${this.clients}`, check, count: 0, examples: [] };
    known.count++;
    if (known.examples.length < EXAMPLES) known.examples.push(detail);
    this.broken.set(check, known);
  }

  get violations(): Violation[] {
    return [...this.broken.values()];
  }

  toJSON() {
    return {
      storm: this.storm,
      title: this.title,
      clients: this.clients,
      rounds: this.rounds,
      attempts: this.attempts,
      winners: this.winners,
      answers: Object.fromEntries(this.answers),
      busy: this.busy,
      serverErrors: this.serverErrors,
      unknown: this.unknown,
      deadlocks: this.deadlocks ?? null,
      milliseconds: {
        p50: round(this.latency.quantile(0.5)),
        p95: round(this.latency.quantile(0.95)),
        p99: round(this.latency.quantile(0.99)),
        max: round(this.latency.max),
      },
      lastLoserMilliseconds: { p50: round(this.lastLoser.quantile(0.5)), max: round(this.lastLoser.max) },
      checks: this.checks,
      violations: this.violations,
    };
  }
}

/** Everything that a run found out. */
export interface Report {
  seed: number;
  startedAt: string;
  finishedAt: string;
  interrupted: boolean;
  install: { kind: 'fresh' | 'given'; processes: number };
  versions: { holdfast: string; node: string; postgres: string | null };
  storms: Figures[];
  /** Storms that could not be run here, with the reason. */
  notRun: Array<{ storm: string; reason: string }>;
  /** Names of checks that were made after every storm. */
  checked: string[];
  /** Checks that could not be made here, with the reason. */
  notChecked: Array<{ check: string; reason: string }>;
  /** About the run as a whole, such as the removal of the test location. */
  overall: Figures;
}

export const violationsOf = (report: Report): Violation[] => [
  ...report.storms.flatMap((figures) => figures.violations),
  ...report.overall.violations,
];

/** The figures for machines. */
export function writeJson(file: string, report: Report): void {
  const { storms, overall, ...rest } = report;
  const machine = { platform: `${process.platform} ${process.arch}`, cpus: availableParallelism() };
  const content = { ...rest, machine, storms, violations: violationsOf({ ...report, storms, overall }) };
  mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  writeFileSync(file, `${JSON.stringify(content, undefined, 2)}\n`);
}

/** The figures for people. */
export function showReport(report: Report): string {
  const { versions, install } = report;
  const processes = install.processes === 1 ? '1 process' : `${install.processes} processes`;
  const lines = [
    `Holdfast ${versions.holdfast}, Node ${versions.node}, PostgreSQL ${versions.postgres ?? 'of unknown version'}; ` +
      `${install.kind} install, ${processes}; seed ${report.seed}; ${report.startedAt}`,
    '',
    ...showTable(report.storms),
    '',
    'Times in milliseconds; of the last loser: from the start signal until the last refused client knows, median / worst round.',
    '',
    'Checked after every storm, beside what each of its answers must be:',
    ...report.checked.map((check) => `  ${check}`),
  ];
  for (const [reason, checks] of Map.groupBy(report.notChecked, ({ reason }) => reason)) {
    lines.push(`NOT checked, because ${reason}:`, ...checks.map(({ check }) => `  ${check}`));
  }
  for (const { storm, reason } of report.notRun) lines.push(`NOT run: ${storm}, because ${reason}.`);
  if (report.interrupted) lines.push('Interrupted: the figures are of what had run by then.');
  const violations = violationsOf(report);
  const verdict = report.storms.length === 0 ? 'Nothing was run.' : 'No violations.';
  lines.push('', violations.length === 0 ? verdict : 'VIOLATIONS');
  for (const { storm, check, count, examples } of violations) {
    lines.push(`  ${storm}: ${count} x broken: ${check}`, ...examples.map((example) => `      ${example}`));
  }
  return `${lines.join('\n')}\n`;
}

const COLUMNS: Array<[title: string, value: (figures: Figures) => string]> = [
  ['clients', (figures) => String(figures.clients)],
  ['rounds', (figures) => String(figures.rounds)],
  ['attempts', (figures) => String(figures.attempts)],
  ['winners', (figures) => String(figures.winners)],
  ['busy', (figures) => String(figures.busy)],
  ['5xx', (figures) => String(figures.serverErrors)],
  ['unknown', (figures) => String(figures.unknown)],
  ['deadlocks', (figures) => (figures.deadlocks === undefined ? '?' : String(figures.deadlocks))],
  ['p50', (figures) => showTime(figures.latency.quantile(0.5))],
  ['p95', (figures) => showTime(figures.latency.quantile(0.95))],
  ['p99', (figures) => showTime(figures.latency.quantile(0.99))],
  [
    'last loser',
    ({ lastLoser }) => (lastLoser.max > 0 ? `${showTime(lastLoser.quantile(0.5))}/${showTime(lastLoser.max)}` : '-'),
  ],
  ['checks', (figures) => String(figures.checks)],
  ['broken', (figures) => String(figures.violations.reduce((sum, violation) => sum + violation.count, 0))],
];

function showTable(storms: Figures[]): string[] {
  const others = (figures: Figures) => [...figures.answers].map(([code, count]) => `${code} ${count}`).join(', ');
  const rows = [
    ['storm', ...COLUMNS.map(([title]) => title), 'other answers'],
    ...storms.map((figures) => [figures.title, ...COLUMNS.map(([, value]) => value(figures)), others(figures)]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const isText = (column: number) => column === 0 || column === widths.length - 1;
  return rows.map((row) =>
    row
      .map((cell, column) => (isText(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}

const showTime = (milliseconds: number): string => milliseconds.toFixed(milliseconds < 10 ? 1 : 0);

const round = (milliseconds: number): number => Math.round(milliseconds * 100) / 100;

/** One line that tells how far the run is: rewritten in place on a terminal, repeated every few seconds elsewhere. */
export class Progress {
  private shownAt = 0;

  update(line: string): void {
    const now = performance.now();
    const terminal = process.stderr.isTTY;
    if (now - this.shownAt < (terminal ? 100 : 5000)) return;
    this.shownAt = now;
    process.stderr.write(terminal ? `\r\x1b[2K${line.slice(0, (process.stderr.columns ?? 80) - 1)}` : `${line}\n`);
  }

  /** A line that stays. */
  say(line: string): void {
    process.stderr.write(process.stderr.isTTY ? `\r\x1b[2K${line}\n` : `${line}\n`);
  }
}
