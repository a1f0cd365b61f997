import { z } from "@hono/zod-openapi";
import { enterCharging, enterItem, enterReading, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { mediaOfMessages } from "../media/service-messages";
import { resolveNumber } from "../phone-numbers/service";
import { createRouter } from "../platform/app";
import { uuidSchema } from "../platform/ids";
import { pageBody } from "../platform/pagination";
import { messageList, messageListQuery, messageResource, messageStatusResource, sendTextBody } from "./schema";
import { send, sendOperation, sendScope } from "./send-route";
import { cancelMessage, type MessageFilter, pageMessages, selectMessage, selectMessageEvents } from "./service";
import { shapeMessage, shapeStatus } from "./service-shape";

const itemPath = z.object({ message_id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });

const sendText = sendOperation("/api/messages/send/text", "Send a text", sendTextBody);

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

export const messageRoutes = createRouter()
  .openapi(sendText, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterCharging(c, "messages.send", body.workspace_id);
    const content = { body: body.text, ...(body.preview_url === undefined ? {} : { preview_url: body.preview_url }) };
    return c.json(await send(c, scope, body, { type: "text", content }), 201);
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
    const files = await mediaOfMessages(scope.db, page.rows);
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (message) => shapeMessage(message, events, files)),
      200,
    );
  })
  .openapi(get, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.read", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    const events = await selectMessageEvents(scope.db, [item]);
    const files = await mediaOfMessages(scope.db, [item]);
    rememberBookmark(c, scope);
    return c.json(shapeMessage(item, events, files), 200);
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
