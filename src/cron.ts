import { purgeSessions } from "./auth/service";
import { purgeAutoReplies } from "./auto-replies/jobs";
import { runDueImports } from "./imports/jobs";
import { purgeEvents, purgeUnrouted } from "./inbound/service-retention";
import { purgeMedia } from "./media/service-purge";
import { purgeExpired } from "./messages/service-retention";
import { sweepShard } from "./messages/service-sweep";
import { syncAllNumbers } from "./phone-numbers/service";
import { errorFields, log } from "./platform/log";
import { createRuntime, type Runtime, shardNumbers } from "./platform/runtime";
import { runDueStatuses } from "./statuses/jobs";
import { runDueTemplates } from "./templates/jobs";
import { purgeEndpoints, runDueEndpoints } from "./webhook-endpoints/jobs";
import { resumeSources, startDueSources } from "./wordpress/jobs";
import { runNightlyWorkspaces } from "./workspaces/jobs";

type Task = (rt: Runtime, now: number) => Promise<unknown>;

/** Cron expressions of wrangler.toml and what runs then. Every task may run twice, or twice at once. */
const TASKS: Record<string, Record<string, Task>> = {
  "* * * * *": {
    sweep: (rt, now) => everyShard(rt, (number) => sweepShard(rt, number, now)),
    templates: (rt, now) => everyShard(rt, (number) => runDueTemplates(rt, number, now)),
    imports: (rt, now) => everyShard(rt, (number) => runDueImports(rt, number, now)),
    webhooks: (rt, now) => everyShard(rt, (number) => runDueEndpoints(rt, number, now)),
    statuses: (rt, now) => everyShard(rt, (number) => runDueStatuses(rt, number, now)),
    wordpress: (rt, now) => everyShard(rt, (number) => resumeSources(rt, number, now)),
  },
  "*/15 * * * *": {
    wordpress: (rt, now) => everyShard(rt, (number) => startDueSources(rt, number, now)),
  },
  "0 3 * * *": {
    workspaces: (rt) => runNightlyWorkspaces(rt),
    sessions: (rt) => purgeSessions(rt),
    numbers: (rt) => syncAllNumbers(rt),
    retention: (rt, now) => everyShard(rt, (number) => purgeExpired(rt, number, now)),
    events: (rt, now) => everyShard(rt, (number) => purgeEvents(rt, number, now)),
    unrouted: (rt, now) => purgeUnrouted(rt, now),
    media: (rt, now) => everyShard(rt, (number) => purgeMedia(rt, number, now)),
    webhooks: (rt, now) => everyShard(rt, (number) => purgeEndpoints(rt, number, now)),
    firings: (rt, now) => everyShard(rt, (number) => purgeAutoReplies(rt, number, now)),
  },
};

async function everyShard(rt: Runtime, run: (number: number) => Promise<void>): Promise<void> {
  const results = await Promise.allSettled(shardNumbers(rt.env).map(run));
  const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  // One shard that does not answer must not keep the others from their turn; then it is an error all the same.
  if (failures.length > 0)
    throw new AggregateError(failures, `${failures.length} shards failed: ${String(failures[0])}`);
}

/** Runs the tasks of one cron expression at its scheduled time. Throws after all had their turn if any failed. */
export async function runCron(
  controller: ScheduledController,
  env: Env,
  overrides?: Parameters<typeof createRuntime>[1],
): Promise<void> {
  const rt = createRuntime(env, { clock: () => controller.scheduledTime, ...overrides });
  const tasks = TASKS[controller.cron];
  if (!tasks) throw new Error(`No tasks for the cron expression ${controller.cron}`);
  const startedAt = Date.now();
  const failed: string[] = [];
  for (const [name, task] of Object.entries(tasks)) {
    try {
      await task(rt, controller.scheduledTime);
    } catch (error) {
      failed.push(name);
      log("error", "cron.failed", { cron: controller.cron, task: name, ...errorFields(error) });
    }
  }
  log("info", "cron.ran", { cron: controller.cron, failed: failed.length, ms: Date.now() - startedAt });
  if (failed.length > 0) throw new Error(`Cron tasks failed: ${failed.join(", ")}`);
}
