import { z } from "zod";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";

/** "Go on with this reading": the next pages of one site. May be lost, doubled or late without harm. */
export const syncJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("wordpress.sync"),
  workspaceId: z.string(),
  shard: z.int(),
  id: z.string(),
  syncId: z.string(),
});

export type SyncJob = z.infer<typeof syncJobSchema>;

/** Orders a run in `delayMs`. A failure is swallowed on purpose: the row is stored, and the cron finds it. */
export async function orderSync(rt: Runtime, job: Omit<SyncJob, "v" | "kind">, delayMs: number): Promise<void> {
  const delaySeconds = Math.min(86_400, Math.max(0, Math.ceil(delayMs / 1000)));
  const { workspaceId, shard, id, syncId } = job;
  try {
    await rt.env.BULK.send({ v: 1, kind: "wordpress.sync", workspaceId, shard, id, syncId } satisfies SyncJob, {
      delaySeconds,
    });
  } catch (error) {
    log("warn", "wordpress.enqueue_failed", { workspace_id: workspaceId, ...errorFields(error) });
  }
}
