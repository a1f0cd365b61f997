import { type Db, statement } from "../platform/d1";

/** Forgets that contacts were answered, and that people took their conversations over. May run twice. */
export async function eraseFirings(
  db: Db,
  workspaceId: string,
  of: { contactIds: readonly string[]; conversationIds: readonly string[] },
): Promise<void> {
  await db.batch([
    statement(
      `DELETE FROM auto_reply_firings WHERE workspace_id = ?1 AND contact_id IN (SELECT k.value FROM json_each(?2) k)`,
      workspaceId,
      JSON.stringify(of.contactIds),
    ),
    statement(
      `DELETE FROM auto_reply_handovers WHERE workspace_id = ?1 AND conversation_id IN (SELECT k.value FROM json_each(?2) k)`,
      workspaceId,
      JSON.stringify(of.conversationIds),
    ),
  ]);
}
