import { z } from "@hono/zod-openapi";
import { enterItem, enterWorkspace, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { createRouter } from "../platform/app";
import { invalidField } from "../platform/errors";
import { isUuid, uuidSchema } from "../platform/ids";
import { messageResource } from "./schema";
import { sendContactsBody, sendInteractiveBody, sendLocationBody, sendReactionBody } from "./schema-kinds";
import { SEND_ACCESS, send, sendOperation, sendScope } from "./send-route";
import { selectMessage } from "./service";
import { retryMessage } from "./service-retry";
import { shapeMessage } from "./service-shape";

const sendLocation = sendOperation("/api/messages/send/location", "Send a place on the map", sendLocationBody);
const sendReaction = sendOperation(
  "/api/messages/send/reaction",
  "React to a message, or take it back",
  sendReactionBody,
);
const sendInteractive = sendOperation(
  "/api/messages/send/interactive",
  "Send buttons, a list, a link button, a flow or a location request",
  sendInteractiveBody,
);
const sendContacts = sendOperation("/api/messages/send/contacts", "Send contact cards", sendContactsBody);

const retry = operation({ ...SEND_ACCESS, item: true }, ["conflict"], {
  method: "post",
  path: "/api/messages/{message_id}/retry",
  tags: ["Messages"],
  summary: "Send a failed message again",
  request: { params: z.object({ message_id: uuidSchema }) },
  responses: { 200: { description: "Queued again", content: { "application/json": { schema: messageResource } } } },
});

/** The provider's id of the message a reaction is about. */
async function reactedTo(scope: WorkspaceScope, messageId: string): Promise<string> {
  if (!isUuid(messageId)) return messageId;
  const message = await selectMessage(scope.db, [scope.workspaceId], messageId);
  if (!message) throw invalidField(["body", "message_id"], "Message not found in this workspace");
  if (message.waMessageId === null) throw invalidField(["body", "message_id"], "That message has not been sent yet");
  return message.waMessageId;
}

export const messageKindRoutes = createRouter()
  .openapi(sendLocation, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    const { latitude, longitude, name, address } = body;
    const content = {
      latitude,
      longitude,
      ...(name === undefined ? {} : { name }),
      ...(address === undefined ? {} : { address }),
    };
    return c.json(await send(c, scope, body, { type: "location", content }), 201);
  })
  .openapi(sendReaction, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    const content = { message_id: await reactedTo(scope, body.message_id), emoji: body.emoji };
    return c.json(await send(c, scope, body, { type: "reaction", content }), 201);
  })
  .openapi(sendInteractive, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    return c.json(await send(c, scope, body, { type: "interactive", content: body.interactive }), 201);
  })
  .openapi(sendContacts, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    return c.json(await send(c, scope, body, { type: "contacts", content: { contacts: body.contacts } }), 201);
  })
  .openapi(retry, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.send", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    const message = await retryMessage(sendScope(scope), item);
    rememberBookmark(c, scope);
    return c.json(shapeMessage(message), 200);
  });
