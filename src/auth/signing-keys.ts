import { Injectable } from '@nestjs/common';
import { type CryptoKey, exportJWK, generateKeyPair, importJWK, type JWK } from 'jose';
import { uuidv7 } from 'uuidv7';
import { Clock, Database, Log } from '../platform';
import { Secrets } from './secrets';

/** ES256 for it is checked faster than EdDSA here: 0.25 ms against 0.33 ms of processor time; signing is the same, 0.17 ms. */
export const ALGORITHM = 'ES256';

const MINUTE = 60_000;

/** How long an access token is good. */
export const TOKEN_LIFE = 10 * MINUTE;
/** How far the clocks of two processes may be apart. */
export const LEEWAY = 5_000;
/** A key signs so long, and every process has had so much time before to learn of the next one. */
const SIGNS_FOR = 30 * 24 * 60 * MINUTE;
const PUBLISHED_BEFORE = 10 * MINUTE;
/** Every process reads the keys anew so often: well within the time for which a new one is published before it signs. */
const READ_EVERY = MINUTE;
/** A token with a key that nobody knows makes a process look at once, but not more often than this. */
const LOOK_EVERY = 2_000;

interface Key {
  id: string;
  signsFrom: number;
  publicKey: CryptoKey;
  /** Undefined where this process cannot open it: it was sealed under another SECRET_KEY. */
  privateKey: CryptoKey | undefined;
  /** When the last token that it signed is over. */
  until: number;
}

interface Row {
  id: string;
  public_key: JWK;
  private_key: Buffer;
  signs_from: Date;
}

/**
 * The keys that access tokens are signed with: in the database, for all processes, the private part sealed. A new key is there
 * for a while before it signs and an old one for as long as its tokens live, so nobody notices that they change.
 */
@Injectable()
export class SigningKeys {
  private keys: Key[] = [];
  private readAt = -Infinity;
  private reading?: Promise<void>;

  constructor(
    private readonly database: Database,
    private readonly secrets: Secrets,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /** The key that signs now. */
  async signing(): Promise<{ id: string; privateKey: CryptoKey }> {
    if (this.clock.now() - this.readAt > READ_EVERY) await this.read();
    let key = this.current();
    if (!key) {
      await this.renew();
      key = this.current();
    }
    if (!key?.privateKey) throw new Error('There is no key to sign access tokens with.');
    return { id: key.id, privateKey: key.privateKey };
  }

  /** The key of a token, if it is still good. Mostly from memory. */
  async find(id: string): Promise<CryptoKey | undefined> {
    const known = this.keys.some((key) => key.id === id);
    if (this.clock.now() - this.readAt > (known ? READ_EVERY : LOOK_EVERY)) await this.read();
    return this.keys.find((key) => key.id === id && this.clock.now() < key.until)?.publicKey;
  }

  /**
   * Sees to it that a key signs now and that the next one is published in time; forgets those that are over. Safe in many
   * processes at once.
   * @param early publishes the next key now, whatever the age of the present one
   */
  async renew({ early = false } = {}): Promise<void> {
    await this.database.system('which keys sign access tokens', async (tx) => {
      // Processes that find out together: the second one waits, and then finds the first one's key.
      await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('holdfast.signing_keys', 0))`);
      const rows = await tx.query<Row[]>(READ);
      const now = this.clock.now();
      const usable = rows.filter((row) => this.open(row) !== undefined);
      const last = usable.at(-1)?.signs_from.getTime() ?? -Infinity;
      const signs = usable.some((row) => row.signs_from.getTime() <= now);
      if (!signs || (last <= now && (early || now > last + SIGNS_FOR - 2 * PUBLISHED_BEFORE))) {
        const pair = await generateKeyPair(ALGORITHM, { extractable: true });
        const [publicKey, privateKey] = await Promise.all([exportJWK(pair.publicKey), exportJWK(pair.privateKey)]);
        const id = uuidv7();
        const signsFrom = signs ? new Date(now + PUBLISHED_BEFORE) : new Date(now);
        await tx.query(
          'INSERT INTO signing_key (id, public_key, private_key, signs_from, created_at) VALUES ($1, $2, $3, $4, $5)',
          [id, publicKey, this.secrets.seal('signing-key', id, JSON.stringify(privateKey)), signsFrom, new Date(now)],
        );
        this.log.event('signing_key_made', { keyId: id, signsFrom: signsFrom.toISOString() });
      }
      await tx.query(
        `DELETE FROM signing_key k WHERE EXISTS (SELECT 1 FROM signing_key n WHERE n.signs_from > k.signs_from AND n.signs_from < $1)`,
        [new Date(now - TOKEN_LIFE - LEEWAY - MINUTE)],
      );
    });
    await this.read();
  }

  private current(): Key | undefined {
    const now = this.clock.now();
    return this.keys.findLast((key) => key.signsFrom <= now && key.privateKey);
  }

  private read(): Promise<void> {
    this.reading ??= this.readAll().finally(() => (this.reading = undefined));
    return this.reading;
  }

  private async readAll(): Promise<void> {
    const rows = await this.database.system('with which keys access tokens are signed', (tx) => tx.query<Row[]>(READ));
    this.keys = await Promise.all(
      rows.map(async (row, index) => {
        const sealed = this.open(row);
        const next = rows[index + 1]?.signs_from.getTime() ?? Infinity;
        return {
          id: row.id,
          signsFrom: row.signs_from.getTime(),
          publicKey: (await importJWK(row.public_key, ALGORITHM)) as CryptoKey,
          privateKey: sealed === undefined ? undefined : await privateKeyOf(sealed),
          until: next + TOKEN_LIFE + LEEWAY + READ_EVERY,
        };
      }),
    );
    this.readAt = this.clock.now();
  }

  private open(row: Row): string | undefined {
    return this.secrets.open('signing-key', row.id, row.private_key);
  }
}

const privateKeyOf = async (jwk: string) => (await importJWK(JSON.parse(jwk) as JWK, ALGORITHM)) as CryptoKey;

const READ = 'SELECT id, public_key, private_key, signs_from FROM signing_key ORDER BY signs_from';
