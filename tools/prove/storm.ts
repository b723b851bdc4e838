import { bookedOtherwise, changedOtherwise, namedSegments, showInstant } from './asked';
import type { Practitioner, Service } from './catalog';
import {
  type Answer,
  type AppointmentView,
  type Client,
  type Cut,
  describe,
  problemOf,
  type RequestOptions,
} from './client';
import {
  type Action,
  type Booking,
  type Change,
  History,
  type Outcome,
  type Place,
  type SegmentPlace,
  type Wish,
} from './history';
import { checkHistory, type Finding } from './history-checks';
import { type Life, livesOf } from './lives';
import type { Random } from './random';
import type { Figures, Progress } from './report';
import type { World } from './world';

/** One kind of race. Add a storm as a file of its own beside the others, and name it in `storms/index.ts`. */
export interface Storm {
  /** For `--storms`. */
  name: string;
  /** For the table. */
  title: string;
  defaults: {
    /** The numbers of clients that it runs with, one row of the table each; `most` is what `--clients` allows. */
    clients(most: number): number[];
    /** Rounds at most, where each takes seconds; else what `--rounds` says. */
    rounds?: number;
  };
  /** Codes of refusals that belong to this race; any other is a violation. */
  refusals: string[];
  /** Needs several processes of one install, and spreads its clients over them. */
  severalProcesses?: boolean;
  /** Makes accounts, which stay; so it runs on an install of prove's own alone. */
  makesAccounts?: boolean;
  /** Spreads its clients over the processes, if there are several. */
  everyProcess?: boolean;
  /** Its rounds go on as long as `--minutes` says; without it, one is all. */
  byTheClock?: boolean;
  /** Time that was lost can be free again a moment later, so an answer may offer it. */
  timeComesBack?: boolean;
  run(ctx: StormContext): Promise<void>;
}

export interface StormLimits {
  rounds: number;
  /** The install is prove's own, so everything that belongs to one is known to run. */
  fresh: boolean;
  /** What was sent to a phone, where prove can know it. */
  codesTo?: (phone: string) => string[];
  /** Whether codes are known to be limited. */
  limitsCodes: boolean;
  /** By `performance.now()`. */
  until: number;
  signal: AbortSignal;
}

/** Judges the state of the install, given what the clients know about it. */
export type Judge = (
  clients: readonly Client[],
  lives: readonly Life[],
) => Promise<{ made: number; findings: Finding[] }>;

const ANSWER_CHECKS = {
  no5xx: 'no answer is a 5xx but 503 busy',
  retryAfter: 'busy says when to come back (Retry-After)',
  problem: 'a refusal is a problem document (RFC 9457)',
  knownRefusal: 'requests are refused for the reasons of this race alone',
  alternatives: 'slot_taken carries alternatives',
  lostTime: 'slot_taken does not offer the time that was just lost',
  asAsked: 'an acknowledged booking is the one that was asked for',
  changed: 'an acknowledged change reads as the one that was asked for',
};

/** Holds that end within this time are waited for before anything is checked. */
const SOON_MS = 60_000;

/** What a storm works with: clients, times and numbers of the test location, the record of what happens, the verdicts. */
export class StormContext {
  readonly history = new History();
  private readonly actedOn = new Set<string>();
  private round = 0;
  private lastRefusalAt: number | undefined;

  constructor(
    readonly storm: Storm,
    readonly clients: readonly Client[],
    readonly world: World,
    readonly random: Random,
    private readonly figures: Figures,
    private readonly judge: Judge,
    private readonly limits: StormLimits,
    private readonly progress: Progress,
  ) {}

  /** Runs the rounds; whenever the test location is used up, and at the end, everything is checked and freed again. */
  async eachRound(work: (round: number) => Promise<void>): Promise<void> {
    const { byTheClock, defaults } = this.storm;
    const asked = Math.min(this.limits.rounds, defaults.rounds ?? Infinity);
    const rounds = byTheClock ? (this.limits.until < Infinity ? Infinity : 1) : asked;
    // Who stays has to be busy all of the time, so that nothing is checked before the end.
    const most = byTheClock ? 400_000 : 20_000;
    for (let round = 0; round < rounds; round++) {
      if (this.limits.signal.aborted || performance.now() > this.limits.until) break;
      if (!this.world.hasRoom || this.history.size > most) await this.settle();
      this.round++;
      this.progress.update(
        `${this.storm.title}, ${this.clients.length} clients: round ${round + 1} of ${rounds}, ` +
          `${this.figures.attempts} requests, ${this.figures.winners} winners, ${this.figures.violations.length} violations`,
      );
      await work(round);
      this.figures.rounds++;
    }
    if (this.limits.signal.aborted) return;
    await this.settle();
    // A server that sends everybody away breaks no promise, but then nothing was shown either.
    this.expect('the storm has winners', this.figures.winners > 0, () => `none in ${this.figures.rounds} rounds`);
  }

