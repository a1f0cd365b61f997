import { type Change, timeOf } from "./meta-envelope";
import { isSomebody, personOf } from "./meta-people";
import type { EventFields } from "./meta-webhook";
import type { InboundMessage, MediaReference, Person, StatusName } from "./provider";
import { isObject, type JsonObject, objectOf, textOf } from "./provider-json";

/** Types whose payload is an object under the type's own name. */
const OBJECT_TYPES = [
  "text",
  "image",
  "video",
  "audio",
  "voice",
  "document",
  "sticker",
  "location",
  "reaction",
  "interactive",
  "button",
  "order",
  "system",
  "edit",
  "revoke",
] as const;

const PAYLOAD_TYPES = [...OBJECT_TYPES, "contacts"] as const;

const MAX_TYPE = 64;

const MEDIA_TYPES = new Set<string>(["image", "video", "audio", "document", "sticker"]);

/** Members of a message that are told in fields of their own; every other one stays in the content. */
const TOLD = new Set([
  "id",
  "from",
  "from_user_id",
  "from_parent_user_id",
  "to",
  "to_user_id",
  "to_parent_user_id",
  "group_id",
  "timestamp",
  "type",
  "history_context",
]);

/** Who a message is from or to, and by which way it came. */
export interface Passage {
  change: Change;
  /** The other side. */
  person: Person;
  byUs: boolean;
  origin: "live" | "echo" | "history";
}

/** What a message item is: a message, an echo, or something about another message. A text says why it is none. */
export function messageEvent(raw: unknown, passage: Passage): EventFields | string {
  if (!isObject(raw)) return "The message is no object";
  const waMessageId = textOf(raw.id);
  if (waMessageId === null) return "The message has no id";
  const at = timeOf(raw.timestamp);
  if (at === null) return "The message has no time";
  const type = typeOf(raw);
  if (type === null) return "The message has no type";
  if (type.length > MAX_TYPE) return "The message's type is no name";
  const payload = payloadOf(raw, type);
  if (isOneOf(OBJECT_TYPES, type) && !isObject(payload)) return `The ${type} message has no ${type}`;
  if (type === "contacts" && !Array.isArray(payload)) return "The contacts message has no contacts";
  if (type === "system") return systemEvent(raw, objectOf(payload), passage, at);
  const groupId = textOf(raw.group_id);
  const { person: sender, byUs } = passage;
  if (!isSomebody(sender) && groupId === null) {
    return byUs ? "The message does not say who it was sent to" : "The message does not say who sent it";
  }
  const reference = referenceEvent(type, objectOf(payload), { sender, byUs, groupId, waMessageId, at });
  if (reference !== null) return reference;
  const message: InboundMessage = {
    waMessageId,
    type: storedType(type),
    content: contentOf(raw, type),
    media: mediaOf(storedType(type), objectOf(payload)),
    replyTo: textOf(objectOf(raw.context).id),
    at,
  };
  if (!byUs) {
    const origin = passage.origin === "history" ? "history" : "live";
    return { kind: "message", origin, sender, groupId, message };
  }
  const origin = passage.origin === "history" ? "history" : "echo";
  return { kind: "echo", origin, recipient: sender, groupId, message, status: historyStatus(raw) };
}

function payloadOf(raw: JsonObject, type: string): unknown {
  return Object.hasOwn(raw, type) ? raw[type] : undefined;
}

function isOneOf<T extends string>(values: readonly T[], value: string): value is T {
  return (values as readonly string[]).includes(value);
}

/** The type as said, or as the payload shows; a message with only errors is one that WhatsApp could not pass on. */
function typeOf(raw: JsonObject): string | null {
  const said = textOf(raw.type);
  if (said !== null) return said;
  const shown = PAYLOAD_TYPES.find((type) => raw[type] !== undefined);
  if (shown !== undefined) return shown;
  return Array.isArray(raw.errors) ? "unsupported" : null;
}

