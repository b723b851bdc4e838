import { showInstant } from '../platform';
import type { AppointmentHistory } from './appointment.entities';
import type { FullAppointment } from './appointment.repository';

/** An appointment as the API shows it. */
export const showAppointment = (appointment: FullAppointment) => ({
  id: appointment.id,
  status: appointment.status,
  version: appointment.version,
  serviceId: appointment.serviceId,
  patientId: appointment.patientId,
  attendeeName: appointment.attendeeName,
  startsAt: showInstant(appointment.startsAt),
  endsAt: showInstant(appointment.endsAt),
  holdExpiresAt: appointment.status === 'held' && appointment.expiresAt ? showInstant(appointment.expiresAt) : null,
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
  source: appointment.source,
  notes: appointment.notes,
  metadata: appointment.metadata,
  createdAt: showInstant(appointment.createdAt),
  updatedAt: showInstant(appointment.updatedAt),
});

/** A line of an appointment's history as the API shows it. */
export const showHistory = (line: AppointmentHistory) => ({
  version: line.version,
  action: line.action,
  fromStatus: line.fromStatus,
  toStatus: line.toStatus,
  actor: line.actor,
  channel: line.channel,
  reason: line.reason,
  at: showInstant(line.at),
});
