import type { Storm } from '../storm';
import { raceForAnyPractitioner } from './any-practitioner.storm';
import { bookAndCancel } from './book-against-cancel.storm';
import { raceForOneSlot } from './one-slot.storm';
import { repeatUnderOneKey } from './same-key.storm';

/** The other races in turn, with the clients spread over several processes: nothing may depend on one process's memory. */
export const twoProcesses: Storm = {
  name: 'two-processes',
  title: 'several processes, one database',
  defaults: { clients: (most) => [most] },
  refusals: ['slot_taken', 'invalid_transition', 'request_in_progress', 'idempotency_key_reused'],
  severalProcesses: true,
  timeComesBack: true,
  run: (ctx) => {
    const races = [raceForOneSlot, raceForAnyPractitioner, repeatUnderOneKey, bookAndCancel];
    return ctx.eachRound((round) => races[round % races.length]!(ctx, Math.floor(round / races.length)));
  },
};