/** One name per thing: older feeds call a voice note `voice`, and some call what WhatsApp cannot pass on `unknown`. */
function storedType(type: string): string {
  if (type === "voice") return "audio";
  return type === "unknown" ? "unsupported" : type;
}

/** The payload of the type, whole, and beside it whatever else the message said (referral, errors, forwarded, …). */
function contentOf(raw: JsonObject, type: string): Record<string, unknown> {
  const payload = payloadOf(raw, type);
  const beside = Object.entries(raw).filter(([name, value]) => name !== type && !TOLD.has(name) && tells(name, value));
  return {
    ...Object.fromEntries(beside),
    ...(payload === undefined ? {} : isObject(payload) ? payload : { [type]: payload }),
    ...(type === "voice" ? { voice: true } : {}),
  };
}

/** A context that only names the answered message is told by `replyTo`. */
function tells(name: string, value: unknown): boolean {
  if (name !== "context" || !isObject(value)) return value !== null;
  return Object.keys(value).some((member) => member !== "id" && member !== "from");
}

function mediaOf(type: string, payload: JsonObject): MediaReference | null {
  if (!MEDIA_TYPES.has(type)) return null;
  return {
    id: textOf(payload.id),
    url: textOf(payload.url),
    mimeType: textOf(payload.mime_type),
    sha256: textOf(payload.sha256),
    fileName: textOf(payload.filename),
  };
}

interface Reference {
  sender: Person;
  byUs: boolean;
  groupId: string | null;
  waMessageId: string;
  at: number;
}

/** What a message says about another one: reaction, edit or revoke; null for every other type. */
function referenceEvent(type: string, payload: JsonObject, by: Reference): EventFields | string | null {
  const { groupId, ...author } = by;
  switch (type) {
    case "reaction": {
      const target = textOf(payload.message_id);
      // Taken back: an empty emoji, or none.
      const emoji = textOf(payload.emoji);
      return target === null
        ? "The reaction names no message"
        : { kind: "reaction", ...author, groupId, target, emoji };
    }
    case "revoke": {
      const target = textOf(payload.original_message_id);
      return target === null ? "The revoke names no message" : { kind: "revoke", ...author, target };
    }
    case "edit": {
      const message = objectOf(payload.message);
      const target = textOf(payload.original_message_id) ?? textOf(objectOf(message.context).id);
      if (target === null) return "The edit names no message";
      const edited = typeOf(message);
      if (edited === null) return "The edit has no message";
      return { kind: "edit", ...author, target, type: storedType(edited), content: contentOf(message, edited) };
    }
    default:
      return null;
  }
}

/** Number and id changes: the same person goes on under another name. */
function systemEvent(raw: JsonObject, system: JsonObject, passage: Passage, at: number): EventFields | string {
  if (system.type === "customer_identity_changed" || system.type === "customer_changed_identity") {
    return { kind: "notice", topic: "identity_check", field: "messages.system", numberUpdate: null };
  }
  const previous = personOf(raw.from ?? system.customer, raw.from_user_id, raw.from_parent_user_id);
  const current = personOf(system.wa_id ?? system.new_wa_id, system.user_id, system.parent_user_id);
  if (!isSomebody(current)) return { kind: "notice", topic: "other", field: "messages.system", numberUpdate: null };
  if (!isSomebody(previous)) return "The change does not say whose it is";
  return {
    kind: "identity_change",
    previous: { ...previous, name: passage.person.name, username: passage.person.username },
    current,
    at,
  };
}

/** How far a message of the history had come; null for one that was still waiting. */
function historyStatus(raw: JsonObject): StatusName | null {
  switch (textOf(objectOf(raw.history_context).status)?.toUpperCase()) {
    case "SENT":
      return "sent";
    case "DELIVERED":
      return "delivered";
    case "READ":
    case "PLAYED":
      return "read";
    case "ERROR":
      return "failed";
    default:
      return null;
  }
}
