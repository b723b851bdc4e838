import { applyDecorators, SetMetadata } from '@nestjs/common';
import { ApiExtension } from '@nestjs/swagger';

/** Whoever calls is one of these. A patient is known by his phone alone, all others by a user account or an API key. */
export const ROLES = ['patient', 'practitioner', 'receptionist', 'administrator', 'operator'] as const;
export type Role = (typeof ROLES)[number];

/** The roles that a user or an API key can have. */
export const STAFF_ROLES = ['practitioner', 'receptionist', 'administrator', 'operator'] as const;
export type StaffRole = (typeof STAFF_ROLES)[number];

/**
 * Who may do what: the whole of it. Which rows a caller may do it to is said by his scope ({@link Actor}): patients have
 * their own appointments, practitioners their own schedules and appointments, receptionists those of their branches where
 * they are bound to some. Operators run the install and see nobody's data.
 */
// prettier-ignore
const TABLE = {
  //                      patient  practitioner  receptionist  administrator  operator
  'organization:read':    ['x',    'x',          'x',          'x',           ' '],
  'organization:write':   [' ',    ' ',          ' ',          'x',           ' '],
  'clinic:read':          ['x',    'x',          'x',          'x',           ' '], // locations, practitioners, rooms, services
  'clinic:write':         [' ',    ' ',          'x',          'x',           ' '],
  'clinic:delete':        [' ',    ' ',          'x',          'x',           ' '],
  'patients:read':        [' ',    'x',          'x',          'x',           ' '],
  'patients:write':       [' ',    'x',          'x',          'x',           ' '],
  'patients:delete':      [' ',    ' ',          'x',          'x',           ' '],
  'patients:export':      [' ',    ' ',          ' ',          'x',           ' '],
  'patients:erase':       [' ',    ' ',          ' ',          'x',           ' '], // for ever
  'schedules:read':       [' ',    'x',          'x',          'x',           ' '],
  'schedules:write':      [' ',    'x',          'x',          'x',           ' '],
  'slots:read':           ['x',    'x',          'x',          'x',           ' '],
  'appointments:read':    ['x',    'x',          'x',          'x',           ' '],
  'appointments:book':    ['x',    'x',          'x',          'x',           ' '],
  'appointments:change':  ['x',    'x',          'x',          'x',           ' '], // confirm, cancel, reschedule
  'appointments:attend':  [' ',    'x',          'x',          'x',           ' '], // check-in, complete, no-show
  'users:read':           [' ',    ' ',          ' ',          'x',           ' '],
  'users:write':          [' ',    ' ',          ' ',          'x',           ' '], // invitations, too
  'api-keys:read':        [' ',    ' ',          ' ',          'x',           ' '],
  'api-keys:write':       [' ',    ' ',          ' ',          'x',           ' '],
  'audit-log:read':       [' ',    ' ',          ' ',          'x',           ' '],
  'operations:read':      [' ',    ' ',          ' ',          'x',           'x'], // metrics, queues
  'session:end':          ['x',    'x',          'x',          'x',           'x'], // one's own
  'account:write':        [' ',    'x',          'x',          'x',           'x'], // one's own second factor
} as const;

export type Permission = keyof typeof TABLE;

export const PERMISSIONS = Object.keys(TABLE) as Permission[];

const OF_ROLE = Object.fromEntries(
  ROLES.map((role, column) => [role, new Set(PERMISSIONS.filter((name) => TABLE[name][column] === 'x'))]),
) as unknown as Record<Role, ReadonlySet<Permission>>;

/** Who is bound to some branches changes nothing that others share: the clinic's records stay as they are. */
const SHARED: readonly Permission[] = ['clinic:write', 'clinic:delete', 'patients:delete'];
const OF_A_BRANCH: ReadonlySet<Permission> = new Set(
  [...OF_ROLE.receptionist].filter((name) => !SHARED.includes(name)),
);

/** What a caller may do: what his role may, without what he is not limited to. */
export function permissionsOf(
  role: Role,
  { some = null, branches = false }: { some?: readonly string[] | null; branches?: boolean } = {},
): ReadonlySet<Permission> {
  const all = branches ? OF_A_BRANCH : OF_ROLE[role];
  return some === null ? all : new Set([...all].filter((permission) => some.includes(permission)));
}

/** The names under which the guard finds what a route asks for. */
export const PUBLIC = 'auth:public';
export const PERMITTED = 'auth:permitted';

/** Open to everybody. */
export const Public = () => SetMetadata(PUBLIC, true);

/** Open to callers with this permission. Every route says this or {@link Public}; the process does not start with one that says neither. */
export const Permit = (permission: Permission): MethodDecorator =>
  applyDecorators(SetMetadata(PERMITTED, permission), ApiExtension('x-permission', permission));
