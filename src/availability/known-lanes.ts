import { Injectable } from '@nestjs/common';
import type { BookableService, NamedLane } from './lanes.repository';

/** What was read of a service and a practitioner who offers it. */
export interface KnownLane {
  service: BookableService;
  lane: NamedLane;
}

/** How many are remembered in a process; one takes about a kilobyte. */
const MOST = 10_000;

/**
 * What this process has last read of services and practitioners, for the guarded form of booking. Nothing here is ever
 * believed: the statement that relies on it holds it against the rows, and does nothing when it is old.
 */
@Injectable()
export class KnownLanes {
  private readonly known = new Map<string, KnownLane>();

  find(organizationId: string, serviceId: string, practitionerId: string): KnownLane | undefined {
    return this.known.get(keyOf(organizationId, serviceId, practitionerId));
  }

  remember(organizationId: string, known: KnownLane): void {
    const key = keyOf(organizationId, known.service.id, known.lane.practitionerId!);
    // The oldest goes first: a Map keeps the order of insertion.
    this.known.delete(key);
    if (this.known.size >= MOST) this.known.delete(this.known.keys().next().value!);
    this.known.set(key, known);
  }
}

const keyOf = (...ids: readonly string[]): string => ids.join('/');
