export { AppointmentRepository } from './appointment.repository';
export { AppointmentsModule } from './appointments.module';
export { AppointmentsService } from './appointments.service';
export { GUARDED_BOOKING, recordValues } from './booking.sql';
