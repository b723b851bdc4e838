import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { STORMS } from './storms';

export const HELP = `Usage: npm run prove -- [options]

Races many clients for the same time over real HTTP, storm after storm, and checks after each that nothing was booked
twice, nothing acknowledged was lost, and everything still fits together. Exits with 1 on any violation.

  --url U        a process of a running install; repeat it, or separate with commas, for several processes of one
                 install. Without it processes are started on an empty database, and removed afterwards.
  --api-key K    an administrator's API key of that install
  --clients N    clients at most (200)
  --rounds N     rounds of each storm (100); of storms whose rounds take seconds, some at most
  --processes N  how many processes of a fresh install (2)
  --minutes M    repeat all storms, with new sub-seeds, until M minutes are over
  --seed S       repeat the choices of an earlier run
  --storms A,B   only these: ${inLines(STORMS.map((storm) => storm.name))}
  --json FILE    write the figures there as well
  --help

A given install is used within a test location of its own: practitioners, services and patients made for it, phone
numbers reserved for fiction, nothing that sends, synchronises or charges. All of it is removed at the end; cancelled
appointments stay in the history. Set DATABASE_URL to its database for the checks that only SQL can make.
`;

export interface Options {
  urls: string[];
  apiKey: string;
  clients: number;
  rounds: number;
  /** Undefined: each storm once. */
  minutes?: number;
  seed: number;
  processes: number;
  json?: string;
  storms: string[];
  /** For the tests of prove itself, and therefore not in the help: see `test/plants`. */
  preload: string[];
  sqlAfterStart?: string;
}

/** Names with commas, as many to a line as there is room beside the options' names. */
function inLines(names: string[]): string {
  const lines = [''];
  for (const name of names) {
    if (lines.at(-1)!.length + name.length > 85) lines.push('');
    lines.push(`${lines.pop()}${name}, `);
  }
  return lines
    .join(`\n${' '.repeat(17)}`)
    .replaceAll(/, (?=\n|$)/g, ',')
    .replace(/,$/, '');
}

/** A mistake in the options, in one line. */
export class OptionsError extends Error {}

/** @returns `help` where that is all that is wanted */
export function readOptions(args: string[]): Options | 'help' {
  const given = parse(args);
  if (given.help) return 'help';
  const urls = listOf(given.url).map(baseUrl);
  const apiKey = given['api-key'] ?? '';
  if (urls.length > 0 && apiKey === '') throw new OptionsError('--url needs --api-key');
  if (urls.length === 0 && apiKey !== '') throw new OptionsError('--api-key needs --url');
  const storms = listOf(given.storms);
  for (const name of storms) {
    if (!STORMS.some((storm) => storm.name === name)) throw new OptionsError(`--storms: there is no storm ${name}`);
  }
  return {
    urls,
    apiKey,
    clients: whole('--clients', given.clients, 2, 5000) ?? 200,
    rounds: whole('--rounds', given.rounds, 1, 1_000_000) ?? 100,
    minutes: minutes(given.minutes),
    seed: whole('--seed', given.seed, 0, 2 ** 32 - 1) ?? randomInt(2 ** 32),
    processes: whole('--processes', given.processes, 1, 8) ?? 2,
    json: given.json,
    storms,
    preload: given['app-require'] ?? [],
    sqlAfterStart: given['sql-after-start'],
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        url: { type: 'string', multiple: true },
        'api-key': { type: 'string' },
        clients: { type: 'string' },
        rounds: { type: 'string' },
        minutes: { type: 'string' },
        seed: { type: 'string' },
        processes: { type: 'string' },
        storms: { type: 'string', multiple: true },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        'app-require': { type: 'string', multiple: true },
        'sql-after-start': { type: 'string' },
      },
    }).values;
  } catch (error) {
    throw new OptionsError((error as Error).message.split(/\.\s/)[0]);
  }
}

const listOf = (values: string[] = []): string[] =>
  values.flatMap((value) => value.split(',').map((item) => item.trim())).filter((item) => item !== '');

function baseUrl(text: string): string {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol)) throw new OptionsError(`--url: ${text} is not an http(s) URL`);
  return url.origin;
}

function whole(name: string, text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most) {
    throw new OptionsError(`${name} must be a whole number from ${least} to ${most}`);
  }
  return value;
}

function minutes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value <= 0) throw new OptionsError('--minutes must be a number above 0');
  return value;
}
