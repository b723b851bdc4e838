/** Preloaded into the app: days are locked one by one in the order in which they are named, not in the global one. */
require('./replace.cjs')(
  'availability/ledger.repository.js',
  'ScheduleDayRepository',
  'lock',
  (lock) =>
    async function (tx, keys) {
      const rows = [];
      for (const key of keys) rows.push(...(await lock.call(this, tx, [key])));
      const byKey = new Map(rows.map((row) => [`${row.scheduleId}/${row.day}`, row]));
      return [...byKey.values()].sort((a, b) => (`${a.scheduleId}/${a.day}` < `${b.scheduleId}/${b.day}` ? -1 : 1));
    },
);
