import { Foundation1795305600000 } from './1795305600000-foundation';
import { AppointmentLife1795312800000 } from './1795312800000-appointment-life';

/** Every migration, in order. Listed by hand: a file that is not named here does not run. */
export const migrations = [Foundation1795305600000, AppointmentLife1795312800000];
