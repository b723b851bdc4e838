import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '../platform';

/** What secrets of the install are for. Each purpose has a key of its own, so that none can stand in for another. */
type Purpose = 'otp' | 'refresh-token' | 'signing-key' | 'totp' | 'issuer';

/**
 * Keys derived from SECRET_KEY (HKDF, SHA-256), and what is made with them. Another SECRET_KEY makes everything here void:
 * codes and refresh tokens are refused, what was sealed cannot be opened.
 */
@Injectable()
export class Secrets {
  private readonly keys = new Map<Purpose, Buffer>();

  constructor(@Inject(CONFIG) private readonly config: Config) {}

  /** HMAC-SHA256 over parts whose borders count. */
  mac(purpose: Purpose, ...parts: string[]): Buffer {
    return createHmac('sha256', this.key(purpose)).update(JSON.stringify(parts)).digest();
  }

  /** AES-256-GCM: nonce, tag, ciphertext. `about` names the row that it belongs to, and must be said again to open it. */
  seal(purpose: Purpose, about: string, text: string): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.key(purpose), nonce).setAAD(Buffer.from(about));
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  }

  /** @returns undefined for what was not sealed with this key, for this purpose and row */
  open(purpose: Purpose, about: string, sealed: Buffer): string | undefined {
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.key(purpose), sealed.subarray(0, 12), { authTagLength: 16 })
        .setAAD(Buffer.from(about))
        .setAuthTag(sealed.subarray(12, 28));
      return Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]).toString('utf8');
    } catch {
      return undefined;
    }
  }

  private key(purpose: Purpose): Buffer {
    let key = this.keys.get(purpose);
    if (!key) {
      key = Buffer.from(hkdfSync('sha256', this.config.secretKey, '', `holdfast ${purpose}`, 32));
      this.keys.set(purpose, key);
    }
    return key;
  }
}

/** For what has 256 random bits of its own: it needs neither salt nor a slow hash. */
export const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
