import { z } from "@hono/zod-openapi";
import { enterItem, enterReading, rememberBookmark } from "../auth/guard";
import { operation } from "../auth/operation";
import { mediaOfMessages } from "../media/service-messages";
import { messageList } from "../messages/schema";
import { pageMessages, selectMessageEvents } from "../messages/service";
import { shapeMessage } from "../messages/service-shape";
import { resolveNumber } from "../phone-numbers/service";
import { createRouter } from "../platform/app";
import { isoSeconds, isoSecondsOrNull } from "../platform/clock";
import { uuidSchema } from "../platform/ids";
import { pageBody, pageQuery } from "../platform/pagination";
import { conversationList, conversationListQuery, conversationResource, readAnswer, readBody } from "./schema";
import { readConversation } from "./service";
import { type Conversation, pageConversations, selectConversation } from "./store";

const SERVICE_WINDOW = 24 * 3_600_000;
const itemPath = z.object({ id: uuidSchema });
const json = <T extends z.ZodType>(schema: T) => ({ "application/json": { schema } });

const list = operation({ kind: "workspace", permission: "conversations.read" }, [], {
  method: "get",
  path: "/api/conversations",
  tags: ["Conversations"],
  summary: "The inbox, newest first",
  request: { query: conversationListQuery },
  responses: { 200: { description: "A page", content: json(conversationList) } },
});

const get = operation({ kind: "workspace", permission: "conversations.read", item: true }, [], {
  method: "get",
  path: "/api/conversations/{id}",
  tags: ["Conversations"],
  summary: "A conversation",
  request: { params: itemPath },
  responses: { 200: { description: "The conversation", content: json(conversationResource) } },
});

const listMessages = operation({ kind: "workspace", permission: "conversations.read", item: true }, [], {
  method: "get",
  path: "/api/conversations/{id}/messages",
  tags: ["Conversations"],
  summary: "A conversation's messages, newest first by the provider's time",
  request: { params: itemPath, query: pageQuery },
  responses: { 200: { description: "A page", content: json(messageList) } },
});

const read = operation({ kind: "workspace", permission: "conversations.answer", item: true }, [], {
  method: "post",
  path: "/api/conversations/{id}/read",
  tags: ["Conversations"],
  summary: "Mark a conversation read and send the receipt",
  request: { params: itemPath, body: { content: json(readBody) } },
  responses: { 200: { description: "Read", content: json(readAnswer) } },
});

function shape(conversation: Conversation): z.input<typeof conversationResource> {
  const { contact } = conversation;
  return {
    id: conversation.id,
    workspace_id: conversation.workspaceId,
    phone_number_id: conversation.phoneNumberId,
    contact: {
      id: contact.id,
      kind: contact.kind,
      name: contact.name,
      phone_number: contact.phoneNumber,
      wa_id: contact.waId,
      user_id: contact.userId,
      username: contact.username,
    },
    status: conversation.status,
    unread_count: conversation.unreadCount,
    message_count: conversation.messageCount,
    last_message:
      conversation.lastMessageId === null
        ? null
        : {
            id: conversation.lastMessageId,
            direction: conversation.lastMessageDirection ?? "inbound",
            preview: conversation.lastMessagePreview ?? "",
            at: isoSeconds(conversation.lastMessageAt),
          },
    service_window_expires_at:
      conversation.lastInboundAt === null ? null : isoSeconds(conversation.lastInboundAt + SERVICE_WINDOW),
    read_at: isoSecondsOrNull(conversation.readAt),
    created_at: isoSeconds(conversation.createdAt),
    updated_at: isoSeconds(conversation.updatedAt),
  };
}

export const conversationRoutes = createRouter()
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const { scope, found: page } = await enterReading(
      c,
      "conversations.read",
      query.workspace_id,
      async ({ db, workspaceId }) => {
        const asked = query.phone_number_id;
        const number = asked === undefined ? null : await resolveNumber(db, workspaceId, asked);
        return pageConversations(db, workspaceId, { phoneNumberId: number?.id ?? asked, unread: query.unread }, query);
      },
    );
    rememberBookmark(c, scope);
    return c.json(pageBody(page, query, shape), 200);
  })
  .openapi(get, async (c) => {
    const { id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "conversations.read", id, (db, ids) => selectConversation(db, ids, id));
    rememberBookmark(c, scope);
    return c.json(shape(item), 200);
  })
  .openapi(listMessages, async (c) => {
    const { id } = c.req.valid("param");
    const query = c.req.valid("query");
    const { scope, item } = await enterItem(c, "conversations.read", id, (db, ids) => selectConversation(db, ids, id));
    const page = await pageMessages(scope.db, scope.workspaceId, { conversationId: item.id }, query);
    const events = await selectMessageEvents(scope.db, page.rows);
    const files = await mediaOfMessages(scope.db, page.rows);
    rememberBookmark(c, scope);
    return c.json(
      pageBody(page, query, (message) => shapeMessage(message, events, files)),
      200,
    );
  })
  .openapi(read, async (c) => {
    const { id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "conversations.answer", id, (db, ids) =>
      selectConversation(db, ids, id),
    );
    const result = await readConversation(scope.rt, scope.db, item, c.req.valid("json").typing ?? false);
    rememberBookmark(c, scope);
    const now = scope.rt.clock();
    return c.json(
      { ...shape({ ...item, unreadCount: 0, readAt: now }), receipt: result.receipt, receipt_error: result.error },
      200,
    );
  });
