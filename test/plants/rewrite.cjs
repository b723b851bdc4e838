/**
 * Rewrites SQL on its way to the server, so that what is tested otherwise is the app as it is. `change` gets the text of a
 * statement and the connection; what it gives back is sent in its place.
 */
const pg = require('pg');

module.exports = function rewrite(change) {
  const send = pg.Client.prototype.query;
  pg.Client.prototype.query = function (statement, ...rest) {
    if (typeof statement === 'string') return send.call(this, change(statement, this), ...rest);
    if (typeof statement?.text !== 'string') return send.call(this, statement, ...rest);
    // A copy: the app sends the same object again and again.
    return send.call(this, { ...statement, text: change(statement.text, this) }, ...rest);
  };
};

/** A part of a statement for another; a plant that finds nothing to do would let the test pass for the wrong reason. */
module.exports.exchange = function exchange(sql, part, other) {
  const changed = sql.replace(part, other);
  if (changed === sql) throw new Error(`A plant does not know this statement any more:\n${sql}`);
  return changed;
};
