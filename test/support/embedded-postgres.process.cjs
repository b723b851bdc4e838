// A Holdfast of its own for test/medium/embedded-postgres.spec.ts: uses the server of the data folder in its argument until
// it is told to release it, or killed. It compiles what it loads, so that the test does not depend on a build.
const { transformFileSync } = require('@swc/core');

require.extensions['.ts'] = (module, file) =>
  module._compile(
    transformFileSync(file, { jsc: { parser: { syntax: 'typescript' } }, module: { type: 'commonjs' } }).code,
    file,
  );

const { startEmbeddedPostgres } = require('../../src/platform/embedded/index.ts');

void startEmbeddedPostgres({ dataDir: process.argv[2], say: () => undefined }).then((server) => {
  process.on('message', () => void server.release().finally(() => process.exit()));
  process.send({ url: server.url, startedHere: server.startedHere });
});
