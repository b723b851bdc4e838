/**
 * Runs dependency-cruiser with the rules of this repository over the trees named in the arguments; prints one JSON object,
 * tree → { totalCruised, violations }. All trees in one process, because loading the cruiser and the compiler is nine
 * tenths of a run; a process beside Jest, because both are too large for its module registry.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cruise } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';

const options = await extractDepcruiseOptions(join(import.meta.dirname, '../../.dependency-cruiser.cjs'));
const tsConfig = extractTSConfig(options.tsConfig.fileName);
const summaries = {};

for (const tree of process.argv.slice(2)) {
  // The rules speak of `src/...`: each tree is a repository of its own.
  process.chdir(tree);
  const folders = ['src', 'migrations', 'tools', 'test'].filter((folder) => existsSync(folder));
  const { output } = await cruise(folders, { ...options, baseDir: tree }, undefined, { tsConfig });
  const { totalCruised, violations } = output.summary;
  summaries[tree] = {
    totalCruised,
    violations: violations.map(({ rule, from, to }) => ({ rule: rule.name, from, to })),
  };
}

process.stdout.write(JSON.stringify(summaries));
