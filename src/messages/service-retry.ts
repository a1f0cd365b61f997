import { AppError, unreachable } from "../platform/errors";
import { enqueueSends } from "./jobs";
import type { Message, SendScope } from "./service";
import { announceStatuses } from "./service-announce";
import { updateRetried } from "./store-retry";

/** Meta counts retries of this refusal against the whole business account (facts 1.15, 30 Apr 2026). */
const FREQUENCY_CAP = 131049;
const FREQUENCY_CAP_WAIT = 24 * 3_600_000;
/** ms after which a code is worth nothing any more (pipeline 4). */
const AUTHENTICATION_TTL = 600_000;

/**
 * Sends a failed message again; under the same key once only. 409 when it has not failed, when trying again this soon
 * would do harm, and for a key that was used for something else.
 */
export async function retryMessage(
  scope: SendScope,
  message: Message,
  key: { key: string; hash: string } | null,
): Promise<{ message: Message; replayed: boolean }> {
  const now = scope.rt.clock();
  if (message.error?.code === FREQUENCY_CAP && now < (message.failedAt ?? 0) + FREQUENCY_CAP_WAIT) {
    throw new AppError("conflict", "WhatsApp limits marketing to this person: try again 24 hours after the failure");
  }
  const ttl = message.category === "authentication" ? AUTHENTICATION_TTL : scope.rt.config.PIPELINE.messageTtl;
  const { workspaceId } = scope;
  const claim = key && { workspaceId, ...key, ref: scope.rt.newId() };
  const result = await updateRetried(scope.db, message, claim, { now, expiresAt: now + ttl });
  switch (result.kind) {
    case "key_conflict":
      throw new AppError("idempotency_conflict", "This idempotency key was used with another request");
    case "refused":
      if (message.content.erased === true) throw new AppError("conflict", "The contact was erased");
      throw new AppError("conflict", `Only failed messages can be retried; this one is ${message.status}`);
    case "replayed":
      return { message: result.message, replayed: true };
    case "retried":
      await announce(scope, result.message);
      return { message: result.message, replayed: false };
    default:
      return unreachable(result);
  }
}

async function announce(scope: SendScope, retried: Message): Promise<void> {
  await enqueueSends(scope.rt, [
    {
      job: { workspaceId: scope.workspaceId, shard: scope.shard, phoneNumberId: retried.phoneNumberId, id: retried.id },
      delayMs: 0,
    },
  ]);
  await announceStatuses(scope.rt, [retried], scope.db.bookmark);
}
