import { auditLedger } from '../../../src/operations';
import { type Answer, type Clinic, seedClinic, startApp, type TestApp, workday } from '../../support/app';
import { Stage } from '../../support/sessions';

/**
 * Where a mistaken form and Holdfast's own stand side by side: one database with the demo clinic, and in its schema
 * `mistake` the tables of the mistaken form.
 */
export interface Stand {
  app: TestApp;
  clinic: Clinic;
  stage: Stage;
  /** Books half an hour with the first practitioner on the day of the spec, at a time of UTC. */
  book(time: string, headers?: Record<string, string>): Promise<Answer>;
  cancel(id: string): Promise<Answer>;
  /** Pairs of bookings in a mistaken form's table that have a moment in common: each is a double booking. */
  doubleBookings(table: string): Promise<number>;
  /** The same of Holdfast's claims; and whatever else its auditor would complain of. */
  ledger(): Promise<{ doubleBookings: number; findings: unknown[] }>;
  close(): Promise<void>;
}

/** Between the opening and the closing of the demo clinic, summer and winter. */
export const DAY = workday(10);

export async function openStand(tables: string): Promise<Stand> {
  const app = await startApp();
  const clinic = await seedClinic(app);
  const stage = await Stage.open(app.databaseUrl);
  await stage.look(`CREATE SCHEMA mistake; ${tables}`);
  const pairs = async (sql: string) => (await stage.look<{ count: number }>(sql))[0]!.count;
  let callers = 0;
  return {
    app,
    clinic,
    stage,
    book: (time, headers) =>
      clinic.call('POST', '/v1/appointments', {
        headers,
        body: {
          serviceId: clinic.services.find((each) => each.key === 'consultation')!.id,
          practitionerId: clinic.practitioners[0]!.id,
          startsAt: `${DAY}T${time}:00Z`,
          patient: { phone: `+49151${30_000_000 + callers++}` },
        },
      }),
    cancel: (id) => clinic.call('POST', `/v1/appointments/${id}/cancel`, { body: {} }),
    doubleBookings: (table) =>
      pairs(`SELECT count(*) FROM mistake.${table} a JOIN mistake.${table} b
               ON a.ctid < b.ctid AND a.practitioner = b.practitioner AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at`),
    ledger: async () => ({
      doubleBookings: await pairs(`SELECT count(*) FROM claim a JOIN claim b
        ON a.ctid < b.ctid AND a.schedule_id = b.schedule_id AND a.seat = b.seat AND a.during && b.during`),
      findings: await auditLedger(app.databaseUrl),
    }),
    close: async () => {
      await stage.close();
      await app.stop();
    },
  };
}

export const SOUND = { doubleBookings: 0, findings: [] };

export const statusesOf = (answers: Answer[]): number[] => answers.map((answer) => answer.status).sort((a, b) => a - b);
