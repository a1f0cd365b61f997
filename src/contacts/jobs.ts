import { z } from "zod";
import { type Runtime, shard } from "../platform/runtime";
import { mergeContacts } from "./store";

/** Two contacts turned out to be one person. */
export const mergeJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("contact.merge"),
  workspaceId: z.string(),
  shard: z.int(),
  contactIds: z.tuple([z.string(), z.string()]),
});

export type MergeJob = z.infer<typeof mergeJobSchema>;

/** A run is bounded; what is left goes on with a job of its own. */
const RUNS = 20;

/** The older contact (its id is smaller) wins, whichever way round the job names them. */
export async function handleMergeJob(rt: Runtime, job: MergeJob): Promise<void> {
  const [winner, loser] = [...job.contactIds].sort();
  if (winner === undefined || loser === undefined || winner === loser) return;
  const db = shard(rt, job.shard);
  for (let run = 0; run < RUNS; run += 1) {
    const { left } = await mergeContacts(db, job.workspaceId, winner, loser, rt.clock());
    if (!left) return;
  }
  await rt.env.BULK.send(job);
}
