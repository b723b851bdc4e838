import { Foundation1795305600000 } from './1795305600000-foundation';
import { AppointmentLife1795312800000 } from './1795312800000-appointment-life';
import { WallTimes1795316400000 } from './1795316400000-wall-times';
import { WholeLedger1795320000000 } from './1795320000000-whole-ledger';
import { RulesVersions1795324500000 } from './1795324500000-rules-versions';
import { Identity1795330800000 } from './1795330800000-identity';
import { AuditTrail1795334400000 } from './1795334400000-audit-trail';
import { LimitsAndLocks1795338000000 } from './1795338000000-limits-and-locks';
import { Erasure1795341600000 } from './1795341600000-erasure';

/** Every migration, in order. Listed by hand: a file that is not named here does not run. */
export const migrations = [
  Foundation1795305600000,
  AppointmentLife1795312800000,
  WallTimes1795316400000,
  WholeLedger1795320000000,
  RulesVersions1795324500000,
  Identity1795330800000,
  AuditTrail1795334400000,
  LimitsAndLocks1795338000000,
  Erasure1795341600000,
];
