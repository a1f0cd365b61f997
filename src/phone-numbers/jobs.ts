import type { Runtime } from "../platform/runtime";
import { syncAllNumbers } from "./service";

/** Cron, nightly: what the provider says of every number, and warnings of tokens that end soon. */
export async function runNightlyNumbers(rt: Runtime): Promise<void> {
  await syncAllNumbers(rt);
}
