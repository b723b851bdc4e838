import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

const ROOT = path.resolve(__dirname, '../..');

/** The options that load a plant into the processes of a fresh install. */
export const plant = (name: string) => ['--app-require', path.join(ROOT, `test/plants/${name}.cjs`)];

/** What a run told, and how it ended. */
export interface Run {
  exitCode: number | null;
  stdout: string;
  stderr: string;
  report: {
    storms: Array<{
      storm: string;
      clients: number;
      rounds: number;
      winners: number;
      serverErrors: number;
      answers: Record<string, number>;
    }>;
    notRun: unknown[];
    notChecked: Array<{ check: string }>;
    violations: Array<{ storm: string; check: string; examples: string[] }>;
  };
  /** Names of the checks that were broken. */
  broken: Set<string>;
}

/** `npm run prove`, as the build that `npm test` makes first. */
export async function prove(options: string[], environment: NodeJS.ProcessEnv = {}): Promise<Run> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'holdfast-test-prove-'));
  const json = path.join(folder, 'figures.json');
  try {
    const child = spawn(
      process.execPath,
      [path.join(ROOT, 'dist/tools/prove/main.js'), '--seed', '7', '--json', json, ...options],
      { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const output = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => (output.stdout += chunk));
    child.stderr.on('data', (chunk) => (output.stderr += chunk));
    const exitCode = await new Promise<number | null>((resolve) => child.once('close', resolve));
    const figures = await readFile(json, 'utf8').catch(() => '{"violations":[]}');
    const report = JSON.parse(figures) as Run['report'];
    return { exitCode, ...output, report, broken: new Set(report.violations.map(({ check }) => check)) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
