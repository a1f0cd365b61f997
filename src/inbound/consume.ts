/** From queue message to stored events: parse, route, store; what cannot be stored is singled out (pipeline 9, 15). */

import { isPassing } from "../platform/d1";
import { errorFields, log } from "../platform/log";
import { directory, type Runtime } from "../platform/runtime";
import { parseMetaWebhook } from "../providers/meta-webhook";
import type { InboundEvent } from "../providers/provider";
import { parseProviderJson } from "../providers/provider-json";
import { writeDeadLetter } from "./dead-letters";
import { ingest } from "./ingest";
import type { WebhookJob } from "./jobs";
import { eventId } from "./plan";
import { type ArrivedEvent, type RoutedEvent, routeEvents } from "./routing";
import { insertUnrouted } from "./store";

/**
 * Handles a batch of webhook parts. Returns when every event is stored, in its workspace, as unknown, as unrouted, or
 * as a dead letter. Throws when a database did not answer; then the whole batch may be delivered again.
 */
export async function handleWebhookJobs(rt: Runtime, jobs: readonly WebhookJob[], redelivered: boolean): Promise<void> {
  const arrived: ArrivedEvent[] = [];
  for (const job of jobs) arrived.push(...(await parseJob(rt, job)));
  const { routed, unrouted } = await routeEvents(rt, arrived);
  await storeUnrouted(rt, unrouted);
  for (const [number, events] of Map.groupBy(routed, (event) => event.shard)) {
    await ingestBisected(rt, number, events, redelivered);
  }
}

/** The workspaces a part concerns, for its dead letter. */
export async function workspacesOf(rt: Runtime, job: WebhookJob): Promise<{ workspaceId: string; shard: number }[]> {
  const { routed } = await routeEvents(rt, await parseJob(rt, job));
  return [
    ...new Map(
      routed.map((event) => [event.workspaceId, { workspaceId: event.workspaceId, shard: event.shard }]),
    ).values(),
  ];
}

async function parseJob(rt: Runtime, job: WebhookJob): Promise<ArrivedEvent[]> {
  const r2Key = "r2Key" in job ? job.r2Key : null;
  const text = "body" in job ? job.body : await readLarge(rt, job.r2Key);
  return parseBody(text, job).map((event) => ({
    provider: job.provider,
    connection: job.connection,
    receivedAt: job.receivedAt,
    position: event.position,
    event,
    source: job,
    r2Key: event.kind === "unknown" || event.kind === "notice" ? r2Key : null,
  }));
}

async function readLarge(rt: Runtime, key: string): Promise<string> {
  const object = await rt.env.MEDIA.get(key);
  if (!object) throw new Error("An oversized webhook body is not in R2 yet");
  return object.text();
}

/** A signed body that is no JSON is kept whole, as one unknown event of nobody. */
function parseBody(text: string, { receivedAt, firstPosition }: WebhookJob): InboundEvent[] {
  let body: unknown;
  try {
    body = parseProviderJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const number = { providerNumberId: null, businessId: null, displayDigits: null };
    return [
      { kind: "unknown", number, position: firstPosition, raw: text, field: null, reason: "The body is not JSON" },
    ];
  }
  return parseMetaWebhook(body, { receivedAt, firstPosition });
}

async function storeUnrouted(rt: Runtime, events: readonly ArrivedEvent[]): Promise<void> {
  if (events.length === 0) return;
  log("warn", "webhook.unrouted", { events: events.length });
  const rows = await Promise.all(
    events.map(async (arrived) => {
      const raw = JSON.stringify(arrived.event.raw);
      return {
        id: await eventId(
          { workspaceId: "", phoneNumberId: arrived.event.number.providerNumberId, provider: arrived.provider },
          raw,
        ),
        provider: arrived.provider,
        number: arrived.event.number.providerNumberId,
        raw,
        at: arrived.receivedAt,
      };
    }),
  );
  await directory(rt).batch(insertUnrouted(rows));
}

/**
 * Stores a batch; when a statement fails for a reason that will not pass, halves it until the culprit stands alone,
 * which goes to the dead letters. One poisoned event costs its neighbours nothing but a few more round trips.
 */
async function ingestBisected(
  rt: Runtime,
  shardNumber: number,
  events: readonly RoutedEvent[],
  redelivered: boolean,
): Promise<void> {
  try {
    await ingest(rt, shardNumber, events, redelivered);
  } catch (error) {
    if (isPassing(error)) throw error;
    const [only] = events;
    if (only && events.length === 1) {
      log("error", "webhook.poison", { workspace_id: only.workspaceId, kind: only.event.kind, ...errorFields(error) });
      await writeDeadLetter(rt, {
        workspaceId: only.workspaceId,
        shard: shardNumber,
        queue: "inbound",
        reason: `A ${only.event.kind} event could not be stored`,
        body: JSON.stringify(only.source),
      });
      return;
    }
    const half = Math.ceil(events.length / 2);
    await ingestBisected(rt, shardNumber, events.slice(0, half), redelivered);
    await ingestBisected(rt, shardNumber, events.slice(half), redelivered);
  }
}
