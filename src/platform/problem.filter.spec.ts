import {
  type ArgumentsHost,
  BadRequestException,
  HttpException,
  MethodNotAllowedException,
  NotFoundException,
} from '@nestjs/common';
import { ConstraintViolation, Problem } from './errors';
import type { Log } from './logging';
import { bodyOf, ProblemFilter } from './problem.filter';

/** What the filter makes of an error that a request ended with. */
function answerTo(error: unknown, url = '/v1/patients/7?token=secret') {
  const failures: Array<{ event: string; error: unknown; fields: unknown }> = [];
  const log = {
    failure: (event: string, thrown: unknown, fields: unknown) => failures.push({ event, error: thrown, fields }),
  } as unknown as Log;
  const answer = { status: 0, headers: {} as Record<string, string>, text: '' };
  const response = {
    status: (status: number) => Object.assign(response, { sent: (answer.status = status) }),
    headers: (headers: Record<string, string>) =>
      Object.assign(response, { sent: Object.assign(answer.headers, headers) }),
    header: (name: string, value: string) => Object.assign(response, { sent: (answer.headers[name] = value) }),
    send: (text: string) => Object.assign(response, { sent: (answer.text = text) }),
  };
  const host = {
    switchToHttp: () => ({ getRequest: () => ({ method: 'POST', url }), getResponse: () => response }),
  } as unknown as ArgumentsHost;
  new ProblemFilter(log).catch(error, host);
  return { ...answer, body: JSON.parse(answer.text) as Record<string, unknown>, failures };
}

describe('the answer to an error', () => {
  it('is problem+json with the members of RFC 9457, its extensions and headers', () => {
    const { status, headers, body, failures } = answerTo(
      new Problem('slot_taken', 'Somebody was faster.', { alternatives: [1, 2] }, { 'Retry-After': '1' }),
    );
    expect(status).toBe(409);
    expect(headers).toEqual({ 'Content-Type': 'application/problem+json; charset=utf-8', 'Retry-After': '1' });
    expect(body).toEqual({
      type: 'urn:holdfast:problem:slot_taken',
      title: 'The time is already booked',
      status: 409,
      detail: 'Somebody was faster.',
      instance: '/v1/patients/7',
      code: 'slot_taken',
      alternatives: [1, 2],
    });
    expect(failures).toEqual([]);
  });

  it.each([
    [new NotFoundException(), 404, 'not_found'],
    [new BadRequestException('Unexpected end of JSON input'), 400, 'validation_failed'],
    [new MethodNotAllowedException(), 405, 'method_not_allowed'],
    [new HttpException('no', 401), 401, 'unauthenticated'],
    [new HttpException('no', 403), 403, 'forbidden'],
    [new HttpException('I am a teapot', 418), 400, 'validation_failed'],
    [Object.assign(new Error('Request body is too large'), { statusCode: 413 }), 413, 'payload_too_large'],
    [Object.assign(new Error('Unsupported Media Type'), { statusCode: 415 }), 415, 'unsupported_media_type'],
    [Object.assign(new SyntaxError('Unexpected token'), { statusCode: 400 }), 400, 'validation_failed'],
  ])('of the framework keeps to the same form: %s', (error, status, code) => {
    const answer = answerTo(error);
    expect(answer).toMatchObject({ status, body: { status, code, instance: '/v1/patients/7' }, failures: [] });
    expect(answer.body['detail']).not.toBe('');
  });

  it('that names a path leaves the query out, for there may be secrets in it', () => {
    expect(answerTo(new NotFoundException()).text).not.toContain('secret');
    expect(bodyOf(new Problem('not_found'), '/a?b')).toMatchObject({ instance: '/a' });
  });

  it.each([
    ['an error', new Error('password=hunter2')],
    ['an HTTP error of our own making', new HttpException('password=hunter2', 500)],
    ['a text', 'password=hunter2'],
    ['an object', { reason: 'password=hunter2' }],
    ['null', null],
    ['nothing', undefined],
  ])('that nobody expected tells nothing of it, and is logged: %s', (_, error) => {
    const { status, text, failures } = answerTo(error);
    expect(status).toBe(500);
    expect(JSON.parse(text)).toMatchObject({ status: 500, code: 'internal_error' });
    expect(text).not.toContain('hunter2');
    expect(failures).toEqual([
      { event: 'unexpected_error', error, fields: { method: 'POST', path: '/v1/patients/7' } },
    ]);
  });

  it('of a constraint that nobody expected has an event of its own', () => {
    const violation = new ConstraintViolation('exclusion', 'claim_no_overlap', undefined);
    const { status, text, failures } = answerTo(violation);
    expect(status).toBe(500);
    expect(text).not.toContain('claim_no_overlap');
    expect(failures).toMatchObject([{ event: 'unexpected_constraint_violation', error: violation }]);
  });
});
