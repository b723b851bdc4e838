import type { Storm } from '../storm';
import { anyPractitioner } from './any-practitioner.storm';
import { bookAgainstCancel } from './book-against-cancel.storm';
import { composites } from './composites.storm';
import { crowd } from './crowd.storm';
import { groups } from './groups.storm';
import { holdExpiry } from './hold-expiry.storm';
import { hoursEdited } from './hours-edited.storm';
import { invitations } from './invitations.storm';
import { limiter } from './limiter.storm';
import { newPatient } from './new-patient.storm';
import { oneEtag } from './one-etag.storm';
import { oneSlot } from './one-slot.storm';
import { otp } from './otp.storm';
import { overlapping } from './overlapping.storm';
import { places } from './places.storm';
import { published } from './published.storm';
import { randomSeries } from './random.storm';
import { refresh } from './refresh.storm';
import { reschedule } from './reschedule.storm';
import { sameKey } from './same-key.storm';
import { sweeper } from './sweeper.storm';
import { twoAdmins } from './two-admins.storm';
import { twoProcesses } from './two-processes.storm';

/** In the order in which they run. */
export const STORMS: readonly Storm[] = [
  oneSlot,
  overlapping,
  anyPractitioner,
  bookAgainstCancel,
  reschedule,
  twoAdmins,
  oneEtag,
  holdExpiry,
  sweeper,
  sameKey,
  newPatient,
  hoursEdited,
  composites,
  groups,
  places,
  published,
  otp,
  limiter,
  invitations,
  refresh,
  randomSeries,
  twoProcesses,
  crowd,
];
