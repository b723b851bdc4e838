import type { AppointmentStatus } from './appointment.entities';

export type Action = 'cancel';

/** What each action makes of each status; what is not listed is not allowed. The table of the public contract. */
const TRANSITIONS: Record<Action, Partial<Record<AppointmentStatus, AppointmentStatus>>> = {
  cancel: { held: 'cancelled', pending: 'cancelled', confirmed: 'cancelled', checked_in: 'cancelled' },
};

/** The status that an action leads to, or that it is not allowed from here. */
export function decideTransition(
  status: AppointmentStatus,
  action: Action,
): { ok: true; to: AppointmentStatus } | { ok: false; reason: 'invalid_transition' } {
  const to = TRANSITIONS[action][status];
  return to === undefined ? { ok: false, reason: 'invalid_transition' } : { ok: true, to };
}
