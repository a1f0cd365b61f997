import { directory, type Runtime, shard } from "../platform/runtime";
import { deleteOld, deleteOldUnrouted } from "./store-retention";

/** Events and dead letters are kept as long as their bodies in R2 (30 days, a lifecycle rule of the bucket). */
const KEPT = 30 * 86_400_000;

/** Nightly, per shard: old webhook events and dead letters. Bounded; the next night goes on. */
export async function purgeEvents(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  await deleteOld(db, "webhook_events", now - KEPT);
  await deleteOld(db, "dead_letters", now - KEPT);
}

/** Nightly: signed webhooks that were nobody's. */
export function purgeUnrouted(rt: Runtime, now: number): Promise<void> {
  return deleteOldUnrouted(directory(rt), now - KEPT);
}
