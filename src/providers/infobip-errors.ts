/** What Infobip's statuses and error ids mean for a message (facts 3.2). */
import type { ProviderError, SendOutcome } from "./provider";

/** A status as answers and reports give it. */
export interface InfobipStatus {
  id: number;
  groupId: number;
  name: string;
  description: string | null;
}

/** The message of this id was handed in before: what a repeated call is answered, and no failure of the first. */
export const DUPLICATE_MESSAGE_ID = 23;
const DUPLICATE_REQUEST = 7280;

export function isDuplicate(id: number): boolean {
  return id === DUPLICATE_MESSAGE_ID || id === DUPLICATE_REQUEST;
}

/** Groups that are no failure: OK, PENDING, DELIVERED. */
export function isAccepted(status: InfobipStatus): boolean {
  return status.groupId === 0 || status.groupId === 1 || status.groupId === 3;
}

/** Rejections that stop the account (no credits, the platform) or the sender, not this message alone. */
const BLOCKS_ACCOUNT = new Set([12, 7011, 7019]);
const BLOCKS_NUMBER = new Set([11, 13, 7001, 7004, 7005, 7034]);
/** Too fast. */
const THROTTLES = new Set([7017]);
/** Errors that the list calls temporary, and rejections by what passes: no route, flooding, a system that is down. */
const PASSING = new Set([19, 20, 21, 7012, 7013, 7014, 7024, 7035, 7036, 7037, 7050, 7051]);

/** Whether sending the same again may work. */
export function isRetryable(id: number): boolean {
  return BLOCKS_ACCOUNT.has(id) || BLOCKS_NUMBER.has(id) || THROTTLES.has(id) || PASSING.has(id);
}

/** The outcome of a send that was answered with 200 and a status that is a refusal. */
export function refusedByStatus(status: InfobipStatus): SendOutcome {
  const { id, name, description } = status;
  const error: ProviderError = { code: id, title: name, details: description, retryable: isRetryable(id) };
  if (BLOCKS_ACCOUNT.has(id)) return { kind: "blocked", scope: "account", error };
  if (BLOCKS_NUMBER.has(id)) return { kind: "blocked", scope: "number", error };
  if (THROTTLES.has(id)) return { kind: "transient", error, retryAfter: null, throttled: true };
  if (PASSING.has(id)) return { kind: "transient", error, retryAfter: null };
  return { kind: "permanent", error };
}

/** The outcome of a send that was refused by HTTP status: it never became a message of that id. */
export function refusedByHttp(status: number, error: ProviderError, retryAfter: number | null): SendOutcome {
  switch (status) {
    case 401:
    case 403:
      return { kind: "blocked", scope: "number", error: { ...error, retryable: true } };
    case 429:
      return { kind: "transient", error, retryAfter, throttled: true };
    default:
      return { kind: "permanent", error };
  }
}
