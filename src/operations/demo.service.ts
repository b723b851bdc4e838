import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AccountsService } from '../auth';
import { ResourceLanesService, ScheduleRepository } from '../availability';
import { LocationsService, OrganizationService, PractitionersService, RoomsService, ServicesService } from '../clinic';
import { Database } from '../platform';
import { SetupService } from './setup.service';

const ZONE = 'Europe/Berlin';
const PRACTITIONERS = [
  'Dr. Ada Berger',
  'Dr. Bruno Costa',
  'Dr. Chidi Okafor',
  'Dr. Dana Lindqvist',
  'Dr. Emre Yılmaz',
  'Dr. Fatima Haddad',
  'Dr. Giulia Romano',
  'Dr. Hiro Tanaka',
];
const SERVICES = [
  { key: 'consultation', name: 'Consultation', durationMinutes: 30 },
  { key: 'follow-up', name: 'Follow-up', durationMinutes: 15 },
  { key: 'approval', name: 'First visit', durationMinutes: 30, requiresConfirmation: true },
  {
    key: 'paid',
    name: 'Second opinion',
    durationMinutes: 30,
    paymentRequired: true,
    price: { amount: 9000, currency: 'EUR' },
  },
  { key: 'group', name: 'Group session', durationMinutes: 60, capacity: 10 },
];
const ROOMS = ['Room 1', 'Room 2', 'Imaging'];

/** What `demo.json` tells about the demo clinic, but for the address. */
export interface DemoClinic {
  organizationId: string;
  apiKey: string;
  timeZone: string;
  operator: { email: string; password: string };
  locations: Array<{ id: string; name: string }>;
  practitioners: Array<{ id: string; scheduleId: string; name: string }>;
  rooms: Array<{ id: string; scheduleId: string; name: string }>;
  services: Array<{ id: string; key: string; name: string }>;
}

/** A clinic to try things on: eight practitioners, open Monday to Friday from nine to five, no notice, 90 days ahead. */
@Injectable()
export class DemoService {
  constructor(
    private readonly database: Database,
    private readonly setup: SetupService,
    private readonly accounts: AccountsService,
    private readonly organization: OrganizationService,
    private readonly locations: LocationsService,
    private readonly lanes: ResourceLanesService,
    private readonly practitioners: PractitionersService,
    private readonly rooms: RoomsService,
    private readonly services: ServicesService,
    private readonly schedules: ScheduleRepository,
  ) {}

  /** Seeds the clinic into an empty database; undefined where there is an organization already. */
  async seed(): Promise<DemoClinic | undefined> {
    const first = await this.setup.firstOrganization('Demo Clinic', ZONE);
    if (!first) return undefined;
    const { organizationId } = first;
    const operator = { email: 'operator@demo.example', password: randomBytes(12).toString('base64url') };
    await this.accounts.create(organizationId, { ...operator, name: 'Demo operator' }, { role: 'operator' });
    return this.database.transaction(organizationId, async (tx) => {
      const main = await this.locations.insert(tx, organizationId, { name: 'Main Street', timeZone: ZONE });
      const branch = await this.locations.insert(tx, organizationId, { name: 'Riverside', timeZone: ZONE });
      await this.organization.setDefaultLocation(tx, organizationId, main.id);
      const practitioners = [];
      for (const [index, name] of PRACTITIONERS.entries()) {
        const locationId = index < 6 ? main.id : branch.id;
        practitioners.push(await this.lane(tx, organizationId, this.practitioners, { name, locationId }));
      }
      const rooms = [];
      for (const name of ROOMS)
        rooms.push(await this.lane(tx, organizationId, this.rooms, { name, locationId: main.id }));
      const practitionerIds = practitioners.map((each) => each.id);
      const services = [];
      for (const { key, ...fields } of SERVICES) {
        const { name } = fields;
        const { id } = await this.services.insert(tx, organizationId, { ...fields, practitionerIds });
        services.push({ id, key, name });
      }
      // Blood is taken, then there is a scan, and when the results are there somebody talks them over.
      const ids = (some: Array<{ id: string }>) => some.map((each) => each.id);
      const name = 'Check-up visit';
      const visit = await this.services.insert(tx, organizationId, {
        name,
        slotIntervalMinutes: 30,
        segments: [
          { name: 'Examination', durationMinutes: 20, practitionerIds: ids(practitioners.slice(0, 3)) },
          { name: 'Imaging', durationMinutes: 30, gapAfterMinutes: 15, roomIds: ids(rooms.slice(2)) },
          { name: 'Consultation', durationMinutes: 15, practitionerIds: ids(practitioners.slice(3, 6)) },
        ],
      });
      services.push({ id: visit.id, key: 'visit', name });
      const locations = [main, branch].map(({ id, name }) => ({ id, name }));
      return { ...first, timeZone: ZONE, operator, locations, practitioners, rooms, services };
    });
  }

  private async lane(
    tx: EntityManager,
    organizationId: string,
    resources: PractitionersService | RoomsService,
    fields: { name: string; locationId: string },
  ): Promise<{ id: string; scheduleId: string; name: string }> {
    const { id, scheduleId, name } = await this.lanes.insert(tx, organizationId, resources, fields);
    const weekdays = [1, 2, 3, 4, 5];
    const open = { startMinute: 9 * 60, endMinute: 17 * 60, locationId: null, validFrom: null, validUntil: null };
    await this.schedules.replaceHours(
      tx,
      await this.schedules.get(tx, scheduleId),
      weekdays.map((weekday) => ({ weekday, ...open })),
    );
    return { id, scheduleId, name };
  }
}
