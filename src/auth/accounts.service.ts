import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Secret, TOTP } from 'otpauth';
import type { EntityManager } from 'typeorm';
import { uuidv7 } from 'uuidv7';
import { Clock, ConstraintViolation, Database, Log, Problem } from '../platform';
import type { Call } from './call';
import type { Client } from './client';
import { CodeDelivery } from './code-delivery';
import { IdentityLimits } from './identity-limits';
import { addressOf, InvitationsService, type Post } from './invitations.service';
import { Passwords } from './passwords';
import { Secrets, sha256 } from './secrets';
import { SessionsService, type Tokens } from './sessions.service';

/** What somebody signs in with. */
export interface Credentials {
  email: string;
  password: string;
  /** Of the second factor, where there is one. */
  totpCode?: string;
  /** In which organization; not needed by who belongs to one. */
  organizationId?: string;
  /** Joins another organization on the way. */
  invitationToken?: string;
}

/** What somebody signs up with. */
export interface SignUp {
  invitationToken: string;
  name: string;
  password: string;
}

const PERIOD = 30_000;

/**
 * Accounts of people: by an e-mail address, unique whatever its letters and the concurrency, a password, and a second factor for
 * who wants one. Whoever signs in learns only that it did not work, and as late for an address that has no account.
 */
@Injectable()
export class AccountsService {
  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly secrets: Secrets,
    private readonly passwords: Passwords,
    private readonly sessions: SessionsService,
    private readonly invitations: InvitationsService,
    private readonly limits: IdentityLimits,
    private readonly delivery: CodeDelivery,
  ) {}

  /** Makes the account of somebody who was invited, and signs him in. Of any number at once one does; the others get 409. */
  async signUp({ invitationToken, name, password }: SignUp, client: Client): Promise<Tokens> {
    await this.limits.signUp(client);
    const { email } = await this.invitations.require(invitationToken);
    if (await this.find(email)) throw known();
    const hash = await this.passwords.hash(password);
    try {
      const opened = await this.database.system('sign up', async (tx) => {
        const { organizationId, ...post } = await this.invitations.take(tx, invitationToken);
        const userId = await this.insert(tx, { email: post.email, name, hash });
        await this.join(tx, organizationId, userId, post);
        return this.sessions.open(tx, organizationId, { userId }, client.print);
      });
      this.log.event('user_signed_up', { userId: opened.subject.principalId, role: opened.subject.role });
      return await this.sessions.tokens(opened);
    } catch (error) {
      if (error instanceof ConstraintViolation && error.constraint === 'user_account_email') throw known();
      throw error;
    }
  }

  /** Signs in. One way and one answer for whoever may not: an address that nobody has, a wrong password, a wrong code. */
  async signIn(credentials: Credentials, client: Client): Promise<Tokens> {
    const { password, totpCode, organizationId, invitationToken } = credentials;
    await this.limits.signIn(credentials.email, client);
    const user = await this.find(credentials.email);
    const right = await this.passwords.matches(user?.passwordHash, password);
    if (!user || !right) throw refused();
    if (user.totpSince && totpCode === undefined) {
      throw new Problem('unauthenticated', 'This account has a second factor: send totpCode, too.', { totpRequired: true }); // prettier-ignore
    }
    const opened = await this.database.system('sign in', async (tx) => {
      // What was checked holds still: a password that is changed meanwhile ends sessions, and this would be one more.
      const [same] = await tx.query<[unknown?]>(SAME_PASSWORD, [user.id, user.passwordHash]);
      if (!same || (user.totpSince && !(await this.spend(tx, user, totpCode!)))) throw refused();
      if (invitationToken !== undefined)
        return this.open(tx, user, await this.accept(tx, user, invitationToken), client);
      const posts = await tx.query<Array<{ organization_id: string }>>(POSTS, [user.id]);
      const all = posts.map((post) => post.organization_id);
      const chosen = organizationId === undefined ? all : all.filter((id) => id === organizationId);
      if (chosen.length > 1) {
        const detail = 'must say in which organization: you belong to several';
        throw new Problem('validation_failed', detail, { errors: [{ pointer: '/organizationId', detail }], organizationIds: all }); // prettier-ignore
      }
      if (chosen[0] === undefined) throw refused();
      return this.open(tx, user, chosen[0], client);
    });
    return this.sessions.tokens(opened);
  }

  /** Sends a link to who has an account. The answer does not wait for that, and so cannot tell whether there is one. */
  async requestReset(email: string, client: Client): Promise<void> {
    await this.limits.passwordReset(email, client);
    void this.sendReset(addressOf(email)).catch((error: unknown) => this.log.failure('password_reset_not_sent', error));
  }

  /** Sets a new password by the token that was sent, once, and ends all sessions. */
  async confirmReset(token: string, password: string, client: Client): Promise<void> {
    await this.limits.newPassword(client);
    const found = await this.database.system('whose password is to be set', (tx) =>
      tx.query<unknown[]>('SELECT 1 FROM password_reset WHERE token_hash = $1 AND expires_at > now()', [sha256(token)]),
    );
    const over = () => new Problem('unauthenticated', 'The token is not good (any more).');
    if (found.length === 0) throw over();
    const hash = await this.passwords.hash(password);
    await this.database.system('set a password', async (tx) => {
      const [row] = await tx.query<[{ user_id: string }?]>(SPEND_RESET, [sha256(token)]);
      if (!row) throw over();
      await tx.query('UPDATE user_account SET password_hash = $2, updated_at = now() WHERE id = $1', [
        row.user_id,
        hash,
      ]);
      await this.sessions.endAllIn(tx, row.user_id);
    });
    this.sessions.forget();
  }

  /** Begins a second factor: it is in force once its first code was shown. */
  async enrolTotp(call: Call): Promise<{ secret: string; uri: string }> {
    const secret = new Secret({ size: 20 }).base32;
    const email = await this.database.system('begin a second factor', async (tx) => {
      const sealed = this.secrets.seal('totp', call.principalId, secret);
      const [row] = await tx.query<[{ email: string }?]>(ENROL, [call.principalId, sealed]);
      return row?.email;
    });
    if (email === undefined) throw new Problem('already_exists', 'There is a second factor. Remove it first.');
    return { secret, uri: new TOTP({ issuer: 'Holdfast', label: email, secret }).toString() };
  }

  /** Puts the second factor in force. */
  async confirmTotp(call: Call, code: string): Promise<void> {
    await this.changeTotp(
      call,
      code,
      'UPDATE user_account SET totp_since = now() WHERE id = $1 AND totp_since IS NULL',
    );
  }

  /** Ends the second factor, for who has it. */
  async removeTotp(call: Call, code: string): Promise<void> {
    const sql = 'UPDATE user_account SET totp_since = NULL, totp_secret = NULL, totp_step = NULL WHERE id = $1';
    await this.changeTotp(call, code, sql);
  }

  /** Makes an account without an invitation, for who sets an install up. */
  async create(
    organizationId: string,
    account: { email: string; name: string; password: string },
    post: Post,
  ): Promise<void> {
    const hash = await this.passwords.hash(account.password);
    await this.database.system('an account of the install', async (tx) => {
      const userId = await this.insert(tx, { ...account, hash });
      await this.join(tx, organizationId, userId, post);
    });
  }

  private async changeTotp(call: Call, code: string, sql: string): Promise<void> {
    await this.limits.secondFactor(call);
    const { principalId } = call;
    await this.database.system('change a second factor', async (tx) => {
      const [user] = await tx.query<[User?]>(`${USER} WHERE id = $1 FOR NO KEY UPDATE`, [principalId]);
      if (!user?.totpSecret) throw Problem.notFound('second factor');
      if (!(await this.spend(tx, user, code))) throw new Problem('forbidden', 'The code is not right.');
      await tx.query(sql, [principalId]);
    });
  }

  /** Whether a code is right; then it is spent, with all before it. Of two who show it at once one has it. */
  private async spend(tx: EntityManager, user: User, code: string): Promise<boolean> {
    const secret = user.totpSecret && this.secrets.open('totp', user.id, user.totpSecret);
    if (!secret) return false;
    const timestamp = this.clock.now();
    const delta = new TOTP({ secret }).validate({ token: code, timestamp, window: 1 });
    if (delta === null) return false;
    const step = Math.floor(timestamp / PERIOD) + delta;
    const spent = await tx.query<unknown[]>(SPEND_STEP, [user.id, step]);
    return spent.length > 0;
  }

  private async accept(tx: EntityManager, user: User, token: string): Promise<string> {
    const { organizationId, ...post } = await this.invitations.take(tx, token);
    if (post.email !== user.email) throw Problem.notFound('invitation');
    await this.join(tx, organizationId, user.id, post);
    return organizationId;
  }

  private open(tx: EntityManager, user: User, organizationId: string, client: Client) {
    return this.sessions.open(tx, organizationId, { userId: user.id }, client.print);
  }

  private async insert(
    tx: EntityManager,
    { email, name, hash }: { email: string; name: string; hash: string },
  ): Promise<string> {
    const id = uuidv7();
    const values = [id, addressOf(email), name, hash];
    await tx.query('INSERT INTO user_account (id, email, name, password_hash) VALUES ($1, $2, $3, $4)', values);
    return id;
  }

  private async join(tx: EntityManager, organizationId: string, userId: string, post: Post): Promise<void> {
    const { role, practitionerId = null, locationIds = null } = post;
    const joined = await tx.query<unknown[]>(JOIN, [organizationId, userId, role, practitionerId, locationIds]);
    if (joined.length === 0) throw new Problem('already_exists', 'You belong to this organization already.');
  }

  private async sendReset(email: string): Promise<void> {
    const token = `hp_${randomBytes(32).toString('base64url')}`;
    const sent = await this.database.system('send a link to set a password', (tx) =>
      tx.query<unknown[]>(ASK_RESET, [email, sha256(token)]),
    );
    if (sent.length > 0) await this.delivery.deliver({ purpose: 'password_reset', to: email, secret: token });
  }

  private find(email: string): Promise<User | undefined> {
    return this.database.system('whose e-mail address is this', async (tx) => {
      const [user] = await tx.query<[User?]>(`${USER} WHERE lower(email) = lower($1)`, [addressOf(email)]);
      return user;
    });
  }
}

