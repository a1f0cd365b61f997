import { AppError } from "../platform/errors";
import { enqueueSends } from "./jobs";
import type { Message, SendScope } from "./service";
import { announceStatuses } from "./service-announce";
import { updateRetried } from "./store-retry";

/** Meta counts retries of this refusal against the whole business account (facts 1.15, 30 Apr 2026). */
const FREQUENCY_CAP = 131049;
const FREQUENCY_CAP_WAIT = 24 * 3_600_000;

/** Sends a failed message again. 409 when it has not failed, or when trying again this soon would do harm. */
export async function retryMessage(scope: SendScope, message: Message): Promise<Message> {
  const now = scope.rt.clock();
  if (message.error?.code === FREQUENCY_CAP && now < (message.failedAt ?? 0) + FREQUENCY_CAP_WAIT) {
    throw new AppError("conflict", "WhatsApp limits marketing to this person: try again 24 hours after the failure");
  }
  const expiresAt = now + scope.rt.config.PIPELINE.messageTtl;
  const retried = await updateRetried(scope.db, message, { now, expiresAt });
  if (!retried) throw new AppError("conflict", `Only failed messages can be retried; this one is ${message.status}`);
  await enqueueSends(scope.rt, [
    {
      job: { workspaceId: scope.workspaceId, shard: scope.shard, phoneNumberId: retried.phoneNumberId, id: retried.id },
      delayMs: 0,
    },
  ]);
  await announceStatuses(scope.rt, [retried], scope.db.bookmark);
  return retried;
}
