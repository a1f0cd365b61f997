import { z } from "zod";
import { errorFields, log } from "../platform/log";
import type { Runtime } from "../platform/runtime";
import { attendCampaigns } from "./service-cron";
import { feedNumber } from "./service-feed";
import { runCampaign } from "./service-run";

/** "Go on preparing this campaign": may run twice, and twice at once. */
export const campaignRunJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("campaign.run"),
  workspaceId: z.string(),
  shard: z.int(),
  id: z.string(),
});

/** "Make messages of those of this number's campaigns who are next": carries no state (durable-objects/campaign-feed). */
export const campaignFeedJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("campaign.feed"),
  workspaceId: z.string(),
  shard: z.int(),
  phoneNumberId: z.string(),
});

type RunJob = z.infer<typeof campaignRunJobSchema>;
export type FeedJob = z.infer<typeof campaignFeedJobSchema>;

/** Throws when a database did not answer; the steps taken before stay taken. */
export async function handleCampaignRunJob(rt: Runtime, job: RunJob): Promise<void> {
  await runCampaign(rt, job);
}

/** Numbers fed at a time. */
const AT_ONCE = 5;

/** Feeds each number once. Answers the jobs of those that met something that may pass. */
export async function handleCampaignFeedJobs(rt: Runtime, jobs: readonly FeedJob[]): Promise<FeedJob[]> {
  const numbers = [...Map.groupBy(jobs, (job) => `${job.workspaceId} ${job.phoneNumberId}`).values()];
  const again: FeedJob[] = [];
  for (let at = 0; at < numbers.length; at += AT_ONCE) {
    await Promise.all(
      numbers.slice(at, at + AT_ONCE).map(async ([job]) => {
        if (!job) return;
        try {
          await feedNumber(rt, job);
        } catch (error) {
          again.push(job);
          log("error", "campaign.feed_failed", {
            workspace_id: job.workspaceId,
            phone_number_id: job.phoneNumberId,
            ...errorFields(error),
          });
        }
      }),
    );
  }
  return again;
}

/** Cron, each minute, per shard: campaigns whose time has come, that stand still, or whose counts may have changed. */
export async function runDueCampaigns(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  await attendCampaigns(rt, shardNumber, now);
}
