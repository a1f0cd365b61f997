import { type Db, type Statement, statement } from "../platform/d1";

/** Rows deleted per statement: a delete of everything would hold the database's only writer. */
const CHUNK = 5000;
const CHUNKS = 20;

/** Stored events or dead letters of a shard from before that time (ms), and their share of the lists' totals. */
export async function deleteOld(db: Db, table: "webhook_events" | "dead_letters", before: number): Promise<void> {
  const time = table === "webhook_events" ? "received_at" : "created_at";
  const some = `SELECT workspace_id, id FROM ${table} WHERE ${time} <= ?1 LIMIT ${CHUNK}`;
  await inChunks(db, [
    statement(
      `UPDATE list_totals AS t SET n = t.n - g.n FROM (SELECT s.workspace_id AS ws, count(*) AS n FROM (${some}) s GROUP BY 1) g
       WHERE t.workspace_id = g.ws AND t.list = '${table}'`,
      before,
    ),
    statement(`DELETE FROM ${table} WHERE (workspace_id, id) IN (${some})`, before),
  ]);
}

/** DIRECTORY. Webhooks that were nobody's. */
export async function deleteOldUnrouted(db: Db, before: number): Promise<void> {
  const some = `SELECT id FROM unrouted_events WHERE received_at <= ?1 LIMIT ${CHUNK}`;
  await inChunks(db, [statement(`DELETE FROM unrouted_events WHERE id IN (${some})`, before)]);
}

/** Runs the statements, of which the last deletes, until nothing is left or it is enough for one night. */
async function inChunks(db: Db, statements: readonly Statement[]): Promise<void> {
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    const results = await db.batch(statements);
    if ((results.at(-1)?.meta.changes ?? 0) < CHUNK) return;
  }
}
