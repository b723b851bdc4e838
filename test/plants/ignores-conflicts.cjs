/** Preloaded into the app, beside no-lock.cjs: a claim that the constraint refuses is left out, and nobody notices. */
const rewrite = require('./rewrite.cjs');

const CLAIMED = /(INSERT INTO claim \([^;]*?FROM day, moment)(?=\s+\))/;

rewrite((sql) =>
  /INSERT INTO claim \([^;]*FROM day\b/.test(sql) ? rewrite.exchange(sql, CLAIMED, '$1 ON CONFLICT DO NOTHING') : sql,
);
