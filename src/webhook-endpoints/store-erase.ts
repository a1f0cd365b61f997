import { type Db, statement } from "../platform/d1";

/**
 * Takes what was said in conversations out of the delivery logs of a workspace: bodies sent and answers got. That there
 * were deliveries, and how they went, stays. May run twice.
 */
export async function eraseLogged(db: Db, workspaceId: string, conversationIds: readonly string[]): Promise<void> {
  const theirs = "e.value ->> 'conversation_id' IN (SELECT k.value FROM json_each(?2) k)";
  await db.batch([
    statement(
      `UPDATE webhook_deliveries AS d SET entries = (SELECT json_group_array(json(CASE WHEN ${theirs}
           THEN json_set(e.value, '$.request_body', '', '$.response_body', NULL, '$.conversation_id', '') ELSE e.value END))
         FROM json_each(d.entries) e)
       WHERE d.workspace_id = ?1 AND EXISTS (SELECT 1 FROM json_each(d.entries) e WHERE ${theirs})`,
      workspaceId,
      JSON.stringify(conversationIds),
    ),
  ]);
}
