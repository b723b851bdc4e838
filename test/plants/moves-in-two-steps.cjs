/** Preloaded into the app: who moves an appointment frees its old time in a transaction of its own. */
require('./replace.cjs')(
  'availability/ledger.service.js',
  'Ledger',
  'claim',
  (claim) =>
    async function (tx, reaches, wanted, choose, own = []) {
      if (own.length === 0) return claim.call(this, tx, reaches, wanted, choose, own);
      await this.release(tx, [wanted.holder]);
      const names = ['role', 'holdfast.organization_id', 'TimeZone', 'DateStyle', 'lock_timeout', 'statement_timeout'];
      const settings = await Promise.all(
        names.map(async (name) => [name, (await tx.query('SELECT current_setting($1) AS value', [name]))[0].value]),
      );
      await tx.query('COMMIT');
      await tx.query('BEGIN');
      for (const [name, value] of settings) await tx.query('SELECT set_config($1, $2, true)', [name, value]);
      return claim.call(this, tx, reaches, wanted, choose, []);
    },
);
