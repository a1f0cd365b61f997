/** The verbs of outbound webhooks. */
import type { z } from "@hono/zod-openapi";
import type { WorkspaceScope } from "../auth/guard";
import { isoMillis } from "../platform/clock";
import { AppError, invalidField } from "../platform/errors";
import type { Runtime } from "../platform/runtime";
import { checkAddress, UnsafeAddress } from "../platform/safe-fetch";
import { callEndpoint, kept } from "./call";
import { bodyOf, eventId } from "./payload";
import { type changeEndpointBody, type createEndpointBody, type DeliveryEntry, EVENT_TYPES } from "./schema";
import { readSubjects, secretOf } from "./service-pump";
import { forgetFeed, sendWakes } from "./service-wake";
import {
  type Endpoint,
  type EndpointChange,
  insertEndpoint,
  MAX_ENDPOINTS,
  startReplay,
  updateEndpoint,
} from "./store";
import { insertDelivery, selectDelivery } from "./store-log";
import { selectEvent } from "./store-pump";

/** Refuses an address that is not public, or that is this deployment. */
function checkUrl(rt: Runtime, url: string, ownHost: string): void {
  try {
    checkAddress(url, { privateHosts: rt.config.PRIVATE_FETCH_HOSTS, ownHosts: [ownHost] });
  } catch (error) {
    if (error instanceof UnsafeAddress) throw invalidField(["body", "url"], error.message);
    throw error;
  }
}

/** What is asked for, as SQL looks it up: each type between spaces. */
function typesOf(events: readonly string[]): string {
  const types = events.includes("*") ? EVENT_TYPES : EVENT_TYPES.filter((type) => events.includes(type));
  return ` ${types.join(" ")} `;
}

/** Makes an endpoint that is told of what happens from now on. `ownHost` is the name this deployment was called by. */
export async function createEndpoint(
  { rt, db, workspaceId }: WorkspaceScope,
  body: z.output<typeof createEndpointBody>,
  ownHost: string,
): Promise<Endpoint> {
  checkUrl(rt, body.url, ownHost);
  const endpoint = await insertEndpoint(db, {
    workspaceId,
    id: rt.newId(),
    url: body.url,
    description: body.description,
    events: [...new Set(body.events)],
    types: typesOf(body.events),
    ownHost,
    status: body.enabled ? "enabled" : "disabled",
    createdAt: rt.clock(),
  });
  if (!endpoint) throw new AppError("conflict", `A workspace has at most ${MAX_ENDPOINTS} webhook endpoints`);
  forgetFeed(workspaceId);
  return endpoint;
}

/** Changes an endpoint. Enabling one begins with what happens from then on. */
export async function changeEndpoint(
  { rt, db }: WorkspaceScope,
  endpoint: Endpoint,
  body: z.output<typeof changeEndpointBody>,
  ownHost: string,
): Promise<Endpoint> {
  const change: EndpointChange = {};
  if (body.url !== undefined) {
    checkUrl(rt, body.url, ownHost);
    change.url = body.url;
    change.ownHost = ownHost;
  }
  if (body.description !== undefined) change.description = body.description;
  if (body.events !== undefined) {
    change.events = { asked: [...new Set(body.events)], types: typesOf(body.events) };
  }
  if (body.enabled !== undefined) change.status = body.enabled ? "enabled" : "disabled";
  const changed = await updateEndpoint(db, endpoint, change, rt.clock());
  if (!changed) throw new AppError("not_found", "Resource not found");
  forgetFeed(endpoint.workspaceId);
  return changed;
}

/** Calls the endpoint now with a made-up event, enabled or not, and answers what came of it. */
export async function testEndpoint(scope: WorkspaceScope, endpoint: Endpoint): Promise<DeliveryEntry> {
  const { rt } = scope;
  const id = `evt_${rt.newId().replaceAll("-", "")}`;
  const body = JSON.stringify({
    id,
    type: "webhook.test",
    timestamp: isoMillis(rt.clock()),
    workspace_id: endpoint.workspaceId,
    data: { webhook_endpoint_id: endpoint.id, message: "This is a test." },
  });
  return callNow(scope, endpoint, { id, body, seq: null, type: "webhook.test", conversationId: "", cause: "test" });
}

/** Delivers one logged event again, now, under the same event id. */
export async function replayDelivery(
  scope: WorkspaceScope,
  endpoint: Endpoint,
  deliveryId: string,
): Promise<DeliveryEntry> {
  const logged = await selectDelivery(scope.db, endpoint, deliveryId);
  if (!logged) throw new AppError("not_found", "The delivery is not in the log any more");
  if (logged.seq === null) throw new AppError("conflict", "A test cannot be replayed: make another");
  const event = await selectEvent(scope.db, endpoint.workspaceId, logged.seq);
  const about = event && (await readSubjects(scope.db, [event]));
  const body = event && about && bodyOf(event, about.subjects, about.files);
  if (!event || body === null) throw new AppError("conflict", "The event does not exist any more");
  const { seq, type, conversationId } = event;
  return callNow(scope, endpoint, { id: eventId(event), body, seq, type, conversationId, cause: "replay" });
}

async function callNow(
  { rt, db }: WorkspaceScope,
  endpoint: Endpoint,
  told: Pick<DeliveryEntry, "seq" | "type" | "cause"> & { id: string; body: string; conversationId: string },
): Promise<DeliveryEntry> {
  const at = rt.clock();
  const call = await callEndpoint(rt, endpoint, await secretOf(rt, endpoint.workspaceId), told);
  const entry: DeliveryEntry = {
    id: rt.newId(),
    event_id: told.id,
    seq: told.seq,
    type: told.type,
    conversation_id: told.conversationId,
    cause: told.cause,
    attempt: 1,
    at,
    duration: call.duration,
    outcome: call.ok ? "delivered" : "failed",
    status: call.status,
    error: call.error,
    request_body: kept(told.body),
    response_body: call.answer,
  };
  await insertDelivery(db, endpoint, entry);
  return entry;
}

/** Orders what happened within a window of time (ms) to be delivered again. Answers how many events it holds. */
export async function replayWindow(
  { rt, db, membership }: WorkspaceScope,
  endpoint: Endpoint,
  window: { since: number; until: number | undefined },
): Promise<number> {
  const until = window.until ?? rt.clock();
  if (until <= window.since) throw invalidField(["body", "until"], "Must be after since");
  if (endpoint.status !== "enabled") throw new AppError("conflict", "The endpoint is disabled");
  const events = await startReplay(db, endpoint, { since: window.since, until });
  if (events === null) throw new AppError("conflict", "A replay is under way");
  const { workspaceId, id: endpointId } = endpoint;
  if (events > 0) await sendWakes(rt, [{ job: { workspaceId, shard: membership.shard, endpointId }, delayMs: 0 }]);
  return events;
}
