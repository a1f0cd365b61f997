import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { Slots } from "./run";
import { isGone, pumpEndpoint, wakeDue } from "./service-pump";
import { purgeOutbox } from "./service-retention";
import type { WakeJob } from "./service-wake";

/** Endpoints that one invocation runs at a time. */
const ENDPOINTS = 5;

/** Runs the endpoints that were woken, each once, over `connections` at most. Answers those whose database did not answer. */
export async function handleWakes(
  rt: Runtime,
  jobs: readonly WakeJob[],
  connections: number,
): Promise<readonly WakeJob[]> {
  const distinct = [...new Map(jobs.map((job) => [`${job.workspaceId} ${job.endpointId}`, job])).values()];
  const slots = new Slots(connections);
  const again: WakeJob[] = [];
  const work = async () => {
    for (let job = distinct.shift(); job !== undefined; job = distinct.shift()) {
      try {
        await pumpEndpoint(rt, job.shard, { workspaceId: job.workspaceId, id: job.endpointId }, slots);
      } catch (error) {
        if (isGone(error)) continue;
        again.push(job);
        log("error", "webhooks.run_failed", { workspace_id: job.workspaceId, ...errorFields(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: ENDPOINTS }, work));
  return again;
}

/** Cron, each minute, per shard: endpoints nobody was woken for, and those whose time has come. */
export function runDueEndpoints(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return wakeDue(rt, shardNumber, now);
}

/** Cron, each night, per shard: events too old to be delivered or replayed. */
export function purgeEndpoints(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  return purgeOutbox(rt, shardNumber, now);
}
