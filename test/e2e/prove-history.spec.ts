import { MINUTE, type Resource, type Service } from '../../tools/prove/catalog';
import type { AppointmentView } from '../../tools/prove/client';
import { type Booking, type Change, type Closure, History, type Wish } from '../../tools/prove/history';
import { checkHistory, HISTORY_CHECKS } from '../../tools/prove/history-checks';
import { Random } from '../../tools/prove/random';
import { seriesOf } from '../../tools/prove/storms/random-plan';

const NINE = Date.parse('2030-01-07T09:00:00Z');
const resource = (id: string, places = 1): Resource => ({
  kind: id.startsWith('room') ? 'room' : 'practitioner',
  id,
  scheduleId: `schedule of ${id}`,
  name: id,
  places,
});
const [anna, ben, chairs, room] = [resource('anna'), resource('ben'), resource('chairs', 2), resource('room')];

const service = (id: string, practitioners: Resource[], rules: Partial<Service> = {}): Service => ({
  id,
  name: id,
  durationMinutes: 30,
  bufferBeforeMinutes: 0,
  bufferAfterMinutes: 0,
  slotIntervalMinutes: 30,
  requiresConfirmation: false,
  holdMinutes: 10,
  capacity: 1,
  practitioners,
  ...rules,
});
const plain = service('plain', [anna, ben]);
const group = service('group', [anna], { capacity: 2 });
const seat = service('seat', [chairs]);
const segment = { durationMinutes: 20, gapAfterMinutes: 10, maxWaitMinutes: 0, startsWithPrevious: false };
const visit = service('visit', [anna, ben], {
  durationMinutes: 50,
  segments: [
    { ...segment, name: 'first', resources: [anna, ben] },
    { ...segment, name: 'second', resources: [room] },
  ],
});

/** What clients saw, one request after the other or beside each other, at instants of their clock. */
class Story {
  readonly history = new History();
  private ids = 0;

  /** From when to when it was asked for, and what came of it. */
  book(
    [startedAt, endedAt]: [number, number],
    of: Service,
    where: { on?: Resource; minute?: number; segments?: Array<[Resource, number]> },
    outcome: Booking['outcome'] | 'slot_taken' | 'outside_hours' = 'ok',
    wish = this.wish(of, where),
  ): Booking {
    const isKnown = outcome === 'ok' || outcome === 'unknown';
    const booking: Booking = {
      round: 1,
      startedAt,
      endedAt,
      wish,
      replayed: false,
      outcome: isKnown ? outcome : 'refused',
      code: isKnown ? undefined : outcome,
      appointment: outcome === 'ok' ? this.view(wish) : undefined,
    };
    this.history.bookings.push(booking);
    return booking;
  }

  cancel(
    [startedAt, endedAt]: [number, number],
    { appointment }: Booking,
    more: Partial<Change> = {},
    version = 2,
  ): Change {
    const done = { ...appointment!, status: 'cancelled', version };
    const change: Change = {
      round: 1,
      outcome: 'ok',
      startedAt,
      endedAt,
      appointmentId: appointment!.id,
      action: 'cancel',
      appointment: done,
      ...more,
    };
    this.history.changes.push(change);
    return change;
  }

  close(on: Resource, [from, until]: [number, number], certain: [number, number]): void {
    const closure: Closure = {
      resourceId: on.id,
      time: { from: NINE + from * MINUTE, until: NINE + until * MINUTE },
      possible: { from: certain[0] - 5, until: certain[1] + 5 },
      certain: { from: certain[0], until: certain[1] },
    };
    this.history.closures.push(closure);
  }

  get broken(): string[] {
    return [...new Set(checkHistory(this.history).findings.map(({ check }) => check))];
  }

  wish(
    of: Service,
    { on, minute = 0, segments }: { on?: Resource; minute?: number; segments?: Array<[Resource, number]> },
  ): Wish {
    return {
      requestId: `request ${++this.ids}`,
      service: of,
      practitioner: on,
      startsAt: NINE + minute * MINUTE,
      segments: segments?.map(([one, at]) => ({ resourceId: one.id, startsAt: NINE + at * MINUTE })),
      phone: '',
      body: {},
    };
  }

