import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

const ROOT = path.resolve(__dirname, '../..');

interface Report {
  form: string;
  lines: Array<{ row: string; what: string; value?: number; range?: { low: number; high: number }; verdict: string }>;
}

/** `npm run bench`, as the build that `npm test` makes first. */
async function bench(options: string[]): Promise<{ exitCode: number | null; output: string; report?: Report }> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-test-bench-'));
  const json = path.join(folder, 'figures.json');
  try {
    const child = spawn(process.execPath, [path.join(ROOT, 'dist/tools/bench/main.js'), '--json', json, ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    const exitCode = await new Promise<number | null>((resolve) => child.once('close', resolve));
    const figures = await readFile(json, 'utf8').catch(() => undefined);
    return { exitCode, output, report: figures === undefined ? undefined : (JSON.parse(figures) as Report) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe('bench in its short form', () => {
  it('measures the main rows, and none is at half of its bound', async () => {
    const { exitCode, output, report } = await bench(['--short']);
    const rows = new Map<string, Report['lines']>();
    for (const line of report?.lines ?? []) rows.set(line.row, [...(rows.get(line.row) ?? []), line]);
    // What was not measured cannot hold.
    expect([...rows].map(([name, lines]) => [name, lines.length])).toEqual([
      ['bookings', 3],
      ['actions', 4],
      ['one-slot', 3],
      ['slots-one', 1],
    ]);
    for (const { what, value, range } of report!.lines) {
      expect({ what, isMeasured: Number.isFinite(value) && range!.low <= value! && value! <= range!.high }).toEqual({
        what,
        isMeasured: true,
      });
    }
    expect({ exitCode, missed: report!.lines.filter((line) => line.verdict === 'missed'), output }).toEqual({
      exitCode: 0,
      missed: [],
      output: expect.stringContaining('No bound is missed') as string,
    });
  }, 300_000);
});

describe('the options of bench', () => {
  it.each([
    [['--only', 'dancing'], 2, '--only: there is no row dancing'],
    [['--short', '--full'], 2, '--full and --short exclude each other'],
    [['--quickly'], 2, "Unknown option '--quickly'"],
    [['--help'], 0, '--short'],
  ])('%j: exit code %d', async (options, code, message) => {
    const { exitCode, output } = await bench(options);
    expect(output).toContain(message);
    expect(exitCode).toBe(code);
  });
});
