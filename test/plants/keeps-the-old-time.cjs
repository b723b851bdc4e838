/** Preloaded into the app: who moves an appointment leaves its old time taken. */
require('./replace.cjs')(
  'availability/ledger.service.js',
  'Ledger',
  'claim',
  (claim) =>
    function (tx, reaches, wanted, choose) {
      return claim.call(this, tx, reaches, wanted, choose, []);
    },
);
