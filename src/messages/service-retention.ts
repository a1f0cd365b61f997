import { type Runtime, shard } from "../platform/runtime";

/** Rows deleted per statement: a delete of everything would hold the database's only writer. */
const CHUNK = 5000;
const CHUNKS = 20;
/** Events and dead letters are kept as long as their bodies in R2 (30 days, a lifecycle rule of the bucket). */
const EVENTS_KEPT = 30 * 86_400_000;

/** Nightly, per shard: expired idempotency keys, old webhook events and dead letters. Bounded; the next night goes on. */
export async function purgeExpired(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const old = now - EVENTS_KEPT;
  const purges: [string, number][] = [
    [
      `DELETE FROM idempotency WHERE (workspace_id, key) IN (SELECT workspace_id, key FROM idempotency WHERE expires_at <= ?1 LIMIT ${CHUNK})`,
      now,
    ],
    [
      `DELETE FROM webhook_events WHERE (workspace_id, id) IN (SELECT workspace_id, id FROM webhook_events WHERE received_at <= ?1 LIMIT ${CHUNK})`,
      old,
    ],
    [
      `DELETE FROM dead_letters WHERE (workspace_id, id) IN (SELECT workspace_id, id FROM dead_letters WHERE created_at <= ?1 LIMIT ${CHUNK})`,
      old,
    ],
  ];
  for (const [sql, before] of purges) {
    for (let chunk = 0; chunk < CHUNKS; chunk += 1) {
      if ((await db.run(sql, before)) < CHUNK) break;
    }
  }
}
