import { type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';

describe('what a client writes from the contract', () => {
  let app: TestApp;
  let clinic: Clinic;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
  });
  afterAll(() => app.stop());

  const example = () => ({
    serviceId: clinic.services[0]!.id,
    startsAt: `${workday()}T09:00:00+01:00`,
    practitionerId: clinic.practitioners[0]!.id,
    patient: { phone: '+4915112345678', name: 'A. Example', email: 'a@example.com' },
    attendeeName: null,
    hold: false,
    mode: 'in_person',
    notes: '...',
    metadata: {},
  });

  it('is booked as it stands, nulls for what is optional included', async () => {
    expect((await clinic.call('POST', '/v1/appointments', { body: example() })).status).toBe(201);
    const nulls = { practitionerId: null, patientId: null, mode: null, notes: null, metadata: null };
    const booked = await clinic.call('POST', '/v1/appointments', { body: { ...example(), ...nulls } });
    expect([booked.status, booked.body.metadata, booked.body.mode]).toEqual([201, {}, 'in_person']);
  });

  it('is refused where it asks for a hold, which this release has not', async () => {
    const answer = await clinic.call('POST', '/v1/appointments', { body: { ...example(), hold: true } });
    expect([answer.status, answer.body.errors]).toEqual([
      400,
      [{ pointer: '/hold', detail: 'can only be false in this release' }],
    ]);
  });

  it('may rename a service whose last practitioner has left, and is told why nobody can be booked', async () => {
    const lane = (await clinic.call('POST', '/v1/practitioners', { body: { name: 'Dr. Leaving' } })).body;
    const fields = { name: 'Orphan', durationMinutes: 30, practitionerIds: [lane.id] };
    const service = (await clinic.call('POST', '/v1/services', { body: fields })).body;
    expect((await clinic.call('DELETE', `/v1/practitioners/${lane.id}`)).status).toBe(204);
    const renamed = await clinic.call('PATCH', `/v1/services/${service.id}`, { body: { name: 'Renamed' } });
    expect([renamed.status, renamed.body.name, renamed.body.practitionerIds]).toEqual([200, 'Renamed', []]);
    const emptied = await clinic.call('PATCH', `/v1/services/${service.id}`, { body: { practitionerIds: [] } });
    expect(emptied.status).toBe(400);
    const { practitionerId: _, ...anybody } = { ...example(), serviceId: service.id };
    const answer = await clinic.call('POST', '/v1/appointments', { body: anybody });
    expect([answer.status, answer.body.code]).toEqual([422, 'practitioner_not_eligible']);
  });

  it('finds problems and request headers described', async () => {
    const { paths } = (await clinic.call('GET', '/openapi.json')).body;
    const booking = paths['/v1/appointments'].post;
    expect(booking.responses.default.content).toHaveProperty(['application/problem+json']);
    expect(booking.parameters.map((each: { name: string }) => each.name)).toEqual(['Idempotency-Key', 'If-Match']);
  });
});
