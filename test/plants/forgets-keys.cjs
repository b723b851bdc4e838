/** Preloaded into the app: no answer is stored under its Idempotency-Key. */
require('./replace.cjs')('platform/idempotency.js', 'Idempotency', 'keep', () => (tx, request, key, reply) => reply);
