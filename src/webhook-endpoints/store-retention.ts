import { z } from "zod";
import { type Db, statement } from "../platform/d1";

/** Rows deleted in one statement. */
const CHUNK = 2000;

const nextRow = z.object({ ws: z.string().nullable() });

/** The first workspace after this one that has events; null when there is none. */
export async function nextOutboxWorkspace(db: Db, after: string): Promise<string | null> {
  const row = await db.first("SELECT min(o.workspace_id) AS ws FROM webhook_outbox o WHERE o.workspace_id > ?1", after);
  return row ? nextRow.parse(row).ws : null;
}

/**
 * Deletes a chunk of a workspace's oldest events from before `before` (ms); true when there may be more. The last one
 * stays, however old: the next takes its number from it.
 */
export async function deleteOutbox(db: Db, workspaceId: string, before: number): Promise<boolean> {
  const [deleted] = await db.batch([
    statement(
      `DELETE FROM webhook_outbox WHERE workspace_id = ?1
         AND seq IN (SELECT s.seq FROM (SELECT o.seq, o.at FROM webhook_outbox o WHERE o.workspace_id = ?1 ORDER BY o.seq LIMIT ${CHUNK}) s WHERE s.at < ?2)
         AND seq < (SELECT max(k.seq) FROM webhook_outbox k WHERE k.workspace_id = ?1)`,
      workspaceId,
      before,
    ),
  ]);
  return (deleted?.meta.changes ?? 0) >= CHUNK;
}
