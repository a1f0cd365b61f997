import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { attendErasures, runErasure } from "./service-erase";
import { purgeMarks } from "./service-erased";
import { mergePair } from "./service-merge";

/** Two contacts turned out to be one person. */
export const mergeJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("contact.merge"),
  workspaceId: z.string(),
  shard: z.int(),
  contactIds: z.tuple([z.string(), z.string()]),
  /** The second look, at what was under way while the first one ran. */
  again: z.boolean(),
});

export type MergeJob = z.infer<typeof mergeJobSchema>;

/** Merges; what a bounded run leaves, and what was under way meanwhile, is taken up by a job of its own. */
export async function handleMergeJob(rt: Runtime, job: MergeJob): Promise<void> {
  const { left } = await mergePair(rt, job);
  if (left) await rt.env.BULK.send(job);
  else if (!job.again) await rt.env.BULK.send({ ...job, again: true } satisfies MergeJob, { delaySeconds: LOOK_AGAIN });
}

/** "Go on with this erasure": may run twice, and twice at once. */
export const eraseJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("contact.erase"),
  workspaceId: z.string(),
  shard: z.int(),
  id: z.string(),
});

export type EraseJob = z.infer<typeof eraseJobSchema>;

/** Throws when a database, bucket or object did not answer; what was done before stays done. */
export function handleEraseJob(rt: Runtime, job: EraseJob): Promise<void> {
  return runErasure(rt, job);
}

/** Cron, each minute, per shard: erasures that stand still. */
export function runDueErasures(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return attendErasures(rt, shardNumber, now);
}

/** Nightly, per shard: marks of erased people that nothing old can come of any more. */
export function purgeErasureMarks(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return purgeMarks(rt, shardNumber, now);
}

/** Seconds: longer than a request or a batch that read the contacts before they were merged. */
const LOOK_AGAIN = 300;
