import { z } from "zod";
import { type Db, statement } from "../platform/d1";

const numberRow = z.object({ phone_number_id: z.string() });

/** What a template send asks before its template is looked at, in one round trip. */
export interface TemplateSendReads {
  /** The number of the conversation named; null when there is no such conversation. */
  conversationNumberId: string | null;
  /** Whether the idempotency key is in use, and stays so until `heldUntil`. */
  keyHeld: boolean;
}

export async function selectForTemplateSend(
  db: Db,
  workspaceId: string,
  asked: { conversationId: string | null; key: string | null; heldUntil: number },
): Promise<TemplateSendReads> {
  const [conversation, key] = await db.batch([
    statement(
      "SELECT v.phone_number_id FROM conversations v WHERE v.workspace_id = ?1 AND v.id = ?2",
      workspaceId,
      asked.conversationId ?? "",
    ),
    statement(
      "SELECT 1 AS held FROM idempotency y WHERE y.workspace_id = ?1 AND y.key = ?2 AND y.expires_at > ?3",
      workspaceId,
      asked.key ?? "",
      asked.heldUntil,
    ),
  ]);
  return {
    conversationNumberId: numberRow.safeParse(conversation?.results[0]).data?.phone_number_id ?? null,
    keyHeld: (key?.results.length ?? 0) > 0,
  };
}
