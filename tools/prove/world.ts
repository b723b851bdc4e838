import { DAY, MINUTE, type Practitioner, type Service } from './catalog';
import { type AppointmentView, type Client, inParallel, listAll } from './client';
import { RESERVED_PHONES } from './phones';
import type { Random } from './random';

/** `[{ weekday, start, end }]` as the API takes it. */
export type Hours = Array<{ weekday: number; start: string; end: string }>;

/** Open every day, long enough for many rounds a day. Schedules here are in UTC, so local times are instants at once. */
export const OPEN = { from: 6 * 60 * MINUTE, until: 22 * 60 * MINUTE };
export const FULL_HOURS = weekly('06:00', '22:00');

/** Statuses that occupy their time. */
const OCCUPYING = ['held', 'pending', 'confirmed', 'checked_in'];
/** Rounds keep this distance, which is more than any buffer here, so that neighbours cannot touch. */
const APART = 30 * MINUTE;
/** Tomorrow may be today by the time a round runs, and the last days must stay below the services' 90 days ahead. */
const [FIRST_DAY, LAST_DAY] = [2, 86];
/** Days that one round takes at most. */
const ROOM_OF_A_ROUND = 12;
const PRACTITIONERS = 8;
const POOL = 5;

/**
 * A test location of its own inside an install: practitioners, services and patients that nobody else uses, made through
 * the API before the storms and removed through it afterwards.
 *
 * Nobody outside is reached from here: the patients' numbers are reserved for fiction, so no provider can deliver to them;
 * the practitioners have no calendar connection; no service has a price. What is cancelled stays in the install's history,
 * as everything does.
 */
export class World {
  readonly tag: string;
  organizationId = '';
  locationId = '';
  practitioners: Practitioner[] = [];
  /** Whose hours are edited; nobody else's storms use this one. */
  edited!: Practitioner;
  services!: Record<'plain' | 'short' | 'long' | 'buffered' | 'approval' | 'pool' | 'edited', Service>;
  /** Days touched since the last {@link tidy}, as the instants at which they begin. */
  readonly daysUsed = new Set<number>();

  /** Numbers that patients of this world may have by now: one for each client, and those given out as new. */
  readonly phones: Set<string>;

  private readonly clientPhones: string[];
  private readonly sparePhones: string[];
  private readonly firstDay = (Math.floor(Date.now() / DAY) + FIRST_DAY) * DAY;
  private cursor: number;
  /** Days gone by since the last {@link tidy}: after all of them the first ones would come again. */
  private daysPassed = 0;
  private requests = 0;

  constructor(
    private readonly admin: Client,
    random: Random,
    clients: number,
  ) {
    this.tag = `prove-${Date.now().toString(36)}${random
      .below(36 ** 4)
      .toString(36)
      .padStart(4, '0')}`;
    const numbers = random.shuffled(RESERVED_PHONES);
    this.clientPhones = numbers.slice(0, clients);
    this.sparePhones = numbers.slice(clients);
    this.phones = new Set(this.clientPhones);
    this.cursor = this.firstDay + random.below(LAST_DAY - FIRST_DAY) * DAY;
  }

  async create(): Promise<void> {
    const { body } = await this.admin.must('GET', '/v1/organization');
    this.organizationId = (body as { id: string }).id;
    this.locationId = (await this.post('/v1/locations', { name: `${this.tag} (test)`, timeZone: 'UTC' })).id;
    for (let number = 1; number <= PRACTITIONERS; number++) {
      this.practitioners.push(await this.createPractitioner(`${this.tag} ${number}`));
    }
    this.edited = await this.createPractitioner(`${this.tag} edited`);
    const all = this.practitioners;
    this.services = {
      plain: await this.createService('plain', { durationMinutes: 30 }, all),
      short: await this.createService('short', { durationMinutes: 15 }, all),
      long: await this.createService('long', { durationMinutes: 60 }, all),
      buffered: await this.createService(
        'buffered',
        { durationMinutes: 20, bufferBeforeMinutes: 10, bufferAfterMinutes: 15 },
        all,
      ),
      approval: await this.createService('approval', { durationMinutes: 30, requiresConfirmation: true }, all),
      pool: await this.createService('pool', { durationMinutes: 30 }, all.slice(0, POOL)),
      edited: await this.createService('edited', { durationMinutes: 30 }, [this.edited]),
    };
  }

