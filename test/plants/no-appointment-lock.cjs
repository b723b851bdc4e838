/**
 * Preloaded into the app (`node --require`), takes the appointment's lock away, and the comparison of versions behind it:
 * whoever acts on an appointment decides on what he read, whatever others make of it meanwhile.
 */
const rewrite = require('./rewrite.cjs');

const LOCK = /^(\s*SELECT [^;]* FROM "?appointment"? [^;]*) FOR NO KEY UPDATE( SKIP LOCKED)?$/;
const COMPARED = / AND a\.version = c\.version\b/;
const NEXT = /\bversion = c\.version \+ 1\b/;

rewrite((sql) => {
  if (LOCK.test(sql)) return sql.replace(LOCK, '$1');
  if (!sql.includes('UPDATE appointment a')) return sql;
  return rewrite.exchange(rewrite.exchange(sql, COMPARED, ''), NEXT, 'version = a.version + 1');
});
