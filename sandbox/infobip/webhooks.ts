/** What Infobip posts: messages and reports in `results`, everything else alone. */
import type { CustomerMessage } from "../meta/customers";
import type { StoredFile } from "../meta/media";
import type { WebhookItem } from "../state/outbox";

/** The field of outbox items that go into `results`. */
export const RESULT = "infobip.result";

export function isResult(item: Pick<WebhookItem, "field">): boolean {
  return item.field === RESULT;
}

/** `2025-01-01T10:10:00.000+0000`. */
export function infobipTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "+0000");
}

/** One POST of these items. A template's review was put down as Meta tells it. */
export function infobipBody(items: readonly WebhookItem[], now: number): unknown {
  const [first] = items;
  if (first && !isResult(first))
    return first.field === "message_template_status_update" ? templateEvent(first, now) : first.item;
  const results = items.map(({ item }) => item);
  const inbound = results.some((result) => "message" in result);
  return inbound ? { results, messageCount: results.length, pendingMessageCount: 0 } : { results };
}

function templateEvent({ item }: WebhookItem, now: number): unknown {
  return {
    messageTemplateId: String(item.message_template_id),
    messageTemplateName: item.message_template_name,
    messageTemplateLanguage: item.message_template_language,
    timestamp: infobipTime(now),
    change: { type: "TEMPLATE_STATUS_UPDATE", newStatus: item.event, reason: item.reason },
  };
}

type Json = Record<string, unknown>;

function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

const FILES: Record<string, string> = {
  image: "IMAGE",
  video: "VIDEO",
  audio: "AUDIO",
  document: "DOCUMENT",
  sticker: "STICKER",
};

/** What a customer of the control API writes (in Meta's words), as Infobip tells it. */
export function inboundMessage(message: CustomerMessage, file: StoredFile | null, mediaUrl: string): Json {
  const payload = object(message[message.type]);
  const context = message.context?.message_id === undefined ? {} : { context: { id: message.context.message_id } };
  const kind = FILES[message.type];
  if (kind !== undefined) {
    const caption = payload.caption === undefined ? {} : { caption: payload.caption };
    return { type: kind, url: file === null ? payload.url : mediaUrl, ...caption, ...context };
  }
  switch (message.type) {
    case "text":
      return { type: "TEXT", text: payload.body, ...context };
    case "location":
      return { type: "LOCATION", ...payload, ...context };
    case "reaction": {
      const removed = payload.emoji === undefined || payload.emoji === "";
      return {
        type: "REACTION",
        ...(removed ? {} : { emoji: payload.emoji }),
        action: removed ? "REMOVED" : "ADDED",
        context: { id: payload.message_id },
      };
    }
    case "button":
      return { type: "BUTTON", ...payload, ...context };
    case "interactive": {
      const isList = payload.type === "list_reply";
      const reply = object(isList ? payload.list_reply : payload.button_reply);
      return { type: isList ? "INTERACTIVE_LIST_REPLY" : "INTERACTIVE_BUTTON_REPLY", ...reply, ...context };
    }
    default:
      return { ...payload, type: message.type.toUpperCase(), ...context };
  }
}
