/** Preloaded into the app: no answer is stored under its Idempotency-Key. */
const rewrite = require('./rewrite.cjs');

require('./replace.cjs')('platform/idempotency.js', 'Idempotency', 'keep', () => (tx, request, key, reply) => reply);
rewrite((sql) =>
  sql.includes('INSERT INTO idempotency_key')
    ? rewrite.exchange(sql, /FROM answer WHERE \$\d+::text IS NOT NULL/, '$& AND false')
    : sql,
);
