export { type DemoClinic, DemoService } from './demo.service';
export { examine } from './doctor';
export { auditLedger, type AuditScope, type Finding } from './ledger.auditor';
export { OperationsModule } from './operations.module';
export { SetupService } from './setup.service';
