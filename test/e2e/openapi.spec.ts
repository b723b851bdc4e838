import { readFileSync } from 'node:fs';
import { describeApi } from '../../src/app';
import { startApp } from '../support/app';

it('docs/openapi.json is what the code says (npm run openapi writes it)', async () => {
  const target = await startApp();
  const described: unknown = JSON.parse(JSON.stringify(describeApi(target.app)));
  expect(described).toEqual(JSON.parse(readFileSync('docs/openapi.json', 'utf8')));
  await target.stop();
});
