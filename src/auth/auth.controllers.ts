import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { ApiBody, ApiTags } from '@nestjs/swagger';
import { Email, Flag, Id, IdPipe, Ids, ListQuery, OneOf, Phone, Problem, Text } from '../platform';
import { AccountsService } from './accounts.service';
import { type Call, CurrentCall } from './call';
import { type Client, CurrentClient } from './client';
import { InvitationsService } from './invitations.service';
import { MembersService } from './members.service';
import { OtpService } from './otp.service';
import { Permit, Public, STAFF_ROLES, type StaffRole } from './permissions';
import { SessionsService } from './sessions.service';

const NewPassword = () => Text({ min: 10, max: 200, description: 'At least ten characters, of any kind' });
const Code = (optional = false) => Text({ min: 6, max: 6, pattern: /^[0-9]{6}$/, optional, example: '123456' });
const Token = (optional = false) => Text({ max: 200, optional });

class OtpDto {
  @Id()
  organizationId: string;
  @Phone()
  phone: string;
}

class OtpVerificationDto extends OtpDto {
  @Code()
  code: string;
}

class SignUpDto {
  @Token()
  invitationToken: string;
  @Text()
  name: string;
  @NewPassword()
  password: string;
}

class SignInDto {
  @Email()
  email: string;
  @Text({ max: 200 })
  password: string;
  @Code(true)
  totpCode?: string;
  @Id({ optional: true, description: 'Needed by who belongs to several' })
  organizationId?: string;
  @Token(true)
  invitationToken?: string;
}

class RefreshDto {
  @Token()
  refreshToken: string;
}

class SignOutDto {
  @Flag({ optional: true, description: 'Ends all sessions, not this one alone' })
  everywhere?: boolean;
}

class PasswordResetDto {
  @Email()
  email: string;
}

class NewPasswordDto {
  @Token()
  token: string;
  @NewPassword()
  password: string;
}

class TotpCodeDto {
  @Code()
  code: string;
}

class PostDto {
  @OneOf(STAFF_ROLES)
  role: StaffRole;
  @Id({ optional: true, nullable: true, description: 'Of a practitioner: which one' })
  practitionerId?: string | null;
  @Ids({
    optional: true,
    nullable: true,
    min: 1,
    max: 100,
    description: 'Of a receptionist: his branches; all unless told',
  })
  locationIds?: string[] | null;
}

class NewInvitationDto extends PostDto {
  @Email()
  email: string;
}

/** Signing in and out. Nothing here is kept for a replay: Idempotency-Key is ignored. */
@ApiTags('Auth')
@Controller('v1/auth')
export class AuthController {
  constructor(
    private readonly otp: OtpService,
    private readonly accounts: AccountsService,
    private readonly sessions: SessionsService,
  ) {}

  /** Sends a code to a phone; the same answer for every phone. */
  @Post('otp')
  @Public()
  @HttpCode(202)
  requestCode(@Body() { organizationId, phone }: OtpDto, @CurrentClient() client: Client) {
    return this.otp.request(organizationId, phone, client);
  }

  @Post('otp/verify')
  @Public()
  @HttpCode(200)
  verifyCode(@Body() { organizationId, phone, code }: OtpVerificationDto, @CurrentClient() client: Client) {
    return this.otp.verify(organizationId, phone, code, client);
  }

  @Post('sign-up')
  @Public()
  signUp(@Body() body: SignUpDto, @CurrentClient() client: Client) {
    return this.accounts.signUp(body, client);
  }

  @Post('sign-in')
  @Public()
  @HttpCode(200)
  signIn(@Body() body: SignInDto, @CurrentClient() client: Client) {
    return this.accounts.signIn(body, client);
  }

  @Post('refresh')
  @Public()
  @HttpCode(200)
  refresh(@Body() { refreshToken }: RefreshDto, @CurrentClient() client: Client) {
    return this.sessions.refresh(refreshToken, client);
  }

  @Post('sign-out')
  @Permit('session:end')
  @HttpCode(204)
  @ApiBody({ type: SignOutDto, required: false })
  async signOut(@CurrentCall() { sessionId, principalId }: Call, @Body() body?: SignOutDto) {
    if (sessionId === undefined) throw new Problem('forbidden', 'An API key has no session. Revoke it instead.');
    await (body?.everywhere ? this.sessions.endAll(principalId) : this.sessions.end(sessionId));
  }

  /** Sends a token to an e-mail address that has an account; the same answer for every address. */
  @Post('password-reset')
  @Public()
  @HttpCode(202)
  async requestReset(@Body() { email }: PasswordResetDto, @CurrentClient() client: Client) {
    await this.accounts.requestReset(email, client);
    return {};
  }

  @Post('password-reset/confirm')
  @Public()
  @HttpCode(204)
  confirmReset(@Body() { token, password }: NewPasswordDto, @CurrentClient() client: Client) {
    return this.accounts.confirmReset(token, password, client);
  }

  @Post('totp')
  @Permit('account:write')
  enrolTotp(@CurrentCall() call: Call) {
    return this.accounts.enrolTotp(requireUser(call));
  }

  @Post('totp/confirm')
  @Permit('account:write')
  @HttpCode(204)
  confirmTotp(@CurrentCall() call: Call, @Body() { code }: TotpCodeDto) {
    return this.accounts.confirmTotp(requireUser(call), code);
  }

  @Post('totp/remove')
  @Permit('account:write')
  @HttpCode(204)
  removeTotp(@CurrentCall() call: Call, @Body() { code }: TotpCodeDto) {
    return this.accounts.removeTotp(requireUser(call), code);
  }
}

@ApiTags('Users')
@Controller('v1/invitations')
export class InvitationsController {
  constructor(private readonly invitations: InvitationsService) {}

  @Post()
  @Permit('users:write')
  create(@CurrentCall() call: Call, @Body() { email, ...post }: NewInvitationDto) {
    return this.invitations.create(call, email, post);
  }

  @Get()
  @Permit('users:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.invitations.list(call, query);
  }

  @Get(':id')
  @Permit('users:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.invitations.get(call, id);
  }

  @Delete(':id')
  @Permit('users:write')
  @HttpCode(204)
  revoke(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.invitations.revoke(call, id);
  }
}

@ApiTags('Users')
@Controller('v1/users')
export class UsersController {
  constructor(private readonly members: MembersService) {}

  @Get()
  @Permit('users:read')
  list(@CurrentCall() call: Call, @Query() query: ListQuery) {
    return this.members.list(call, query);
  }

  @Get(':id')
  @Permit('users:read')
  get(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.members.get(call, id);
  }

  /** Another post: the role, and what belongs to it. */
  @Patch(':id')
  @Permit('users:write')
  change(@CurrentCall() call: Call, @Param('id', IdPipe) id: string, @Body() body: PostDto) {
    return this.members.change(call, id, body);
  }

  @Delete(':id')
  @Permit('users:write')
  @HttpCode(204)
  remove(@CurrentCall() call: Call, @Param('id', IdPipe) id: string) {
    return this.members.remove(call, id);
  }
}

function requireUser(call: Call): Call {
  if (!call.user) throw new Problem('forbidden', 'This is for users who have signed in.');
  return call;
}
