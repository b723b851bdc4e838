/** Preloaded into the app: requests under one Idempotency-Key run beside each other. */
const rewrite = require('./rewrite.cjs');

const LOCK = /pg_(?:try_)?advisory_xact_lock\(hashtextextended\(convert_from\(decode\([^)]*\), 'UTF8'\), 0\)\)/;

rewrite((sql) =>
  sql.includes('holdfast.key_is_free') && sql.startsWith('START') ? rewrite.exchange(sql, LOCK, 'true') : sql,
);
