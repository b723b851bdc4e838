export { DemoService } from './demo.service';
export { examine } from './doctor';
export { audit, auditLedger } from './ledger.auditor';
export { OperationsModule } from './operations.module';
export { SetupService } from './setup.service';
export { compareWallTimes, type MovedSegment } from './wall-times';
