/** Preloaded into the app: seats are counted a moment before the lock, and not again. */
const REMEMBERED_MS = 300;
const counted = new Map();

require('./replace.cjs')(
  'availability/sessions.repository.js',
  'SessionsRepository',
  'of',
  (of) =>
    async function (tx, serviceId, scheduleIds, begin) {
      const key = JSON.stringify([serviceId, scheduleIds, begin.start]);
      const known = counted.get(key);
      if (known && known.at > Date.now() - REMEMBERED_MS && known.sessions.length > 0) return known.sessions;
      const sessions = await of.call(this, tx, serviceId, scheduleIds, begin);
      counted.set(key, { at: Date.now(), sessions });
      return sessions;
    },
);
