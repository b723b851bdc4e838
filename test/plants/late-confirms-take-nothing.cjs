/** Preloaded into the app: who confirms a hold that is over takes it for granted that its time is his still. */
require('./replace.cjs')('appointments/life.service.js', 'LifeService', 'retake', () => async () => true);
