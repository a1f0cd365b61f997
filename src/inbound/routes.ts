import { z } from "@hono/zod-openapi";
import { enterItem, enterReading, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { uuidSchema } from "../platform/ids";
import { pageBody, pageQuery } from "../platform/pagination";
import { deadLetterList, deadLetterResource, webhookEventList } from "./schema";
import { replayDeadLetter } from "./service-dead-letters";
import { type DeadLetter, pageDeadLetters, pageWebhookEvents, selectDeadLetter, type WebhookEvent } from "./store";

const listEvents = operation({ kind: "workspace", permission: "webhook_events.read" }, [], {
  method: "get",
  path: "/api/webhook-events",
  tags: ["Webhooks"],
  summary: "What providers told besides messages and statuses, and what was not recognised",
  request: {
    query: pageQuery.extend({ workspace_id: uuidSchema.optional(), kind: z.string().max(60).optional() }),
  },
  responses: {
    200: { description: "A page, newest first", content: { "application/json": { schema: webhookEventList } } },
  },
});

const listDead = operation({ kind: "workspace", permission: "dead_letters.read" }, [], {
  method: "get",
  path: "/api/dead-letters",
  tags: ["Webhooks"],
  summary: "Work the queues gave up on",
  request: { query: pageQuery.extend({ workspace_id: uuidSchema.optional() }) },
  responses: {
    200: { description: "A page, newest first", content: { "application/json": { schema: deadLetterList } } },
  },
});

const replayDead = operation({ kind: "workspace", permission: "dead_letters.replay", item: true }, [], {
  method: "post",
  path: "/api/dead-letters/{id}/replay",
  tags: ["Webhooks"],
  summary: "Give a dead letter's work back to its queue",
  request: { params: z.object({ id: uuidSchema }) },
  responses: { 200: { description: "Queued again", content: { "application/json": { schema: deadLetterResource } } } },
});

function shapeEvent(event: WebhookEvent) {
  return {
    id: event.id,
    workspace_id: event.workspaceId,
    phone_number_id: event.phoneNumberId,
    provider: event.provider,
    kind: event.kind,
    field: event.field,
    reason: event.reason,
    payload: event.raw === null ? null : (JSON.parse(event.raw) as unknown),
    received_at: isoSeconds(event.receivedAt),
  };
}

function shapeDead(letter: DeadLetter) {
  return {
    id: letter.id,
    workspace_id: letter.workspaceId,
    queue: letter.queue,
    reason: letter.reason,
    created_at: isoSeconds(letter.createdAt),
    replayed_at: isoSecondsOrNull(letter.replayedAt),
  };
}

export const inboundRoutes = createRouter()
  .openapi(listEvents, async (c) => {
    const query = c.req.valid("query");
    const { scope, found: page } = await enterReading(c, "webhook_events.read", query.workspace_id, (own) =>
      pageWebhookEvents(own.db, own.workspaceId, { kind: query.kind }, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeEvent), 200);
  })
  .openapi(listDead, async (c) => {
    const query = c.req.valid("query");
    const { scope, found: page } = await enterReading(c, "dead_letters.read", query.workspace_id, (own) =>
      pageDeadLetters(own.db, own.workspaceId, query),
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shapeDead), 200);
  })
  .openapi(replayDead, async (c) => {
    const { id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "dead_letters.replay", id, (db, ids) => selectDeadLetter(db, ids, id));
    await replayDeadLetter(scope.rt, item, scope.membership.shard);
    return c.json(shapeDead({ ...item, replayedAt: scope.rt.clock() }), 200);
  });
