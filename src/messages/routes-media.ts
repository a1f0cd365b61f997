import { z } from "@hono/zod-openapi";
import { enterItem, enterWorkspace, rememberBookmark, type WorkspaceScope } from "../auth/guard";
import { operation } from "../auth/operation";
import { retryFetch } from "../media/service-inbound";
import { mediaOfMessages } from "../media/service-messages";
import { type AppContext, createRouter } from "../platform/app";
import { uuidSchema } from "../platform/ids";
import { messageResource, type sendBase } from "./schema";
import { mediaMessageResource, sendMediaBody, sendStickerBody } from "./schema-media";
import { type Payload, SEND_ACCESS, send, sendOperationAnswering } from "./send-route";
import { selectMessage } from "./service";
import { shapeMessage } from "./service-shape";

const sendMedia = sendOperationAnswering(
  "/api/messages/send/media",
  "Send a picture, video, sound or document",
  sendMediaBody,
  mediaMessageResource,
);
const sendSticker = sendOperationAnswering(
  "/api/messages/send/sticker",
  "Send a sticker",
  sendStickerBody,
  mediaMessageResource,
);

const retryMedia = operation({ ...SEND_ACCESS, item: true }, ["conflict"], {
  method: "post",
  path: "/api/messages/{message_id}/media/retry",
  tags: ["Messages"],
  summary: "Fetch the file of a received message again",
  request: { params: z.object({ message_id: uuidSchema }) },
  responses: { 200: { description: "Ordered", content: { "application/json": { schema: messageResource } } } },
});

/** A send of one file, answered with the documented members beside the message. */
async function sendFile(
  c: AppContext,
  scope: WorkspaceScope,
  body: z.output<typeof sendBase> & { media_id: string },
  payload: Payload,
): Promise<z.input<typeof mediaMessageResource>> {
  const answer = await send(c, scope, body, payload);
  const { id, workspace_id: workspaceId, phone_number_id: phoneNumberId, type, content } = answer;
  const files = await mediaOfMessages(scope.db, [{ id, workspaceId, phoneNumberId, type, content }]);
  return { ...answer, media: files.get(id) ?? null, media_id: body.media_id, queued: answer.status === "queued" };
}

export const messageMediaRoutes = createRouter()
  .openapi(sendMedia, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    const { media_id, media_type, caption, filename } = body;
    const content = {
      media_id,
      ...(caption === undefined || caption === "" ? {} : { caption }),
      ...(filename === undefined ? {} : { filename }),
    };
    return c.json(await sendFile(c, scope, body, { type: media_type, content }), 201);
  })
  .openapi(sendSticker, async (c) => {
    const body = c.req.valid("json");
    const scope = await enterWorkspace(c, "messages.send", body.workspace_id);
    return c.json(await sendFile(c, scope, body, { type: "sticker", content: { media_id: body.media_id } }), 201);
  })
  .openapi(retryMedia, async (c) => {
    const { message_id } = c.req.valid("param");
    const { scope, item } = await enterItem(c, "messages.send", message_id, (db, ids) =>
      selectMessage(db, ids, message_id),
    );
    await retryFetch(scope.rt, scope.membership.shard, item);
    const files = await mediaOfMessages(scope.db, [item]);
    rememberBookmark(c, scope);
    return c.json(shapeMessage(item, [], files), 200);
  });