  /** All clients at once: connections first, then the start signal; one request of each is meant. */
  async volley<T>(clients: readonly Client[], act: (client: Client, index: number) => Promise<T>): Promise<T[]> {
    await this.ready(clients);
    this.lastRefusalAt = undefined;
    const releasedAt = performance.now();
    const results = await Promise.all(clients.map(act));
    if (this.lastRefusalAt !== undefined) this.figures.lastLoser.add(this.lastRefusalAt - releasedAt);
    return results;
  }

  /** Opens the connections that requests are to be sent on in a moment. */
  async ready(clients: readonly Client[]): Promise<void> {
    await Promise.all(clients.map((client) => client.warm()));
  }

  /** A booking to be sent, with every choice made already: its body is the same however often it is sent. */
  wish(
    what: {
      service: Service;
      startsAt: number;
      phone: string;
      practitioner?: Practitioner;
      /** Of a composite whose segments are named. */
      segments?: SegmentPlace[];
      /** `true` for as long as the service says. */
      hold?: true | { seconds: number };
    },
    random = this.random,
  ): Wish {
    const requestId = this.world.newRequestId();
    const { hold, ...rest } = what;
    return {
      ...rest,
      requestId,
      holdSeconds: hold === true ? what.service.holdMinutes * 60 : hold?.seconds,
      // Callers with a key and callers without one meet in every race.
      key: random.chance(0.5) ? requestId : undefined,
      body: {
        serviceId: what.service.id,
        ...(what.practitioner ? { practitionerId: what.practitioner.id } : {}),
        // One instant has many spellings; all of them mean the same slot.
        startsAt: showInstant(what.startsAt, random.pick(OFFSETS)),
        ...(what.segments ? { segments: namedSegments(what.service, what.segments) } : {}),
        patient: { phone: what.phone, name: `${this.world.tag} patient` },
        metadata: { prove: this.world.tag, request: requestId },
        ...(hold === undefined ? {} : { hold }),
      },
    };
  }

  /** Sends a booking and records what came of it. */
  async book(
    client: Client,
    wish: Wish,
    { cut, isOpen }: Pick<RequestOptions, 'cut' | 'isOpen'> = {},
  ): Promise<Booking & { answer: Answer }> {
    const answer = await client.request('POST', '/v1/appointments', {
      body: wish.body,
      headers: wish.key === undefined ? {} : { 'idempotency-key': wish.key },
      cut,
      isOpen,
    });
    const replayed = isReplayed(answer);
    const { outcome, code } = this.count(answer, replayed ? 'replayed' : undefined);
    const appointment = outcome === 'ok' ? (answer.body as AppointmentView) : undefined;
    const { startedAt, endedAt } = answer;
    const booking = { round: this.round, outcome, code, startedAt, endedAt, wish, appointment, replayed, answer };
    this.history.bookings.push(booking);
    if (appointment) this.expectAsAsked(wish, answer, appointment);
    const lost = { startsAt: wish.startsAt, practitionerId: wish.practitioner?.id };
    if (code === 'slot_taken') this.expectAlternatives(lost, answer);
    return booking;
  }