  private view({ service: of, practitioner, startsAt, segments }: Wish): AppointmentView {
    const places = segments ?? [{ resourceId: (practitioner ?? of.practitioners[0]!).id, startsAt }];
    return {
      id: `appointment ${++this.ids}`,
      status: 'confirmed',
      version: 1,
      serviceId: of.id,
      patientId: '',
      startsAt: new Date(startsAt).toISOString(),
      endsAt: new Date(startsAt + of.durationMinutes * MINUTE).toISOString(),
      segments: places.map(({ resourceId, startsAt: at }) => ({
        scheduleId: `schedule of ${resourceId}`,
        ...(resourceId === 'room' ? { roomId: resourceId } : { practitionerId: resourceId }),
        startsAt: new Date(at).toISOString(),
        endsAt: new Date(at + 20 * MINUTE).toISOString(),
      })),
      metadata: {},
    };
  }
}

const { twoAtOnce, refusedForNothing, oneEffect, closed, openRefused, versions } = HISTORY_CHECKS;

/** Each tale, and the checks that it breaks. */
const TALES: Array<[name: string, broken: string[], tell: (story: Story) => void]> = [
  [
    'two in one time',
    [twoAtOnce],
    (story) => {
      story.book([0, 10], plain, { on: anna });
      story.book([20, 30], plain, { on: anna, minute: 15 });
    },
  ],
  [
    'two in one time, of whom one may have left before the other came',
    [],
    (story) => {
      story.cancel([15, 40], story.book([0, 10], plain, { on: anna }));
      story.book([20, 30], plain, { on: anna, minute: 15 });
    },
  ],
  [
    'two in one time, of whom nobody knows whether one is there',
    [],
    (story) => {
      story.book([0, 10], plain, { on: anna }, 'unknown');
      story.book([20, 30], plain, { on: anna });
    },
  ],
  [
    'a refusal where somebody may be, for all that is known',
    [],
    (story) => {
      story.book([0, 10], plain, { on: anna }, 'unknown');
      story.book([20, 30], plain, { on: anna }, 'slot_taken');
    },
  ],
  ['a refusal where nobody is', [refusedForNothing], (story) => story.book([0, 10], plain, { on: anna }, 'slot_taken')],
  [
    'a refusal of any practitioner while one of them is free',
    [refusedForNothing],
    (story) => {
      story.book([0, 10], plain, { on: anna });
      story.book([20, 30], plain, {}, 'slot_taken');
    },
  ],
  [
    'a refusal of any practitioner, of whom one is taken and the other closed',
    [],
    (story) => {
      story.book([0, 10], plain, { on: anna });
      story.close(ben, [0, 60], [5, 50]);
      story.book([20, 30], plain, {}, 'slot_taken');
    },
  ],
  [
    'as many in a session as it has seats, and one refused',
    [],
    (story) => {
      story.book([0, 10], group, { on: anna });
      story.book([0, 10], group, { on: anna });
      story.book([20, 30], group, { on: anna }, 'slot_taken');
    },
  ],
  [
    'more in a session than it has seats',
    [twoAtOnce],
    (story) => {
      for (const at of [0, 20, 40]) story.book([at, at + 10], group, { on: anna });
    },
  ],
  [
    'a seat refused that is free',
    [refusedForNothing],
    (story) => {
      story.book([0, 10], group, { on: anna });
      story.book([20, 30], group, { on: anna }, 'slot_taken');
    },
  ],
  [
    'two sessions in one time',
    [twoAtOnce],
    (story) => {
      story.book([0, 10], group, { on: anna });
      story.book([20, 30], group, { on: anna, minute: 15 });
    },
  ],
  [
    'as many as there are places, in a chain that is longer',
    [],
    (story) => {
      for (const minute of [0, 15, 30, 45]) story.book([minute, minute + 5], seat, { on: chairs, minute });
      story.book([90, 95], seat, { on: chairs, minute: 15 }, 'slot_taken');
    },
  ],
  [
    'more than there are places',
    [twoAtOnce],
    (story) => {
      for (const minute of [0, 10, 20]) story.book([minute, minute + 5], seat, { on: chairs, minute });
    },
  ],
  [
    'a place refused that is free',
    [refusedForNothing],
    (story) => {
      story.book([0, 10], seat, { on: chairs });
      story.book([20, 30], seat, { on: chairs }, 'slot_taken');
    },
  ],
  [
    'a segment of a composite in a time that is taken',
    [twoAtOnce],
    (story) => {
      story.book([0, 10], plain, { on: anna, minute: 10 });
      story.book([20, 30], visit, { segments: [[anna, 0], [room, 30]] }); // prettier-ignore
    },
  ],
  [
    'the pause of a composite taken by somebody else',
    [],
    (story) => {
      story.book([0, 10], plain, { on: anna, minute: 20 });
      story.book([20, 30], visit, { segments: [[anna, 0], [room, 30]] }); // prettier-ignore
    },
  ],
  [
    'a composite refused that had everything free',
    [refusedForNothing],
    (story) => {
      story.book([0, 10], plain, { on: anna });
      story.book([20, 30], visit, {}, 'slot_taken');
    },
  ],
  [
    'a composite refused for its one room',
    [],
    (story) => {
      story.book([0, 10], visit, { segments: [[anna, 0], [room, 30]] }); // prettier-ignore
      story.book([20, 30], visit, {}, 'slot_taken');
    },
  ],
  [
    'a booking in closed time',
    [closed],
    (story) => {
      story.close(anna, [0, 60], [0, 100]);
      story.book([20, 30], plain, { on: anna });
    },
  ],
  [
    'a booking refused as closed while it was open',
    [openRefused],
    (story) => {
      story.close(anna, [0, 60], [0, 100]);
      story.book([200, 210], plain, { on: anna }, 'outside_hours');
    },
  ],
  [
    'two appointments for one request',
    [oneEffect, twoAtOnce],
    (story) => {
      const { wish } = story.book([0, 10], plain, { on: anna });
      story.book([20, 30], plain, {}, 'ok', wish);
    },
  ],
  [
    'a change that was lost on the way, and is known by its key',
    [],
    (story) => {
      const booking = story.book([0, 10], plain, { on: anna });
      const lost = { key: 'key', outcome: 'unknown', appointment: undefined } as const;
      story.cancel([20, 30], booking, lost);
      story.cancel([40, 50], booking, { key: 'key' });
      story.book([60, 70], plain, { on: anna });
    },
  ],
  [
    'a change that was made once more when it was sent again',
    [versions],
    (story) => {
      const booking = story.book([0, 10], plain, { on: anna });
      story.cancel([20, 30], booking, { key: 'key', outcome: 'unknown', appointment: undefined });
      story.cancel([40, 50], booking, { key: 'key' }, 3);
    },
  ],
];

describe('what prove concludes from what the clients saw', () => {
  it.each(TALES)('%s: %j', (_, broken, tell) => {
    const story = new Story();
    tell(story);
    expect(story.broken.sort()).toEqual([...broken].sort());
  });
});

describe('a series of random operations', () => {
  const series = (seed: number) => seriesOf(new Random(seed), 200, 48);

  it('is the same for the same seed, and another for another', () => {
    expect(series(7)).toEqual(series(7));
    expect(series(7)).not.toEqual(series(8));
  });

  it('has every kind of operation in it, and every kind of cut', () => {
    const all = series(7).concat(series(8));
    const kinds = [
      'book',
      'hold briefly',
      'hold',
      'confirm',
      'move',
      'cancel',
      'join',
      'leave',
      'close time',
      'open time',
      'wait',
    ];
    expect(new Set(all.map(({ kind }) => kind))).toEqual(new Set(kinds));
    const cuts = all.flatMap(({ cut }) => (typeof cut === 'object' ? 'after' : (cut ?? [])));
    expect(new Set(cuts)).toEqual(new Set(['half-way', 'at-answer', 'after']));
  });
});
