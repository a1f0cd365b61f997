import { isoMillis } from "../platform/clock";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import { wakeWorkspaces } from "../webhook-endpoints/service-wake";
import { messageView } from "./service-view";
import type { Message } from "./store";

/**
 * One publish per workspace. A lost one is repaired by the next status or by the client's own fetch: never by a retry of
 * the send. With the number of their shard, the webhook endpoints of the workspaces are woken too.
 */
export async function announceStatuses(
  rt: Runtime,
  messages: readonly Message[],
  bookmark: string | null = null,
  shardNumber: number | null = null,
): Promise<void> {
  const at = rt.clock();
  for (const [workspaceId, ofWorkspace] of Map.groupBy(messages, (m) => m.workspaceId)) {
    const events = ofWorkspace.map((m) => ({
      type: "message.status" as const,
      message: messageView(m, at),
      at: isoMillis(at),
    }));
    const key = `status:${ofWorkspace
      .map((m) => `${m.id}.${m.attempts}.${m.status}`)
      .sort()
      .join(",")}`;
    try {
      await publishEvents(rt, workspaceId, key, events, bookmark);
    } catch (error) {
      log("warn", "live.publish_failed", { workspace_id: workspaceId, ...errorFields(error) });
    }
  }
  if (shardNumber !== null && messages.length > 0) {
    const workspaceIds = messages.map((message) => message.workspaceId);
    await wakeWorkspaces(rt, shardNumber, workspaceIds);
  }
}
