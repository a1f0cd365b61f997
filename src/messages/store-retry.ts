import type { Db } from "../platform/d1";
import { MESSAGE_COLUMNS, type Message, toMessage } from "./store";

/**
 * Queues a failed message again, as a new attempt with its count of refusals at zero. The provider's id of the failed
 * attempt goes, because the next one gets its own; statuses still find the message by our callback id. Answers null when
 * it is not (or no longer) failed.
 */
export async function updateRetried(
  db: Db,
  message: Message,
  times: { now: number; expiresAt: number },
): Promise<Message | null> {
  const row = await db.first(
    `UPDATE messages SET status = 'queued', open = 1, failures = 0, error = NULL, failed_at = NULL, sent_at = NULL,
       wa_message_id = NULL, not_before = ?3, expires_at = ?4
     WHERE workspace_id = ?1 AND id = ?2 AND direction = 'outbound' AND origin = 'api' AND status = 'failed'
     RETURNING ${MESSAGE_COLUMNS.replaceAll("m.", "")}`,
    message.workspaceId,
    message.id,
    times.now,
    times.expiresAt,
  );
  return row && toMessage(row);
}
