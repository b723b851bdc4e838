import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { Clock, Database, type Interval } from '../platform';
import { type BookableService, LanesRepository } from './lanes.repository';
import { identity, type Slot } from './offers.rules';
import { SlotsService } from './slots.service';
import type { VisitSegment } from './visits.rules';

const DAY = 86_400_000;
/** How many are looked for; three are shown. */
const ENOUGH = 8;

/** A time that somebody wanted and did not get. */
export interface Lost {
  serviceId: string;
  practitionerId?: string;
  startsAt: number;
  mode?: string;
}

/** Finds times that can be booked instead of one that was lost. */
@Injectable()
export class AlternativesService {
  private readonly searching = new Map<string, Promise<Slot[]>>();

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly lanes: LanesRepository,
    private readonly slots: SlotsService,
  ) {}

  /**
   * Near in time, the same practitioner's first; some more than are shown, for not all may suit. Callers who lost the same
   * time in the same moment share one search.
   */
  find(call: Call, lost: Lost): Promise<Slot[]> {
    const key = [call.organizationId, lost.serviceId, lost.practitionerId, lost.startsAt, lost.mode].join('/');
    const running = this.searching.get(key);
    if (running) return running;
    const search = this.database
      .read(call.organizationId, (tx) => this.search(tx, lost))
      .finally(() => this.searching.delete(key));
    this.searching.set(key, search);
    return search;
  }

  /** In rings around the lost time, each read at once: half a day with whoever was asked for, then further with everybody. */
  private async search(tx: EntityManager, lost: Lost): Promise<Slot[]> {
    const service = await this.lanes.service(tx, lost.serviceId);
    const all = await this.lanes.segments(tx, service);
    const own = lost.practitionerId === undefined ? all : narrowed(all, lost.practitionerId);
    const around = (before: number, after: number) => ({ start: lost.startsAt - before, end: lost.startsAt + after });
    const rings: Array<[segments: VisitSegment[] | undefined, window: Interval]> = [
      // Whoever was asked for may not offer it any more by now.
      [own, around(DAY / 2, DAY / 2)],
      [all, around(2 * DAY, 2 * DAY)],
      [all, around(4 * DAY, 14 * DAY)],
    ];
    const found = new Map<string, Slot>();
    for (const [segments, window] of rings) {
      if (segments === undefined) continue;
      for (const slot of await this.ring(tx, service, segments, window, lost)) {
        if (!found.has(identity(slot))) found.set(identity(slot), slot);
      }
      if (found.size >= ENOUGH) break;
    }
    return [...found.values()].slice(0, ENOUGH);
  }

  private async ring(
    tx: EntityManager,
    service: BookableService,
    segments: readonly VisitSegment[],
    window: Interval,
    lost: Lost,
  ): Promise<Slot[]> {
    // At the lost time itself there can be as many as there are who begin it.
    const limit = ENOUGH + Math.max(...segments.map((segment) => segment.lanes.length));
    const modes = lost.mode === undefined ? service.modes : [lost.mode];
    const near = lost.startsAt;
    const slots = await this.slots.nearest(tx, { service, segments, window, modes, limit, near }, this.clock.now());
    // The search may have begun before the time was lost, so that very time is left out.
    return slots.filter(
      (slot) =>
        Date.parse(slot.startsAt) !== lost.startsAt ||
        (lost.practitionerId !== undefined && slot.practitionerId !== lost.practitionerId),
    );
  }
}

/** The same segments, the first one that he can serve by this practitioner; undefined where he serves none. */
function narrowed(segments: readonly VisitSegment[], practitionerId: string): VisitSegment[] | undefined {
  const isHis = (lane: { practitionerId: string | null }) => lane.practitionerId === practitionerId;
  const first = segments.findIndex((segment) => segment.lanes.some(isHis));
  if (first < 0) return undefined;
  return segments.map((segment, index) =>
    index === first ? { ...segment, lanes: segment.lanes.filter(isHis) } : segment,
  );
}
