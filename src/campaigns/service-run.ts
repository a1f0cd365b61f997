/**
 * What happens between a start and the first message: the audience is walked in steps, and so are the failed ones before
 * they are tried again. A job does a few steps and orders the next; the cron orders one for a campaign that stands still.
 */
import type { Db } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { walkOf } from "./service-audience";
import { ATTEND_EVERY, beginFeed, settleCampaign } from "./service-progress";
import { type Campaign, selectCampaign } from "./store";
import { freezeStep, retryStep } from "./store-audience";

/** Steps of one run: some seconds of work. */
const STEPS_PER_RUN = 15;
/** Steps done while the caller waits, so that a small campaign is ready when its start is answered. */
const STEPS_AT_ONCE = 1;

/** One run of the job. Two runs at once do nothing twice. Throws when the database does not answer. */
export async function runCampaign(rt: Runtime, job: { workspaceId: string; shard: number; id: string }): Promise<void> {
  const db = shard(rt, job.shard);
  const campaign = await selectCampaign(db, [job.workspaceId], job.id);
  if (campaign?.status !== "sending") return;
  const now = await prepare(rt, db, campaign, STEPS_PER_RUN);
  await goOn(rt, db, job.shard, now);
}

/**
 * After a campaign began: its first step, then the job or the gate. Whatever fails here is taken up by the cron within a
 * minute: it began. Answers it as it is now.
 */
export async function runBegun(rt: Runtime, db: Db, shardNumber: number, campaign: Campaign): Promise<Campaign> {
  try {
    const now = await prepare(rt, db, campaign, STEPS_AT_ONCE);
    return (await goOn(rt, db, shardNumber, now)) ?? campaign;
  } catch (error) {
    log("warn", "campaign.begin_slow", {
      workspace_id: campaign.workspaceId,
      campaign_id: campaign.id,
      ...errorFields(error),
    });
    return campaign;
  }
}

/** Takes steps until nothing is left to prepare; null when somebody else moved the campaign on. */
async function prepare(rt: Runtime, db: Db, campaign: Campaign, steps: number): Promise<Campaign | null> {
  let now: Campaign | null = campaign;
  for (let step = 0; step < steps && now !== null && now.phase !== null; step += 1) now = await takeStep(rt, db, now);
  return now;
}

async function takeStep(rt: Runtime, db: Db, campaign: Campaign): Promise<Campaign | null> {
  const at = rt.clock();
  const step = { id: rt.newId(), now: at, dueAt: at + ATTEND_EVERY };
  if (campaign.phase === "retrying") return retryStep(db, campaign, step);
  const { snapshot } = campaign;
  if (snapshot === null) throw new Error("A campaign is sending and nothing was frozen");
  return freezeStep(db, { ...campaign, snapshot }, walkOf(campaign.workspaceId, campaign.audience), step);
}

async function goOn(rt: Runtime, db: Db, shardNumber: number, campaign: Campaign | null): Promise<Campaign | null> {
  if (campaign?.status !== "sending") return campaign;
  if (campaign.phase !== null) {
    await orderRun(rt, shardNumber, campaign);
    return campaign;
  }
  const counted = await settleCampaign(rt, db, campaign);
  if (counted.status === "sending") await beginFeed(rt, shardNumber, counted);
  return counted;
}

export async function orderRun(rt: Runtime, shardNumber: number, campaign: Campaign): Promise<void> {
  const { workspaceId, id } = campaign;
  await rt.env.BULK.send({ v: 1, kind: "campaign.run", workspaceId, shard: shardNumber, id });
}
