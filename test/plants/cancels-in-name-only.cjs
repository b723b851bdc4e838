/** Preloaded into the app: what is cancelled, or swept, keeps its time. */
require('./replace.cjs')('availability/ledger.service.js', 'Ledger', 'release', () => async () => undefined);
