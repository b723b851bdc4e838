import { Injectable } from '@nestjs/common';
import type { BookableService } from './lanes.repository';
import type { Beginnings } from './openings.repository';
import type { ResourceLane } from './visits.rules';

/** Those who offer a service, in the order of practitioners, or a part of them. */
export interface LaneList {
  lanes: readonly ResourceLane[];
  /** Their schedules as PostgreSQL's array: 20 kB of text for 500, not to be made for each search. */
  schedules: { list: string; count: number };
  timeZones: readonly string[];
  /** Of a schedule. */
  zoneOf: ReadonlyMap<string, string>;
  /** The same in parts, each larger than the one before it; itself where it is short. */
  parts: readonly LaneList[];
  /** What is known of windows' days, by their dates. */
  beginnings: Map<string, Beginnings & { rules: string }>;
}

/** The first part of a list has so many lanes. */
const FIRST_PART = 48;

function listOf(lanes: readonly ResourceLane[], isPart = false): LaneList {
  const list: LaneList = {
    lanes,
    schedules: { list: `{${lanes.map((lane) => lane.scheduleId).join()}}`, count: lanes.length },
    zoneOf: new Map(lanes.map((lane) => [lane.scheduleId, lane.timeZone])),
    timeZones: [...new Set(lanes.map((lane) => lane.timeZone))],
    parts: [],
    beginnings: new Map(),
  };
  if (isPart || lanes.length < 2 * FIRST_PART) return { ...list, parts: [list] };
  const parts: LaneList[] = [];
  for (let first = 0, size = FIRST_PART; first < lanes.length; first += size, size *= 3)
    parts.push(listOf(lanes.slice(first, first + size), true));
  return { ...list, parts };
}

/** So many lanes are remembered in a process, of all lists together. */
const MOST = 40_000;

/**
 * Who offers a service, as this process has last read it. A list goes with a version of the service, which rises with every
 * change of who offers it; somebody on it may have left since, or have moved, but nobody is missing. So it tells where to look,
 * and whoever is found is read anew.
 */
@Injectable()
export class LaneLists {
  private readonly lists = new Map<string, LaneList & { version: number }>();
  private lanes = 0;

  has(serviceId: string): boolean {
    return this.lists.has(serviceId);
  }

  find({ id, version }: Pick<BookableService, 'id' | 'version'>): LaneList | undefined {
    const list = this.lists.get(id);
    return list?.version === version ? list : undefined;
  }

  remember({ id, version }: Pick<BookableService, 'id' | 'version'>, lanes: readonly ResourceLane[]): LaneList {
    this.forget(id);
    const list = { ...listOf(lanes), version };
    this.lists.set(id, list);
    this.lanes += lanes.length;
    // The oldest goes first: a Map keeps the order of insertion.
    for (const oldest of this.lists.keys()) {
      if (this.lanes <= MOST) break;
      this.forget(oldest);
    }
    return list;
  }

  forget(id: string): void {
    this.lanes -= this.lists.get(id)?.lanes.length ?? 0;
    this.lists.delete(id);
  }
}
