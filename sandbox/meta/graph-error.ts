import type { Answer } from "../answer";

interface ErrorKind {
  status: number;
  title: string;
  transient?: boolean;
}

/**
 * The codes the sandbox knows: HTTP status and title. Meta documents code and meaning; the status comes from its older
 * tables and from captured answers, so a client must decide by the code.
 */
const ERRORS: Record<number, ErrorKind> = {
  0: { status: 401, title: "AuthException" },
  1: { status: 400, title: "API Unknown" },
  2: { status: 500, title: "Service temporarily unavailable", transient: true },
  3: { status: 500, title: "Capability or permissions issue" },
  4: { status: 429, title: "Application request limit reached", transient: true },
  10: { status: 403, title: "Application does not have permission for this action" },
  33: { status: 400, title: "Parameter value is not valid" },
  100: { status: 400, title: "Invalid parameter" },
  190: { status: 401, title: "Invalid OAuth 2.0 Access Token" },
  200: { status: 403, title: "Permissions error" },
  368: { status: 403, title: "Temporarily blocked for policies violations" },
  613: { status: 429, title: "Calls to this api have exceeded the rate limit.", transient: true },
  803: { status: 404, title: "Some of the aliases you requested do not exist" },
  2200: { status: 400, title: "Callback verification failed" },
  2500: { status: 400, title: "Unknown path components" },
  80007: { status: 400, title: "Rate limit issues" },
  130403: { status: 400, title: "Business has blocked the user" },
  130429: { status: 429, title: "Rate limit hit" },
  130472: { status: 400, title: "User's number is part of an experiment" },
  130497: { status: 403, title: "Business account is restricted from messaging users in this country." },
  131000: { status: 500, title: "Something went wrong" },
  131005: { status: 403, title: "Access denied" },
  131008: { status: 400, title: "Required parameter is missing" },
  131009: { status: 400, title: "Parameter value is not valid" },
  131016: { status: 500, title: "Service unavailable" },
  131021: { status: 400, title: "Recipient cannot be sender" },
  131026: { status: 400, title: "Message undeliverable" },
  131030: { status: 400, title: "Recipient phone number not in allowed list" },
  131031: { status: 403, title: "Business Account locked" },
  131037: { status: 400, title: "Display name approval is required before a message can be sent" },
  131042: { status: 400, title: "Business eligibility payment issue" },
  131045: { status: 400, title: "Incorrect certificate" },
  131047: { status: 400, title: "Re-engagement message" },
  131048: { status: 429, title: "Spam rate limit hit" },
  131049: { status: 400, title: "This message was not delivered to maintain healthy ecosystem engagement." },
  131050: { status: 400, title: "User has stopped marketing messages" },
  131051: { status: 400, title: "Unsupported message type" },
  131052: { status: 400, title: "Media download error" },
  131053: { status: 400, title: "Media upload error" },
  131056: { status: 429, title: "(Business Account, Consumer Account) pair rate limit hit" },
  131057: { status: 400, title: "Account in maintenance mode" },
  131062: { status: 400, title: "Business-scoped user id is not supported as recipient of this message" },
  132000: { status: 400, title: "Number of parameters does not match the expected number of params" },
  132001: { status: 404, title: "Template name does not exist in the translation" },
  132005: { status: 400, title: "Translated text too long" },
  132007: { status: 400, title: "Template format character policy violated" },
  132012: { status: 400, title: "Parameter format does not match format in the created template" },
  132015: { status: 400, title: "Template is paused" },
  132016: { status: 400, title: "Template is disabled" },
  132068: { status: 400, title: "Flow is blocked" },
  132069: { status: 400, title: "Flow is throttled" },
  133000: { status: 500, title: "Incomplete deregistration" },
  133004: { status: 503, title: "Server temporarily unavailable" },
  133005: { status: 400, title: "Two-step verification PIN mismatch" },
  133006: { status: 400, title: "Phone number re-verification needed" },
  133008: { status: 400, title: "Too many two-step verification PIN guesses" },
  133009: { status: 400, title: "Two-step verification PIN guessed too fast" },
  133010: { status: 400, title: "Phone number not registered" },
  133015: { status: 400, title: "Please wait a few minutes before attempting to register this phone number" },
  133016: { status: 429, title: "Account register or deregister rate limit exceeded" },
  135000: { status: 400, title: "Generic user error" },
};

/** Codes that fault orders and settings may name. */
export function isKnownCode(code: number): boolean {
  return code in ERRORS;
}

export function errorTitle(code: number): string {
  return ERRORS[code]?.title ?? "Unknown error";
}

interface GraphErrorOptions {
  /** The whole message, where Meta does not print `(#code) title`. */
  message?: string;
  /** `error_data.details`, which only WhatsApp errors carry. */
  details?: string;
  subcode?: number;
  type?: string;
  status?: number;
  userTitle?: string;
  userMessage?: string;
  retryAfter?: number;
}

/** A refusal as graph.facebook.com answers it. Turned into an answer before it leaves the state object. */
export class GraphError extends Error {
  readonly code: number;
  private readonly options: GraphErrorOptions;

  constructor(code: number, options: GraphErrorOptions = {}) {
    super(options.message ?? `(#${code}) ${errorTitle(code)}`);
    this.code = code;
    this.options = options;
  }

  answer(): Answer {
    const { details, subcode, type, status, userTitle, userMessage, retryAfter } = this.options;
    const kind = ERRORS[this.code];
    const error = {
      message: this.message,
      type: type ?? "OAuthException",
      code: this.code,
      ...(details === undefined ? {} : { error_data: { messaging_product: "whatsapp", details } }),
      ...(subcode === undefined ? {} : { error_subcode: subcode }),
      ...(kind?.transient || userTitle !== undefined ? { is_transient: kind?.transient ?? false } : {}),
      ...(userTitle === undefined ? {} : { error_user_title: userTitle, error_user_msg: userMessage ?? userTitle }),
      fbtrace_id: traceId(),
    };
    return {
      status: status ?? kind?.status ?? 400,
      json: JSON.stringify({ error }),
      retryAfter: retryAfter ?? null,
      fault: null,
    };
  }
}

/** A node that is not there, or that the token cannot see: Meta answers both the same. */
export function noSuchObject(id: string, method = "get"): GraphError {
  return new GraphError(100, {
    message: `Unsupported ${method} request. Object with ID '${id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation. Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api`,
    type: "GraphMethodException",
    subcode: 33,
  });
}

export function unknownPath(path: string): GraphError {
  return new GraphError(2500, { message: `Unknown path components: ${path}` });
}

function traceId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `A${btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .slice(0, 22)}`;
}
