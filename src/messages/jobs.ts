import { z } from "zod";
import { log } from "../platform/log";
import type { Runtime } from "../platform/runtime";

/** "Send this message, if it may be sent": carries no state, so it may be lost, doubled or late without harm. */
export const sendJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("message.send"),
  workspaceId: z.string(),
  shard: z.int(),
  phoneNumberId: z.string(),
  id: z.string(),
});

export type SendJob = z.infer<typeof sendJobSchema>;

/** Queue delays end at 24 hours; what is due later waits for the cron. */
export const MAX_DELAY_MS = 86_400_000;

const SEND_BATCH = 100;

/**
 * Enqueues jobs with their delays. A failure is logged and swallowed on purpose: the message is stored, and the sweep
 * finds what no job came for.
 */
export async function enqueueSends(
  rt: Runtime,
  jobs: readonly { job: Omit<SendJob, "v" | "kind">; delayMs: number }[],
): Promise<void> {
  const due = jobs.filter(({ delayMs }) => delayMs <= MAX_DELAY_MS);
  for (let start = 0; start < due.length; start += SEND_BATCH) {
    const batch = due.slice(start, start + SEND_BATCH).map(({ job, delayMs }) => ({
      body: { v: 1, kind: "message.send", ...job } satisfies SendJob,
      delaySeconds: Math.min(86_400, Math.max(0, Math.ceil(delayMs / 1000))),
    }));
    try {
      await rt.env.OUTBOUND.sendBatch(batch);
    } catch (error) {
      log("warn", "outbound.enqueue_failed", { jobs: batch.length, error: String(error).slice(0, 200) });
    }
  }
}
