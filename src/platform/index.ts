export { type AuditEntry, AuditTrail } from './audit-trail';
export { Addresses } from './addresses';
export { CleanUp } from './clean-up';
export { Clock } from './clock';
export { CONFIG, type Config, readSettings, type Settings, SettingsError } from './config';
export { Cursors, type Page } from './cursor';
export { Database, LIMITS } from './database';
export {
  DEFAULT_PAGE,
  Email,
  Flag,
  FlagOrSeconds,
  Id,
  Ids,
  Instant,
  InstantParameter,
  ListOf,
  ListQuery,
  LocalDate,
  LocalTime,
  Metadata,
  Nested,
  OneOf,
  Phone,
  SomeOf,
  Text,
  Texts,
  TimeZone,
  Whole,
  WholeParameter,
} from './dto';
export { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded';
export { ConstraintViolation, type FieldError, Problem, SchemaError, TryAgain } from './errors';
export { asking, fingerprintOf, Idempotency, type IdempotentRequest, KEEP_ANSWER, KEY_IS_NEW } from './idempotency';
export { isTimeZone, parseInstant, showInstant, zoneDatabase } from './instants';
export * from './interval';
export { JobsModule } from './jobs.module';
export { type Lock, LockLost, LockRefused, Locks } from './locks';
export { Log } from './logging';
export { Metrics } from './metrics';
export { Outbox } from './outbox';
export { RecurringJobs } from './recurring-jobs';
export { PipelinedClient } from './pipelined-client';
export { PlatformJobsModule } from './platform.jobs';
export { PlatformModule } from './platform.module';
export { bodyOf, ProblemFilter } from './problem.filter';
export { openProtections, type Protections } from './protections';
export { RATE_LIMITS, type RateLimit } from './rate-limit.declarations';
export { RateLimits } from './rate-limits';
export { RequestLimits, RequestLimitsModule } from './request-limits';
export { Reply, ReplyAdapter } from './reply';
export { currentRequest, inContext, isRequestId } from './request-context';
export { migrate, type MigrationState, migrationStatus, openDatabase } from './schema';
export { type Statement, statement } from './statement';
export { Turns } from './turns';
export { IdPipe, refuseOtherThanObject, refuseUnfit, RequestPipe } from './validation';
