import type { QueryConfig } from 'pg';

/** A statement with its values, as it is sent. */
export type Statement = QueryConfig;

/**
 * A prepared statement whose parameters have names, `:name` in its text: gives what to send for given values. The server
 * plans it once a connection, which is why statements of the hot paths are made of this.
 * @throws Error for a value that is missing; null is a value
 */
export function statement(name: string, text: string): (values: Readonly<Record<string, unknown>>) => Statement {
  const names: string[] = [];
  // Not within quotes.
  const numbered = text.replaceAll(/'[^']*'|(?<!:):([a-z]\w*)/gi, (found, parameter: string | undefined) => {
    if (parameter === undefined) return found;
    if (!names.includes(parameter)) names.push(parameter);
    return `$${names.indexOf(parameter) + 1}`;
  });
  return (values) => ({
    name,
    text: numbered,
    values: names.map((parameter) => {
      if (values[parameter] === undefined) throw new Error(`${name} needs a value for ${parameter}`);
      return values[parameter];
    }),
  });
}
