import { log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { purgeSessions } from "./service";

/** Cron, nightly. */
export async function runNightlyAuth(rt: Runtime): Promise<void> {
  log("info", "sessions.purged", { sessions: await purgeSessions(rt) });
}
