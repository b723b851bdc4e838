import { AuditTrail, type Config, type Database, Log, type MigrationState } from '../platform';
import { audit, type Finding } from './ledger.auditor';

/** Looks an install over: schema, row-level security, invariants of the data. Nothing found is what everybody hopes for. */
export async function examine(
  database: Database,
  migrations: MigrationState[],
  config: Pick<Config, 'secretKey'>,
): Promise<Finding[]> {
  const open = migrations.filter((each) => each.state !== 'applied');
  const schema = open.map((each) => ({ check: 'migration', subject: each.name, detail: each.state }));
  if (schema.length > 0) return schema;
  return [...(await rowLevelSecurity(database)), ...(await audit(database)), ...(await trail(database, config))];
}

async function rowLevelSecurity(database: Database): Promise<Finding[]> {
  try {
    await database.onApplicationBootstrap();
    return [];
  } catch (error) {
    return [
      {
        check: 'row_level_security',
        subject: 'database',
        detail: error instanceof Error ? error.message : String(error),
      },
    ];
  }
}

async function trail(database: Database, config: Pick<Config, 'secretKey'>): Promise<Finding[]> {
  const findings = await new AuditTrail(config, database, Log.create('silent')).verify();
  return findings.map(({ organizationId, seq, detail }) => ({
    check: 'audit_trail',
    subject: seq === null ? organizationId : `${organizationId}/${seq}`,
    detail,
  }));
}
