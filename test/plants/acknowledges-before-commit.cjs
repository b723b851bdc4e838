/** Preloaded into the app: now and then a booking is acknowledged, and its COMMIT fails. */
const rewrite = require('./rewrite.cjs');

const ONE_IN = 3;
const booking = new WeakSet();
let bookings = 0;

rewrite((sql, connection) => {
  if (/\bINSERT INTO appointment\b/.test(sql)) booking.add(connection);
  if (sql !== 'COMMIT' || !booking.delete(connection)) return sql;
  bookings++;
  return bookings % ONE_IN === 0 ? 'ROLLBACK' : sql;
});
