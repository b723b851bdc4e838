import { DAY, MINUTE, type Practitioner, type Resource, type Service, shortestLength } from './catalog';
import { type AppointmentView, type Client, inParallel, listAll } from './client';
import { type CompositeKey, composites } from './composites';
import { RESERVED_PHONES } from './phones';
import type { Random } from './random';

/** `[{ weekday, start, end }]` as the API takes it. */
export type Hours = Array<{ weekday: number; start: string; end: string }>;

/** Open every day, long enough for many rounds a day. Schedules here are in UTC, so local times are instants at once. */
export const OPEN = { from: 6 * 60 * MINUTE, until: 22 * 60 * MINUTE };
export const FULL_DAY_MINUTES = (OPEN.until - OPEN.from) / MINUTE;
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
/** Those who serve composites, beside the rooms: few, so that they are wanted by many. */
const [SPECIALISTS, ROOMS] = [4, 2];
export const SEATS = 4;
export const PLACES = 3;
/** How many can share a published slot. */
export const PUBLISHED_SEATS = 2;
/** When the one who publishes slots is open anyway. */
const EARLY = weekly('06:00', '08:00');
const EARLY_OPEN = { from: 6 * 60 * MINUTE, until: 8 * 60 * MINUTE };

type SimpleKey =
  | ('plain' | 'short' | 'long' | 'buffered' | 'approval' | 'pool' | 'edited')
  | ('group' | 'alone' | 'seat' | 'seatLong' | 'published');
