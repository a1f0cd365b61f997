/**
 * Delivering outbound webhooks. The outbox was written with what it tells of; a run claims one endpoint, delivers what
 * is due and stores how far it came. A crash in between delivers again what was not stored, under the same ids.
 */
import { mediaOfMessages } from "../media/service-messages";
import { isoMillis } from "../platform/clock";
import type { Db } from "../platform/d1";
import { AppError } from "../platform/errors";
import { errorFields, log } from "../platform/log";
import { type Runtime, shard } from "../platform/runtime";
import { publishEvents } from "../realtime/publish";
import { getWorkspace, openSecrets } from "../workspaces/service";
import { EndpointRun, type Slots } from "./run";
import { sendWakes } from "./service-wake";
import type { Endpoint } from "./store";
import {
  claimEndpoint,
  DISABLED,
  type OutboxEvent,
  type Run,
  type RunResult,
  selectDue,
  selectSubjects,
  storeRun,
} from "./store-pump";

/** A retry that is due within this time (ms) gets a wake of its own; later ones are the cron's. */
const SOON = 60_000;

/** Runs one endpoint of a shard, if there is anything to do. Throws when a database does not answer. */
export async function pumpEndpoint(
  rt: Runtime,
  shardNumber: number,
  key: { workspaceId: string; id: string },
  slots: Slots,
): Promise<void> {
  const db = shard(rt, shardNumber);
  const now = rt.clock();
  const run = await claimEndpoint(db, key, { token: rt.newId(), now, until: now + rt.config.PIPELINE.lease });
  if (!run) return;
  const result = await deliver(rt, db, run, slots);
  const notice = rt.newId();
  const more = await storeRun(db, run.endpoint, result, { now: rt.clock(), notice });
  if (result.disabled !== null) await tellDisabled(rt, run.endpoint, notice, db.bookmark);
  const delayMs = more ? 0 : soonest(result, rt.clock());
  if (delayMs !== null) {
    const { workspaceId, id: endpointId } = key;
    await sendWakes(rt, [{ job: { workspaceId, shard: shardNumber, endpointId }, delayMs }]);
  }
}

async function deliver(rt: Runtime, db: Db, run: Run, slots: Slots): Promise<RunResult> {
  const { endpoint } = run;
  const events = [...run.behind, ...run.page, ...run.replay];
  const [secret, about] = await Promise.all([secretOf(rt, endpoint.workspaceId), readSubjects(db, events)]);
  return new EndpointRun({ rt, endpoint, secret, ...about, slots }, run).deliver();
}

/** The workspace's signing secret. Throws `not_found` when the workspace is gone. */
export async function secretOf(rt: Runtime, workspaceId: string): Promise<string> {
  const { webhookSecret } = await openSecrets(rt, await getWorkspace(rt, workspaceId));
  return webhookSecret;
}

/** What events tell of, and the files that go with it. */
export async function readSubjects(db: Db, events: readonly OutboxEvent[]) {
  if (events.length === 0) return { subjects: { messages: new Map(), events: new Map() }, files: new Map() };
  const subjects = await selectSubjects(db, events);
  return { subjects, files: await mediaOfMessages(db, [...subjects.messages.values()]) };
}

/** ms until something is tried again, when that is soon. */
function soonest(result: RunResult, now: number): number | null {
  if (result.disabled !== null) return null;
  const lags = result.lags.map((lag) => lag.nextAt);
  const replay = result.replayNext === null ? [] : [result.replayAt ?? now];
  const next = result.nextAt ?? Math.min(...lags, ...replay);
  return next - now <= SOON ? Math.max(0, next - now) : null;
}

async function tellDisabled(rt: Runtime, endpoint: Endpoint, noticeId: string, bookmark: string | null): Promise<void> {
  log("warn", "webhooks.disabled", { workspace_id: endpoint.workspaceId, endpoint_id: endpoint.id });
  const at = isoMillis(rt.clock());
  const event = { type: "webhook_event.created" as const, webhook_event_id: noticeId, kind: DISABLED, at };
  try {
    await publishEvents(rt, endpoint.workspaceId, `event:${noticeId}`, [event], bookmark);
  } catch (error) {
    // It stands in the list of webhook events.
    log("warn", "live.publish_failed", { workspace_id: endpoint.workspaceId, ...errorFields(error) });
  }
}

/** Whether a run failed because its workspace was deleted: then there is nobody to tell. */
export function isGone(error: unknown): boolean {
  return error instanceof AppError && error.code === "not_found";
}

/** Endpoints woken by one run of the cron. */
const DUE_LIMIT = 1000;

/** Wakes the endpoints of a shard that have something to do. */
export async function wakeDue(rt: Runtime, shardNumber: number, now: number): Promise<void> {
  const due = await selectDue(shard(rt, shardNumber), now, DUE_LIMIT);
  const wakes = due.map(({ workspaceId, id: endpointId }) => ({
    job: { workspaceId, shard: shardNumber, endpointId },
    delayMs: 0,
  }));
  await sendWakes(rt, wakes);
}
