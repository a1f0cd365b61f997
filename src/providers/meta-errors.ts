import type { ProviderError } from "./provider";

/**
 * What an error code of Meta's means for a message. `once`: Meta's own advice is one more try. `blocked`: nothing of
 * this number, or of the whole business account, can be sent until somebody acts.
 */
export type MetaErrorClass = "permanent" | "transient" | "once" | "blocked:number" | "blocked:account";

interface CodeRule {
  class: MetaErrorClass;
  /** ms to wait before the next try where the code has a natural time of its own. */
  wait?: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

const permanent: CodeRule = { class: "permanent" };
const transient: CodeRule = { class: "transient" };
const once: CodeRule = { class: "once" };
const blockedNumber: CodeRule = { class: "blocked:number" };
const blockedAccount: CodeRule = { class: "blocked:account" };

/**
 * Meta's error codes (developers.facebook.com, WhatsApp "Error codes", September 2026, and the Graph API's own).
 * HTTP statuses are no guide: 130429 has been seen with 403, and the documentation dropped the column.
 */
const CODES: Readonly<Record<number, CodeRule>> = {
  // The token: expired, withdrawn, without the permission. It is this number's; others have their own.
  0: blockedNumber,
  3: blockedNumber,
  10: blockedNumber,
  102: blockedNumber,
  190: blockedNumber,
  2500: blockedNumber,
  131005: blockedNumber,

  // The service.
  1: once,
  2: transient,
  131000: transient,
  131016: transient,
  131057: { class: "transient", wait: MINUTE },
  133004: transient,
  135000: once,
  2494100: { class: "transient", wait: MINUTE },

  // Rates. Windows of an hour are not worth a try every few seconds; 131048 is about quality and made worse by hammering.
  4: { class: "transient", wait: MINUTE },
  613: { class: "transient", wait: MINUTE },
  80007: { class: "transient", wait: MINUTE },
  130429: transient,
  131048: { class: "transient", wait: 10 * MINUTE },
  131056: transient,
  131064: { class: "transient", wait: HOUR },
  132069: { class: "transient", wait: MINUTE },

  // The request.
  33: permanent,
  100: permanent,
  803: permanent,
  131008: permanent,
  131009: permanent,
  131021: permanent,
  131051: permanent,
  131055: permanent,
  131062: permanent,
  131063: permanent,

  // The account or the number cannot send at all.
  368: blockedAccount,
  131031: blockedAccount,
  131042: blockedAccount,
  131044: blockedAccount,
  131037: blockedNumber,
  131045: blockedNumber,
  133005: blockedNumber,
  133006: blockedNumber,
  133010: blockedNumber,

  // The recipient.
  470: permanent,
  130403: permanent,
  130472: permanent,
  // Restricted in this recipient's country: the others still get theirs.
  130497: permanent,
  130501: permanent,
  131020: permanent,
  131026: permanent,
  // The list of a test number's recipients: another recipient may be on it.
  131030: permanent,
  131041: permanent,
  131047: permanent,
  // The person's own marketing limit. Meta enforces against automatic retries since 2026-04-30: never again by itself.
  131049: permanent,
  131050: permanent,
  137000: permanent,

  // Media.
  131052: permanent,
  131053: transient,

  // Templates, flows and payments: this content fails, other content goes.
  132000: permanent,
  132001: permanent,
  132005: permanent,
  132007: permanent,
  132008: permanent,
  132012: permanent,
  132015: permanent,
  132016: permanent,
  132018: permanent,
  132068: permanent,
  134011: permanent,
  134100: permanent,
  134101: permanent,
  134102: permanent,

  // Registration.
  133000: transient,
  133008: transient,
  133009: transient,
  133015: { class: "transient", wait: 5 * MINUTE },
  133016: { class: "transient", wait: HOUR },
};

/** What Meta says in the `error` of an answer or in the `errors` of a webhook. */
export interface MetaError {
  code: number;
  title: string;
  details: string | null;
  transient: boolean;
}

/** The rule of a code, null when nobody knows it. */
function ruleOf(code: number): CodeRule | null {
  const rule = CODES[code];
  if (rule) return rule;
  // 200–299: a permission of the token is missing.
  return code >= 200 && code <= 299 ? blockedNumber : null;
}

/** The error as it is shown. 131049 and everything else permanent is not retryable, whatever else Meta says of it. */
export function providerError(error: MetaError): ProviderError {
  const rule = ruleOf(error.code);
  const retryable = rule ? rule.class !== "permanent" : error.transient;
  return { code: error.code, title: error.title, details: error.details, retryable };
}

/**
 * The class of an error that Meta answered with, by its code. Of an unknown code: `transient` when Meta says so, a
 * refusal (4xx) is permanent, and after a failure of Meta's own (5xx) nobody knows: null.
 */
export function classify(error: MetaError, status: number): MetaErrorClass | null {
  const rule = ruleOf(error.code);
  if (rule) return rule.class;
  if (error.transient) return "transient";
  return status < 500 ? "permanent" : null;
}

/**
 * ms to wait after a transient error that named no time; null leaves it to the sender. Pair rate (131056): Meta asks
 * for 4^X seconds, X growing with each failure; more than an hour is no wait but an outage.
 */
export function waitAfter(code: number, attempt: number): number | null {
  if (code === 131056) return Math.min(4 ** attempt * SECOND, HOUR);
  return ruleOf(code)?.wait ?? null;
}
