export { AppointmentsJobsModule } from './appointments.jobs';
export { AppointmentRepository } from './appointment.repository';
export { AppointmentsModule } from './appointments.module';
export { ExpiryService } from './expiry.service';
export { guardedBooking } from './booking.sql';
export { RetentionService } from './retention.service';
