import { isoMillis } from "../platform/clock";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import { messageView } from "./service-view";
import type { Message } from "./store";

/** One publish per workspace; of campaigns only their progress is shown (pipeline 21). A lost one is repaired by the next status or by the client's own fetch: never by a retry of the send. */
export async function announceStatuses(
  rt: Runtime,
  messages: readonly Message[],
  bookmark: string | null = null,
): Promise<void> {
  const at = rt.clock();
  const shown = messages.filter((m) => m.lane !== "bulk");
  for (const [workspaceId, ofWorkspace] of Map.groupBy(shown, (m) => m.workspaceId)) {
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
}
