import { type Offence, OFFENCES } from '../plants/offences';
import { startStandIn } from '../plants/stand-in';
import { STORMS } from '../../tools/prove/storms';
import { prove } from '../support/prove';

/** It knows neither composites nor published slots, and nobody can sign in to it. */
const UNKNOWN = ['composites', 'published', 'random', 'otp', 'limiter', 'invitations', 'refresh'];

/** What each offence must break, seen from outside alone, and the storm that shows it soonest. */
const CAUGHT: Record<Offence, [storm: string, check: string]> = {
  'takes time twice': ['one-slot', 'as many winners as there is room, no more and no fewer'],
  'loses an acknowledged booking': ['overlapping', 'every acknowledged booking is there, as it was acknowledged'],
  'keeps a refused booking': ['one-slot', 'every occupying appointment was acknowledged, or its outcome is unknown'],
  'refuses free time': ['new-patient', 'every slot_taken had somebody who may have held the time'],
  'offers taken slots': ['one-slot', 'GET /v1/slots offers exactly the free time'],
  'hides free slots': ['one-slot', 'GET /v1/slots offers exactly the free time'],
  'leaves out alternatives': ['one-slot', 'slot_taken carries alternatives'],
  'offers the lost time again': ['one-slot', 'slot_taken does not offer the time that was just lost'],
  'fails with a 5xx': ['one-slot', 'no answer is a 5xx but 503 busy'],
  'is busy all the time': ['one-slot', 'nobody is sent away as busy among up to 50 for one slot'],
  'books another time than asked': ['one-slot', 'an acknowledged booking is the one that was asked for'],
  'frees time on a second cancel': ['book-against-cancel', 'an appointment was cancelled once at most'],
  'forgets idempotency keys': ['same-key', 'one key has one effect'],
  'replays another answer': ['same-key', 'all answers under one key are equal, byte by byte'],
  'serves another body under a used key': [
    'same-key',
    'another body under a used key is refused with 422 idempotency_key_reused',
  ],
  'makes a patient for every request': ['new-patient', 'one phone makes one patient, whoever comes first'],
  'books into closed hours': ['hours-edited', 'nobody is booked into time that is closed'],
  'closes time without naming its bookings': [
    'hours-edited',
    'an edit that closes time names the bookings in it (affectedAppointments)',
  ],
  'accepts edits of an old version': [
    'hours-edited',
    'of two edits of one version, one is made and one is told version_stale',
  ],
  'has holes in the history': ['one-slot', 'the history leads from version 1 to the present version and status'],
  'leaves the test location behind': ['one-slot', 'the test location was removed'],
  'lets holds block past their time': ['hold-expiry', 'a hold past its time blocks nobody'],
  'ends holds too early': ['hold-expiry', 'no two acknowledged bookings held overlapping time at once'],
  'confirms a hold whose time somebody else has': [
    'hold-expiry',
    'no two acknowledged bookings held overlapping time at once',
  ],
  'refuses every late confirm': [
    'hold-expiry',
    'every hold_expired came after the end of the hold, and had somebody who may have held the time',
  ],
  'shows holds past their time as held': ['hold-expiry', 'a hold past its time reads as expired'],
  'keeps the old time of what it moves': ['reschedule', 'every slot_taken had somebody who may have held the time'],
  'loses the new time of what it moves': ['reschedule', 'no two acknowledged bookings held overlapping time at once'],
  'moves in name only': ['reschedule', 'every acknowledged booking is there, as it was acknowledged'],
  'moves what is cancelled': ['reschedule', 'every acknowledged change was allowed in the status before it'],
  'confirms as often as it is asked to': [
    'two-admins',
    'of several who confirm one request, one is served, and one of those who cancel it',
  ],
  'does not say what came before': [
    'two-admins',
    'whoever came too late is told invalid_transition, and the status that came before',
  ],
  'says that something else came before': [
    'two-admins',
    'every invalid_transition names a status that the appointment may have had, and that does not allow it',
  ],
  'changes old versions': [
    'one-etag',
    'of all changes under one ETag one is served, and all others are told 412 version_stale',
  ],
  'refuses present versions as stale': [
    'one-etag',
    'every version_stale had somebody who may have made another version',
  ],
  'raises the version twice': [
    'one-etag',
    'every acknowledged change made a version of its own, the next one, based on the one in If-Match',
  ],
  'expires what was confirmed': ['sweeper', 'every acknowledged booking is there, as it was acknowledged'],
  'has a seat too many': ['groups', 'no two acknowledged bookings held overlapping time at once'],
  'has a place too many': ['places', 'no two occupying appointments of a practitioner overlap'],
  'refuses free seats': ['groups', 'every slot_taken had somebody who may have held the time'],
  'drops connections': ['crowd', 'a connection stays open as long as its client does'],
};

describe('prove against a small imitation of Holdfast', () => {
  const proveStandIn = async (offence: Offence | undefined, options: string[]) => {
    const standIn = await startStandIn(offence);
    try {
      return await prove(['--url', standIn.url, '--api-key', 'any', ...options], { DATABASE_URL: '' });
    } finally {
      await standIn.close();
    }
  };

  it('that does nothing wrong, finds nothing', async () => {
    const storms = STORMS.map(({ name }) => name).filter((name) => !UNKNOWN.includes(name));
    const options = ['--clients', '20', '--rounds', '1', '--storms', storms.join(',')];
    expect(await proveStandIn(undefined, options)).toMatchObject({
      exitCode: 0,
      report: { violations: [] },
    });
  }, 600_000);

  it('repeats the storms with other choices until the minutes are over', async () => {
    const options = ['--clients', '10', '--rounds', '1', '--storms', 'one-slot', '--minutes', '0.1'];
    const run = await proveStandIn(undefined, options);
    expect(run).toMatchObject({ exitCode: 0, report: { violations: [] } });
    expect(run.report.storms[0]!.rounds).toBeGreaterThan(1);
  });

  const cases = OFFENCES.map((offence) => [offence, ...CAUGHT[offence]] as const);
  // A race is a matter of luck: what a few rounds have not shown, more will.
  const turnsRed = async (offence: Offence, storm: string, check: string) => {
    for (let rounds = ['hold-expiry', 'sweeper'].includes(storm) ? 1 : 3; ; rounds *= 2) {
      const run = await proveStandIn(offence, ['--clients', '20', '--rounds', String(rounds), '--storms', storm]);
      if (!run.broken.has(check) && rounds < 12) continue;
      expect(run.broken).toContain(check);
      expect(run.exitCode).toBe(1);
      return;
    }
  };

  it.each(cases)('that %s, turns red in the storm %s: %s', turnsRed, 300_000);
});
