/**
 * Waking endpoints. A wake carries no event: what happened stands in the outbox since the commit, and a wake that is
 * lost is made good by the minute's cron.
 */
import { z } from "zod";
import { type Statement, statement } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";

/** "Look whether there is something for this endpoint": may be lost, doubled or late without harm. */
export const wakeJobSchema = z.object({
  v: z.literal(1),
  kind: z.literal("webhook.wake"),
  workspaceId: z.string(),
  shard: z.int(),
  endpointId: z.string(),
});

export type WakeJob = z.infer<typeof wakeJobSchema>;

/** The enabled endpoints of a workspace. */
export interface Feed {
  workspaceId: string;
  endpointIds: string[];
}

const feedRow = z.object({ workspace_id: z.string(), endpoints: z.string() });
const idList = z.array(z.string());

/** How long an isolate believes what it read, in ms: until then a new endpoint is woken by the cron. */
const BELIEVED = 300_000;
const MAX_KNOWN = 10_000;
const known = new Map<string, { endpointIds: string[]; until: number }>();

const WAKES_AT_ONCE = 100;

/** Reads the feeds of workspaces: one row for each that has one. For a batch that writes what they tell of. */
export function selectFeeds(workspaceIds: readonly string[]): Statement {
  return statement(
    `SELECT f.workspace_id, f.endpoints FROM json_each(?1) j CROSS JOIN webhook_feeds f WHERE f.workspace_id = j.value`,
    JSON.stringify([...new Set(workspaceIds)]),
  );
}

/** The feeds as read, remembered for those who write without asking. */
export function toFeeds(
  rt: Runtime,
  workspaceIds: readonly string[],
  rows: readonly Record<string, unknown>[],
): Feed[] {
  const feeds = rows.map((row) => {
    const { workspace_id: workspaceId, endpoints } = feedRow.parse(row);
    return { workspaceId, endpointIds: idList.parse(JSON.parse(endpoints)) };
  });
  if (known.size > MAX_KNOWN) known.clear();
  const until = rt.clock() + BELIEVED;
  for (const id of workspaceIds) known.set(id, { endpointIds: [], until });
  for (const { workspaceId, endpointIds } of feeds) known.set(workspaceId, { endpointIds, until });
  return feeds;
}

/** Wakes the endpoints of feeds. Never throws: the cron finds what nobody was woken for. */
export async function wakeFeeds(rt: Runtime, shardNumber: number, feeds: readonly Feed[]): Promise<void> {
  const jobs = feeds.flatMap(({ workspaceId, endpointIds }) =>
    endpointIds.map((endpointId) => ({ job: { workspaceId, shard: shardNumber, endpointId }, delayMs: 0 })),
  );
  await sendWakes(rt, jobs);
}

/** Wakes the endpoints of workspaces in which something happened; asks the shard where this isolate does not know. */
export async function wakeWorkspaces(rt: Runtime, shardNumber: number, workspaceIds: readonly string[]): Promise<void> {
  const distinct = [...new Set(workspaceIds)];
  const now = rt.clock();
  const isKnown = (id: string) => (known.get(id)?.until ?? 0) > now;
  const unknown = distinct.filter((id) => !isKnown(id));
  try {
    if (unknown.length > 0) {
      const [result] = await shard(rt, shardNumber).batch([selectFeeds(unknown)]);
      toFeeds(rt, unknown, result?.results ?? []);
    }
  } catch (error) {
    log("warn", "webhooks.wake_unread", { workspaces: unknown.length, ...errorFields(error) });
  }
  const feeds = distinct.map((workspaceId) => ({
    workspaceId,
    endpointIds: known.get(workspaceId)?.endpointIds ?? [],
  }));
  await wakeFeeds(rt, shardNumber, feeds);
}

/** This isolate knows at once what it changed itself. */
export function forgetFeed(workspaceId: string): void {
  known.delete(workspaceId);
}

/** Enqueues wakes, each after its delay (ms, up to 24 hours). Never throws. */
export async function sendWakes(
  rt: Runtime,
  wakes: readonly { job: Omit<WakeJob, "v" | "kind">; delayMs: number }[],
): Promise<void> {
  for (let start = 0; start < wakes.length; start += WAKES_AT_ONCE) {
    const batch = wakes.slice(start, start + WAKES_AT_ONCE).map(({ job, delayMs }) => ({
      body: { v: 1, kind: "webhook.wake", ...job } satisfies WakeJob,
      delaySeconds: Math.min(86_400, Math.max(0, Math.ceil(delayMs / 1000))),
    }));
    try {
      await rt.env.DELIVERIES.sendBatch(batch);
    } catch (error) {
      log("warn", "webhooks.wake_failed", { wakes: batch.length, ...errorFields(error) });
    }
  }
}
