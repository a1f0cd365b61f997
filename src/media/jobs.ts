import { z } from "zod";
import { errorFields, log } from "../platform/log";
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
  /** ms. A file that is ordered anew is told about anew. */
  orderedAt: z.int(),
  /** From 1. */
  attempt: z.int(),
});

export type MediaJob = z.infer<typeof mediaJobSchema>;

/** Files fetched at a time: each holds two connections, and one part in memory. */
const AT_ONCE = 2;

/** ms after which the rest of a batch goes back to the queue: an invocation has 15 minutes in all. */
const BATCH_TIME = 480_000;

/**
 * Handles a batch of fetches. Each is stored then, noted as failed, or ordered again with a delay. Answers those that
 * met a database, bucket or queue that did not answer: they alone come again.
 */
export async function handleMediaJobs(rt: Runtime, jobs: readonly MediaJob[]): Promise<readonly MediaJob[]> {
  const startedAt = rt.clock();
  // Several messages may carry one file: it is fetched for the first, and there for the others.
  const files = [...Map.groupBy(jobs, fileKey).values()];
  const again: MediaJob[] = [];
  const work = async () => {
    for (let ofFile = files.shift(); ofFile !== undefined; ofFile = files.shift()) {
      for (const [, job] of new Map(ofFile.map((one) => [one.message.id, one]))) {
        try {
          if (rt.clock() - startedAt > BATCH_TIME) await rt.env.MEDIA_JOBS.send(job);
          else await fetchReceived(rt, job);
        } catch (error) {
          again.push(job);
          log("error", "media.fetch_broke", {
            workspace_id: job.workspaceId,
            message_id: job.message.id,
            ...errorFields(error),
          });
        }
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return again;
}

function fileKey({ workspaceId, phoneNumberId, providerMediaId }: MediaJob): string {
  return `${workspaceId} ${phoneNumberId} ${providerMediaId}`;
}
