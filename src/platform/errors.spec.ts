import { ConstraintViolation, Problem, type ProblemCode } from './errors';

describe('a problem', () => {
  // The table of the public contract: clients rely on it.
  it.each<[ProblemCode, number]>([
    ['validation_failed', 400],
    ['unauthenticated', 401],
    ['forbidden', 403],
    ['not_found', 404],
    ['slot_taken', 409],
    ['invalid_transition', 409],
    ['in_use', 409],
    ['already_exists', 409],
    ['request_in_progress', 409],
    ['version_stale', 412],
    ['precondition_required', 428],
    ['outside_hours', 422],
    ['notice_too_short', 422],
    ['too_far_ahead', 422],
    ['in_the_past', 422],
    ['practitioner_not_eligible', 422],
    ['idempotency_key_reused', 422],
    ['busy', 503],
  ])('%s has status %i', (code, status) => {
    const problem = new Problem(code);
    expect(problem).toMatchObject({ code, status });
    expect(problem.title).not.toBe('');
    expect(problem.message).toBe(problem.title);
  });

  it('tells what is wrong, with members and headers of its own', () => {
    const problem = new Problem('slot_taken', 'Somebody was faster.', { alternatives: [] }, { 'Retry-After': '1' });
    expect(problem.message).toBe('Somebody was faster.');
    expect(problem.extensions).toEqual({ alternatives: [] });
    expect(problem.headers).toEqual({ 'Retry-After': '1' });
    expect(problem.kind).toBe('conflict');
  });

  it('of the input lists the mistakes', () => {
    const one = { pointer: '/name', detail: 'must be a text' };
    const other = { pointer: '/phone', detail: 'must be a phone number' };
    expect(Problem.invalid(one)).toMatchObject({ message: '/name: must be a text', extensions: { errors: [one] } });
    expect(Problem.invalid(one, other)).toMatchObject({
      message: '2 mistakes in the request',
      extensions: { errors: [one, other] },
    });
  });

  it('of something missing says no more than that', () => {
    expect(Problem.notFound('patient')).toMatchObject({
      code: 'not_found',
      message: 'There is no such patient.',
      extensions: {},
    });
  });

  it('of being busy says when to come again', () => {
    expect(Problem.busy()).toMatchObject({ status: 503, headers: { 'Retry-After': '1' } });
  });
});

describe('a constraint violation', () => {
  it('names the constraint and keeps its cause', () => {
    const cause = new Error('duplicate key');
    const violation = new ConstraintViolation('unique', 'patient_phone', cause);
    expect(violation).toMatchObject({ kind: 'unique', constraint: 'patient_phone', cause });
    expect(violation.message).toContain('patient_phone');
  });
});
