import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import type { SyncJob } from "./service-jobs";
import { resumeStalled, runSync, startDue } from "./service-sync";

/** Sites that one invocation reads at a time: of its six connections one is left to whatever else it does. */
const SITES = 5;

/** Goes on with the readings that are named, each once. Answers those whose database did not answer. Never throws. */
export async function handleSyncJobs(rt: Runtime, jobs: readonly SyncJob[]): Promise<readonly SyncJob[]> {
  const waiting = [...new Map(jobs.map((job) => [`${job.workspaceId} ${job.id} ${job.syncId}`, job])).values()];
  const again: SyncJob[] = [];
  const work = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      try {
        await runSync(rt, job);
      } catch (error) {
        again.push(job);
        log("error", "wordpress.run_failed", { workspace_id: job.workspaceId, ...errorFields(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: SITES }, work));
  return again;
}

/** Cron, every 15 minutes, per shard. */
export function startDueSources(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return startDue(rt, shardNumber, now);
}

/** Cron, each minute, per shard. */
export function resumeSources(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return resumeStalled(rt, shardNumber, now);
}
