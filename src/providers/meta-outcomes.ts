/** What an answer of the Graph API means for a message or a file. */
import { z } from "zod";
import type { GraphAnswer } from "./graph";
import { classify, type MetaError, providerError, waitAfter } from "./meta-errors";
import type { ProviderError, SendOutcome, SendRequest, UploadOutcome } from "./provider";

/** A message that was never sent, because its content cannot be. */
export function invalidContent(reason: string): SendOutcome {
  return { kind: "permanent", error: ours("invalid_content", reason, false) };
}

/** The outcome of a send. A refusal on the way to Meta did not arrive; a lost answer leaves it open. */
export function sendOutcome(answer: GraphAnswer, request: SendRequest): SendOutcome {
  switch (answer.kind) {
    case "ok":
      return accepted(answer.body);
    case "error":
      return refusedByMeta(answer.error, answer.status, answer.retryAfter, attemptOf(request));
    case "refused":
      return {
        kind: "transient",
        error: ours("provider_unavailable", `Something between here and the provider answered ${answer.status}`, true),
        retryAfter: answer.retryAfter,
      };
    case "lost":
      return { kind: "ambiguous", error: ours("outcome_unknown", answer.reason, true) };
  }
}

/** The outcome of an upload. One whose answer was lost is one to repeat: at worst Meta holds the file twice. */
export function uploadOutcome(answer: GraphAnswer): UploadOutcome {
  switch (answer.kind) {
    case "ok": {
      const body = uploadedSchema.safeParse(answer.body);
      if (body.success) return { kind: "uploaded", providerMediaId: body.data.id };
      return {
        kind: "transient",
        error: ours("provider_unavailable", "The provider named no file", true),
        retryAfter: null,
      };
    }
    case "error": {
      const outcome = refusedByMeta(answer.error, answer.status, answer.retryAfter, 1);
      if (outcome.kind !== "ambiguous" && outcome.kind !== "sent") return outcome;
      return { kind: "transient", error: providerError(answer.error), retryAfter: answer.retryAfter };
    }
    case "refused": {
      const error = ours(
        "provider_unavailable",
        `Something between here and the provider answered ${answer.status}`,
        true,
      );
      return { kind: "transient", error, retryAfter: answer.retryAfter };
    }
    case "lost":
      return { kind: "transient", error: ours("provider_unavailable", answer.reason, true), retryAfter: null };
  }
}

const uploadedSchema = z.object({ id: z.union([z.string().min(1), z.int().transform(String)]) });

const acceptedSchema = z.object({
  messages: z.array(z.object({ id: z.string().min(1), message_status: z.string().optional() })).min(1),
  contacts: z
    .array(z.object({ wa_id: z.string().min(1).optional(), user_id: z.string().min(1).optional() }))
    .optional()
    .catch(undefined),
});

/** A 200 that names no message may still have sent one: nobody knows until its status comes. */
function accepted(body: unknown): SendOutcome {
  const answer = acceptedSchema.safeParse(body);
  const message = answer.data?.messages[0];
  if (!message) return { kind: "ambiguous", error: ours("outcome_unknown", "The provider named no message id", true) };
  const contact = answer.data?.contacts?.[0];
  return {
    kind: "sent",
    waMessageId: message.id,
    waId: contact?.wa_id ?? null,
    userId: contact?.user_id ?? null,
    // Templates only: accepted, but paced or waiting for a quality check.
    held: message.message_status !== undefined && message.message_status !== "accepted",
  };
}

/** Codes by which Meta says that the number (not the message) is too fast (facts 1.8). */
const THROTTLES = new Set([4, 80007, 130429]);

function refusedByMeta(
  error: MetaError,
  status: number,
  retryAfter: number | null,
  attempt: number,
): Exclude<SendOutcome, { kind: "repeat" }> {
  const shown = providerError(error);
  const kind = classify(error, status);
  switch (kind) {
    case "permanent":
      return { kind: "permanent", error: shown };
    case "once":
      return attempt > 1
        ? { kind: "permanent", error: { ...shown, retryable: false } }
        : { kind: "transient", error: shown, retryAfter };
    case "transient":
      return {
        kind: "transient",
        error: shown,
        retryAfter: retryAfter ?? waitAfter(error.code, attempt),
        ...(THROTTLES.has(error.code) ? { throttled: true } : {}),
      };
    case "blocked:number":
      return { kind: "blocked", scope: "number", error: shown };
    case "blocked:account":
      return { kind: "blocked", scope: "account", error: shown };
    case null:
      return { kind: "ambiguous", error: shown };
  }
}

/** How often the message has been tried, this time included: by its refusals, else by `<message id>.<attempt>`. */
function attemptOf({ callbackId, failures }: SendRequest): number {
  if (failures !== undefined) return failures + 1;
  const match = /\.(\d{1,3})$/.exec(callbackId);
  return match ? Math.max(1, Number(match[1])) : 1;
}

const TITLES = {
  invalid_content: "The message cannot be sent",
  provider_unavailable: "The provider could not be reached",
  outcome_unknown: "Nobody knows whether the message arrived",
} as const;

/** An error that is not the provider's own. */
export function ours(code: keyof typeof TITLES, details: string, retryable: boolean): ProviderError {
  return { code, title: TITLES[code], details, retryable };
}
