/** Preloaded into the app: who plans a day reads the rules without a lock, and they may be old when he writes it. */
const rewrite = require('./rewrite.cjs');
const replace = require('./replace.cjs');

const LOCK_OF_SCHEDULES = /^(SELECT [^;]* FROM "schedule" [^;]*) FOR SHARE$/;

rewrite((sql) => (LOCK_OF_SCHEDULES.test(sql) ? sql.replace(LOCK_OF_SCHEDULES, '$1') : sql));

replace(
  'availability/ledger.repository.js',
  'ScheduleDayRepository',
  'insertMissing',
  (insertMissing) =>
    async function (...given) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return insertMissing.apply(this, given);
    },
);