  /** Acts on an appointment and records what came of it. */
  async act(
    client: Client,
    action: Action,
    appointment: Pick<AppointmentView, 'id'>,
    { target, ifMatch, key, cut, isOpen, random = this.random, service }: ActOptions = {},
  ): Promise<Change & { answer: Answer }> {
    const { id } = appointment;
    const body =
      target === undefined
        ? { reason: 'prove' }
        : {
            startsAt: showInstant(target.startsAt, key === undefined ? random.pick(OFFSETS) : 0),
            ...(target.practitionerId === undefined ? {} : { practitionerId: target.practitionerId }),
            ...(target.segments && service ? { segments: namedSegments(service, target.segments) } : {}),
          };
    const headers: Record<string, string> = {
      ...(ifMatch === undefined ? {} : { 'if-match': `"${ifMatch}"` }),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    };
    this.actedOn.add(id);
    const answer = await client.request('POST', `/v1/appointments/${id}/${action}`, { body, headers, cut, isOpen });
    const replayed = isReplayed(answer);
    const { outcome, code } = this.count(answer, replayed ? 'replayed' : DONE[action]);
    const changed = outcome === 'ok' ? (answer.body as AppointmentView) : undefined;
    const change: Change = {
      round: this.round,
      outcome,
      code,
      startedAt: answer.startedAt,
      endedAt: answer.endedAt,
      appointmentId: id,
      action,
      ifMatch,
      key,
      target,
      appointment: changed,
      currentStatus: problemOf(answer).currentStatus,
    };
    this.history.changes.push(change);
    if (changed) this.expectChanged(change, changed, answer);
    if (code === 'slot_taken' && target) this.expectAlternatives(target, answer);
    return { ...change, answer };
  }

  /** Whether somebody has begun to act on it, whatever came of that. */
  isActedOn(appointmentId: string): boolean {
    return this.actedOn.has(appointmentId);
  }

  async cancel(client: Client, appointmentId: string): Promise<Outcome> {
    return (await this.act(client, 'cancel', { id: appointmentId })).outcome;
  }

  /** Reads an appointment as it is now. Undefined where there was no answer. */
  async read(
    client: Client,
    { id }: Pick<AppointmentView, 'id'>,
  ): Promise<(Answer & { body: AppointmentView }) | undefined> {
    const answer = await client.request('GET', `/v1/appointments/${id}`);
    return answer.status === 200 ? { ...answer, body: answer.body as AppointmentView } : undefined;
  }

  /** Whether prove has started this install itself. */
  get isFresh(): boolean {
    return this.limits.fresh;
  }

  /** Whether the install is known to limit codes, so that it is a fault if it does not. */
  get limitsCodes(): boolean {
    return this.limits.limitsCodes;
  }

  /** Waits for codes that were sent to a phone; undefined where they cannot be known here. */
  async codesTo(phone: string, count: number): Promise<string[] | undefined> {
    const { codesTo } = this.limits;
    if (!codesTo) return undefined;
    // The answer comes from one pipe, the log from another one.
    for (let wait = 0; codesTo(phone).length < count && wait < 200; wait++) await sleep(10);
    return codesTo(phone);
  }

  /** Whether a storm that runs by the clock has to end. */
  get isOver(): boolean {
    return this.limits.signal.aborted || performance.now() > this.limits.until;
  }

  /** Adds to the table what answers alone do not show. */
  remark(what: string): void {
    this.figures.remark(what);
  }

  /** Any other request of the race. `note` names a 2xx that is no winner. */
  async send(
    client: Client,
    method: string,
    path: string,
    options: RequestOptions,
    note: (answer: Answer) => string | undefined = () => undefined,
  ): Promise<Answer & { outcome: Outcome; code?: string }> {
    const answer = await client.request(method, path, options);
    return { ...answer, ...this.count(answer, note(answer)) };
  }

  expect(check: string, holds: boolean, detail: () => string): void {
    this.figures.checks++;
    if (!holds) this.figures.violation(check, `round ${this.round}: ${detail()}`);
  }

  /**
   * Of these bookings exactly as many won as there was room, or as asked if fewer did. Whoever was told `busy`, or to slow
   * down, has not taken part; an unknown outcome may be a winner.
   */
  expectWinners(bookings: readonly Booking[], room: number): void {
    const winners = bookings.filter((booking) => booking.outcome === 'ok').length;
    const unknown = bookings.filter((booking) => booking.outcome === 'unknown').length;
    const taken = bookings.filter((booking) => booking.code === 'slot_taken').length;
    // Whoever was told that the time is taken can rely on it that others have it.
    const due = taken > 0 ? room : Math.min(room, winners + unknown);
    this.expect(
      'as many winners as there is room, no more and no fewer',
      winners <= room && winners + unknown >= due,
      () => `${winners} winners and ${taken} told slot_taken where there was room for ${room}`,
    );
  }

  /** Checks everything that was done since the last time, then frees the time and the numbers for the next rounds. */
  private async settle(): Promise<void> {
    this.progress.update(`${this.storm.title}, ${this.clients.length} clients: checking`);
    await this.letHoldsEnd();
    const lives = livesOf(this.history);
    const ofHistory = checkHistory(this.history);
    const ofState = await this.judge(this.clients, lives);
    this.figures.checks += ofHistory.made + ofState.made;
    for (const { check, detail } of [...ofHistory.findings, ...ofState.findings]) this.figures.violation(check, detail);
    await this.world.tidy(this.clients);
    this.history.clear();
    this.actedOn.clear();
  }

