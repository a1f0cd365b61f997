import { z } from "zod";
import type { Runtime } from "../platform/runtime";
import { isAccepted, isDuplicate, refusedByHttp, refusedByStatus } from "./infobip-errors";
import { callInfobip, infobipCredentials, resultOf, urlOf } from "./infobip-http";
import { infobipMediaLimit } from "./infobip-media-limits";
import { describeInfobipNumber, infobipStatus, readInfobipAbout, setInfobipAbout } from "./infobip-numbers";
import { infobipMessage, infobipRecipient, infobipSendLimit } from "./infobip-requests";
import { subscribeInfobip } from "./infobip-subscriptions";
import {
  createInfobipTemplate,
  deleteInfobipTemplate,
  editInfobipTemplate,
  getInfobipTemplate,
  listInfobipTemplates,
} from "./infobip-templates";
import { readFile } from "./meta-media";
import { invalidContent, ours } from "./meta-outcomes";
import type {
  Connection,
  MediaDownload,
  MediaInfo,
  Provider,
  ProviderResult,
  SendOutcome,
  SendRequest,
} from "./provider";

/** Infobip's WhatsApp API (facts 3). */
export function infobipProvider(rt: Runtime): Provider {
  return {
    name: "infobip",
    repeatable: true,
    mediaBy: "link",
    sendLimit: infobipSendLimit,
    statusOf: infobipStatus,
    send: (connection, request) => send(rt, connection, request),
    markRead: (connection, waMessageId, typing, peer) => markRead(rt, connection, waMessageId, typing ? peer : null),
    describeNumber: (connection) => describeInfobipNumber(rt, connection),
    subscribe: (connection, webhook) => subscribeInfobip(rt, connection, webhook),
    readAbout: (connection) => readInfobipAbout(rt, connection),
    setAbout: (connection, about) => setInfobipAbout(rt, connection, about),
    // A key ends when its owner says so, and there is nothing to exchange it for.
    exchangeToken: async ({ accessToken }) => ({ ok: true, value: { accessToken, expiresAt: null } }),
    mediaLimit: infobipMediaLimit,
    uploadsLive: 0,
    uploadMedia: async () => ({
      kind: "permanent",
      error: ours("invalid_content", "Infobip takes files by their address only", false),
    }),
    forgotFile: () => false,
    mediaInfo: (connection, id) => mediaInfo(rt, connection, id),
    downloadMedia: (connection, url, timeout) => download(rt, connection, url, timeout),
    createTemplate: (connection, draft) => createInfobipTemplate(rt, connection, draft),
    listTemplates: (connection, query) => listInfobipTemplates(rt, connection, query),
    getTemplate: (connection, id) => getInfobipTemplate(rt, connection, id),
    editTemplate: (connection, id, change) => editInfobipTemplate(rt, connection, id, change),
    deleteTemplate: (connection, template) => deleteInfobipTemplate(rt, connection, template),
  };
}

const statusSchema = z.object({
  id: z.int(),
  groupId: z.int(),
  name: z.string(),
  description: z.string().nullable().default(null),
});
const sentSchema = z.object({ to: z.string().optional(), messageId: z.string().min(1), status: statusSchema });
/** A template's answer is a list; the others are one message. */
const answerSchema = z.union([
  z
    .object({ messages: z.array(sentSchema).min(1) })
    .transform(({ messages }) => messages[0] as z.output<typeof sentSchema>),
  sentSchema,
]);

/**
 * Sends under an id of ours, `<message id>.<attempt>`, which Infobip takes once: a call whose answer was lost is made
 * again under the same id, and "duplicate" then says that the first one arrived.
 */
async function send(rt: Runtime, connection: Connection, request: SendRequest): Promise<SendOutcome> {
  const message = infobipMessage(request);
  if (!message.ok) return invalidContent(message.reason);
  const to = infobipRecipient(request.recipient);
  if (to === null) return invalidContent("The message has no recipient");
  const messageId = request.repeats ?? request.callbackId;
  const body = {
    from: connection.providerNumberId,
    to,
    messageId,
    content: message.content,
    callbackData: messageId,
    ...(request.replyTo === null ? {} : { context: { replyToMessageId: request.replyTo } }),
  };
  const isTemplate = message.path[0] === "template";
  const answer = await callInfobip(rt, connection, {
    method: "POST",
    path: ["whatsapp", "1", "message", ...message.path],
    body: isTemplate ? { messages: [body] } : body,
  });
  const again = (reason: string): SendOutcome => ({
    kind: "repeat",
    providerMessageId: messageId,
    error: ours("outcome_unknown", reason, true),
    retryAfter: null,
  });
  switch (answer.kind) {
    case "lost":
      return again(answer.reason);
    case "error":
      return refusedByHttp(answer.status, answer.error, answer.retryAfter);
    case "ok": {
      const sent = answerSchema.safeParse(answer.body).data;
      if (!sent) return again("The provider named no message");
      // The id was used up by ourselves: the message is the one that is already on its way.
      if (isAccepted(sent.status) || isDuplicate(sent.status.id)) {
        return { kind: "sent", waMessageId: sent.messageId, waId: null, userId: null, held: false };
      }
      return refusedByStatus(sent.status);
    }
  }
}

/** Typing is an event of its own, towards somebody. */
async function markRead(
  rt: Runtime,
  connection: Connection,
  waMessageId: string,
  typingTo: string | null | undefined,
): Promise<ProviderResult<null>> {
  const sender = connection.providerNumberId;
  const read = await callInfobip(rt, connection, {
    method: "POST",
    path: ["whatsapp", "1", "senders", sender, "message", waMessageId, "read"],
  });
  const marked = resultOf(read, () => null);
  if (!marked.ok || !typingTo) return marked;
  const typing = await callInfobip(rt, connection, {
    method: "POST",
    path: ["whatsapp", "1", "events"],
    body: { events: [{ sender, destinations: [{ to: typingTo }], content: { type: "TYPING_INDICATOR" } }] },
  });
  return resultOf(typing, () => null);
}

function mediaPath(connection: Connection, id: string): string[] {
  return ["whatsapp", "1", "senders", connection.providerNumberId, "media", id];
}

/** A file of Infobip's has one address for as long as it is kept; what it is stands in the headers of that. */
async function mediaInfo(rt: Runtime, connection: Connection, id: string): Promise<ProviderResult<MediaInfo>> {
  const path = mediaPath(connection, id);
  const answer = await callInfobip(rt, connection, { method: "HEAD", path });
  return resultOf(answer, (_body, headers) => {
    const size = Number(headers.get("Content-Length") ?? Number.NaN);
    return {
      url: urlOf(rt, connection, path).toString(),
      mimeType: headers.get("Content-Type"),
      fileName: null,
      size: Number.isSafeInteger(size) ? size : null,
    };
  });
}

async function download(rt: Runtime, connection: Connection, link: string, timeout: number): Promise<MediaDownload> {
  const url = URL.parse(link);
  const own = url !== null && url.origin === new URL(urlOf(rt, connection, [])).origin;
  if (!own) return { kind: "failed", reason: "The file's address is not the provider's" };
  return readFile(rt, url, infobipCredentials(connection), timeout);
}
