/** Preloaded into the app: confirmations leave no line in the history. */
const rewrite = require('./rewrite.cjs');

rewrite((sql) =>
  sql.includes('UPDATE appointment a')
    ? rewrite.exchange(
        sql,
        /(INSERT INTO appointment_history [^;]*? FROM changed)(?=\s+\), event)/,
        "$1 WHERE action <> 'confirm'",
      )
    : sql,
);
