/** The kinds of failure that callers can tell apart. */
export type ProblemKind =
  | 'invalid'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'precondition'
  | 'unprocessable'
  | 'gone'
  | 'limited'
  | 'unavailable';

/** Stable codes of the public contract, each with its kind and HTTP status. */
const CODES = {
  validation_failed: ['invalid', 400, 'The request is not valid'],
  unauthenticated: ['unauthenticated', 401, 'Credentials are missing or not valid'],
  forbidden: ['forbidden', 403, 'These credentials do not allow this'],
  not_found: ['not_found', 404, 'There is nothing here'],
  method_not_allowed: ['invalid', 405, 'This method is not allowed here'],
  payload_too_large: ['invalid', 413, 'The request body is too large'],
  headers_too_large: ['invalid', 431, 'The request headers are too large'],
  unsupported_media_type: ['invalid', 415, 'The request body is of a type that is not read here'],
  slot_taken: ['conflict', 409, 'The time is already booked'],
  patient_overlap: ['conflict', 409, 'The patient has another appointment at this time'],
  too_many_holds: ['conflict', 409, 'The patient has as many holds open as are allowed'],
  payment_required: ['conflict', 409, 'This is confirmed by its payment'],
  invalid_transition: ['conflict', 409, 'The appointment does not allow this now'],
  in_use: ['conflict', 409, 'Future appointments depend on this'],
  already_exists: ['conflict', 409, 'This exists already'],
  request_in_progress: ['conflict', 409, 'The first request under this key is still running'],
  hold_expired: ['gone', 410, 'The hold is over'],
  version_stale: ['precondition', 412, 'Somebody else was faster'],
  precondition_required: ['precondition', 428, 'An If-Match header is required'],
  outside_hours: ['unprocessable', 422, 'The time lies outside the opening hours'],
  notice_too_short: ['unprocessable', 422, 'The time is too soon'],
  too_far_ahead: ['unprocessable', 422, 'The time is too far ahead'],
  in_the_past: ['unprocessable', 422, 'The time is over'],
  cancellation_too_late: ['unprocessable', 422, 'It is too late to cancel'],
  practitioner_not_eligible: ['unprocessable', 422, 'This practitioner does not offer the service'],
  service_not_bookable: ['unprocessable', 422, 'This service is not offered any more'],
  idempotency_key_reused: ['unprocessable', 422, 'The Idempotency-Key was used for another request'],
  rate_limited: ['limited', 429, 'Too many requests'],
  busy: ['unavailable', 503, 'Too much is going on; nothing was changed'],
  outcome_unknown: ['unavailable', 503, 'The connection broke while the change was being stored'],
  internal_error: ['unavailable', 500, 'Something went wrong here'],
} as const satisfies Record<string, [ProblemKind, number, string]>;

export type ProblemCode = keyof typeof CODES;

/** One mistake in the input; `pointer` is a JSON pointer (RFC 6901) into the body, or the name of a header or parameter. */
export interface FieldError {
  pointer: string;
  detail: string;
}

/**
 * A failure that the caller is told about, as application/problem+json (RFC 9457). Services throw it; a throw inside a
 * transaction rolls it back.
 */
export class Problem extends Error {
  readonly kind: ProblemKind;
  readonly status: number;
  readonly title: string;

  constructor(
    readonly code: ProblemCode,
    detail?: string,
    /** Members beside the standard ones, such as `alternatives`. */
    readonly extensions: Record<string, unknown> = {},
    /** Response headers, such as `Retry-After` (seconds). */
    readonly headers: Record<string, string> = {},
  ) {
    super(detail ?? CODES[code][2]);
    [this.kind, this.status, this.title] = CODES[code];
  }

  /** 400 with the list of mistakes. */
  static invalid(...errors: FieldError[]): Problem {
    const [first] = errors;
    const detail =
      errors.length > 1
        ? `${errors.length} mistakes in the request`
        : [first?.pointer, first?.detail].filter(Boolean).join(': ');
    return new Problem('validation_failed', detail, { errors });
  }

  /** 404. The same words whether the thing never was, is gone, or belongs to another organization. */
  static notFound(what: string): Problem {
    return new Problem('not_found', `There is no such ${what}.`);
  }

  static busy(detail = 'Somebody else is busy with the same time. Nothing was changed; please try again.'): Problem {
    return new Problem('busy', detail, {}, { 'Retry-After': '1' });
  }
}

/**
 * A database constraint refused the change (class 23 of SQLSTATE). Only `Database` makes it; services that expect a
 * certain constraint catch it by name, anything else is a defect and ends as a 500.
 */
export class ConstraintViolation extends Error {
  constructor(
    readonly kind: 'unique' | 'exclusion' | 'foreign_key' | 'check' | 'not_null',
    readonly constraint: string,
    cause: unknown,
  ) {
    super(`${kind} constraint ${constraint} refused the change`, { cause });
  }
}

/** The database cannot be used as it is. The message is one line for a person at a terminal. */
export class SchemaError extends Error {}

/**
 * What a transaction decided on has changed before it could lock it: run the closure again at once, on what is there now.
 * Thrown inside `Database.transaction`, which counts the tries.
 */
export class TryAgain extends Error {}
