import type { Runtime } from "../platform/runtime";
import { measureShards, reconcileWorkspaceStates } from "./service";

/** Cron, nightly. The measure comes first: it does not depend on every shard being reachable for writes. */
export async function runNightlyWorkspaces(rt: Runtime): Promise<void> {
  await measureShards(rt);
  await reconcileWorkspaceStates(rt);
}
