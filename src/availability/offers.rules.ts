import { type Interval, showInstant, type Turns } from '../platform';
import type { BookableService } from './lanes.repository';
import { bookingWindow, spanOf } from './ledger.rules';
import type { GridDay } from './slots.rules';
import { type Part, reachesOf, type ResourceLane, type Seen, type Visit, type VisitSegment } from './visits.rules';

/** A time that can be booked, as the API shows it. */
export interface Slot {
  startsAt: string;
  endsAt: string;
  /** Whom the visit begins with; null where rooms are all it takes. */
  practitionerId: string | null;
  scheduleId: string;
  mode: string;
  /** How many can still have this time. */
  remaining: number;
  segments: Array<
    { name: string | null; scheduleId: string; startsAt: string; endsAt: string } & (
      { practitionerId: string } | { roomId: string }
    )
  >;
}

export interface SlotSearch {
  service: BookableService;
  segments: readonly VisitSegment[];
  /** Starts lie in this half-open interval. */
  window: Interval;
  /** The first of these that the time is open for; more than one matters only where something is published. */
  modes: readonly string[];
  limit: number;
  /** The nearest to this instant come first, and not the earliest. */
  near?: number;
  locationId?: string;
}

/** A day as it was read, not locked. */
export type SeenDay = GridDay & {
  /** It has a row, that row says the same, and the guarded form of booking can decide on it. */
  guarded: boolean;
};

/** A free start that was found, before it is shown. */
export interface Offer {
  at: number;
  parts: readonly OfferedPart[];
  mode: string;
  remaining: number;
}

export type OfferedPart = Pick<Part, 'name' | 'lane' | 'span'>;

/** Whether nothing can be found: who has to come for every part cannot be had where nobody serves one of them. */
export const cannotBe = ({ modes, segments }: SlotSearch): boolean =>
  modes.length === 0 || segments.some((segment) => segment.lanes.length === 0);

/** The time that anything of what begins within a window can lie in. */
export function reachOf({ service, segments, modes }: SlotSearch, window: Interval): Interval {
  const visit = visitOf(service, segments, modes[0]!);
  const [first] = reachesOf(visit, window.start);
  return { start: first!.start, end: Math.max(...reachesOf(visit, window.end).map((each) => each.end)) };
}

/** A service as the visit that it takes, with those who can serve it. */
export const visitOf = (service: BookableService, segments: readonly VisitSegment[], mode: string): Visit => ({
  segments,
  mode,
  capacity: service.capacity,
  bufferBeforeMinutes: service.bufferBeforeMinutes,
  bufferAfterMinutes: service.bufferAfterMinutes,
});

/** Whether something is published for one mode alone. */
export const hasModes = (days: Seen): boolean =>
  [...days.values()].flat().some((day) => day.published?.some((each) => each.mode !== null));

export const inOrder =
  (near: number | undefined) =>
  (a: number, b: number): number =>
    near === undefined ? a - b : Math.abs(a - near) - Math.abs(b - near);

/** By start, or by how near it is, and by practitioner. */
export const byOrder = (near: number | undefined) => {
  const order = inOrder(near);
  return (a: Offer, b: Offer): number =>
    order(a.at, b.at) || ((leadOf(a.parts).practitionerId ?? '') < (leadOf(b.parts).practitionerId ?? '') ? -1 : 1);
};

/** What of a search's window notice and days ahead allow. */
export function bookableWithin({ service, window }: SlotSearch, now: number): Interval {
  const bookable = bookingWindow(service, now);
  return { start: Math.max(window.start, bookable.start), end: Math.min(window.end, bookable.end + 1) };
}

/** Every lane of a visit once. */
export const lanesOf = (segments: readonly VisitSegment[]): ResourceLane[] => [
  ...new Map(segments.flatMap((segment) => segment.lanes).map((lane) => [lane.scheduleId, lane])).values(),
];

export const alone = (service: BookableService, lane: ResourceLane, at: number): OfferedPart => ({
  name: null,
  lane,
  span: spanOf(service, at),
});

/** Whom the visit begins with; where rooms are all it takes, the first of them. */
export const leadOf = (parts: readonly OfferedPart[]): ResourceLane =>
  (parts.find(({ lane }) => lane.practitionerId !== null) ?? parts[0]!).lane;

export const identity = (slot: Slot): string => `${slot.startsAt}/${slot.practitionerId}`;

export async function showSlots(offers: readonly Offer[], turns: Turns): Promise<Slot[]> {
  const slots: Slot[] = [];
  for (const offer of offers) {
    slots.push(showSlot(offer));
    if (turns.isOver) await turns.next();
  }
  return slots;
}

function showSlot({ parts, mode, remaining }: Offer): Slot {
  const { practitionerId, scheduleId } = leadOf(parts);
  const segments = parts.map(({ name, lane, span: { core } }) => ({
    name,
    scheduleId: lane.scheduleId,
    ...(lane.practitionerId === null ? { roomId: lane.roomId! } : { practitionerId: lane.practitionerId }),
    startsAt: showInstant(core.start),
    endsAt: showInstant(core.end),
  }));
  const [only] = segments;
  const alone = segments.length === 1;
  return {
    startsAt: alone ? only!.startsAt : showInstant(Math.min(...parts.map(({ span }) => span.core.start))),
    endsAt: alone ? only!.endsAt : showInstant(Math.max(...parts.map(({ span }) => span.core.end))),
    practitionerId,
    scheduleId,
    mode,
    remaining,
    segments,
  };
}
