import { parseArgs } from 'node:util';

export interface Options {
  form: 'default' | 'full' | 'short';
  only: string[];
  json?: string;
}

/** A mistake in the options, in one line. */
export class OptionsError extends Error {}

export const helpFor = (rows: ReadonlyArray<{ name: string; about: string }>): string =>
  `Usage: npm run bench -- [options]

Measures Holdfast against references that run beside it in the same call, in turns, and prints one table. A bound is missed
only when the whole 95 % interval of a figure lies beyond it; exits with 1 when one is missed.

  --full           5,000,000 appointments instead of 500,000, and the rows that are shown for information alone
  --short          the form for continuous integration, two minutes at most: 20,000 appointments, the main rows, few pairs;
                   ratios are judged alone, and missed only where one is no better than half of its bound or of
                   what this release reaches
  --only A,B       these rows alone
  --json FILE      write everything that was measured there as well
  --help

Rows:
${rows.map(({ name, about }) => `  ${name.padEnd(14)} ${about}`).join('\n')}

The data is loaded once, into a database of its own below .holdfast-bench/ or, with DATABASE_URL set, beside that one; the
databases holdfast_bench_<size> stay for the next run. It is loaded anew when the schema changes, and after a week.
`;

/** @returns `help` where that is all that is wanted */
export function readOptions(args: string[], rows: readonly string[]): Options | 'help' {
  const given = parse(args);
  if (given.help) return 'help';
  if (given.full && given.short) throw new OptionsError('--full and --short exclude each other');
  const only = (given.only ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  for (const name of only) if (!rows.includes(name)) throw new OptionsError(`--only: there is no row ${name}`);
  return { form: given.full ? 'full' : given.short ? 'short' : 'default', only, json: given.json };
}

function parse(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        full: { type: 'boolean', default: false },
        short: { type: 'boolean', default: false },
        only: { type: 'string' },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new OptionsError((error as Error).message.split('\n')[0]);
  }
}
