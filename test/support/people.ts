import { CodeDelivery, type Delivery } from '../../src/auth';
import type { Answer, Caller, TestApp } from './app';

export const PASSWORD = 'correct horse battery';

/** What an app sends to people, caught instead of sent. */
export function catchDeliveries(target: TestApp): Delivery[] {
  const caught: Delivery[] = [];
  const delivery = target.app.get(CodeDelivery, { strict: false });
  delivery.deliver = (each) => {
    caught.push(each);
    return Promise.resolve();
  };
  return caught;
}

/** People who sign in at an app. */
export function peopleOf(target: TestApp, organizationId: string, administrator: Caller) {
  const deliveries = catchDeliveries(target);
  const post = (path: string, body: object, headers: Record<string, string> = {}) =>
    target.as(undefined)('POST', `/v1/auth/${path}`, { body, headers });
  const must = (answer: Answer, status: number) => {
    if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const lastTo = (to: string): string => deliveries.findLast((each) => each.to === to)!.secret;
  const invite = async (email: string, place: object) =>
    must(await administrator('POST', '/v1/invitations', { body: { email, ...place } }), 201);
  return {
    deliveries,
    post,
    lastTo,
    invite,
    /** Signs a phone in by a code. */
    patient: async (phone: string) => {
      must(await post('otp', { organizationId, phone }), 202);
      const tokens = must(await post('otp/verify', { organizationId, phone, code: lastTo(phone) }), 200);
      return { ...tokens, call: target.as(tokens.accessToken) };
    },
    /** Invites somebody, who signs up. */
    member: async (email: string, place: object) => {
      const { invitationToken } = await invite(email, place);
      const tokens = must(await post('sign-up', { invitationToken, name: 'A. Person', password: PASSWORD }), 201);
      return { ...tokens, call: target.as(tokens.accessToken) };
    },
  };
}
