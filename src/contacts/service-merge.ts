import { isoMillis } from "../platform/clock";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import { type Merged, mergeContacts, moveMessages, selectLive } from "./store-merge";

/** Two contacts of one workspace that are one person, whichever way round. */
export interface MergePair {
  workspaceId: string;
  shard: number;
  contactIds: [string, string];
}

/** A run is bounded; what is left goes on with a job of its own. */
const RUNS = 20;

/**
 * Makes one of two contacts. Of all that they have become meanwhile the oldest (its id is the smallest) wins, so that
 * merges in any order, and at once, end at the same one. Answers whether something is left to do. Run again later it
 * takes along what was on its way to the other contact when it was merged.
 */
export async function mergePair(rt: Runtime, pair: MergePair): Promise<{ left: boolean }> {
  const { workspaceId, contactIds } = pair;
  const db = shard(rt, pair.shard);
  const live = await selectLive(db, workspaceId, contactIds);
  // One of them was erased: nothing of it could be merged.
  if (live.size < contactIds.length) return { left: false };
  const [winner, ...others] = [...new Set(live.values())].sort();
  if (winner === undefined) return { left: false };
  const losers = [...new Set([...others, ...contactIds])].filter((id) => id !== winner);
  for (const loser of losers) {
    const merged = await mergeContacts(db, workspaceId, winner, loser, rt.clock());
    if (!merged.done) return { left: true };
    await announce(rt, workspaceId, merged, db.bookmark);
    let left = true;
    for (let run = 0; left && run < RUNS; run += 1) left = await moveMessages(db, workspaceId, winner, loser);
    if (left) return { left: true };
  }
  return { left: false };
}

/** Both threads of each pair look different now; who missed it sees it with the next fetch. */
async function announce(rt: Runtime, workspaceId: string, { threads }: Merged, bookmark: string | null): Promise<void> {
  const at = isoMillis(rt.clock());
  const events = threads.flatMap(({ winner, loser }) =>
    [winner, loser].map((conversation_id) => ({
      type: "conversation.updated" as const,
      conversation_id,
      unread_count: null,
      at,
    })),
  );
  try {
    await publishEvents(rt, workspaceId, `merge:${threads.map((thread) => thread.loser).join(",")}`, events, bookmark);
  } catch (error) {
    log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
  }
}
