// Jest loads setup and teardown as two separate copies of their modules; only the global object is common to both.
const shared = globalThis as { holdfastCleanUp?: (() => Promise<void>)[] };

/** Last in, first out. Also done when the run is interrupted, when Jest calls no teardown. */
export function cleanUpAfterwards(work: () => Promise<void>): void {
  if (!shared.holdfastCleanUp) {
    shared.holdfastCleanUp = [];
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => void globalTeardown().finally(() => process.exit(1)));
    }
  }
  shared.holdfastCleanUp.push(work);
}

export default async function globalTeardown(): Promise<void> {
  const works = shared.holdfastCleanUp ?? [];
  for (let work = works.pop(); work; work = works.pop()) await work();
}
