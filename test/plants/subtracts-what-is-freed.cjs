/** Preloaded into the app: what is freed is subtracted from the taken time of its days, whoever else has it too. */
require('./replace.cjs')(
  'availability/ledger.service.js',
  'Ledger',
  'release',
  (release) =>
    async function (tx, holders) {
      const claims = await this.days.claimsOf(tx, holders);
      await release.call(this, tx, holders);
      for (const { scheduleId, startsAt, endsAt } of claims) {
        await tx.query(
          `UPDATE schedule_day SET taken = taken - tstzmultirange(tstzrange($2, $3))
           WHERE schedule_id = $1 AND covers && tstzrange($2, $3)`,
          [scheduleId, startsAt, endsAt],
        );
      }
    },
);
