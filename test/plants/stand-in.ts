import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Offence } from './offences';

interface Appointment {
  id: string;
  status: string;
  version: number;
  serviceId: string;
  patientId: string;
  startsAt: string;
  endsAt: string;
  segments: Array<{ name: null; scheduleId: string; practitionerId: string; startsAt: string; endsAt: string }>;
  metadata: Record<string, unknown>;
}

/** What the representation of an appointment does not show. */
interface Kept {
  shown: Appointment;
  /** Of what was booked as a hold. */
  heldUntil?: number;
  /** Occupies nothing, whatever it says. */
  isLost?: boolean;
  history: Array<{ version: number; action: string; fromStatus: string | null; toStatus: string }>;
}

interface Service {
  id: string;
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  requiresConfirmation: boolean;
  holdMinutes: number;
  capacity: number;
  practitionerIds: string[];
}

interface Schedule {
  id: string;
  version: number;
  places: number;
  hours: Array<{ weekday: number; start: string; end: string }>;
  exceptions: Array<{ id: string; startsAt: string; endsAt: string }>;
}

interface Answer {
  status: number;
  body?: unknown;
  headers?: Record<string, string>;
}

interface Call {
  method: string;
  path: string[];
  query: URLSearchParams;
  body: Record<string, never>;
  ifMatch?: string;
  key?: string;
}

const OCCUPYING = ['held', 'pending', 'confirmed'];
const SWEPT_EVERY_MS = 1_000;
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/**
 * A small imitation of Holdfast's API in memory, as far as `prove` uses it, that can be told to commit one offence. It is
 * there to see every check of `prove` turn red: a check that was never seen red protects nothing.
 */
