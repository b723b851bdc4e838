import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';

/** Something that happened. Ids and version only: a subscriber reads the rest again, and drops what is older than it knows. */
export interface OutboxEvent {
  organizationId: string;
  /** Past tense, with its module's noun: `appointment.confirmed`. */
  type: string;
  subjectId: string;
  version: number;
  payload?: Record<string, string | number | boolean | null | string[]>;
}

/** The transactional outbox: events are stored in the transaction of the change they tell of, or not at all. */
@Injectable()
export class Outbox {
  async append(tx: EntityManager, event: OutboxEvent): Promise<void> {
    await tx.query(
      `INSERT INTO outbox_event (id, organization_id, type, subject_id, version, payload) VALUES ($1, $2, $3, $4, $5, $6)`,
      [uuidv7(), event.organizationId, event.type, event.subjectId, event.version, JSON.stringify(event.payload ?? {})],
    );
  }
}
