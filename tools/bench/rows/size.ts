import { readFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { bounds, type Figure, figureOf, ms, ratioOf } from '../figures';
import { Crowd, inTurns } from '../load';
import { bookingRequest, bookingWork, lanesInTurn, searchRequest, timed, times } from '../requests';
import type { Place } from '../stage';
import { median } from '../statistics';
import { Wire } from '../wire';
import { type Row, sound } from './row';

/** The same requests among many appointments and among few. */
export const growth: Row = {
  name: 'growth',
  about: 'p50 of a booking and of a search among all appointments, against the same among 100,000',
  in: 'default',
  async measure(stage) {
    const places = [await stage.main(), await stage.small()] as const;
    const wires = [await Wire.open(places[0].app.url), await Wire.open(places[1].app.url)] as const;
    const sides = (make: (place: Place, index: number) => string, expected: number) =>
      places.map(
        (place, side) => () =>
          timed(
            wires[side]!,
            times(15, (index) => make(place, index)),
            expected,
          ),
      );
    const figures: Figure[] = [];
    for (const [what, make, expected] of [
      ['booking', (place: Place) => bookingRequest(stage, place, { keyed: true }), 201],
      [
        'search, one practitioner, 21 days',
        (place: Place, index: number) =>
          searchRequest(place, '/v1/slots', {
            serviceId: place.clinic.services.consultation,
            practitionerId: lanesInTurn(place.clinic.lanes.consultation, 15)[index]!.id,
            days: 21,
          }),
        200,
      ],
      [
        'search, first 10 of 500',
        (place: Place) =>
          searchRequest(place, '/v1/slots', { serviceId: place.clinic.services.consultation, days: 14, limit: 10 }),
        200,
      ],
    ] as const) {
      const [large, small] = sides(make, expected);
      for (let warmUp = 0; warmUp < 3; warmUp++) {
        await large!();
        await small!();
      }
      const blocks = await inTurns(stage.rounds(24), large!, small!);
      figures.push(
        ratioOf(
          blocks.map(([a, b]) => [median(a), median(b)]),
          {
            what: `${what}: p50, ${stage.sizes.large.toLocaleString('en')} of ${stage.sizes.small.toLocaleString('en')}`,
            bound: bounds.atMost(1.3),
            about: `${ms(blocks.flatMap(([a]) => a))} against ${ms(blocks.flatMap(([, b]) => b))}`,
          },
        ),
      );
    }
    for (const wire of wires) wire.close();
    return figures;
  },
};

const MEGABYTE = 1024 * 1024;

/** Resident memory of a process, in bytes. */
async function residentOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => undefined);
  const kilobytes =
    status === undefined
      ? execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })
      : /^VmRSS:\s+(\d+)/m.exec(status)?.[1];
  return Number(kilobytes) * 1024;
}

export const footprint: Row = {
  name: 'process',
  about: 'memory of one process under load, and how long a start takes on data that is there',
  in: 'default',
  async measure(stage) {
    const place = await stage.main();
    const crowd = await Crowd.of(place.app.url, 64);
    const searcher = await Wire.open(place.app.url);
    const search = searchRequest(place, '/v1/slots', {
      serviceId: place.clinic.services.consultation,
      days: 14,
      limit: 100,
    });
    const memory: number[] = [];
    const sampler = setInterval(() => void residentOf(place.app.pid).then((bytes) => memory.push(bytes)), 100);
    const until = performance.now() + (stage.options.form === 'short' ? 2_000 : 6_000);
    const [flood] = await Promise.all([
      crowd.flood((until - performance.now()) / 1000, bookingWork(stage, place, { keyed: true })),
      (async () => {
        while (performance.now() < until) await timed(searcher, [search], 200);
      })(),
    ]);
    clearInterval(sampler);
    sound(flood, 'bookings');
    crowd.close();
    searcher.close();

    const starts: number[] = [];
    for (let start = 0; start < 5; start++) {
      const begun = performance.now();
      const another = await stage.another(place);
      starts.push((performance.now() - begun) / 1000);
      for (const complaint of await another.stop()) stage.say(complaint);
    }
    return [
      figureOf([Math.max(...memory) / MEGABYTE], ([most]) => most!, {
        what: 'memory of one process under load, at most',
        unit: 'MB',
        bound: bounds.atMost(250),
        of: `${memory.length} looks`,
        about: `64 connections booking, one searching; median ${(median(memory) / MEGABYTE).toFixed(0)} MB`,
      }),
      figureOf(starts, median, {
        what: 'from start to ready, database there',
        unit: 's',
        bound: bounds.atMost(3),
        of: `${starts.length} starts`,
        about: '',
      }),
    ];
  },
};
