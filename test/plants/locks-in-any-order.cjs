/** Preloaded into the app: days are locked one by one in the order in which they are named, not in the global one. */
const replace = require('./replace.cjs');

const REPOSITORY = ['availability/ledger.repository.js', 'ScheduleDayRepository'];

replace(
  ...REPOSITORY,
  'lock',
  (lock) =>
    async function (tx, keys) {
      const rows = [];
      for (const key of keys) rows.push(...(await lock.call(this, tx, [key])));
      const byKey = new Map(rows.map((row) => [`${row.scheduleId}/${row.day}`, row]));
      return [...byKey.values()].sort((a, b) => (`${a.scheduleId}/${a.day}` < `${b.scheduleId}/${b.day}` ? -1 : 1));
    },
);
replace(
  ...REPOSITORY,
  'lockAndFree',
  (lockAndFree) =>
    async function (tx, keys, ...rest) {
      await this.lock(tx, keys);
      return lockAndFree.call(this, tx, keys, ...rest);
    },
);
