import { z } from "zod";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";

/** "Set what is due of this number": carries no state, so it may be lost, doubled or late without harm. */
export const statusJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("status.apply"),
  workspaceId: z.string(),
  shard: z.int(),
  phoneNumberId: z.string(),
});

export type StatusJob = z.infer<typeof statusJobSchema>;

/** Queue delays end at 24 hours; what is due later waits for the cron. */
export const MAX_DELAY_MS = 86_400_000;

/** Orders a run of a number in `delayMs`. A failure is swallowed on purpose: the row is stored, and the cron finds it. */
export async function orderApply(rt: Runtime, job: Omit<StatusJob, "v" | "kind">, delayMs: number): Promise<void> {
  if (delayMs > MAX_DELAY_MS) return;
  const delaySeconds = Math.min(86_400, Math.max(0, Math.ceil(delayMs / 1000)));
  try {
    await rt.env.OUTBOUND.send({ v: 1, kind: "status.apply", ...job } satisfies StatusJob, { delaySeconds });
  } catch (error) {
    log("warn", "status.enqueue_failed", { workspace_id: job.workspaceId, ...errorFields(error) });
  }
}
