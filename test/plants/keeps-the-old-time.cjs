/** Preloaded into the app: who moves an appointment leaves its old time taken. */
require('./replace.cjs')(
  'availability/ledger.service.js',
  'Ledger',
  'claim',
  (claim) =>
    function (tx, lanes, wanted) {
      return claim.call(this, tx, lanes, wanted, []);
    },
);