type ServiceKey = SimpleKey | CompositeKey;

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
  rooms: Resource[] = [];
  /** Whose hours are edited; nobody else's storms use this one. */
  edited!: Practitioner;
  /** Who has sessions that several share. */
  host!: Practitioner;
  /** Who takes several at once. */
  spacious!: Practitioner;
  /** Who publishes slots, and has few hours beside them. */
  publisher!: Practitioner;
  services!: Record<ServiceKey, Service>;
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
    private readonly random: Random,
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
      this.practitioners.push(await this.createResource('practitioner', `${number}`));
    }
    for (let number = 1; number <= ROOMS; number++)
      this.rooms.push(await this.createResource('room', `room ${number}`));
    this.edited = await this.createResource('practitioner', 'edited');
    this.host = await this.createResource('practitioner', 'host');
    this.spacious = await this.createResource('practitioner', 'spacious', { places: PLACES });
    this.publisher = await this.createResource('practitioner', 'publisher', { hours: EARLY });
    const all = this.practitioners;
    const buffers = { bufferBeforeMinutes: 10, bufferAfterMinutes: 15 };
    const simple: Record<SimpleKey, [rules: Partial<Service>, practitioners: Practitioner[]]> = {
      plain: [{ durationMinutes: 30 }, all],
      short: [{ durationMinutes: 15 }, all],
      long: [{ durationMinutes: 60 }, all],
      buffered: [{ durationMinutes: 20, ...buffers }, all],
      approval: [{ durationMinutes: 30, requiresConfirmation: true }, all],
      pool: [{ durationMinutes: 30 }, all.slice(0, POOL)],
      edited: [{ durationMinutes: 30 }, [this.edited]],
      group: [{ durationMinutes: 30, capacity: SEATS, bufferAfterMinutes: 5 }, [this.host]],
      alone: [{ durationMinutes: 20 }, [this.host]],
      seat: [{ durationMinutes: 30 }, [this.spacious]],
      seatLong: [{ durationMinutes: 45, bufferBeforeMinutes: 5, bufferAfterMinutes: 10 }, [this.spacious]],
      published: [{ durationMinutes: 30, publishedSeats: PUBLISHED_SEATS }, [this.publisher]],
    };
    const made: Array<[string, Service]> = [];
    for (const [key, [rules, practitioners]] of Object.entries(simple)) {
      made.push([key, await this.createService(key, { practitioners, ...rules })]);
    }
    const specialists = all.slice(0, SPECIALISTS);
    for (const [key, segments] of Object.entries(composites(specialists, this.rooms, this.random))) {
      const rules = { segments, bufferBeforeMinutes: 5, bufferAfterMinutes: 10 };
      made.push([key, await this.createService(key, { practitioners: specialists, ...rules })]);
    }
    this.services = Object.fromEntries(made) as Record<ServiceKey, Service>;
  }

  /** All practitioners here; fewer where {@link create} has failed. */
  get everybody(): Practitioner[] {
    const others: Array<Practitioner | undefined> = [this.edited, this.host, this.spacious, this.publisher];
    return [...this.practitioners, ...others].filter((practitioner) => practitioner !== undefined);
  }

  /** The service by which the free time of a practitioner is looked at, and within which hours of the day. */
  searchOf(practitioner: Practitioner): { service: Service; open: { from: number; until: number } } {
    const { edited, group, seat, published, plain } = this.services;
    if (practitioner === this.edited) return { service: edited, open: OPEN };
    if (practitioner === this.host) return { service: group, open: OPEN };
    if (practitioner === this.spacious) return { service: seat, open: OPEN };
    if (practitioner === this.publisher) return { service: published, open: EARLY_OPEN };
    return { service: plain, open: OPEN };
  }

  get schedules(): string[] {
    return [...this.everybody, ...this.rooms].map(({ scheduleId }) => scheduleId);
  }

  /** How many share a session at most, where it is not what its service says. */
  get seatsOf(): Record<string, number> {
    return this.publisher ? { [this.publisher.scheduleId]: PUBLISHED_SEATS } : {};
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
    for (const { kind, id } of [...this.everybody, ...this.rooms]) {
      await attempt(() => this.delete(`${kind}s`, id));
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

  private async createResource(
    kind: Resource['kind'],
    key: string,
    { hours = FULL_HOURS, places = 1 }: { hours?: Hours; places?: number } = {},
  ): Promise<Resource> {
    const name = `${this.tag} ${key}`;
    const made = await this.post(`/v1/${kind}s`, { name, locationId: this.locationId });
    const { id, scheduleId } = made as { id: string; scheduleId: string };
    const { headers } = await this.admin.must('GET', `/v1/schedules/${scheduleId}`);
    await this.admin.must('PUT', `/v1/schedules/${scheduleId}/hours`, {
      headers: { 'if-match': headers.etag ?? '' },
      body: { timeZone: 'UTC', hours, ...(places === 1 ? {} : { places }) },
    });
    return { kind, id, scheduleId, name, places };
  }

  private async createService(
    key: string,
    { practitioners, segments, publishedSeats, ...rules }: Partial<Service> & Pick<Service, 'practitioners'>,
  ): Promise<Service> {
    const durationMinutes = rules.durationMinutes ?? shortestLength(segments ?? []);
    const full = {
      durationMinutes,
      bufferBeforeMinutes: 0,
      bufferAfterMinutes: 0,
      slotIntervalMinutes: durationMinutes,
      requiresConfirmation: false,
      holdMinutes: 10,
      capacity: 1,
      ...rules,
    };
    const name = `${this.tag} ${key}`;
    const ids = (kind: Resource['kind'], of: Resource[]) =>
      of.filter((resource) => resource.kind === kind).map((resource) => resource.id);
    const { id } = await this.post('/v1/services', {
      ...full,
      name,
      minNoticeMinutes: 0,
      maxDaysAhead: 90,
      ...(segments
        ? {
            segments: segments.map(({ resources, ...segment }) => ({
              ...segment,
              [resources[0]!.kind === 'room' ? 'roomIds' : 'practitionerIds']: ids(resources[0]!.kind, resources),
            })),
          }
        : { practitionerIds: ids('practitioner', practitioners) }),
    });
    return { id, name, practitioners, segments, publishedSeats, ...full };
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
