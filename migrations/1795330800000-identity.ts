import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Who signs in: users with their memberships and invitations, phones of patients with their codes, sessions, signing keys;
 * and API keys that are limited, expire and are replaced.
 *
 * What belongs to nobody but the install (users, sessions, signing keys) is reachable by the system role alone: no
 * statement that serves an organization can read a hash of a password, whatever its text.
 */
export class Identity1795330800000 implements MigrationInterface {
  name = 'Identity1795330800000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(COLUMNS);
    await runner.query(TABLES);
    const [{ database }] = (await runner.query('SELECT current_database() AS database')) as [{ database: string }];
    const [app, system] = ['app', 'system'].map(
      (kind) => `"${`holdfast_${kind}_${database}`.slice(0, 63).replaceAll('"', '""')}"`,
    );
    for (const table of [...OF_AN_ORGANIZATION, ...OF_THE_INSTALL]) {
      await runner.query(`
        ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE ${table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY system_access ON ${table} TO ${system} USING (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO ${system};`);
    }
    for (const table of OF_AN_ORGANIZATION) {
      await runner.query(`
        CREATE POLICY organization_isolation ON ${table} TO ${app}
          USING (organization_id = NULLIF(current_setting('holdfast.organization_id', true), '')::uuid);
        GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO ${app};`);
    }
  }

  async down(): Promise<void> {
    throw new Error('Migrations are append-only: restore a backup, or write the next one.');
  }
}

const OF_AN_ORGANIZATION = ['membership', 'invitation', 'phone_identity', 'otp_code'];

const OF_THE_INSTALL = ['user_account', 'password_reset', 'auth_session', 'signing_key'];

const COLUMNS = `
-- permissions   what of its role's permissions the key has; null for all of them
-- rotated_at    when another key took its place; it lives on until expires_at
-- made_by       the user or key that made it; a user's keys end with his membership
-- last_used_at  to the minute, written now and then
ALTER TABLE api_key
  ADD COLUMN permissions text[],
  ADD COLUMN practitioner_id uuid,
  ADD COLUMN location_ids uuid[],
  ADD COLUMN expires_at timestamptz,
  ADD COLUMN rotated_at timestamptz,
  ADD COLUMN last_used_at timestamptz,
  ADD COLUMN made_by uuid,
  ADD CONSTRAINT api_key_practitioner FOREIGN KEY (organization_id, practitioner_id)
    REFERENCES practitioner (organization_id, id);
-- A key is found by its public part. Those of earlier releases, whose prefix is shorter, are found by their hash.
CREATE UNIQUE INDEX api_key_prefix ON api_key (prefix) WHERE length(prefix) = 11;
CREATE INDEX api_key_made_by ON api_key (organization_id, made_by) WHERE made_by IS NOT NULL;
`;

