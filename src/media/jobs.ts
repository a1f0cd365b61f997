import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { fetchReceived } from "./service-inbound";

/** "Fetch this file of a received message": may run twice, and may be late. */
export const mediaJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("media.fetch"),
  workspaceId: z.string(),
  shard: z.int(),
  phoneNumberId: z.string(),
  /** The provider's id of the file. */
  providerMediaId: z.string(),
  /** The message it came with, for whom it is shown. */
  message: z.object({
    id: z.string(),
    conversationId: z.string(),
    waMessageId: z.string().nullable(),
    type: z.string(),
  }),
  /** What the webhook said of it. */
  told: z.object({ url: z.string().nullable(), mimeType: z.string().nullable(), fileName: z.string().nullable() }),
  /** From 1. */
  attempt: z.int(),
});

export type MediaJob = z.infer<typeof mediaJobSchema>;

/** Files fetched at a time: each holds two connections, and one part in memory. */
const AT_ONCE = 2;

/** ms after which the rest of a batch goes back to the queue: an invocation has 15 minutes in all. */
const BATCH_TIME = 480_000;

/**
 * Handles a batch of fetches. Returns when each is stored, noted as failed, or ordered again with a delay. Throws when
 * a database or bucket did not answer; then the whole batch may be delivered again.
 */
export async function handleMediaJobs(rt: Runtime, jobs: readonly MediaJob[]): Promise<void> {
  const startedAt = rt.clock();
  const files = new Map(jobs.map((job) => [`${job.workspaceId} ${job.phoneNumberId} ${job.providerMediaId}`, job]));
  const queue = [...files.values()];
  const failures: unknown[] = [];
  const work = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      try {
        if (rt.clock() - startedAt > BATCH_TIME) await rt.env.MEDIA_JOBS.send(job);
        else await fetchReceived(rt, job);
      } catch (error) {
        // The others have their turn first.
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (failures.length > 0)
    throw new AggregateError(failures, `${failures.length} fetches failed: ${String(failures[0])}`);
}