  /** Nothing changes by itself any more while it is checked. */
  private async letHoldsEnd(): Promise<void> {
    const now = performance.now();
    const ends = livesOf(this.history).flatMap(({ steps }) => {
      const until = steps.at(-1)?.lapse?.until ?? 0;
      return until > now && until < now + SOON_MS ? until : [];
    });
    if (ends.length > 0) await sleep(ends.reduce((latest, end) => Math.max(latest, end)) - now + 1);
  }

  private count(answer: Answer, note: string | undefined): { outcome: Outcome; code?: string } {
    const { outcome, code } = this.judgeAnswer(answer);
    this.figures.count(outcome, answer.status, answer.endedAt - answer.startedAt, outcome === 'ok' ? note : code);
    if (outcome === 'refused') this.lastRefusalAt = Math.max(this.lastRefusalAt ?? 0, answer.endedAt);
    return { outcome, code };
  }

  private judgeAnswer(answer: Answer): { outcome: Outcome; code?: string } {
    const { status, headers } = answer;
    if (status >= 200 && status < 300) return { outcome: 'ok' };
    if (status === 0) return { outcome: 'unknown', code: answer.isCut ? 'cut' : 'no_answer' };
    const code = problemOf(answer).code ?? `status_${status}`;
    if (status === 503 && code === 'busy') {
      this.expect(ANSWER_CHECKS.retryAfter, headers['retry-after'] !== undefined, () => describe(answer));
      return { outcome: 'refused', code };
    }
    this.expect(ANSWER_CHECKS.no5xx, status < 500, () => describe(answer));
    if (status >= 500) return { outcome: 'unknown', code };
    const isProblem = headers['content-type']?.startsWith('application/problem+json') ?? false;
    this.expect(ANSWER_CHECKS.problem, isProblem && code !== `status_${status}`, () => describe(answer));
    const known = code === 'rate_limited' || this.storm.refusals.includes(code);
    this.expect(ANSWER_CHECKS.knownRefusal, known, () => describe(answer));
    return { outcome: 'refused', code };
  }

  private expectAsAsked(wish: Wish, answer: Answer, appointment: AppointmentView): void {
    const differences = bookedOtherwise(wish, answer, appointment);
    this.expect(ANSWER_CHECKS.asAsked, differences.length === 0, () => `${appointment.id}: ${differences.join(', ')}`);
  }

  private expectChanged(change: Change, view: AppointmentView, answer: Answer): void {
    const differences = changedOtherwise(change, view, answer);
    this.expect(
      ANSWER_CHECKS.changed,
      differences.length === 0,
      () => `${view.id}: ${change.action}: ${differences.join(', ')}`,
    );
  }

  private expectAlternatives(wanted: Place, answer: Answer): void {
    const { alternatives } = problemOf(answer);
    const wellFormed = Array.isArray(alternatives) && alternatives.length <= 3;
    this.expect(ANSWER_CHECKS.alternatives, wellFormed, () => answer.text.slice(0, 300));
    if (!wellFormed || this.storm.timeComesBack) return;
    const lost = alternatives.find(
      ({ startsAt, practitionerId }) =>
        Date.parse(startsAt) === wanted.startsAt && (wanted.practitionerId ?? practitionerId) === practitionerId,
    );
    this.expect(ANSWER_CHECKS.lostTime, lost === undefined, () => `${lost?.startsAt} of ${lost?.practitionerId}`);
  }
}

interface ActOptions {
  target?: Place;
  ifMatch?: number;
  /** The same action is the same request under it, however often it is sent. */
  key?: string;
  cut?: Cut;
  isOpen?: boolean;
  /** For the choices that are left: the storm's own, where its clients draw in turn. */
  random?: Random;
  /** Of a composite that is moved with its segments named. */
  service?: Service;
}

const OFFSETS = [0, 60, -300, 330];

const isReplayed = ({ headers }: Answer): boolean => headers['idempotency-replayed'] === 'true';

/** What is told of a 2xx that books nothing new. */
const DONE: Record<Action, string> = { confirm: 'confirmed', cancel: 'cancelled', reschedule: 'rescheduled' };

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
