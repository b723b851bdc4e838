import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * A small imitation of Holdfast's API in memory, as far as `prove` uses it, that can be told to commit one offence. It is
 * there to see every check of `prove` turn red: a check that was never seen red protects nothing.
 */
export const OFFENCES = [
  'takes time twice',
  'loses an acknowledged booking',
  'keeps a refused booking',
  'refuses free time',
  'offers taken slots',
  'hides free slots',
  'leaves out alternatives',
  'offers the lost time again',
  'fails with a 5xx',
  'is busy all the time',
  'books another time than asked',
  'frees time on a second cancel',
  'forgets idempotency keys',
  'replays another answer',
  'serves another body under a used key',
  'makes a patient for every request',
  'books into closed hours',
  'closes time without naming its bookings',
  'accepts edits of an old version',
  'has holes in the history',
  'leaves the test location behind',
] as const;
export type Offence = (typeof OFFENCES)[number];

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

interface Service {
  id: string;
  durationMinutes: number;
  bufferBeforeMinutes: number;
  bufferAfterMinutes: number;
  practitionerIds: string[];
}

interface Schedule {
  id: string;
  version: number;
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

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

export async function startStandIn(offence?: Offence): Promise<{ url: string; close: () => Promise<void> }> {
  const clinic = new Clinic(offence);
  const server = createServer((request, response) => {
    void answer(clinic, request, response);
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
  for await (const chunk of request) chunks.push(chunk as Buffer);
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
  private readonly appointments = new Map<string, Appointment>();
  private readonly answers = new Map<string, { body: string; answer: Answer } | 'running'>();
  private turns = 0;

  constructor(private readonly offence?: Offence) {}

  async handle(call: Call): Promise<Answer> {
    const [, what, id, part] = call.path;
    if (call.path[0] !== 'v1') return { status: 200, body: {} };
    if (what === 'organization') return { status: 200, body: { id: 'organization' } };
    if (what === 'schedules') return this.schedule(call, this.schedules.get(id!)!, part);
    if (what === 'slots') return this.slots(call.query);
    if (what === 'patients' && call.method === 'POST') return this.newPatient(call.body);
    if (what !== 'appointments') return this.record(call, what!, id);
    if (call.method === 'GET') return this.read(call, id, part);
    if (part === 'cancel') return this.cancel(this.appointments.get(id!));
    return this.once(call, () => this.book(call.body));
  }

  private record({ method, body, query }: Call, what: string, id: string | undefined): Answer {
    if (method === 'POST') {
      const record = { ...(body as object), id: randomUUID(), scheduleId: randomUUID() };
      this.records.set(record.id, record);
      if (what === 'practitioners') {
        this.schedules.set(record.scheduleId, { id: record.scheduleId, version: 1, hours: [], exceptions: [] });
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
    if (method === 'GET') return show(200);
    if (ifMatch !== `"${schedule.version}"` && !this.is('accepts edits of an old version')) {
      return problem(412, 'version_stale');
    }
    schedule.version++;
    let id: string = randomUUID();
    if (part === 'hours') schedule.hours = (body as unknown as Schedule).hours;
    else if (method === 'POST') schedule.exceptions.push({ ...(body as unknown as Schedule['exceptions'][0]), id });
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
    const { serviceId, practitionerId, metadata, patient } = body as unknown as {
      serviceId: string;
      practitionerId?: string;
      metadata: Record<string, unknown>;
      patient: { phone: string; name: string };
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
      status: 'confirmed',
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
    if (refused) {
      if (this.is('keeps a refused booking') && this.turns % 5 === 0)
        this.appointments.set(appointment.id, appointment);
      const lost = { startsAt: from, endsAt: to, practitionerId: practitioner };
      const alternatives = this.is('offers the lost time again') ? [lost] : [];
      return problem(409, 'slot_taken', this.is('leaves out alternatives') ? {} : { alternatives });
    }
    if (!this.is('loses an acknowledged booking') || this.turns % 3 !== 0)
      this.appointments.set(appointment.id, appointment);
    const headers = { location: `/v1/appointments/${appointment.id}`, etag: '"1"' };
    return { status: 201, body: { ...appointment }, headers };
  }

  private cancel(appointment: Appointment | undefined): Answer {
    if (!appointment) return problem(404, 'not_found');
    if (appointment.status !== 'confirmed') {
      if (!this.is('frees time on a second cancel')) return problem(409, 'invalid_transition');
      for (const other of this.appointments.values()) {
        if (other.startsAt === appointment.startsAt) Object.assign(other, { status: 'cancelled', version: 2 });
      }
      return { status: 200, body: appointment };
    }
    Object.assign(appointment, { status: 'cancelled', version: 2 });
    return { status: 200, body: appointment };
  }

  private read({ query }: Call, id: string | undefined, part: string | undefined): Answer {
    if (id === undefined) {
      const data = [...this.appointments.values()].filter(
        ({ status, segments }) =>
          status === query.get('status') && segments[0]!.practitionerId === query.get('practitionerId'),
      );
      return { status: 200, body: { data, nextCursor: null } };
    }
    const appointment = this.appointments.get(id);
    if (!appointment) return problem(404, 'not_found');
    if (part !== 'history') return { status: 200, body: appointment };
    const data = [
      { version: 1, fromStatus: null, toStatus: 'confirmed' },
      { version: 2, fromStatus: 'confirmed', toStatus: 'cancelled' },
    ];
    const from = this.is('has holes in the history') ? 1 : 0;
    return { status: 200, body: { data: data.slice(from, appointment.version), nextCursor: null } };
  }

  private slots(query: URLSearchParams): Answer {
    const service = this.records.get(query.get('serviceId')!) as unknown as Service;
    const schedule = this.scheduleOf(query.get('practitionerId')!);
    const data: object[] = [];
    const from = Date.parse(query.get('from')!);
    for (let start = from; start < Date.parse(query.get('to')!); start += service.durationMinutes * MINUTE) {
      if (!this.isOpen(schedule, start, start + service.durationMinutes * MINUTE)) continue;
      const taken = this.isTaken(schedule.id, service, start) && !this.is('offers taken slots');
      if (!taken) data.push({ startsAt: new Date(start).toISOString(), practitionerId: query.get('practitionerId') });
    }
    return { status: 200, body: { data: data.slice(this.is('hides free slots') ? 1 : 0) } };
  }

  private scheduleOf(practitionerId: string): Schedule {
    const { scheduleId } = this.records.get(practitionerId) as unknown as { scheduleId: string };
    return this.schedules.get(scheduleId)!;
  }

  private occupying(scheduleId: string): Appointment[] {
    return [...this.appointments.values()].filter(
      ({ status, segments }) => status === 'confirmed' && segments[0]!.scheduleId === scheduleId,
    );
  }

  private isTaken(scheduleId: string, service: Service, startsAt: number): boolean {
    const time = ({ bufferBeforeMinutes, durationMinutes, bufferAfterMinutes }: Service, start: number) => {
      return [start - bufferBeforeMinutes * MINUTE, start + (durationMinutes + bufferAfterMinutes) * MINUTE] as const;
    };
    const [from, until] = time(service, startsAt);
    return this.occupying(scheduleId).some((other) => {
      const theirs = this.records.get(other.serviceId) as unknown as Service;
      const [start, end] = time(theirs, Date.parse(other.startsAt));
      return start < until && from < end;
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
