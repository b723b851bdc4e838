import { Injectable } from '@nestjs/common';
import { RATE_LIMITS, RateLimits } from '../platform';
import type { Call } from './call';
import type { Client } from './client';
import { addressOf } from './invitations.service';

/**
 * How often somebody may try to be somebody. Everything here is taken before anything is looked up or written, from what the
 * request says alone, so a refusal is the same for those who are known and those who are not. Several limits are taken from
 * together: what one of them refuses has cost nothing of the others.
 *
 * Exempt addresses are exempt from limits by address, and from no other.
 *
 * Each method throws Problem `rate_limited`.
 */
@Injectable()
export class IdentityLimits {
  constructor(private readonly limits: RateLimits) {}

  /** A code by phone: per phone, address, organization and, for what codes cost, install. */
  async code(organizationId: string, phone: string, { address }: Client): Promise<void> {
    await this.limits.require([
      { limit: RATE_LIMITS.otpPerPhone, organizationId, subject: phone },
      ...this.limits.ofAddress(RATE_LIMITS.otpPerIp, address),
      { limit: RATE_LIMITS.otpPerOrganization, organizationId, subject: '' },
      { limit: RATE_LIMITS.otpPerInstallation, organizationId: null, subject: '' },
    ]);
  }

  async guess(organizationId: string, phone: string, { address }: Client): Promise<void> {
    await this.limits.require([
      { limit: RATE_LIMITS.otpVerifyPerPhone, organizationId, subject: phone },
      ...this.limits.ofAddress(RATE_LIMITS.otpVerifyPerIp, address),
    ]);
  }

  async signIn(email: string, { address }: Client): Promise<void> {
    await this.limits.require([
      { limit: RATE_LIMITS.signInPerEmail, organizationId: null, subject: addressOf(email) },
      ...this.limits.ofAddress(RATE_LIMITS.signInPerIp, address),
    ]);
  }

  async secondFactor({ organizationId, principalId }: Call): Promise<void> {
    await this.limits.require([{ limit: RATE_LIMITS.totp, organizationId, subject: principalId }]);
  }

  async signUp({ address }: Client): Promise<void> {
    await this.limits.require(this.limits.ofAddress(RATE_LIMITS.signUpPerIp, address));
  }

  async passwordReset(email: string, { address }: Client): Promise<void> {
    await this.limits.require([
      { limit: RATE_LIMITS.passwordResetPerEmail, organizationId: null, subject: addressOf(email) },
      ...this.limits.ofAddress(RATE_LIMITS.passwordResetPerIp, address),
    ]);
  }

  async newPassword({ address }: Client): Promise<void> {
    await this.limits.require(this.limits.ofAddress(RATE_LIMITS.passwordResetConfirmPerIp, address));
  }

  async refresh({ address }: Client): Promise<void> {
    await this.limits.require(this.limits.ofAddress(RATE_LIMITS.refreshPerIp, address));
  }
}
