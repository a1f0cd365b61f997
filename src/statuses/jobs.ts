import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { applyDue, attendStatuses } from "./service-apply";
import type { StatusJob } from "./service-jobs";

/**
 * Sets what is due of the numbers that are named, each once, at most `connections` at a time. Answers those whose
 * database did not answer. Never throws.
 */
export async function handleStatusJobs(
  rt: Runtime,
  jobs: readonly StatusJob[],
  connections: number,
): Promise<readonly StatusJob[]> {
  const waiting = [...new Map(jobs.map((job) => [`${job.workspaceId} ${job.phoneNumberId}`, job])).values()];
  const again: StatusJob[] = [];
  const work = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      try {
        await applyDue(rt, job);
      } catch (error) {
        again.push(job);
        log("error", "status.run_failed", { workspace_id: job.workspaceId, ...errorFields(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: connections }, work));
  return again;
}

/** Cron, each minute, per shard. */
export function runDueStatuses(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return attendStatuses(rt, shardNumber, now);
}
