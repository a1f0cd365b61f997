/** What a queue or a statement gave up on: in R2 first, then indexed in the workspace's shard, shown and replayable. */
import { log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { type DeadLetter, insertDeadLetter, updateReplayed } from "./store";

export { type DeadLetter, pageDeadLetters, selectDeadLetter } from "./store";

export interface LostWork {
  workspaceId: string;
  shard: number;
  queue: string;
  reason: string;
  body: string;
}

/** Writes one dead letter. Throws when R2 or the shard did not take it: then it must be tried again. */
export async function writeDeadLetter(rt: Runtime, lost: LostWork): Promise<void> {
  const id = rt.newId();
  const r2Key = `dead-letters/${lost.workspaceId}/${id}.json`;
  await rt.env.MEDIA.put(r2Key, lost.body);
  await insertDeadLetter(shard(rt, lost.shard), {
    workspaceId: lost.workspaceId,
    id,
    queue: lost.queue,
    reason: lost.reason,
    r2Key,
    createdAt: rt.clock(),
    replayedAt: null,
  });
}

/** Keeps work of nobody's in R2 alone, where an operator finds it. */
export async function keepUnowned(rt: Runtime, queue: string, body: string): Promise<void> {
  const key = `dead-letters/unrouted/${rt.newId()}.json`;
  await rt.env.MEDIA.put(key, body);
  log("error", "dead_letter.unrouted", { queue, r2_key: key });
}

/** Marks a dead letter replayed. */
export function markReplayed(rt: Runtime, letter: DeadLetter, shardNumber: number): Promise<void> {
  return updateReplayed(shard(rt, shardNumber), letter.workspaceId, letter.id, rt.clock());
}
