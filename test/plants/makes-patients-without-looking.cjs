/** Preloaded into the app: a patient that was not there a moment ago is made, whoever else makes him meanwhile. */
const rewrite = require('./rewrite.cjs');

rewrite((sql) =>
  sql.includes('INSERT INTO patient AS stored')
    ? rewrite.exchange(sql, /\s+ON CONFLICT [^;]*?(?=\s+RETURNING)/, '')
    : sql,
);
