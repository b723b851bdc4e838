import { Module } from '@nestjs/common';
import { APP_GUARD, DiscoveryModule } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { AccessTokens } from './access-tokens';
import { AccountsService } from './accounts.service';
import { ApiKey } from './api-key.entity';
import { ApiKeysController } from './api-keys.controller';
import { ApiKeysService } from './api-keys.service';
import { AuthController, InvitationsController, UsersController } from './auth.controllers';
import { AuthGuard } from './auth.guard';
import { IdentityCleanUp } from './clean-up.service';
import { CodeDelivery, LoggedDelivery } from './code-delivery';
import { IdentityLimits } from './identity-limits';
import { InvitationsService } from './invitations.service';
import { MembersService } from './members.service';
import { OtpService } from './otp.service';
import { Passwords } from './passwords';
import { PhonesService } from './phones.service';
import { RoutePermissions } from './route-permissions';
import { Secrets } from './secrets';
import { SessionsService } from './sessions.service';
import { SigningKeys } from './signing-keys';

/** Who calls and what he may do. */
@Module({
  imports: [TypeOrmModule.forFeature([ApiKey]), DiscoveryModule],
  controllers: [ApiKeysController, AuthController, InvitationsController, UsersController],
  providers: [
    AccessTokens,
    AccountsService,
    ApiKeysService,
    { provide: CodeDelivery, useClass: LoggedDelivery },
    IdentityCleanUp,
    IdentityLimits,
    InvitationsService,
    MembersService,
    OtpService,
    Passwords,
    PhonesService,
    RoutePermissions,
    Secrets,
    SessionsService,
    SigningKeys,
    { provide: APP_GUARD, useClass: AuthGuard },
  ],
  exports: [
    AccountsService,
    ApiKeysService,
    CodeDelivery,
    IdentityCleanUp,
    InvitationsService,
    PhonesService,
    SigningKeys,
  ],
})
export class AuthModule {}
