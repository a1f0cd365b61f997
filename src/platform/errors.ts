/** Every refusal this product answers: code -> HTTP status and title. Feeds the error handler and the OpenAPI responses. */
export const ERRORS = {
  malformed: { status: 400, title: "The request could not be read" },
  bad_request: { status: 400, title: "The request cannot be fulfilled" },
  provider_refused: { status: 400, title: "The provider refused" },
  not_configured: { status: 400, title: "A setting of this deployment is missing" },
  unauthenticated: { status: 401, title: "Credentials are missing or wrong" },
  forbidden: { status: 403, title: "Not allowed" },
  not_found: { status: 404, title: "Not found" },
  method_not_allowed: { status: 405, title: "Method not allowed" },
  conflict: { status: 409, title: "Conflicts with the current state" },
  already_exists: { status: 409, title: "Exists already" },
  idempotency_conflict: { status: 409, title: "The idempotency key was used with another body" },
  number_in_use: { status: 409, title: "The phone number is registered already" },
  too_large: { status: 413, title: "The body is too large" },
  unsupported_media_type: { status: 415, title: "The body is of another type than the operation takes" },
  range_not_satisfiable: { status: 416, title: "The file has no such part" },
  validation: { status: 422, title: "A value is not valid" },
  provider_limit: { status: 422, title: "The provider cannot carry this" },
  rate_limited: { status: 429, title: "Too many requests" },
  internal: { status: 500, title: "Internal error" },
  misconfigured: { status: 500, title: "The deployment is misconfigured" },
  provider_unavailable: { status: 502, title: "The provider did not answer" },
  overloaded: { status: 503, title: "Overloaded, try again later" },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** One refused field, in the shape of the Reference API's validation errors. */
export interface FieldError {
  loc: (string | number)[];
  msg: string;
}

/**
 * The only error this product throws on purpose. `detail` is shown to the caller word for word, so it never holds
 * internals; `cause` goes to the log only.
 */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly fields: FieldError[] | undefined;
  /** Seconds, sent as `Retry-After`. */
  readonly retryAfter: number | undefined;
  /** Further members of the error body, such as the id of the row that exists already. */
  readonly extra: Record<string, unknown> | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { cause?: unknown; fields?: FieldError[]; retryAfter?: number; extra?: Record<string, unknown> } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.fields = options.fields;
    this.retryAfter = options.retryAfter;
    this.extra = options.extra;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }
}

/** A 422 that names one field of the body (or of another place, when `loc` starts with its name). */
export function invalidField(loc: (string | number)[], msg: string): AppError {
  return new AppError("validation", msg, { fields: [{ loc, msg }] });
}

/** Makes an exhaustive `switch` a compile error when a case is missing. */
export function unreachable(value: never): never {
  throw new Error(`Unreachable case: ${JSON.stringify(value)}`);
}