  /** All practitioners here; fewer where {@link create} has failed. */
  get everybody(): Practitioner[] {
    return [...this.practitioners, this.edited].filter((practitioner) => practitioner !== undefined);
  }

  get schedules(): string[] {
    return this.everybody.map((practitioner) => practitioner.scheduleId);
  }

  /** Of one request, over all storms and their repetitions. */
  newRequestId(): string {
    return `${this.tag}-${++this.requests}`;
  }

  /** The number of one client, the same in every round. */
  phoneOf(client: number): string {
    return this.clientPhones[client % this.clientPhones.length] as string;
  }

  /** A number that no living patient of this world has; {@link tidy} makes it new again. */
  newPhone(): string {
    const phone = this.sparePhones.shift();
    if (phone === undefined) throw new Error('no reserved phone numbers are left for this round');
    this.phones.add(phone);
    return phone;
  }

  /** True while a round can be given time that was not used since the last {@link tidy}. */
  get hasRoom(): boolean {
    return this.daysPassed < LAST_DAY - FIRST_DAY - ROOM_OF_A_ROUND && this.sparePhones.length > 10;
  }

  /** The start of free time of this length, free of all practitioners, with room for buffers around it. */
  takeWindow(minutes: number): number {
    const length = minutes * MINUTE;
    const open = dayOf(this.cursor) + OPEN.from;
    let start = Math.max(this.cursor, open) + APART;
    if (start + length + APART > dayOf(this.cursor) + OPEN.until) {
      this.nextDay();
      start = dayOf(this.cursor) + OPEN.from + APART;
    }
    this.cursor = start + length;
    this.daysUsed.add(dayOf(start));
    return start;
  }

  /** The beginning of a whole day that nobody else uses. */
  takeDay(): number {
    this.nextDay();
    const day = dayOf(this.cursor);
    this.daysUsed.add(day);
    this.nextDay();
    return day;
  }

  /** The appointments that occupy time of one practitioner here. */
  async occupying(client: Client, practitioner: Practitioner): Promise<AppointmentView[]> {
    const range = {
      practitionerId: practitioner.id,
      from: new Date(this.firstDay).toISOString(),
      to: new Date(this.firstDay + (LAST_DAY + 1) * DAY).toISOString(),
    };
    const found: AppointmentView[] = [];
    for (const status of OCCUPYING) {
      found.push(...(await listAll<AppointmentView>(client, '/v1/appointments', { ...range, status })));
    }
    return found;
  }

  /** Cancels everything that occupies time here and removes the patients of new numbers, so that both can be used again. */
  async tidy(clients: readonly Client[]): Promise<void> {
    const left: AppointmentView[] = [];
    await inParallel(clients, this.everybody, async (client, practitioner) => {
      left.push(...(await this.occupying(client, practitioner)));
    });
    await inParallel(clients, left, async (client, appointment) => {
      const path = `/v1/appointments/${appointment.id}`;
      const { status } = await client.must('POST', `${path}/cancel`, { body: { reason: 'prove is done' } }, [409]);
      if (status !== 409) return;
      // A hold that has ended in this moment frees its time itself.
      const now = (await client.must('GET', path)).body as AppointmentView;
      if (OCCUPYING.includes(now.status)) throw new Error(`${path} is ${now.status}, and cannot be cancelled`);
    });
    this.daysUsed.clear();
    this.daysPassed = 0;
    const given = [...this.phones].filter((phone) => !this.clientPhones.includes(phone));
    await inParallel(clients, given, async (client, phone) => {
      await this.removePatient(client, phone);
      this.phones.delete(phone);
      this.sparePhones.push(phone);
    });
  }

  /** Opens whatever exceptions have closed. */
  async removeExceptions(client: Client, { scheduleId }: Practitioner): Promise<void> {
    const schedule = `/v1/schedules/${scheduleId}`;
    for (const { id } of await listAll<{ id: string }>(client, `${schedule}/exceptions`, {})) {
      const { headers } = await client.must('GET', schedule);
      await client.must(
        'DELETE',
        `${schedule}/exceptions/${id}`,
        { headers: { 'if-match': headers.etag ?? '' } },
        [404],
      );
    }
  }

