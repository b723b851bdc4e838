import { OCCUPYING, STATUSES } from './appointment.entities';
import { decideTransition } from './transitions.rules';

describe('the transitions of an appointment', () => {
  // The table of the public contract, column by column.
  const cancel: Record<(typeof STATUSES)[number], string> = {
    held: 'cancelled',
    pending: 'cancelled',
    confirmed: 'cancelled',
    checked_in: 'cancelled',
    completed: '-',
    no_show: '-',
    cancelled: '-',
    expired: '-',
  };

  it.each(STATUSES.map((status) => [status, cancel[status]] as const))('cancel makes of %s: %s', (status, to) => {
    const due = to === '-' ? { ok: false, reason: 'invalid_transition' } : { ok: true, to };
    expect(decideTransition(status, 'cancel')).toEqual(due);
  });

  it('frees the time of everything that occupies any', () => {
    for (const status of STATUSES) {
      expect(decideTransition(status, 'cancel').ok).toBe(OCCUPYING.includes(status));
    }
    expect(OCCUPYING).not.toContain('cancelled');
  });
});
