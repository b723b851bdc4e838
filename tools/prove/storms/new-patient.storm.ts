import type { Client } from '../client';
import type { Storm, StormContext } from '../storm';
import { MINUTE } from '../catalog';

export const newPatient: Storm = {
  name: 'new-patient',
  title: 'one new phone',
  defaults: { clients: (most) => [Math.min(most, 50)] },
  refusals: [],
  run: (ctx) => ctx.eachRound((round) => raceForOnePatient(ctx, round % 3)),
};

const ONE_PATIENT = 'one phone makes one patient, whoever comes first';

/** A phone that nobody has had: given by 50 callers as a patient, by 50 bookings at different times, or by both. */
async function raceForOnePatient(ctx: StormContext, variant: number): Promise<void> {
  const { world, clients } = ctx;
  const phone = world.newPhone();
  const books = (client: Client) => variant === 1 || (variant === 2 && client.number % 2 === 0);
  const bookingOf = distinctTimes(ctx, phone, clients.filter(books));
  const results = await ctx.volley(clients, async (client) => {
    const wish = bookingOf.get(client);
    if (wish) {
      const { outcome, appointment, code } = await ctx.book(client, wish);
      const served = outcome !== 'refused' || code === 'busy' || code === 'rate_limited';
      ctx.expect('bookings of one patient at different times do not hinder each other', served, () => code ?? '');
      return { id: appointment?.patientId, made: undefined };
    }
    const answer = await ctx.send(
      client,
      'POST',
      '/v1/patients',
      { body: { phone, name: `${world.tag} patient`, email: `client-${client.number}@example.com` } },
      ({ status }) => (status === 200 ? 'existing' : undefined),
    );
    if (answer.outcome !== 'ok') return { id: undefined, made: undefined };
    const patient = answer.body as { id: string; phone: string };
    ctx.expect('the patient has the phone that was given', patient.phone === phone, () => patient.phone);
    return { id: patient.id, made: answer.status === 201 };
  });
  const ids = new Set(results.flatMap(({ id }) => id ?? []));
  ctx.expect(ONE_PATIENT, ids.size <= 1, () => `${ids.size} patients of ${phone}: ${[...ids].join(', ')}`);
  const made = results.filter((result) => result.made).length;
  const allKnown = results.every(({ id }) => id !== undefined);
  // A booking may have made the patient before any of the others could.
  const least = variant === 0 && allKnown ? 1 : 0;
  ctx.expect('201 says that the patient is new, and is said once', made <= 1 && made >= least, () => `${made} times`);
}

/** As many bookings as there are clients, no two of which want the same time. */
function distinctTimes(ctx: StormContext, phone: string, clients: Client[]) {
  const { world } = ctx;
  const service = world.services.short;
  const each = Math.ceil(clients.length / world.practitioners.length);
  const span = clients.length > 0 ? world.takeWindow(each * service.durationMinutes) : 0;
  return new Map(
    clients.map((client, index) => {
      const practitioner = world.practitioners[index % world.practitioners.length]!;
      const turn = Math.floor(index / world.practitioners.length);
      const startsAt = span + turn * service.durationMinutes * MINUTE;
      return [client, ctx.wish({ service, practitioner, startsAt, phone })];
    }),
  );
}
