/** Preloaded into the app: nobody ever finds a hold in his way that is over, so each blocks until it is swept. */
require('./replace.cjs')(
  'availability/ledger.repository.js',
  'ScheduleDayRepository',
  'expiredClaims',
  () => async () => [],
);