export async function startStandIn(offence?: Offence): Promise<{ url: string; close: () => Promise<void> }> {
  const clinic = new Clinic(offence);
  let requests = 0;
  const server = createServer((request, response) => {
    const isBooking = request.method === 'POST' && request.url === '/v1/appointments';
    if (offence === 'drops connections' && isBooking && ++requests % 15 === 0) request.socket.destroy();
    else void answer(clinic, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(clinic: Clinic, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
  } catch {
    // Cut off half-way: nothing was asked for.
    return;
  }
  const text = Buffer.concat(chunks).toString();
  const url = new URL(request.url ?? '/', 'http://stand.in');
  const key = request.headers['idempotency-key'] as string | undefined;
  const { status, body, headers } = await clinic.handle({
    method: request.method ?? 'GET',
    path: url.pathname.split('/').slice(1),
    query: url.searchParams,
    body: text === '' ? {} : (JSON.parse(text) as Record<string, never>),
    ifMatch: request.headers['if-match'],
    key: key?.replace(/^"(.*)"$/, '$1'),
  });
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  response.writeHead(status, { 'content-type': type, ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

class Clinic {
  private readonly records = new Map<string, { id: string; name?: string; phone?: string; gone?: boolean }>();
  private readonly schedules = new Map<string, Schedule>();
  private readonly appointments = new Map<string, Kept>();
  /** Times that are taken without an appointment. */
  private readonly left: Kept[] = [];
  private readonly answers = new Map<string, { body: string; answer: Answer } | 'running'>();
  private turns = 0;
  private sweptAt = 0;

  constructor(private readonly offence?: Offence) {}

  async handle(call: Call): Promise<Answer> {
    const [, what, id, part] = call.path;
    this.sweep();
    if (call.path[0] !== 'v1') return { status: 200, body: {} };
    if (what === 'organization') return { status: 200, body: { id: 'organization' } };
    if (what === 'schedules') return this.schedule(call, this.schedules.get(id!)!, part);
    if (what === 'slots') return this.slots(call.query);
    if (what === 'patients' && call.method === 'POST') return this.newPatient(call.body);
    if (what !== 'appointments') return this.record(call, what!, id);
    if (call.method === 'GET') return this.read(call, id, part);
    if (id !== undefined) return this.once(call, async () => this.act(call, this.appointments.get(id), part!));
    return this.once(call, () => this.book(call.body));
  }

  private record({ method, body, query }: Call, what: string, id: string | undefined): Answer {
    if (method === 'POST') {
      const record = { ...(body as object), id: randomUUID(), scheduleId: randomUUID() };
      this.records.set(record.id, record);
      if (what === 'practitioners' || what === 'rooms') {
        const schedule = { id: record.scheduleId, version: 1, places: 1, hours: [], exceptions: [] };
        this.schedules.set(record.scheduleId, schedule);
      }
      return { status: 201, body: record };
    }
    if (id === undefined) {
      const phone = query.get('phone');
      const data = [...this.records.values()].filter((record) => !record.gone && record.phone === phone);
      return { status: 200, body: { data, nextCursor: null } };
    }
    const record = this.records.get(id);
    if (!record || record.gone) return problem(404, 'not_found');
    if (method === 'DELETE') record.gone = !this.is('leaves the test location behind') || what !== 'practitioners';
    return method === 'DELETE' ? { status: 204 } : { status: 200, body: record };
  }

  private newPatient({ phone, name }: { phone?: string; name?: string }): Answer {
    const known = [...this.records.values()].find((record) => record.phone === phone && !record.gone);
    if (known && !this.is('makes a patient for every request')) return { status: 200, body: known };
    const patient = { id: randomUUID(), phone, name };
    this.records.set(patient.id, patient);
    return { status: 201, body: patient };
  }

  private schedule({ method, body, ifMatch, path }: Call, schedule: Schedule, part: string | undefined): Answer {
    const show = (status: number, extra: object = {}): Answer => {
      return { status, body: { ...extra }, headers: { etag: `"${schedule.version}"` } };
    };
    if (method === 'GET') return show(200, { data: schedule.exceptions, nextCursor: null });
    if (ifMatch !== `"${schedule.version}"` && !this.is('accepts edits of an old version')) {
      return problem(412, 'version_stale');
    }
    schedule.version++;
    let id: string = randomUUID();
    if (part === 'hours') {
      const { hours, places = schedule.places } = body as unknown as Schedule;
      Object.assign(schedule, { hours, places });
    } else if (method === 'POST') schedule.exceptions.push({ ...(body as unknown as Schedule['exceptions'][0]), id });
    else {
      id = path[4]!;
      schedule.exceptions = schedule.exceptions.filter((exception) => exception.id !== id);
    }
    const affectedAppointments = this.occupying(schedule.id)
      .filter((appointment) => !this.isOpen(schedule, Date.parse(appointment.startsAt), Date.parse(appointment.endsAt)))
      .map((appointment) => ({ id: appointment.id }))
      .slice(this.is('closes time without naming its bookings') ? 1 : 0);
    return show(200, { id, affectedAppointments });
  }

  private async once(call: Call, work: () => Promise<Answer>): Promise<Answer> {
    const { key } = call;
    if (key === undefined || this.is('forgets idempotency keys')) return work();
    const body = JSON.stringify(call.body);
    const known = this.answers.get(key);
    if (known === 'running') return problem(409, 'request_in_progress');
    if (known && known.body !== body && !this.is('serves another body under a used key')) {
      return problem(422, 'idempotency_key_reused');
    }
    if (known) {
      const same = known.answer.body as object;
      const shown = this.is('replays another answer') ? { ...same, replayed: true } : same;
      return { ...known.answer, body: shown, headers: { ...known.answer.headers, 'idempotency-replayed': 'true' } };
    }
    this.answers.set(key, 'running');
    await new Promise(setImmediate);
    const answer = await work();
    if (answer.status < 300) this.answers.set(key, { body, answer });
    else this.answers.delete(key);
    return answer;
  }

  private async book(body: Record<string, never>): Promise<Answer> {
    const { serviceId, practitionerId, metadata, patient, hold } = body as unknown as {
      serviceId: string;
      practitionerId?: string;
      metadata: Record<string, unknown>;
      patient: { phone: string; name: string };
      hold?: true | { seconds: number };
    };
    this.turns++;
    if (this.is('fails with a 5xx') && this.turns % 20 === 0) return problem(500, 'internal_error');
    if (this.is('is busy all the time')) return { ...problem(503, 'busy'), headers: { 'retry-after': '0' } };
    const service = this.records.get(serviceId) as unknown as Service;
    const startsAt = Date.parse(body.startsAt!) + (this.is('books another time than asked') ? MINUTE : 0);
    const endsAt = startsAt + service.durationMinutes * MINUTE;
    const candidates = practitionerId === undefined ? service.practitionerIds : [practitionerId];
    const open = candidates.filter((id) => this.isOpen(this.scheduleOf(id), startsAt, endsAt));
    if (open.length === 0 && !this.is('books into closed hours')) return problem(422, 'outside_hours');
    const free = candidates.find((id) => !this.isTaken(this.scheduleOf(id).id, service, startsAt));
    if (this.is('takes time twice')) await new Promise(setImmediate);
    const refused = free === undefined || (this.is('refuses free time') && this.turns % 7 === 0);
    const appointment = {
      id: randomUUID(),
      status: hold ? 'held' : service.requiresConfirmation ? 'pending' : 'confirmed',
      version: 1,
      serviceId,
      patientId: (this.newPatient(patient).body as { id: string }).id,
      startsAt: new Date(startsAt).toISOString(),
      endsAt: new Date(endsAt).toISOString(),
      segments: [] as Appointment['segments'],
      metadata,
    };
    const practitioner = free ?? candidates[0]!;
    const { startsAt: from, endsAt: to } = appointment;
    const scheduleId = this.scheduleOf(practitioner).id;
    appointment.segments.push({ name: null, scheduleId, practitionerId: practitioner, startsAt: from, endsAt: to });
    const length = hold === true ? service.holdMinutes * MINUTE : (hold?.seconds ?? 0) * 1000;
    const kept: Kept = {
      shown: appointment,
      heldUntil: hold ? Date.now() + length - (this.is('ends holds too early') ? 2_000 : 0) : undefined,
      history: [{ version: 1, action: 'book', fromStatus: null, toStatus: appointment.status }],
    };
    if (refused) {
      if (this.is('keeps a refused booking') && this.turns % 5 === 0) this.appointments.set(appointment.id, kept);
      const lost = { startsAt: from, endsAt: to, practitionerId: practitioner };
      const alternatives = this.is('offers the lost time again') ? [lost] : [];
      return problem(409, 'slot_taken', this.is('leaves out alternatives') ? {} : { alternatives });
    }
    if (!this.is('loses an acknowledged booking') || this.turns % 3 !== 0) this.appointments.set(appointment.id, kept);
    const headers = { location: `/v1/appointments/${appointment.id}`, etag: '"1"' };
    return { status: 201, body: { ...appointment }, headers };
  }

  private act(call: Call, kept: Kept | undefined, action: string): Answer {
    if (!kept) return problem(404, 'not_found');
    const { shown } = kept;
    const isStale = call.ifMatch !== undefined && call.ifMatch !== `"${shown.version}"`;
    if (
      (isStale && !this.is('changes old versions')) ||
      (call.ifMatch && this.is('refuses present versions as stale'))
    ) {
      return problem(412, 'version_stale');
    }
    const from = this.statusOf(kept);
    if (action === 'confirm') return this.confirm(kept, from);
    if (action === 'cancel') return this.cancel(kept, from);
    return this.move(kept, from, call.body);
  }

  private confirm(kept: Kept, from: string): Answer {
    const { shown } = kept;
    const service = this.records.get(shown.serviceId) as unknown as Service;
    if (from === 'confirmed' && this.is('confirms as often as it is asked to')) return this.done(kept);
    if (from === 'expired') {
      const taken = this.isTaken(shown.segments[0]!.scheduleId, service, Date.parse(shown.startsAt), kept);
      const refused = taken && !this.is('confirms a hold whose time somebody else has');
      if (refused || this.is('refuses every late confirm')) return problem(410, 'hold_expired');
    } else if (from !== 'held' && from !== 'pending') return this.refuse(from);
    const to = from !== 'pending' && service.requiresConfirmation ? 'pending' : 'confirmed';
    return this.change(kept, 'confirm', from, to);
  }

  private cancel(kept: Kept, from: string): Answer {
    if (OCCUPYING.includes(from)) return this.change(kept, 'cancel', from, 'cancelled');
    if (!this.is('frees time on a second cancel')) return this.refuse(from);
    for (const other of this.appointments.values()) {
      if (other.shown.startsAt === kept.shown.startsAt) Object.assign(other.shown, { status: 'cancelled', version: 2 });
    }
    return this.done(kept);
  }

  private move(kept: Kept, from: string, body: Record<string, unknown>): Answer {
    const { shown } = kept;
    const isMovable = OCCUPYING.includes(from) || (from === 'cancelled' && this.is('moves what is cancelled'));
    if (!isMovable) return this.refuse(from);
    const service = this.records.get(shown.serviceId) as unknown as Service;
    const startsAt = Date.parse(body['startsAt'] as string);
    const endsAt = startsAt + service.durationMinutes * MINUTE;
    const practitionerId = (body['practitionerId'] as string | undefined) ?? shown.segments[0]!.practitionerId;
    const schedule = this.scheduleOf(practitionerId);
    if (!this.isOpen(schedule, startsAt, endsAt)) return problem(422, 'outside_hours');
    if (this.isTaken(schedule.id, service, startsAt, kept)) return problem(409, 'slot_taken', { alternatives: [] });
    const times = { startsAt: new Date(startsAt).toISOString(), endsAt: new Date(endsAt).toISOString() };
    const moved = { ...times, segments: [{ name: null, scheduleId: schedule.id, practitionerId, ...times }] };
    if (this.is('keeps the old time of what it moves')) {
      this.left.push({ shown: { ...shown, status: 'confirmed' }, history: [] });
    }
    kept.isLost = this.is('loses the new time of what it moves');
    const answer = this.change(kept, 'reschedule', from, from === 'cancelled' ? 'confirmed' : from);
    if (this.is('moves in name only')) return { ...answer, body: { ...shown, ...moved } };
    Object.assign(shown, moved);
    return this.done(kept);
  }

  private change(kept: Kept, action: string, fromStatus: string, toStatus: string): Answer {
    const version = kept.shown.version + (this.is('raises the version twice') ? 2 : 1);
    kept.history.push({ version: kept.shown.version + 1, action, fromStatus, toStatus });
    Object.assign(kept.shown, { status: toStatus, version });
    return this.done(kept);
  }

  private done({ shown }: Kept): Answer {
    return { status: 200, body: { ...shown }, headers: { etag: `"${shown.version}"` } };
  }

  private refuse(status: string): Answer {
    const currentStatus = this.is('says that something else came before') ? 'held' : status;
    return problem(409, 'invalid_transition', this.is('does not say what came before') ? {} : { currentStatus });
  }

  /** What is stored, but for a hold that is over. */
  private statusOf({ shown: { status }, heldUntil = Infinity }: Kept): string {
    return status === 'held' && heldUntil <= Date.now() ? 'expired' : status;
  }

  private sweep(): void {
    if (Date.now() < this.sweptAt + SWEPT_EVERY_MS) return;
    this.sweptAt = Date.now();
    for (const kept of this.appointments.values()) {
      const { status } = kept.shown;
      const isOver = (kept.heldUntil ?? Infinity) <= Date.now();
      const isWrong = this.is('expires what was confirmed') && status === 'confirmed';
      // A hold that blocks for ever is never swept either.
      const isSpared = this.is('lets holds block past their time') || this.is('shows holds past their time as held');
      if (isOver && ((status === 'held' && !isSpared) || isWrong)) this.change(kept, 'expire', status, 'expired');
    }
  }

  private read({ query }: Call, id: string | undefined, part: string | undefined): Answer {
    const show = (kept: Kept) => {
      const hides = this.is('shows holds past their time as held');
      return { ...kept.shown, status: hides ? kept.shown.status : this.statusOf(kept) };
    };
    if (id === undefined) {
      const data = [...this.appointments.values()]
        .filter(({ shown }) => shown.segments[0]!.practitionerId === query.get('practitionerId'))
        .map(show)
        .filter(({ status }) => status === query.get('status'));
      return { status: 200, body: { data, nextCursor: null } };
    }
    const kept = this.appointments.get(id);
    if (!kept) return problem(404, 'not_found');
    if (part !== 'history') return { status: 200, body: show(kept) };
    const data = kept.history.slice(this.is('has holes in the history') ? 1 : 0);
    return { status: 200, body: { data, nextCursor: null } };
  }

  private slots(query: URLSearchParams): Answer {
    const service = this.records.get(query.get('serviceId')!) as unknown as Service;
    const schedule = this.scheduleOf(query.get('practitionerId')!);
    const data: object[] = [];
    const from = Date.parse(query.get('from')!);
    for (let start = from; start < Date.parse(query.get('to')!); start += service.durationMinutes * MINUTE) {
      if (!this.isOpen(schedule, start, start + service.durationMinutes * MINUTE)) continue;
      this.offer(data, query, schedule.id, service, start);
    }
    const others = this.occupying(schedule.id).filter(
      ({ serviceId }) => serviceId === service.id && service.capacity > 1,
    );
    for (const start of new Set(others.map(({ startsAt }) => Date.parse(startsAt)))) {
      const onGrid = (start - from) % (service.durationMinutes * MINUTE) === 0;
      if (!onGrid && start >= from && start < Date.parse(query.get('to')!)) {
        this.offer(data, query, schedule.id, service, start);
      }
    }
    return { status: 200, body: { data: data.slice(this.is('hides free slots') ? 1 : 0) } };
  }

  private offer(data: object[], query: URLSearchParams, scheduleId: string, service: Service, start: number): void {
    if (this.isTaken(scheduleId, service, start) && !this.is('offers taken slots')) return;
    const remaining = service.capacity - this.membersOf(scheduleId, service, start).length;
    data.push({ startsAt: new Date(start).toISOString(), practitionerId: query.get('practitionerId'), remaining });
  }

  /** Who has a seat in a session already. */
  private membersOf(scheduleId: string, service: Service, startsAt: number, except?: Kept): Appointment[] {
    if (service.capacity === 1) return [];
    return this.occupying(scheduleId, except).filter(
      (other) => other.serviceId === service.id && Date.parse(other.startsAt) === startsAt,
    );
  }

  private scheduleOf(practitionerId: string): Schedule {
    const { scheduleId } = this.records.get(practitionerId) as unknown as { scheduleId: string };
    return this.schedules.get(scheduleId)!;
  }

  private occupying(scheduleId: string, except?: Kept): Appointment[] {
    const blocks = (kept: Kept) => {
      const forEver = this.is('lets holds block past their time') && kept.shown.status === 'held';
      return !kept.isLost && (forEver || OCCUPYING.includes(this.statusOf(kept)));
    };
    return [...this.appointments.values(), ...this.left]
      .filter((kept) => kept !== except && kept.shown.segments[0]!.scheduleId === scheduleId && blocks(kept))
      .map(({ shown }) => shown);
  }

  private isTaken(scheduleId: string, service: Service, startsAt: number, except?: Kept): boolean {
    const time = ({ bufferBeforeMinutes, durationMinutes, bufferAfterMinutes }: Service, start: number) => {
      return [start - bufferBeforeMinutes * MINUTE, start + (durationMinutes + bufferAfterMinutes) * MINUTE] as const;
    };
    const [from, until] = time(service, startsAt);
    const seats = service.capacity + (this.is('has a seat too many') && service.capacity > 1 ? 1 : 0);
    const members = this.membersOf(scheduleId, service, startsAt, except);
    if (members.length > 0) return members.length >= seats || this.is('refuses free seats');
    const others = this.occupying(scheduleId, except)
      .map((other) => {
        const theirs = this.records.get(other.serviceId) as unknown as Service;
        const [start, end] = time(theirs, Date.parse(other.startsAt));
        return { start, end, session: theirs.capacity > 1 ? `${theirs.id} ${other.startsAt}` : other.id };
      })
      .filter(({ start, end }) => start < until && from < end);
    const { places } = this.schedules.get(scheduleId)!;
    const room = places + (this.is('has a place too many') && places > 1 ? 1 : 0);
    return [from, ...others.map(({ start }) => start)].some((point) => {
      const at = others.filter(({ start, end }) => Math.max(start, from) <= point && point < end);
      return new Set(at.map(({ session }) => session)).size >= room;
    });
  }

  private isOpen(schedule: Schedule, startsAt: number, endsAt: number): boolean {
    const day = Math.floor(startsAt / DAY) * DAY;
    const weekday = new Date(startsAt).getUTCDay() || 7;
    const at = (time: string) => day + (Number(time.slice(0, 2)) * 60 + Number(time.slice(3))) * MINUTE;
    // No booking here begins in one interval and ends in the next.
    const open = schedule.hours.some(
      (hours) => hours.weekday === weekday && at(hours.start) <= startsAt && endsAt <= at(hours.end),
    );
    return open && !schedule.exceptions.some((e) => Date.parse(e.startsAt) < endsAt && startsAt < Date.parse(e.endsAt));
  }

  private is(offence: Offence): boolean {
    return this.offence === offence;
  }
}

const problem = (status: number, code: string, extensions: object = {}): Answer => ({
  status,
  body: { type: `urn:holdfast:problem:${code}`, title: code, status, code, detail: code, ...extensions },
});
