import { plant } from '../support/prove';

/** A mistake planted into the app, the storm that is long enough to show it, and the checks that must turn red in it. */
export interface Plant {
  name: string;
  /** Much like another one, or slow to show: left to the long form of the tests, `HOLDFAST_PLANTS=all`. */
  long?: true;
  options: string[];
  clients: number;
  rounds: number;
  /** By storm: every one of these is seen, sooner or later. */
  breaks: Record<string, string[]>;
  /** What none of the runs may break. */
  never?: string[];
}

const sql = (statement: string) => ['--sql-after-start', statement];
const NO_LOCK = plant('no-lock');
// The primary key refuses equal starts; without it and the exclusion constraint nothing is refused.
export const NO_CONSTRAINT = sql(
  'ALTER TABLE claim DROP CONSTRAINT claim_no_overlap; ALTER TABLE claim DROP CONSTRAINT claim_pkey',
);

export const AUDITED =
  "the app's own auditor finds nothing: every day row is equal to its sources, the constraint is there";
const DAY_ROWS = 'every day row covers its day, is open by its rules and taken by its claims';
const CLAIMS = 'every occupying appointment has exactly its claims, and every claim its appointment';
const VERSIONS = 'every acknowledged change made a version of its own, the next one, based on the one in If-Match';
const THERE = 'every acknowledged booking is there, as it was acknowledged';
const STORED = 'every acknowledged booking is in the database, as it was acknowledged';
const AT_ONCE = 'no two acknowledged bookings held overlapping time at once';
const REFUSED_FOR_NOTHING = 'every slot_taken had somebody who may have held the time';
const WINNERS = 'as many winners as there is room, no more and no fewer';
const SEATS = 'no session has more in it than seats, or than one claim';
const OVERLAPS = [
  AT_ONCE,
  'no two occupying appointments of a practitioner overlap',
  'no two claims on one seat overlap, and every seat is one of its schedule',
  'no more occupying appointments overlap than there are places, buffers included',
];

