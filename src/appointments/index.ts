export { AppointmentsJobsModule } from './appointments.jobs';
export { AppointmentRepository } from './appointment.repository';
export { AppointmentsModule } from './appointments.module';
export { GUARDED_BOOKING, recordValues } from './booking.sql';
