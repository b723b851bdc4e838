import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, In, Repository } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import type { Call } from '../auth';
import { Clock, Cursors, Database, type FieldError, Idempotency, type ListQuery, Problem, Reply } from '../platform';
import { Service, ServicePractitioner, ServiceSegment, ServiceSegmentResource } from './clinic.entities';
import { given, Records, showDates } from './records';
import { PractitionersService, RoomsService } from './resources.service';

export interface SegmentFields {
  name: string;
  durationMinutes: number;
  gapAfterMinutes?: number;
  maxWaitMinutes?: number;
  startsWithPrevious?: boolean;
  practitionerIds?: string[];
  roomIds?: string[];
}

export interface ServiceFields {
  name: string;
  durationMinutes?: number;
  bufferBeforeMinutes?: number;
  bufferAfterMinutes?: number;
  slotIntervalMinutes?: number | null;
  capacity?: number;
  requiresConfirmation?: boolean;
  pendingMinutes?: number | null;
  price?: { amount: number; currency: string } | null;
  paymentRequired?: boolean;
  holdMinutes?: number;
  minNoticeMinutes?: number;
  maxDaysAhead?: number;
  modes?: string[];
  practitionerIds?: string[];
  segments?: SegmentFields[];
}

type FullService = Service & { practitionerIds: string[]; segments: Required<SegmentFields>[] };

@Injectable()
export class ServicesService {
  private readonly records: Records<Service>;

  constructor(
    @InjectRepository(Service) repository: Repository<Service>,
    @InjectRepository(ServicePractitioner) private readonly offering: Repository<ServicePractitioner>,
    @InjectRepository(ServiceSegment) private readonly segments: Repository<ServiceSegment>,
    @InjectRepository(ServiceSegmentResource) private readonly segmentResources: Repository<ServiceSegmentResource>,
    private readonly practitioners: PractitionersService,
    private readonly rooms: RoomsService,
    private readonly database: Database,
    private readonly idempotency: Idempotency,
    private readonly clock: Clock,
    cursors: Cursors,
  ) {
    this.records = new Records(repository, 'service', cursors, clock);
  }

  create(call: Call, body: ServiceFields): Promise<Reply> {
    return this.idempotency.transaction(call, async (tx) => {
      const service = await this.insert(tx, call.organizationId, body);
      return Reply.created('/v1/services', show(service), service.version);
    });
  }

  async insert(tx: EntityManager, organizationId: string, body: ServiceFields): Promise<FullService> {
    const now = this.clock.date();
    const segments = (body.segments ?? []).map(complete);
    const row: Service = {
      id: uuidv7(),
      organizationId,
      ...columns({ durationMinutes: lengthOf(segments), ...body }),
      version: 1,
      createdAt: now,
      updatedAt: now,
      deletedAt: null,
    };
    const service = { ...row, practitionerIds: body.practitionerIds ?? [], segments };
    check(service, true);
    await this.records.in(tx).insert(row);
    await this.replaceParts(tx, service);
    return service;
  }

  get(call: Call, id: string): Promise<Reply> {
    return this.database.read(call.organizationId, async (tx) => {
      const [service] = await this.withParts(tx, [await this.records.get(tx, id)]);
      return Reply.ok(show(service!), service!.version);
    });
  }

  list(call: Call, query: ListQuery) {
    return this.database.read(call.organizationId, async (tx) => {
      const page = await this.records.list(tx, call, query, (row) => row);
      return { ...page, data: (await this.withParts(tx, page.data)).map(show) };
    });
  }

  change(call: Call, id: string, body: Partial<ServiceFields>): Promise<Reply> {
    return this.database.transaction(call.organizationId, async (tx) => {
      const [before] = await this.withParts(tx, [await this.records.lockVersion(tx, id, call)]);
      const segments = body.segments?.map(complete) ?? before!.segments;
      const implied =
        body.segments && body.durationMinutes === undefined ? { durationMinutes: lengthOf(segments) } : {};
      const changes = columns({ ...fieldsOf(before!), ...given(body), ...implied });
      const after = {
        ...before!,
        ...changes,
        practitionerIds: body.practitionerIds ?? before!.practitionerIds,
        segments,
      };
      check(after, body.practitionerIds !== undefined || body.segments !== undefined);
      const row = await this.records.change(tx, call, id, changes);
      if (body.practitionerIds ?? body.segments) await this.replaceParts(tx, after);
      return Reply.ok(show({ ...after, version: row.version, updatedAt: row.updatedAt }), row.version);
    });
  }

