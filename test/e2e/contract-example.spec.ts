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

  it('is held where it asks for a hold, and then confirmed', async () => {
    const later = { ...example(), startsAt: `${workday()}T10:00:00+01:00` };
    const held = await clinic.call('POST', '/v1/appointments', { body: { ...later, hold: true } });
    expect([held.status, held.body.status, held.body.holdExpiresAt]).toEqual([201, 'held', expect.any(String)]);
    const path = `/v1/appointments/${held.body.id}/confirm`;
    const confirmed = await clinic.call('POST', path, { headers: { 'If-Match': held.headers.get('etag')! } });
    expect([confirmed.status, confirmed.body.status, confirmed.headers.get('etag')]).toEqual([200, 'confirmed', '"2"']);
  });

  it('finds the services of the demo clinic by their keys, and in each what its booking becomes', async () => {
    const booked: Record<string, string> = {};
    for (const [index, { id, key }] of clinic.services.entries()) {
      const startsAt = `${workday()}T${10 + index}:00:00Z`;
      const body = { ...example(), serviceId: id, startsAt };
      booked[key] = (await clinic.call('POST', '/v1/appointments', { body })).body.status;
    }
    expect(booked).toMatchObject({
      consultation: 'confirmed',
      'follow-up': 'confirmed',
      approval: 'pending',
      paid: 'held',
    });
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
