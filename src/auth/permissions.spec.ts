import 'reflect-metadata';
import { Controller, Get, Post } from '@nestjs/common';
import { MetadataScanner } from '@nestjs/core';
import { type Permission, PERMISSIONS, permissionsOf, Permit, Public, ROLES } from './permissions';
import { silentRoutes } from './route-permissions';

describe('the table of permissions', () => {
  it('gives every permission to somebody, and to the administrator', () => {
    for (const permission of PERMISSIONS) expect([permission, permissionsOf('administrator').has(permission)]).toEqual([permission, true]); // prettier-ignore
  });

  it('shows operators and patients no data but their own', () => {
    expect([...permissionsOf('operator')]).toEqual(['operations:read', 'session:end', 'account:write']);
    const patients: Permission[] = [
      'organization:read',
      'clinic:read',
      'slots:read',
      'appointments:read',
      'appointments:book',
      'appointments:change',
      'session:end',
    ];
    expect([...permissionsOf('patient')]).toEqual(patients);
  });

  it('is never widened by a limit', () => {
    for (const role of ROLES) {
      const limited = permissionsOf(role, { some: ['users:write', 'slots:read', 'no such thing'] });
      expect([...limited].filter((each) => !permissionsOf(role).has(each))).toEqual([]);
      expect([...permissionsOf(role, { some: [] })]).toEqual([]);
    }
  });

  it('lets nobody who is bound to branches change what others share', () => {
    const bound = permissionsOf('receptionist', { branches: true });
    const missing = [...permissionsOf('receptionist')].filter((each) => !bound.has(each));
    expect(missing).toEqual(['clinic:write', 'clinic:delete', 'patients:delete']);
  });
});

describe('routes that say nothing', () => {
  const scanner = new MetadataScanner();

  @Controller('a')
  class Mixed {
    @Get()
    @Permit('slots:read')
    declared() {}
    @Get('open')
    @Public()
    open() {}
    @Post()
    silent() {}
    notARoute() {}
  }

  @Public()
  @Controller('b')
  class Open {
    @Get()
    route() {}
  }

  class Under extends Mixed {
    @Get('more')
    more() {}
  }

  it('are found', () => {
    expect(silentRoutes(scanner, Mixed)).toEqual(['Mixed.silent (POST)']);
    expect(silentRoutes(scanner, Open)).toEqual([]);
    expect(silentRoutes(scanner, Under).sort()).toEqual(['Under.more (GET)', 'Under.silent (POST)']);
  });
});
