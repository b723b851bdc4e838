/** Preloaded into the app: requests under one Idempotency-Key run beside each other. */
require('./replace.cjs')('platform/idempotency.js', 'Idempotency', 'lock', () => async () => undefined);