export const PLANTS: Plant[] = [
  {
    name: 'no lock on days: the constraint lets nothing overlap, but the day rows drift',
    options: NO_LOCK,
    clients: 20,
    rounds: 2,
    breaks: { reschedule: [DAY_ROWS, AUDITED] },
    never: OVERLAPS,
  },
  {
    name: 'neither lock nor constraint: time is sold twice, and prove says so in every way it knows',
    options: [...NO_LOCK, ...NO_CONSTRAINT],
    clients: 16,
    rounds: 4,
    breaks: { 'one-slot': [...OVERLAPS, WINNERS], 'any-practitioner': [WINNERS] },
  },
  {
    name: 'no lock, and conflicts with the constraint are left out of the booking',
    long: true,
    options: [...NO_LOCK, ...plant('ignores-conflicts')],
    clients: 12,
    rounds: 3,
    breaks: { 'one-slot': [AT_ONCE, CLAIMS] },
  },
  {
    name: 'no lock on the appointment: what two do to it at once is done twice',
    options: plant('no-appointment-lock'),
    clients: 20,
    rounds: 1,
    breaks: {
      'two-admins': [
        VERSIONS,
        THERE,
        'of several who confirm one request, one is served, and one of those who cancel it',
      ],
      'one-etag': [VERSIONS, THERE],
    },
  },
  {
    name: 'no lock on the appointment: the sweeper and whoever acts do not see each other',
    long: true,
    options: plant('no-appointment-lock'),
    clients: 32,
    rounds: 1,
    breaks: { sweeper: [VERSIONS, THERE] },
  },
  {
    name: 'days locked in any order: what is moved in both directions at once deadlocks',
    options: plant('locks-in-any-order'),
    clients: 16,
    rounds: 2,
    breaks: { reschedule: ['no deadlocks'] },
  },
  {
    name: 'a booking acknowledged before its COMMIT, which fails',
    options: plant('acknowledges-before-commit'),
    clients: 10,
    rounds: 3,
    breaks: { 'one-slot': [THERE, STORED] },
  },
  {
    name: 'old versions accepted',
    options: plant('accepts-old-versions'),
    clients: 12,
    rounds: 1,
    breaks: {
      'one-etag': [VERSIONS, 'of all changes under one ETag one is served, and all others are told 412 version_stale'],
    },
  },
  {
    name: 'holds that never end block whoever comes after them',
    options: plant('holds-never-end'),
    clients: 16,
    rounds: 1,
    breaks: { 'hold-expiry': ['a hold past its time blocks nobody', REFUSED_FOR_NOTHING] },
  },
  {
    name: "the end of holds told by the app's clock, which is fast",
    long: true,
    options: plant('expires-by-its-own-clock'),
    clients: 16,
    rounds: 1,
    breaks: { 'hold-expiry': [AT_ONCE] },
  },
  {
    name: 'late confirms that take nothing',
    long: true,
    options: plant('late-confirms-take-nothing'),
    clients: 16,
    rounds: 1,
    breaks: { 'hold-expiry': [AT_ONCE, CLAIMS] },
  },
  {
    name: 'the old time kept by what is moved',
    long: true,
    options: plant('keeps-the-old-time'),
    clients: 10,
    rounds: 1,
    breaks: { reschedule: [REFUSED_FOR_NOTHING, CLAIMS] },
  },
  {
    name: 'moves in two transactions: who finds the new time taken has none',
    long: true,
    options: plant('moves-in-two-steps'),
    clients: 10,
    rounds: 2,
    breaks: { reschedule: [CLAIMS] },
  },
  {
    name: 'cancellations that free nothing',
    long: true,
    options: plant('cancels-in-name-only'),
    clients: 10,
    rounds: 1,
    breaks: {
      'book-against-cancel': [CLAIMS, REFUSED_FOR_NOTHING, 'freed time can be booked again, taken time cannot'],
    },
  },
  {
    name: 'freed time subtracted from what is taken, instead of all of it recomputed',
    long: true,
    options: plant('subtracts-what-is-freed'),
    clients: 12,
    rounds: 1,
    breaks: { groups: [DAY_ROWS, 'GET /v1/slots offers exactly the free time'] },
  },
  {
    name: 'days planned from old hours',
    long: true,
    options: plant('plans-days-from-old-rules'),
    clients: 12,
    rounds: 2,
    breaks: { 'hours-edited': ['nobody is booked into time that is closed'] },
  },
  {
    name: 'answers not kept under their key',
    options: plant('forgets-keys'),
    clients: 10,
    rounds: 1,
    breaks: { 'same-key': ['a key is replayed afterwards'] },
  },
  {
    name: 'no lock on the key: requests under it run beside each other',
    long: true,
    options: plant('no-key-lock'),
    clients: 10,
    rounds: 2,
    breaks: {
      'same-key': [
        'under a key, the same request is never told that it is another one, and another one never served',
        'requests are refused for the reasons of this race alone',
      ],
    },
  },
  {
    name: 'changes without a line in the history',
    long: true,
    options: plant('loses-lines-of-history'),
    clients: 10,
    rounds: 1,
    breaks: {
      'two-admins': [
        'the history leads from version 1 to the present version and status',
        'the history leads from version 1 to the present version and status without a hole',
      ],
    },
  },
  {
    name: 'changes without an event',
    long: true,
    options: plant('loses-events'),
    clients: 10,
    rounds: 1,
    breaks: { 'book-against-cancel': ['exactly one outbox event for each version'] },
  },
  {
    name: 'patients made without a look at who makes them meanwhile',
    options: [...plant('makes-patients-without-looking'), ...sql('DROP INDEX patient_phone')],
    clients: 12,
    rounds: 3,
    breaks: {
      'new-patient': ['one phone makes one patient, whoever comes first', 'one living patient for each phone'],
    },
  },
  {
    name: 'seats counted before the lock',
    options: plant('counts-seats-before-the-lock'),
    clients: 12,
    rounds: 2,
    breaks: { groups: [AT_ONCE, SEATS] },
  },
  {
    name: 'a seat too many',
    long: true,
    options: plant('has-a-seat-too-many'),
    clients: 12,
    rounds: 1,
    breaks: { groups: [WINNERS, AT_ONCE, SEATS] },
  },
  {
    name: 'a place too many',
    long: true,
    options: plant('has-a-place-too-many'),
    clients: 10,
    rounds: 1,
    breaks: { places: [WINNERS, ...OVERLAPS] },
  },
  {
    name: 'all segments of a composite claimed but one',
    options: plant('claims-all-but-one'),
    clients: 10,
    rounds: 1,
    breaks: { composites: [CLAIMS, AUDITED] },
  },
  {
    name: 'composites that lock in the order of their segments',
    long: true,
    options: plant('locks-in-any-order'),
    clients: 24,
    rounds: 2,
    breaks: { composites: ['no deadlocks'] },
  },
  {
    name: 'published slots withdrawn in name only',
    long: true,
    options: plant('withdraws-in-name-only'),
    clients: 8,
    rounds: 1,
    breaks: { published: ['nobody is booked into time that is closed', DAY_ROWS] },
  },
  {
    name: 'guesses not counted, a limit without its lock, invitations taken twice, refresh tokens of any client',
    options: plant('loses-count-of-strangers'),
    clients: 20,
    rounds: 4,
    breaks: {
      otp: ['five guesses are looked at: behind them the right code is wrong'],
      limiter: ['a limit admits exactly as many as it says, however many come at once'],
      invitations: ['of all who sign up by one invitation, or with one e-mail address, one has the account'],
      refresh: [
        'of several clients that show one refresh token one is served',
        'using a spent refresh token ends the session',
      ],
    },
  },
  {
    name: 'any code is right, none is spent, and refresh tokens have many successors',
    long: true,
    options: plant('takes-any-code'),
    clients: 12,
    rounds: 2,
    breaks: {
      otp: ['of all codes that were sent to a phone one is good', 'a code is good once', 'nobody signs in by guessing'],
      refresh: ['a refresh token has one successor, however often it is shown at once'],
    },
  },
];
