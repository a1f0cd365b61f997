import type { Runtime } from "../platform/runtime";
import { attendDue } from "./service-submit";

/** Cron, each minute, per shard: templates that wait to be handed in, or to be asked about. */
export async function runDueTemplates(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  await attendDue(rt, shardNumber, now);
}
