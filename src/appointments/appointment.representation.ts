import { showInstant } from '../platform';
import type { AppointmentHistory } from './appointment.entities';
import type { FullAppointment } from './appointment.repository';
import { statusAt, wasRequested } from './transitions.rules';

/** Where appointments are found. */
export const APPOINTMENTS = '/v1/appointments';

/** When an appointment was last changed, by somebody or by time alone. */
export const changedAt = (appointment: FullAppointment): Date =>
  statusAt(appointment, appointment.asOf) === appointment.status ? appointment.updatedAt : appointment.expiresAt!;

/** An appointment as the API shows it: `expired` when its time is over, whether or not that is stored already. */
export const showAppointment = (appointment: FullAppointment) => {
  const status = statusAt(appointment, appointment.asOf);
  const ends = ['held', 'pending', 'expired'].includes(status) ? appointment.expiresAt : null;
  return {
    id: appointment.id,
    status,
    version: appointment.version,
    serviceId: appointment.serviceId,
    patientId: appointment.patientId,
    attendeeName: appointment.attendeeName,
    startsAt: showInstant(appointment.startsAt),
    endsAt: showInstant(appointment.endsAt),
    holdExpiresAt: ends && !wasRequested(appointment) ? showInstant(ends) : null,
    pendingUntil: ends && wasRequested(appointment) ? showInstant(ends) : null,
    mode: appointment.mode,
    segments: appointment.segments.map((segment) => ({
      name: segment.name,
      scheduleId: segment.scheduleId,
      ...(segment.roomId === null ? { practitionerId: segment.practitionerId } : { roomId: segment.roomId }),
      startsAt: showInstant(segment.startsAt),
      endsAt: showInstant(segment.endsAt),
    })),
    confirmationStatus: appointment.confirmationStatus,
    payment: null,
    cancellation: appointment.cancellation,
    source: appointment.source,
    notes: appointment.notes,
    metadata: appointment.metadata,
    createdAt: showInstant(appointment.createdAt),
    updatedAt: showInstant(changedAt(appointment)),
  };
};

/** A line of an appointment's history as the API shows it. */
export const showHistory = (line: AppointmentHistory) => ({
  version: line.version,
  fromVersion: line.version === 1 ? null : line.version - 1,
  action: line.action,
  fromStatus: line.fromStatus,
  toStatus: line.toStatus,
  actor: line.actor,
  channel: line.channel,
  reason: line.reason,
  details: line.details,
  at: showInstant(line.at),
});
