import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import type { Call } from '../auth';
import { ScheduleRepository, SchedulesService } from '../availability';
import { LocationsService, PatientsService, PractitionersService, RoomsService, ServicesService } from '../clinic';
import { Clock, Database, Problem } from '../platform';
import { AppointmentRepository } from './appointment.repository';

/**
 * Deletes what appointments refer to, softly, and only when none that is still to come depends on it. Lives here because
 * only this module knows appointments. Each deletion first takes the lock that a booking of the same thing waits for, then
 * looks: so no booking slips in between.
 */
@Injectable()
export class RetirementService {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly appointments: AppointmentRepository,
    private readonly scheduleRules: ScheduleRepository,
    private readonly schedules: SchedulesService,
    private readonly locations: LocationsService,
    private readonly patients: PatientsService,
    private readonly practitioners: PractitionersService,
    private readonly rooms: RoomsService,
    private readonly services: ServicesService,
  ) {}

  service(call: Call, id: string): Promise<void> {
    return this.database.transaction(call.organizationId, async (tx) => {
      await this.services.lockForDeletion(tx, id, call);
      if (await this.appointments.hasFuture(tx, { serviceId: id }, this.clock.now())) throw new Problem('in_use');
      await this.services.retire(tx, id);
    });
  }

  patient(call: Call, id: string): Promise<void> {
    return this.database.transaction(call.organizationId, async (tx) => {
      await this.patients.lockForDeletion(tx, id, call);
      if (await this.appointments.hasFuture(tx, { patientId: id }, this.clock.now())) throw new Problem('in_use');
      await this.patients.retire(tx, id);
    });
  }

  practitioner(call: Call, id: string): Promise<void> {
    return this.database.transaction(call.organizationId, (tx) => this.resource(tx, call, this.practitioners, id));
  }

  room(call: Call, id: string): Promise<void> {
    return this.database.transaction(call.organizationId, (tx) => this.resource(tx, call, this.rooms, id));
  }

  location(call: Call, id: string): Promise<void> {
    return this.database.transaction(call.organizationId, async (tx) => {
      await this.locations.lockForDeletion(tx, id, call);
      const used =
        (await this.practitioners.areAt(tx, id)) ||
        (await this.rooms.areAt(tx, id)) ||
        (await this.scheduleRules.usesLocation(tx, id));
      if (used) throw new Problem('in_use', 'Practitioners, rooms or opening hours belong to this location.');
      await this.locations.retire(tx, id);
    });
  }

  private async resource(
    tx: EntityManager,
    call: Call,
    resources: PractitionersService | RoomsService,
    id: string,
  ): Promise<void> {
    const { scheduleId } = await resources.lockForDeletion(tx, id, call);
    // Closing locks the schedule and its days: whoever books on it now waits, and then finds it closed.
    await this.schedules.close(tx, scheduleId);
    if (await this.schedules.isInUse(tx, scheduleId)) throw new Problem('in_use');
    await resources.retire(tx, id);
  }
}
