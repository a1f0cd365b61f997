/** The cron's side of campaigns: what is due begins, and whatever a crash or a lost job left behind goes on. */
import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { ATTEND_EVERY, announceProgress, beginFeed, isStale, settleCampaign } from "./service-progress";
import { orderRun } from "./service-run";
import { startCampaign } from "./service-start";
import { type Campaign, postpone, selectDue, updateHeldBack } from "./store";

const AT_ONCE = 100;

/**
 * One shard's campaigns that are due at `now` (ms). Every step is conditional: two runs at once do no harm. A campaign that
 * fails keeps none of the others from its turn; then it throws.
 */
export async function attendCampaigns(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const db = shard(rt, shardNumber);
  const due = await selectDue(db, now, AT_ONCE);
  const failures: unknown[] = [];
  for (const campaign of due) {
    try {
      await attend(rt, db, shardNumber, campaign, now);
    } catch (error) {
      failures.push(error);
      log("error", "campaign.attend_failed", {
        workspace_id: campaign.workspaceId,
        campaign_id: campaign.id,
        ...errorFields(error),
      });
    }
  }
  if (due.length > 0) log("info", "campaigns.attended", { shard: shardNumber, campaigns: due.length });
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} campaigns could not be attended to`);
}

async function attend(rt: Runtime, db: Db, shardNumber: number, campaign: Campaign, now: number): Promise<void> {
  if (campaign.status === "scheduled" && campaign.startedAt === null) {
    return startScheduled(rt, db, shardNumber, campaign, now);
  }
  if (campaign.status !== "sending") {
    if (campaign.startedAt === null) return postpone(db, campaign, null);
    await settleCampaign(rt, db, campaign);
    return;
  }
  if (campaign.phase !== null) {
    await orderRun(rt, shardNumber, campaign);
    return postpone(db, campaign, now + ATTEND_EVERY);
  }
  await beginFeed(rt, shardNumber, campaign);
  if (isStale(campaign, now)) await settleCampaign(rt, db, campaign);
  else await postpone(db, campaign, now + ATTEND_EVERY);
}

/** One that cannot be started waits for somebody, and says why. */
async function startScheduled(
  rt: Runtime,
  db: Db,
  shardNumber: number,
  campaign: Campaign,
  now: number,
): Promise<void> {
  if (campaign.pausedAt !== null || campaign.scheduledAt === null) return postpone(db, campaign, null);
  if (campaign.scheduledAt > now) return postpone(db, campaign, campaign.scheduledAt);
  try {
    await startCampaign({ rt, workspaceId: campaign.workspaceId, shard: shardNumber, db }, campaign, null, true);
  } catch (error) {
    if (!(error instanceof AppError) || error.code === "overloaded") throw error;
    const held = await updateHeldBack(db, campaign, `It could not be started: ${error.message}`, now);
    if (held) await announceProgress(rt, held, db.bookmark);
  }
}
