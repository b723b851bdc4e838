import { Injectable, type OnModuleInit, RequestMethod } from '@nestjs/common';
import { METHOD_METADATA } from '@nestjs/common/constants.js';
import { DiscoveryService, MetadataScanner } from '@nestjs/core';
import { PERMITTED, PUBLIC } from './permissions';

/** Refuses to start with a route that does not say who may call it. */
@Injectable()
export class RoutePermissions implements OnModuleInit {
  constructor(
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
  ) {}

  onModuleInit(): void {
    const silent = this.discovery
      .getControllers()
      .flatMap(({ metatype }) => silentRoutes(this.scanner, metatype as Type));
    if (silent.length > 0) throw new Error(`Routes that need @Permit or @Public: ${silent.join(', ')}.`);
  }
}

type Type = (new () => object) | null;

/** The routes of a controller that declare neither a permission nor that they are public. */
export function silentRoutes(scanner: MetadataScanner, controller: Type): string[] {
  if (!controller || Reflect.getMetadata(PUBLIC, controller)) return [];
  const { prototype } = controller as { prototype: Record<string, object> };
  return scanner
    .getAllMethodNames(prototype)
    .filter((name) => Reflect.hasMetadata(METHOD_METADATA, prototype[name]!))
    .filter(
      (name) => !Reflect.hasMetadata(PUBLIC, prototype[name]!) && !Reflect.hasMetadata(PERMITTED, prototype[name]!),
    )
    .map(
      (name) =>
        `${controller.name}.${name} (${RequestMethod[Reflect.getMetadata(METHOD_METADATA, prototype[name]!) as number]})`,
    );
}
