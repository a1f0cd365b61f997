import { type Runtime, shard } from "../platform/runtime";
import { deleteOutbox, nextOutboxWorkspace } from "./store-retention";

/** Events can be delivered and replayed for so long, in ms. */
const KEPT = 7 * 86_400_000;

/** Deletes what happened longer ago, workspace by workspace. */
export async function purgeOutbox(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  let workspaceId = await nextOutboxWorkspace(db, "");
  while (workspaceId !== null) {
    while (await deleteOutbox(db, workspaceId, now - KEPT));
    workspaceId = await nextOutboxWorkspace(db, workspaceId);
  }
}
