import { uuidv7 } from 'uuidv7';
import type { Work } from './load';
import { type Lane, nextSeat, type Place, type Seat, type Stage } from './stage';
import { headersOf, requestOf, type Wire } from './wire';

export const MINUTES = 15;
const PLAIN = headersOf({});

/** Somebody who is a patient already. */
export const somebody = (stage: Stage, place: Place) => stage.random.pick(place.clinic.patients);

export interface BookingOptions {
  keyed?: boolean;
  hold?: boolean;
  seat?: Pick<Seat, 'id' | 'startsAt'>;
  serviceId?: string;
  patient?: object;
}

/** A booking over the API as a request. */
export function bookingRequest(stage: Stage, place: Place, options: BookingOptions = {}): string {
  const seat = options.seat ?? nextSeat(place);
  return requestOf(
    'POST',
    '/v1/appointments',
    options.keyed ? `${place.headers}idempotency-key: ${uuidv7()}\r\n` : place.headers,
    {
      serviceId: options.serviceId ?? place.clinic.services.booking,
      practitionerId: seat.id,
      startsAt: seat.startsAt.toISOString(),
      ...(options.patient ?? { patient: { phone: somebody(stage, place).phone } }),
      ...(options.hold ? { hold: true } : {}),
    },
  );
}

export const booked: (make: () => string) => Work = (make) => async (wire) => (await wire.send(make())).status === 201;

export const bookingWork = (stage: Stage, place: Place, options: BookingOptions = {}): Work =>
  booked(() => bookingRequest(stage, place, options));

/** What the bare forms are told of a booking. */
export function bareWish(stage: Stage, place: Place, seat: Seat = nextSeat(place)) {
  const { id, phone } = somebody(stage, place);
  return {
    key: uuidv7(),
    serviceId: place.clinic.services.booking,
    patientId: id,
    phone,
    practitionerId: seat.id,
    scheduleId: seat.scheduleId,
    day: seat.day,
    startsAt: seat.startsAt.toISOString(),
    minutes: MINUTES,
  };
}

export const bareRequest = (path: string, body: unknown): string => requestOf('POST', `/${path}`, PLAIN, body);

export const bareWork = (stage: Stage, place: Place, path: string): Work =>
  booked(() => bareRequest(path, bareWish(stage, place)));

/** An action on an appointment over the API. */
export const actionRequest = (place: Place, id: string, action: string, body: object = {}): string =>
  requestOf('POST', `/v1/appointments/${id}/${action}`, place.headers, body);

export interface SearchOptions {
  serviceId: string;
  practitionerId?: string;
  days: number;
  limit?: number;
}

/** From tomorrow on: what is left of today depends on when one looks. */
export function searchRequest(place: Place, path: string, options: SearchOptions): string {
  const { from, to } = windowOf(options.days);
  const query = new URLSearchParams({
    serviceId: options.serviceId,
    ...(options.practitionerId ? { practitionerId: options.practitionerId } : {}),
    from,
    to,
    ...(options.limit ? { limit: String(options.limit) } : {}),
  });
  return requestOf('GET', `${path}?${query.toString()}`, place.headers);
}

export const windowOf = (days: number): { from: string; to: string } => {
  const from = Math.ceil(Date.now() / 86_400_000) * 86_400_000;
  return { from: new Date(from).toISOString(), to: new Date(from + days * 86_400_000).toISOString() };
};

/** What takes this long together is one block: where single requests are slow, a few of them. */
const BLOCK_MS = 300;

/** Milliseconds of each of some requests on one connection, one after the other; of the first ones alone if they are slow. */
export async function timed(wire: Wire, requests: readonly string[], expected: number): Promise<number[]> {
  const times: number[] = [];
  const started = performance.now();
  for (const request of requests) {
    if (times.length > 0 && performance.now() - started > BLOCK_MS) break;
    const sent = performance.now();
    const { status, text } = await wire.send(request);
    times.push(performance.now() - sent);
    if (status !== expected)
      throw new Error(`${request.slice(0, 120)} was answered by ${status}: ${text.slice(0, 300)}`);
  }
  return times;
}

export const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

export const lanesInTurn = (lanes: readonly Lane[], count: number): Lane[] =>
  times(count, (index) => lanes[index % lanes.length]!);
