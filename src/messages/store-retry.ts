import type { Db, Param } from "../platform/d1";
import { statement } from "../platform/d1";
import { claimKey, holderOf, holderRow, type IdempotencyClaim } from "../platform/idempotency";
import { MESSAGE_COLUMNS, type Message, toMessage } from "./store";

/** `message` is how it stands now. */
export type RetryResult =
  | { kind: "retried" | "replayed"; message: Message }
  /** It is not (or no longer) failed, or was to somebody who was erased: it has no address any more. */
  | { kind: "refused" }
  | { kind: "key_conflict" };

/**
 * Queues a failed message again, as a new attempt with its count of refusals at zero. The provider's id of the failed
 * attempt goes, because the next one gets its own; statuses still find the message by our callback id. A key is kept
 * only where the message was queued: the same call again answers it as it is, and queues nothing.
 */
export async function updateRetried(
  db: Db,
  message: Message,
  claim: IdempotencyClaim | null,
  times: { now: number; expiresAt: number },
): Promise<RetryResult> {
  const of = [message.workspaceId, message.id] as const;
  const key: Param[] = claim ? [claim.key, claim.ref] : [];
  const mine = claim
    ? "AND EXISTS (SELECT 1 FROM idempotency y WHERE y.workspace_id = ?1 AND y.key = ?5 AND y.ref = ?6)"
    : "";
  const results = await db.batch([
    ...(claim ? [claimKey(claim, times.now)] : []),
    statement(
      `UPDATE messages SET status = 'queued', open = 1, failures = 0, error = NULL, failed_at = NULL, sent_at = NULL,
         wa_message_id = NULL, not_before = ?3, expires_at = ?4
       WHERE workspace_id = ?1 AND id = ?2 AND direction = 'outbound' AND origin = 'api' AND status = 'failed'
         AND (to_number IS NOT NULL OR to_user IS NOT NULL OR content ->> 'group_id' IS NOT NULL) ${mine}
       RETURNING ${MESSAGE_COLUMNS.replaceAll("m.", "")}`,
      ...of,
      times.now,
      times.expiresAt,
      ...key,
    ),
    ...(claim
      ? [
          statement(
            "DELETE FROM idempotency WHERE workspace_id = ?1 AND key = ?2 AND ref = ?3 AND changes() = 0",
            message.workspaceId,
            claim.key,
            claim.ref,
          ),
          statement(`SELECT ${MESSAGE_COLUMNS} FROM messages m WHERE m.workspace_id = ?1 AND m.id = ?2`, ...of),
          holderOf(claim),
        ]
      : []),
  ]);
  const retried = results[claim ? 1 : 0]?.results[0];
  if (retried) return { kind: "retried", message: toMessage(retried) };
  const holder = claim && results.at(-1)?.results[0];
  if (!claim || !holder) return { kind: "refused" };
  const now = results.at(-2)?.results[0];
  if (holderRow.parse(holder).hash !== claim.hash || !now) return { kind: "key_conflict" };
  return { kind: "replayed", message: toMessage(now) };
}
