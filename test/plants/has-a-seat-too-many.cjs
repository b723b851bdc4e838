/** Preloaded into the app: a session takes one more than it has seats. */
const rewrite = require('./rewrite.cjs');

rewrite((sql) =>
  /\bFROM group_session s\b/.test(sql) && sql.includes('AS seated')
    ? rewrite.exchange(sql, 'count(*)::integer', 'greatest(count(*)::integer - 1, 0)')
    : sql,
);
