/** Preloaded into the app: time counts as taken only when more have it than there are places. */
const rewrite = require('./rewrite.cjs');

rewrite((sql) =>
  sql.includes('occupied >= d.places') ? sql.replaceAll('occupied >= d.places', 'occupied > d.places') : sql,
);