const TABLES = `
-- A person who signs in, whatever organizations he works for. The address is kept in small letters.
CREATE TABLE user_account (
  id             uuid PRIMARY KEY,
  email          text NOT NULL,
  name           text NOT NULL,
  password_hash  text NOT NULL,
  -- Sealed with a key of the install; in force from totp_since on. A code is good once: those up to totp_step are spent.
  totp_secret    bytea,
  totp_since     timestamptz,
  totp_step      bigint,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX user_account_email ON user_account (lower(email));

-- What a user is in an organization. A practitioner is one person of the clinic; others may be bound to branches.
CREATE TABLE membership (
  organization_id uuid NOT NULL REFERENCES organization,
  user_id         uuid NOT NULL REFERENCES user_account,
  role            text NOT NULL CHECK (role IN ('practitioner', 'receptionist', 'administrator', 'operator')),
  practitioner_id uuid,
  location_ids    uuid[],
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, user_id),
  FOREIGN KEY (organization_id, practitioner_id) REFERENCES practitioner (organization_id, id),
  CHECK ((role = 'practitioner') = (practitioner_id IS NOT NULL)),
  CHECK (location_ids IS NULL OR (role = 'receptionist' AND cardinality(location_ids) > 0))
);
CREATE INDEX membership_user ON membership (user_id);

-- An invitation is good once; of its token a SHA-256 is kept.
CREATE TABLE invitation (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  email           text NOT NULL,
  role            text NOT NULL CHECK (role IN ('practitioner', 'receptionist', 'administrator', 'operator')),
  practitioner_id uuid,
  location_ids    uuid[],
  token_hash      bytea NOT NULL UNIQUE,
  created_at      timestamptz NOT NULL DEFAULT now(),
  expires_at      timestamptz NOT NULL,
  accepted_at     timestamptz,
  revoked_at      timestamptz,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, practitioner_id) REFERENCES practitioner (organization_id, id),
  CHECK ((role = 'practitioner') = (practitioner_id IS NOT NULL)),
  CHECK (location_ids IS NULL OR (role = 'receptionist' AND cardinality(location_ids) > 0))
);

-- A phone that somebody has shown to have. Not yet a patient: he becomes one with what he books first.
CREATE TABLE phone_identity (
  organization_id uuid NOT NULL REFERENCES organization,
  id              uuid NOT NULL,
  phone           text NOT NULL CHECK (phone ~ '^\\+[1-9][0-9]{5,14}$'),
  created_at      timestamptz NOT NULL DEFAULT now(),
  verified_at     timestamptz NOT NULL,
  PRIMARY KEY (organization_id, id),
  UNIQUE (organization_id, phone)
);

-- The one living code of a phone for a purpose: the key allows no second one. Of the code a keyed hash is kept.
CREATE TABLE otp_code (
  organization_id uuid NOT NULL REFERENCES organization,
  phone           text NOT NULL CHECK (phone ~ '^\\+[1-9][0-9]{5,14}$'),
  purpose         text NOT NULL,
  code_hash       bytea NOT NULL,
  tries           smallint NOT NULL DEFAULT 0 CHECK (tries BETWEEN 0 AND 5),
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at      timestamptz NOT NULL,
  PRIMARY KEY (organization_id, phone, purpose)
);
CREATE INDEX otp_code_expiry ON otp_code (expires_at);

CREATE TABLE password_reset (
  user_id    uuid PRIMARY KEY REFERENCES user_account,
  token_hash bytea NOT NULL UNIQUE,
  expires_at timestamptz NOT NULL
);
CREATE INDEX password_reset_expiry ON password_reset (expires_at);

-- A family of refresh tokens, of which the one of this generation is good. The client is a hash of what it shows of itself.
CREATE TABLE auth_session (
  id                uuid PRIMARY KEY,
  organization_id   uuid NOT NULL REFERENCES organization,
  user_id           uuid REFERENCES user_account,
  phone_identity_id uuid,
  generation        integer NOT NULL DEFAULT 1,
  token_hash        bytea NOT NULL,
  client            bytea NOT NULL,
  created_at        timestamptz NOT NULL DEFAULT now(),
  rotated_at        timestamptz NOT NULL DEFAULT now(),
  expires_at        timestamptz NOT NULL,
  revoked_at        timestamptz,
  FOREIGN KEY (organization_id, phone_identity_id) REFERENCES phone_identity (organization_id, id),
  CHECK (num_nonnulls(user_id, phone_identity_id) = 1)
);
CREATE INDEX auth_session_user ON auth_session (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX auth_session_phone ON auth_session (phone_identity_id) WHERE phone_identity_id IS NOT NULL;
CREATE INDEX auth_session_expiry ON auth_session (expires_at);

-- What access tokens are signed with, from signs_from until the next one does. The private part is sealed.
CREATE TABLE signing_key (
  id          uuid PRIMARY KEY,
  public_key  jsonb NOT NULL,
  private_key bytea NOT NULL,
  signs_from  timestamptz NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX signing_key_signs_from ON signing_key (signs_from);
`;
