import { createHmac, timingSafeEqual } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from './config';
import { Problem } from './errors';

/** One page of a list. */
export interface Page<T> {
  data: T[];
  nextCursor: string | null;
}

/**
 * Cursors of lists: the sort key of the last row shown, signed, so that a cursor that was changed, or that belongs to
 * another list or organization, is refused instead of answered wrongly.
 */
@Injectable()
export class Cursors {
  constructor(@Inject(CONFIG) private readonly config: Config) {}

  /** `scope` names the list and whose it is. */
  write(scope: string, key: readonly string[]): string {
    const payload = Buffer.from(JSON.stringify(key));
    return Buffer.concat([this.sign(scope, payload), payload]).toString('base64url');
  }

  /** @throws Problem `validation_failed` for anything that `write` did not make for this scope */
  read(scope: string, cursor: string): string[] {
    const bytes = Buffer.from(cursor, 'base64url');
    const [signature, payload] = [bytes.subarray(0, 12), bytes.subarray(12)];
    const intact = signature.length === 12 && bytes.toString('base64url') === cursor;
    if (!intact || !timingSafeEqual(signature, this.sign(scope, payload))) {
      throw Problem.invalid({ pointer: 'cursor', detail: 'is not a cursor of this list' });
    }
    return JSON.parse(payload.toString()) as string[];
  }

  /** Makes a page of rows that were read with one row more than `limit`. */
  page<Row, T>(
    rows: Row[],
    limit: number,
    scope: string,
    keyOf: (row: Row) => string[],
    show: (row: Row) => T,
  ): Page<T> {
    const shown = rows.slice(0, limit);
    const last = shown.at(-1);
    return {
      data: shown.map(show),
      nextCursor: rows.length > limit && last !== undefined ? this.write(scope, keyOf(last)) : null,
    };
  }

  private sign(scope: string, payload: Buffer): Buffer {
    return createHmac('sha256', this.config.secretKey)
      .update(`cursor\n${scope}\n`)
      .update(payload)
      .digest()
      .subarray(0, 12);
  }
}
