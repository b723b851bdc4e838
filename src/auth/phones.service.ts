import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { showInstant } from '../platform';
import { SessionsService } from './sessions.service';

/** What is kept of a phone that somebody has signed in with; for who asks what that is, or wants it gone. */
@Injectable()
export class PhonesService {
  constructor(private readonly sessions: SessionsService) {}

  /** Since when a phone of the transaction's organization signs in; null for one that never did. */
  async show(tx: EntityManager, phone: string): Promise<{ id: string; createdAt: string; verifiedAt: string } | null> {
    const [row] = await tx.query<[{ id: string; created_at: Date; verified_at: Date }?]>(
      'SELECT id, created_at, verified_at FROM phone_identity WHERE phone = $1',
      [phone],
    );
    return row
      ? { id: row.id, createdAt: showInstant(row.created_at), verifiedAt: showInstant(row.verified_at) }
      : null;
  }

  /**
   * Forgets a phone within the transaction of an organization: its codes, that it was shown, and with that its sessions. In the
   * order of signing in, which waits, or is waited for.
   */
  async forget(tx: EntityManager, phone: string): Promise<void> {
    await tx.query('DELETE FROM otp_code WHERE phone = $1', [phone]);
    await tx.query('DELETE FROM phone_identity WHERE phone = $1', [phone]);
  }

  /** After the transaction that forgot one: access tokens of this process are looked up anew. */
  forgotten(): void {
    this.sessions.forget();
  }
}
