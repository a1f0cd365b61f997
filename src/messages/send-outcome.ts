/** What an outcome means for a message (pipeline 4): pure, so that every case can be looked at alone. */
import type { PipelineSettings } from "../platform/config";
import { unreachable } from "../platform/errors";
import type { SendOutcome } from "../providers/provider";
import { MAX_DELAY_MS } from "./jobs";
import type { Message } from "./store";
import type { SendResult } from "./store-sending";

/** Whether an outcome tells of the whole number that it must be slower for a while. */
export function isThrottle(outcome: SendOutcome): outcome is SendOutcome & { kind: "transient" } {
  return outcome.kind === "transient" && outcome.throttled === true;
}

/** Whether the provider worked for the number: it took this message, or refused this message and no other. */
export function provesNumber(outcome: SendOutcome): boolean {
  // What never left, because its content cannot be sent, proves nothing.
  return outcome.kind === "sent" || (outcome.kind === "permanent" && outcome.error.code !== "invalid_content");
}

/** `<message id>.<attempt>`: a negative status counts only for the current attempt. */
export function callbackId(message: Message): string {
  return `${message.id}.${message.attempts}`;
}

/** The claim a result answers to. */
function claimOf(message: Message): Pick<SendResult, "workspaceId" | "id" | "claim" | "attempt"> {
  return {
    workspaceId: message.workspaceId,
    id: message.id,
    claim: message.claim ?? "",
    attempt: message.attempts,
  };
}

/** Back to the queue without a call; no failure of the message. */
export function released(message: Message, notBefore: number): SendResult {
  return { ...claimOf(message), kind: "requeued", notBefore, error: null, failure: false };
}

/**
 * The result of an outcome at `now` (ms). Transient: again after the provider's `Retry-After` or the back-off, whichever
 * is longer, until the configured number of failures. Blocked: again as soon as the number's gate lets it. Repeat: the
 * same call again, under the id the provider may know the message by already.
 */
export function resultOf(message: Message, outcome: SendOutcome, now: number, settings: PipelineSettings): SendResult {
  const claim = claimOf(message);
  // What was refused under an id is not what the next call asks for: that gets an id of its own.
  const refused = message.waMessageId === null ? {} : { knownAs: null };
  switch (outcome.kind) {
    case "sent":
      return { ...claim, kind: "sent", waMessageId: outcome.waMessageId, at: now };
    case "permanent":
      return { ...claim, kind: "failed", error: outcome.error, at: now };
    case "ambiguous":
      return { ...claim, kind: "ambiguous", error: outcome.error, at: now };
    case "blocked":
      return { ...claim, kind: "requeued", notBefore: now, error: outcome.error, failure: false, ...refused };
    case "transient": {
      const failures = message.failures + 1;
      if (failures >= settings.maxAttempts) return { ...claim, kind: "failed", error: outcome.error, at: now };
      const notBefore = now + waitAfter(failures, outcome.retryAfter, settings);
      return { ...claim, kind: "requeued", notBefore, error: outcome.error, failure: true, ...refused };
    }
    case "repeat": {
      const failures = message.failures + 1;
      if (failures >= settings.maxAttempts) return { ...claim, kind: "ambiguous", error: outcome.error, at: now };
      const notBefore = now + waitAfter(failures, outcome.retryAfter, settings);
      const knownAs = outcome.providerMessageId;
      return { ...claim, kind: "requeued", notBefore, error: outcome.error, failure: true, knownAs };
    }
    default:
      return unreachable(outcome);
  }
}

/**
 * ms until the next try: full jitter over an exponential curve, half of it at the least, so that a retry is never at
 * once, not even when the provider says so (`Retry-After: 0`). A time the provider named is honoured and jittered on
 * its far side; queue delays end at 24 hours, and so does any wait.
 */
export function waitAfter(failures: number, retryAfter: number | null, settings: PipelineSettings): number {
  const ceiling = Math.min(settings.backoffCap, settings.backoffBase * 2 ** (failures - 1));
  const jitter = (Math.random() * ceiling) / 2;
  const wait = retryAfter === null ? ceiling / 2 : Math.max(ceiling / 2, retryAfter);
  return Math.min(MAX_DELAY_MS, Math.round(wait + jitter));
}