  /** For deletion: waits for the bookings of this service that are under way, and they for it. */
  lockForDeletion(tx: EntityManager, id: string, call: Call): Promise<Service> {
    return this.records.lockVersion(tx, id, call, 'pessimistic_write');
  }

  retire(tx: EntityManager, id: string): Promise<void> {
    return this.records.retire(tx, id);
  }

  private async replaceParts(tx: EntityManager, service: FullService): Promise<void> {
    const { organizationId, id: serviceId } = service;
    await this.practitioners.require(tx, [
      ...service.practitionerIds,
      ...service.segments.flatMap((each) => each.practitionerIds),
    ]);
    await this.rooms.require(
      tx,
      service.segments.flatMap((each) => each.roomIds),
    );
    await tx.withRepository(this.segmentResources).delete({ serviceId });
    await tx.withRepository(this.segments).delete({ serviceId });
    await tx.withRepository(this.offering).delete({ serviceId });
    await tx
      .withRepository(this.offering)
      .insert(service.practitionerIds.map((practitionerId) => ({ organizationId, serviceId, practitionerId })));
    await tx.withRepository(this.segments).insert(
      service.segments.map(({ practitionerIds: _, roomIds: __, ...segment }, position) => ({
        organizationId,
        serviceId,
        position,
        ...segment,
      })),
    );
    await tx.withRepository(this.segmentResources).insert(
      service.segments.flatMap((segment, position) => [
        ...segment.practitionerIds.map((practitionerId) => ({
          id: uuidv7(),
          organizationId,
          serviceId,
          position,
          practitionerId,
        })),
        ...segment.roomIds.map((roomId) => ({ id: uuidv7(), organizationId, serviceId, position, roomId })),
      ]),
    );
  }

  private async withParts(tx: EntityManager, services: Service[]): Promise<FullService[]> {
    const where = { serviceId: In(services.map((service) => service.id)) };
    const offering = await tx.withRepository(this.offering).find({ where, order: { practitionerId: 'ASC' } });
    const segments = await tx.withRepository(this.segments).find({ where, order: { position: 'ASC' } });
    const resources = await tx.withRepository(this.segmentResources).find({ where, order: { id: 'ASC' } });
    return services.map((service) => ({
      ...service,
      practitionerIds: offering.filter((each) => each.serviceId === service.id).map((each) => each.practitionerId),
      segments: segments
        .filter((segment) => segment.serviceId === service.id)
        .map(({ position, name, durationMinutes, gapAfterMinutes, maxWaitMinutes, startsWithPrevious }) => {
          const own = resources.filter((each) => each.serviceId === service.id && each.position === position);
          return {
            name,
            durationMinutes,
            gapAfterMinutes,
            maxWaitMinutes,
            startsWithPrevious,
            practitionerIds: own.flatMap((each) => each.practitionerId ?? []),
            roomIds: own.flatMap((each) => each.roomId ?? []),
          };
        }),
    }));
  }
}

const complete = (segment: SegmentFields): Required<SegmentFields> => ({
  name: segment.name,
  durationMinutes: segment.durationMinutes,
  gapAfterMinutes: segment.gapAfterMinutes ?? 0,
  maxWaitMinutes: segment.maxWaitMinutes ?? 0,
  startsWithPrevious: segment.startsWithPrevious ?? false,
  practitionerIds: segment.practitionerIds ?? [],
  roomIds: segment.roomIds ?? [],
});

/** From the start of the first segment to the end of the last, without any waiting; segments can run side by side. */
function lengthOf(segments: Required<SegmentFields>[]): number | undefined {
  if (segments.length === 0) return undefined;
  let [start, next, end] = [0, 0, 0];
  segments.forEach(({ durationMinutes, gapAfterMinutes, startsWithPrevious }, index) => {
    if (index > 0 && !startsWithPrevious) start = next;
    next = Math.max(startsWithPrevious ? next : 0, start + durationMinutes + gapAfterMinutes);
    end = Math.max(end, start + durationMinutes);
  });
  return end;
}

type Columns = Omit<Service, 'id' | 'organizationId' | 'version' | 'createdAt' | 'updatedAt' | 'deletedAt'>;

const columns = (fields: ServiceFields): Columns => ({
  name: fields.name,
  durationMinutes: fields.durationMinutes ?? 0,
  bufferBeforeMinutes: fields.bufferBeforeMinutes ?? 0,
  bufferAfterMinutes: fields.bufferAfterMinutes ?? 0,
  slotIntervalMinutes: fields.slotIntervalMinutes ?? null,
  capacity: fields.capacity ?? 1,
  requiresConfirmation: fields.requiresConfirmation ?? false,
  pendingMinutes: fields.pendingMinutes ?? null,
  priceAmount: fields.price?.amount ?? null,
  priceCurrency: fields.price?.currency ?? null,
  paymentRequired: fields.paymentRequired ?? false,
  holdMinutes: fields.holdMinutes ?? 10,
  minNoticeMinutes: fields.minNoticeMinutes ?? 0,
  maxDaysAhead: fields.maxDaysAhead ?? 90,
  modes: fields.modes ?? ['in_person'],
});

