import { z } from "@hono/zod-openapi";
import { enterCharging, enterItem, enterReading, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { resolveNumber } from "../phone-numbers/service";
import { type AppContext, createRouter } from "../platform/app";
import { idempotencyHeader, requestHash } from "../platform/idempotency";
import { uuidSchema } from "../platform/ids";
import { pageBody } from "../platform/pagination";
import { messageList, messageListQuery, messageResource, messageStatusResource, sendTextBody } from "./schema";
import {
  acceptMessage,
  cancelMessage,
  type MessageFilter,
  pageMessages,
  type SendIntent,
  type SendScope,
  selectMessage,
  selectMessageEvents,
} from "./service";
import { shapeAccepted, shapeMessage, shapeStatus } from "./service-shape";

const itemPath = z.object({ message_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });

const sendText = operation({ kind: "workspace", permission: "messages.send" }, ["conflict", "idempotency_conflict"], {
  method: "post",
  path: "/api/messages/send/text",
  tags: ["Messages"],
  summary: "Send a text",
  description: "Answers at once; the message is then sent once, or `failed` with a reason. Follow it by `GET` or live.",
  request: { headers: idempotencyHeader, body: { required: true, content: json(sendTextBody) } },
  responses: { 201: { description: "Accepted", content: json(messageResource) } },
});

const list = operation({ kind: "workspace", permission: "messages.read" }, [], {
  method: "get",
  path: "/api/messages",
  tags: ["Messages"],
  summary: "Messages, newest first",
  description:
    "Driven by conversation, contact or age; other filters look at up to 2,000 rows a page, so a page may be short or even empty and still have a `next_cursor`: go on until it is null. Types are an open list.",
  request: { query: messageListQuery },
  responses: { 200: { description: "A page", content: json(messageList) } },
});

const get = operation({ kind: "workspace", permission: "messages.read", item: true }, [], {
  method: "get",
  path: "/api/messages/{message_id}",
  tags: ["Messages"],
  summary: "A message",
  request: { params: itemPath },
  responses: { 200: { description: "The message", content: json(messageResource) } },
});

const getStatus = operation({ kind: "workspace", permission: "messages.read", item: true }, [], {
  method: "get",
  path: "/api/messages/{message_id}/status",
  tags: ["Messages"],
  summary: "How far a message has come",
  request: { params: itemPath },
  responses: { 200: { description: "Its status", content: json(messageStatusResource) } },
});

const cancel = operation({ kind: "workspace", permission: "messages.send", item: true }, ["conflict"], {
  method: "delete",
  path: "/api/messages/{message_id}",
  tags: ["Messages"],
  summary: "Cancel a scheduled message",
  request: { params: itemPath },
  responses: { 204: { description: "Cancelled" } },
});

/** A scope whose charge may still be on its way (`enterCharging`). */
type Sender = WorkspaceScope & { charged?: Promise<void> };

function sendScope({ rt, workspaceId, membership, db, charged }: Sender): SendScope {
  return { rt, workspaceId, shard: membership.shard, db, allowed: charged };
}

/** Accepts one send and answers 201 with the message as accepted, whether now or under the same key before. */
async function send(c: AppContext, scope: Sender, body: object, intent: SendIntent) {
  const key = c.req.header("idempotency-key");
  const claim = key === undefined ? null : { key, hash: await requestHash(c.req.path.replace(/\/$/, ""), body) };
  const { message, replayed } = await acceptMessage(sendScope(scope), intent, claim);
  if (replayed) c.var.answerHeaders.set("Idempotency-Replayed", "true");
  rememberBookmark(c, scope);
  return shapeAccepted(message);
}

export const messageRoutes = createRouter()
  .openapi(sendText, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterCharging(c, "messages.send", body.workspace_id);
    const content = { body: body.text, ...(body.preview_url === undefined ? {} : { preview_url: body.preview_url }) };
    return c.json(
      await send(c, scope, body, {
        phoneNumberId: body.phone_number_id ?? null,
        to: body.to ?? null,
        contactId: body.contact_id ?? null,
        conversationId: body.conversation_id ?? null,
        type: "text",
        content,
        category: null,
        replyTo: body.reply_to ?? null,
        scheduledAt: body.scheduled_at ?? null,
        ttl: null,
      }),
      201,
    );
  })
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const { scope, found: page } = await enterReading(
      c,
      "messages.read",
      query.workspace_id,
      async ({ db, workspaceId }) => {
        const asked = query.phone_number_id;
        const number = asked === undefined ? null : await resolveNumber(db, workspaceId, asked);
        const filter: MessageFilter = {
          conversationId: query.conversation_id,
          contactId: query.contact_id,
          // A number nobody has matches nothing.
          phoneNumberId: number?.id ?? asked,
          direction: query.direction,
          status: query.status,
          type: query.type,
          since: query.since,
          until: query.until,
        };
        return pageMessages(db, workspaceId, filter, query);
      },
    );
    const events = await selectMessageEvents(scope.db, page.rows);
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (message) => shapeMessage(message, events)),
      200,
    );
  })
  .openapi(get, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.read", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    const events = await selectMessageEvents(scope.db, [item]);
    rememberBookmark(c, scope);
    return c.json(shapeMessage(item, events), 200);
  })
  .openapi(getStatus, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.read", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    rememberBookmark(c, scope);
    return c.json(shapeStatus(item), 200);
  })
  .openapi(cancel, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.send", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    await cancelMessage(sendScope(scope), item);
    rememberBookmark(c, scope);
    return c.body(null, 204);
  });
