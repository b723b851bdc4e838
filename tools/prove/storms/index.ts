import type { Storm } from '../storm';
import { anyPractitioner } from './any-practitioner.storm';
import { bookAgainstCancel } from './book-against-cancel.storm';
import { hoursEdited } from './hours-edited.storm';
import { newPatient } from './new-patient.storm';
import { oneSlot } from './one-slot.storm';
import { overlapping } from './overlapping.storm';
import { sameKey } from './same-key.storm';
import { twoProcesses } from './two-processes.storm';

/** In the order in which they run. */
export const STORMS: readonly Storm[] = [
  oneSlot,
  overlapping,
  anyPractitioner,
  bookAgainstCancel,
  sameKey,
  newPatient,
  hoursEdited,
  twoProcesses,
];