  /**
   * Removes the test location with all that belongs to it.
   * @returns what could not be removed, one line each
   */
  async remove(clients: readonly Client[]): Promise<string[]> {
    const failures: string[] = [];
    const attempt = async (work: () => Promise<unknown>) => {
      try {
        await work();
      } catch (error) {
        failures.push((error as Error).message);
      }
    };
    await attempt(() => this.tidy(clients));
    await inParallel(clients, this.phones, (client, phone) => attempt(() => this.removePatient(client, phone)));
    for (const service of Object.values(this.services ?? {})) await attempt(() => this.delete('services', service.id));
    for (const { id } of this.everybody) {
      await attempt(() => this.delete('practitioners', id));
    }
    if (this.locationId !== '') await attempt(() => this.delete('locations', this.locationId));
    return failures;
  }

  private async removePatient(client: Client, phone: string): Promise<void> {
    const { body } = await client.must('GET', `/v1/patients?${new URLSearchParams({ phone }).toString()}`);
    for (const { id, name } of (body as { data: Array<{ id: string; name: string | null }> }).data) {
      // One that was there before keeps the name it had: stored fields win.
      if (name?.startsWith(this.tag)) await client.must('DELETE', `/v1/patients/${id}`);
    }
  }

  private nextDay(): void {
    this.daysPassed++;
    this.cursor = dayOf(this.cursor) + DAY;
    if (this.cursor > this.firstDay + (LAST_DAY - FIRST_DAY) * DAY) this.cursor = this.firstDay;
  }

  private async createPractitioner(name: string): Promise<Practitioner> {
    const { id, scheduleId } = (await this.post('/v1/practitioners', { name, locationId: this.locationId })) as {
      id: string;
      scheduleId: string;
    };
    const { headers } = await this.admin.must('GET', `/v1/schedules/${scheduleId}`);
    await this.admin.must('PUT', `/v1/schedules/${scheduleId}/hours`, {
      headers: { 'if-match': headers.etag ?? '' },
      body: { timeZone: 'UTC', hours: FULL_HOURS },
    });
    return { kind: 'practitioner', id, scheduleId, name, places: 1 };
  }

  private async createService(
    key: string,
    rules: Pick<Service, 'durationMinutes'> &
      Partial<Pick<Service, 'bufferBeforeMinutes' | 'bufferAfterMinutes' | 'requiresConfirmation'>>,
    practitioners: Practitioner[],
  ): Promise<Service> {
    const full = {
      bufferBeforeMinutes: 0,
      bufferAfterMinutes: 0,
      slotIntervalMinutes: rules.durationMinutes,
      requiresConfirmation: false,
      holdMinutes: 10,
      capacity: 1,
      ...rules,
    };
    const name = `${this.tag} ${key}`;
    const { id } = await this.post('/v1/services', {
      ...full,
      name,
      minNoticeMinutes: 0,
      maxDaysAhead: 90,
      practitionerIds: practitioners.map((practitioner) => practitioner.id),
    });
    return { id, name, practitioners, ...full };
  }

  private async post(path: string, body: unknown): Promise<{ id: string }> {
    return (await this.admin.must('POST', path, { body })).body as { id: string };
  }

  private async delete(what: string, id: string): Promise<void> {
    await this.admin.must('DELETE', `/v1/${what}/${id}`);
    const { status } = await this.admin.request('GET', `/v1/${what}/${id}`);
    if (status !== 404) throw new Error(`/v1/${what}/${id} was deleted, but still answers ${status}`);
  }
}

/** The same hours on all seven weekdays. */
export function weekly(...times: string[]): Hours {
  return [1, 2, 3, 4, 5, 6, 7].flatMap((weekday) =>
    times.flatMap((start, index) => (index % 2 === 0 ? [{ weekday, start, end: times[index + 1] as string }] : [])),
  );
}

export const dayOf = (instant: number): number => Math.floor(instant / DAY) * DAY;
