import { Controller, Get, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { type Call, CurrentCall, Permit } from '../auth';
import {
  type AuditEntry,
  AuditTrail,
  Cursors,
  DEFAULT_PAGE,
  Id,
  InstantParameter,
  ListQuery,
  type Page,
  parseInstant,
  showInstant,
  Text,
} from '../platform';

class AuditLogQuery extends ListQuery {
  @Text({ optional: true, description: 'The id of an API key, a user or a patient’s phone, or `system`' })
  actor?: string;

  @Text({ optional: true, description: 'Such as `create`, `update`, `delete`, `revoke`, `book`, `cancel`' })
  action?: string;

  @Text({ optional: true, description: 'Such as `appointment`, `patient`, `schedule`, `api_key`' })
  entity?: string;

  @Id({ optional: true })
  entityId?: string;

  @InstantParameter({ optional: true, description: 'At or after' })
  from?: string;

  @InstantParameter({ optional: true, description: 'Before' })
  to?: string;
}

/** An entry as the API shows it. */
const show = ({ seq, at, hash, ...entry }: AuditEntry) => ({
  seq,
  at: showInstant(at),
  ...entry,
  hash: hash.toString('hex'),
});

@ApiTags('Audit log')
@Controller('v1/audit-log')
export class AuditLogController {
  constructor(
    private readonly trail: AuditTrail,
    private readonly cursors: Cursors,
  ) {}

  /** Who changed what and when, the newest first. */
  @Get()
  @Permit('audit-log:read')
  async list(@CurrentCall() call: Call, @Query() query: AuditLogQuery): Promise<Page<ReturnType<typeof show>>> {
    const scope = `audit-log/${call.organizationId}`;
    const before = query.cursor === undefined ? undefined : Number(this.cursors.read(scope, query.cursor)[0]);
    const limit = query.limit ?? DEFAULT_PAGE;
    const { actor, action, entity, entityId } = query;
    const instant = (text?: string) => (text === undefined ? undefined : new Date(parseInstant(text)!));
    const filter = { actor, action, entity, entityId, from: instant(query.from), to: instant(query.to) };
    const entries = await this.trail.list(call.organizationId, filter, { before, take: limit + 1 });
    return this.cursors.page(entries, limit, scope, (entry) => [String(entry.seq)], show);
  }
}
