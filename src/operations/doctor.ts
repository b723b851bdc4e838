import { type MigrationState, type Database } from '../platform';
import { audit, type Finding } from './ledger.auditor';

/** Looks an install over: schema, row-level security, invariants of the data. Nothing found is what everybody hopes for. */
export async function examine(database: Database, migrations: MigrationState[]): Promise<Finding[]> {
  const open = migrations.filter((each) => each.state !== 'applied');
  const schema = open.map((each) => ({ check: 'migration', subject: each.name, detail: each.state }));
  if (schema.length > 0) return schema;
  return [...(await rowLevelSecurity(database)), ...(await audit(database))];
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
