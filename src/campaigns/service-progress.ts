/** How far campaigns are: counts, their end, and what is shown of it. */
import { gateOf } from "../phone-numbers/service-pipeline";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { callObject } from "../platform/objects";
import type { Runtime } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import type { Campaign } from "./store";
import { updateCounts, updatePaused } from "./store-recipients";

/** The cron looks after a campaign that is under way every minute. */
export const ATTEND_EVERY = 60_000;

/** Delivered and read keep coming after the end: Meta tells them for up to a week. Counted ever more rarely. */
const COUNTED_FOR = 7 * 86_400_000;

/** ms between two counts: a count reads two rows per recipient, so large campaigns are counted less often. */
export function countInterval(campaign: Campaign): number {
  return Math.max(2_000, campaign.totalContacts / 5);
}

/** Whether its counts may have changed since they were taken. */
export function isStale(campaign: Campaign, now: number): boolean {
  if (campaign.startedAt === null || now - campaign.countedAt < countInterval(campaign)) return false;
  return campaign.endedAt === null || campaign.countedAt < campaign.endedAt + COUNTED_FOR;
}

/**
 * Counts a campaign, ends it when all are settled, and shows what changed, or `anyway`. `drained`: the feeder found nobody.
 * Answers it as it is now.
 */
export async function settleCampaign(
  rt: Runtime,
  db: Db,
  campaign: Campaign,
  { drained = false, anyway = false } = {},
): Promise<Campaign> {
  const now = rt.clock();
  const counted = await updateCounts(db, campaign, {
    now,
    drained,
    sendingDueAt: now + ATTEND_EVERY,
    endedDueAt: nextCount(campaign.endedAt ?? now, now),
  });
  const known = counted ?? campaign;
  if (anyway || shown(known) !== shown(campaign)) await announceProgress(rt, known, db.bookmark);
  return known;
}

function nextCount(endedAt: number, now: number): number | null {
  const age = now - endedAt;
  return age > COUNTED_FOR ? null : now + Math.max(ATTEND_EVERY, Math.round(age / 4));
}

function shown(campaign: Campaign): string {
  const { status, totalContacts, sentCount, deliveredCount, readCount, failedCount, skippedCount, pendingCount } =
    campaign;
  return [status, totalContacts, sentCount, deliveredCount, readCount, failedCount, skippedCount, pendingCount].join();
}

/** Pauses a campaign; null when it is not sending. With a reason, it paused by itself, and says so. */
export async function pauseSending(
  rt: Runtime,
  db: Db,
  campaign: Pick<Campaign, "workspaceId" | "id">,
  reason: string | null,
): Promise<Campaign | null> {
  const now = rt.clock();
  const paused = await updatePaused(db, campaign, { now, reason, dueAt: now + ATTEND_EVERY });
  if (!paused) return null;
  if (reason !== null) log("warn", "campaign.paused", { workspace_id: campaign.workspaceId, campaign_id: campaign.id });
  return settleCampaign(rt, db, paused, { anyway: true });
}

/** One event on the workspace's hub. A lost one is repaired by the next, or by asking. */
export async function announceProgress(rt: Runtime, campaign: Campaign, bookmark: string | null): Promise<void> {
  const event = {
    type: "campaign.progress" as const,
    campaign_id: campaign.id,
    status: campaign.status,
    total_contacts: campaign.totalContacts,
    sent_count: campaign.sentCount,
    delivered_count: campaign.deliveredCount,
    read_count: campaign.readCount,
    failed_count: campaign.failedCount,
    skipped_count: campaign.skippedCount,
    pending_count: campaign.pendingCount,
    pause_reason: campaign.pauseReason,
    at: isoMillis(rt.clock()),
  };
  try {
    const key = `campaign:${campaign.id}:${campaign.version}:${campaign.countedAt}:${campaign.status}`;
    await publishEvents(rt, campaign.workspaceId, key, [event], bookmark);
  } catch (error) {
    log("warn", "live.publish_failed", { workspace_id: campaign.workspaceId, ...errorFields(error) });
  }
}

/** Lets the number's gate begin to ask for messages. One that cannot be told is told by the cron. */
export async function beginFeed(rt: Runtime, shardNumber: number, campaign: Campaign): Promise<void> {
  const { workspaceId, phoneNumberId } = campaign;
  try {
    const gate = gateOf(rt, workspaceId, phoneNumberId);
    await callObject(() =>
      gate.beginFeed({ v: 1, kind: "campaign.feed", workspaceId, shard: shardNumber, phoneNumberId }),
    );
  } catch (error) {
    log("warn", "campaign.feed_not_begun", {
      workspace_id: workspaceId,
      phone_number_id: phoneNumberId,
      ...errorFields(error),
    });
  }
}
