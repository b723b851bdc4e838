import { type Clinic, seedClinic, startApp, type TestApp, workday } from '../support/app';

describe('a first booking', () => {
  let app: TestApp;
  let clinic: Clinic;
  beforeAll(async () => {
    app = await startApp();
    clinic = await seedClinic(app);
  });
  afterAll(() => app.stop());

  it('is made once, however many want it at the same instant', async () => {
    const body = {
      serviceId: clinic.services[0]!.id,
      practitionerId: clinic.practitioners[0]!.id,
      startsAt: `${workday()}T10:00:00Z`,
    };
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        clinic.call('POST', '/v1/appointments', { body: { ...body, patient: { phone: `+49151${10000000 + index}` } } }),
      ),
    );
    expect(answers.map((answer) => answer.status).sort((a, b) => a - b)).toEqual([201, ...Array<number>(19).fill(409)]);
    for (const lost of answers.filter((answer) => answer.status === 409)) {
      expect(lost.body.code).toBe('slot_taken');
      expect(lost.body.alternatives).toHaveLength(3);
    }
  });
});
