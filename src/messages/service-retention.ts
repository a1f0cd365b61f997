import { type Runtime, shard } from "../platform/runtime";

/** Rows deleted per statement: a delete of everything would hold the database's only writer. */
const CHUNK = 5000;
const CHUNKS = 20;

/** Nightly, per shard: expired idempotency keys. Bounded; the next night goes on. */
export async function purgeExpired(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const sql = `DELETE FROM idempotency WHERE (workspace_id, key) IN (SELECT workspace_id, key FROM idempotency WHERE expires_at <= ?1 LIMIT ${CHUNK})`;
  for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
    if ((await db.run(sql, now)) < CHUNK) break;
  }
}
