import 'reflect-metadata';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { createApp, describeApi } from './app';
import { prepare } from './install';
import { compareWallTimes, examine, SetupService } from './operations';
import { isTimeZone, Log, migrationStatus, openDatabase, readSettings, showInstant, zoneDatabase } from './platform';

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const USAGE = `Usage:
  npm run setup -- --organization NAME --email ADDRESS [--time-zone ZONE]
  npm run migrate
  npm run migrate:status
  npm run doctor
  npm run zones`;

class UsageError extends Error {}

const COMMANDS: Record<string, (args: string[]) => Promise<number>> = {
  migrate: async () => {
    const install = await prepare(readSettings(), say);
    await install.release();
    say('The database is up to date.');
    return 0;
  },

  'migrate:status': async () => {
    const install = await prepareUnmigrated();
    try {
      const states = await migrationStatus(install.config);
      for (const { name, state } of states) say(`${state.padEnd(10)} ${name}`);
      return states.every((each) => each.state === 'applied') ? 0 : 1;
    } finally {
      await install.release();
    }
  },

  setup: async (args) => {
    const { values } = parseArgs({
      args,
      options: {
        organization: { type: 'string' },
        email: { type: 'string' },
        'time-zone': { type: 'string', default: 'UTC' },
      },
    });
    const { organization, email, 'time-zone': timeZone } = values;
    if (!organization?.trim() || !email || !/^[^@\s]+@[^@\s]+$/.test(email)) throw new UsageError(USAGE);
    if (!isTimeZone(timeZone)) throw new UsageError(`${timeZone} is no time zone of the IANA database.`);
    return withInstall(async (install) => {
      const app = await createApp({ ...install.config, role: 'api' }, Log.create('warn'));
      try {
        await app.init();
        const made = await app
          .get(SetupService, { strict: false })
          .firstOrganization(organization.trim(), timeZone, email);
        if (!made) {
          say('This install has an organization already; nothing was changed.');
          return 1;
        }
        say(`Organization  ${made.organizationId}  ${organization.trim()}`);
        say(`API key       ${made.apiKey}`);
        say(`Invitation    ${install.config.publicUrl}/docs#invitation=${made.invitationToken}`);
        say(
          `Both are for the administrator, ${email}, and are shown this once. The invitation is good for seven days:`,
        );
        say(
          `POST ${install.config.publicUrl}/v1/auth/sign-up {"invitationToken": "${made.invitationToken}", "name", "password"}`,
        );
        return 0;
      } finally {
        await app.close();
      }
    });
  },

  doctor: () =>
    withInstall(async (install) => {
      const { database, close } = await openDatabase(install.config.databaseUrl, Log.create('silent'));
      try {
        const findings = await examine(database, await migrationStatus(install.config), install.config);
        say(`Zone database ${zoneDatabase()}.`);
        for (const { check, subject, detail } of findings) say(`${check}  ${subject}  ${detail}`);
        say(findings.length === 0 ? 'Everything is as it should be.' : `${findings.length} findings.`);
        return findings.length === 0 ? 0 : 1;
      } finally {
        await close();
      }
    }, prepareUnmigrated),

  zones: () =>
    withInstall(async (install) => {
      const pending = (await migrationStatus(install.config)).filter((each) => each.state !== 'applied');
      if (pending.length > 0) throw new Error('The schema is not that of this release; see npm run migrate:status.');
      const { database, close } = await openDatabase(install.config.databaseUrl, Log.create('silent'));
      try {
        say(`Zone database ${zoneDatabase()}.`);
        const { segments, moved, unrecorded } = await compareWallTimes(database, (each) => {
          const { appointmentId, scheduleId, timeZone, booked, now } = each;
          const change = now
            ? `now ${now.shown}  ${now.minutes > 0 ? '+' : ''}${now.minutes} min  kept at ${showInstant(now.keptAt)}`
            : 'zone unknown';
          say(`${appointmentId}  ${scheduleId}  ${timeZone}  booked ${booked}  ${change}`);
        });
        say(`${segments} to come, ${moved} moved, ${unrecorded} without a recorded wall time.`);
        return moved === 0 ? 0 : 1;
      } finally {
        await close();
      }
    }, prepareUnmigrated),

  openapi: async ([file]) => {
    if (!file) throw new UsageError('Usage: npm run openapi');
    return withInstall(async (install) => {
      const app = await createApp({ ...install.config, role: 'api' }, Log.create('warn'));
      try {
        await app.init();
        await writeFile(file, `${JSON.stringify(describeApi(app), null, 2)}\n`);
        return 0;
      } finally {
        await app.close();
      }
    });
  },
};

/** Looks at an install without changing its schema. */
const prepareUnmigrated = () => prepare(readSettings(), () => undefined, { migrating: false });

async function withInstall(
  work: (install: Awaited<ReturnType<typeof prepare>>) => Promise<number>,
  prepared = () => prepare(readSettings(), say),
): Promise<number> {
  const install = await prepared();
  try {
    return await work(install);
  } finally {
    await install.release();
  }
}

async function main([name = '', ...args]: string[]): Promise<number> {
  const command = COMMANDS[name];
  if (!command) throw new UsageError(USAGE);
  return command(args);
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(error instanceof UsageError ? 2 : 1);
  },
);