const refused = (): Problem => new Problem('unauthenticated', 'E-mail address, password or code is not right.');

const known = (): Problem =>
  new Problem('already_exists', 'There is an account with this e-mail address. Sign in, with the invitation.');

interface User {
  id: string;
  email: string;
  passwordHash: string;
  totpSecret: Buffer | null;
  totpSince: Date | null;
}

const USER = `SELECT id, email, password_hash AS "passwordHash", totp_secret AS "totpSecret", totp_since AS "totpSince"
  FROM user_account`;
const SAME_PASSWORD = 'SELECT 1 FROM user_account WHERE id = $1 AND password_hash = $2 FOR NO KEY UPDATE';
const POSTS = 'SELECT organization_id FROM membership WHERE user_id = $1 ORDER BY organization_id';
const JOIN = `
  INSERT INTO membership (organization_id, user_id, role, practitioner_id, location_ids) VALUES ($1, $2, $3, $4, $5)
  ON CONFLICT (organization_id, user_id) DO NOTHING RETURNING user_id`;
const ASK_RESET = `
  INSERT INTO password_reset (user_id, token_hash, expires_at)
  SELECT id, $2, now() + interval '1 hour' FROM user_account WHERE lower(email) = lower($1)
  ON CONFLICT (user_id) DO UPDATE SET token_hash = excluded.token_hash, expires_at = excluded.expires_at
  RETURNING user_id`;
const SPEND_RESET = `
  WITH spent AS (DELETE FROM password_reset WHERE token_hash = $1 AND expires_at > clock_timestamp() RETURNING user_id)
  SELECT user_id FROM spent`;
const ENROL = `
  WITH enrolled AS (
    UPDATE user_account SET totp_secret = $2, totp_step = NULL WHERE id = $1 AND totp_since IS NULL RETURNING email)
  SELECT email FROM enrolled`;
const SPEND_STEP = `
  WITH spent AS (
    UPDATE user_account SET totp_step = $2 WHERE id = $1 AND (totp_step IS NULL OR totp_step < $2) RETURNING id)
  SELECT id FROM spent`;
