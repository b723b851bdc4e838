/** Preloaded into the app: a slot that is withdrawn is gone, but its time stays open on the days that have their row. */
require('./replace.cjs')(
  'availability/schedules.service.js',
  'SchedulesService',
  'applyOpening',
  (applyOpening) =>
    async function (tx, schedule, span, event) {
      if (event === 'schedule.slot_withdrawn') return [];
      return applyOpening.call(this, tx, schedule, span, event);
    },
);