const fieldsOf = ({ priceAmount, priceCurrency, ...service }: FullService): ServiceFields => ({
  ...service,
  price: priceAmount === null || priceCurrency === null ? null : { amount: priceAmount, currency: priceCurrency },
});

/** What no single field can say. Somebody must offer a service when that is decided on; later he may have left. */
function check(service: FullService, partsGiven: boolean): void {
  const errors: FieldError[] = [];
  if (partsGiven && service.practitionerIds.length === 0 && service.segments.length === 0) {
    errors.push({ pointer: '/practitionerIds', detail: 'a service needs practitioners or segments' });
  }
  if (service.practitionerIds.length > 0 && service.segments.length > 0) {
    errors.push({ pointer: '/segments', detail: 'a service has practitioners or segments, not both' });
  }
  service.segments.forEach((segment, index) => {
    if (segment.practitionerIds.length + segment.roomIds.length === 0) {
      errors.push({ pointer: `/segments/${index}`, detail: 'a segment needs practitioners or rooms' });
    }
    if (segment.practitionerIds.length > 0 && segment.roomIds.length > 0) {
      errors.push({
        pointer: `/segments/${index}`,
        detail: 'a segment takes a practitioner or a room; use two segments for both',
      });
    }
  });
  if (service.segments[0]?.startsWithPrevious)
    errors.push({ pointer: '/segments/0/startsWithPrevious', detail: 'there is no segment before the first' });
  service.segments.forEach((segment, index) => {
    if (!segment.startsWithPrevious) return;
    const first = service.segments.findLastIndex((each, at) => at <= index && !each.startsWithPrevious);
    const sideBySide = service.segments.slice(Math.max(first, 0), index + 1);
    const able = new Set(sideBySide.flatMap((each) => [...each.practitionerIds, ...each.roomIds]));
    if (able.size < sideBySide.length)
      errors.push({ pointer: `/segments/${index}`, detail: 'nobody is left for it beside those that begin with it' });
  });
  if (service.segments.length > 0 && service.capacity > 1)
    errors.push({ pointer: '/capacity', detail: 'a service with segments is for one patient at a time' });
  const waits = service.segments.slice(0, -1).reduce((sum, each) => sum + each.maxWaitMinutes, 0);
  if (service.segments.length > 0 && service.durationMinutes + waits > 1440)
    errors.push({ pointer: '/segments', detail: 'must end within 24 hours, the longest waiting included' });
  const length = lengthOf(service.segments);
  if (service.durationMinutes === 0) errors.push({ pointer: '/durationMinutes', detail: 'is required' });
  if (length !== undefined && length !== service.durationMinutes) {
    errors.push({ pointer: '/durationMinutes', detail: `the segments last ${length} minutes together; leave it out` });
  }
  if (service.durationMinutes > 1440) errors.push({ pointer: '/durationMinutes', detail: 'must be at most 1440' });
  if (service.paymentRequired && service.priceAmount === null)
    errors.push({ pointer: '/price', detail: 'is required where payment is' });
  if (service.minNoticeMinutes >= service.maxDaysAhead * 1440) {
    errors.push({ pointer: '/minNoticeMinutes', detail: 'leaves no time before maxDaysAhead' });
  }
  if (errors.length > 0) throw Problem.invalid(...errors);
}

const show = (service: FullService) => ({
  id: service.id,
  name: service.name,
  durationMinutes: service.durationMinutes,
  bufferBeforeMinutes: service.bufferBeforeMinutes,
  bufferAfterMinutes: service.bufferAfterMinutes,
  slotIntervalMinutes: service.slotIntervalMinutes,
  capacity: service.capacity,
  requiresConfirmation: service.requiresConfirmation,
  pendingMinutes: service.pendingMinutes,
  price: service.priceAmount === null ? null : { amount: service.priceAmount, currency: service.priceCurrency },
  paymentRequired: service.paymentRequired,
  holdMinutes: service.holdMinutes,
  minNoticeMinutes: service.minNoticeMinutes,
  maxDaysAhead: service.maxDaysAhead,
  modes: service.modes,
  practitionerIds: service.practitionerIds,
  segments: service.segments,
  ...showDates(service),
});
