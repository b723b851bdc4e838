import type { Sql } from './api';

/** Words that stand for what is known of a person, each of which appears nowhere by itself. */
export const CANARIES = {
  name: 'Canary-Name-Zwitscher',
  attendee: 'Canary-Attendee-Piepmatz',
  email: 'canary.mail.amsel@example.org',
  notes: 'Canary-Notes-Zaunkoenig',
  visitNotes: 'Canary-Visit-Notes-Drossel',
  metadata: 'Canary-Metadata-Stieglitz',
  metadataName: 'Canary-Member-Gimpel',
  reason: 'Canary-Reason-Kuckuck',
  phone: '+4915798765432',
};

/** Those that a text contains, as they are, percent-encoded, or as bytes written in hex. */
export function canariesIn(text: string, canaries: readonly string[] = Object.values(CANARIES)): string[] {
  const small = text.toLowerCase();
  return canaries.filter((canary) =>
    [canary, canary.replace('+', ''), encodeURIComponent(canary), Buffer.from(canary).toString('hex')].some((form) =>
      small.includes(form.toLowerCase()),
    ),
  );
}

/** Where in a whole database canaries stand: every column of every table of every schema. */
export async function canariesInTables(sql: Sql, canaries?: readonly string[]): Promise<string[]> {
  const columns = await sql(
    `SELECT format('%I.%I', nspname, relname) AS name, quote_ident(attname) AS column_name
     FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_|^information_schema$' AND attnum > 0 AND NOT attisdropped`,
  );
  const found: string[] = [];
  for (const { name, column_name: column } of columns) {
    const [row] = await sql(`SELECT coalesce(string_agg(${column}::text, E'\\n'), '') AS text FROM ${name}`);
    found.push(...canariesIn(row.text, canaries).map((canary) => `${name}.${column}: ${canary}`));
  }
  return found;
}
