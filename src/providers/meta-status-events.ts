import { timeOf } from "./meta-envelope";
import { providerError } from "./meta-errors";
import { isSomebody } from "./meta-people";
import type { EventFields } from "./meta-webhook";
import type { Person, ProviderError, StatusName } from "./provider";
import { isObject, type JsonObject, listOf, objectOf, textOf } from "./provider-json";

/** `played` is said of voice notes and shows as read (contract 9). */
const STATUSES: ReadonlyMap<string, StatusName> = new Map([
  ["sent", "sent"],
  ["delivered", "delivered"],
  ["read", "read"],
  ["played", "read"],
  ["failed", "failed"],
]);

/** What a status item is; a text says why it is none. `recipient` is the person it names, completed by contacts. */
export function statusEvent(raw: unknown, recipient: Person): EventFields | string {
  if (!isObject(raw)) return "The status is no object";
  const said = textOf(raw.status);
  if (raw.type === "call" || (said !== null && /^[A-Z]/.test(said))) {
    return { kind: "notice", topic: "call", field: "statuses", numberUpdate: null };
  }
  // Legacy: the person deleted the message for themselves. Nothing follows from it.
  if (said === "deleted") return { kind: "notice", topic: "other", field: "statuses.deleted", numberUpdate: null };
  const waMessageId = textOf(raw.id);
  if (waMessageId === null) return "The status names no message";
  const status = said === null ? undefined : STATUSES.get(said);
  if (!status) return said === null ? "The status has no status" : `The status ${said} is not known`;
  const at = timeOf(raw.timestamp);
  if (at === null) return "The status has no time";
  const isGroup = raw.recipient_type === "group";
  return {
    kind: "status",
    waMessageId,
    callbackId: textOf(raw.biz_opaque_callback_data),
    status,
    at,
    recipient: isSomebody(recipient) ? recipient : null,
    participant: isGroup ? (recipient.waId ?? recipient.userId) : null,
    error: errorOf(raw),
    pricing: pricingOf(raw),
  };
}

/** The first error of a failed message. Older feeds write the details beside the code. */
function errorOf(raw: JsonObject): ProviderError | null {
  const error = listOf(raw.errors)[0];
  if (!isObject(error)) return null;
  const code = textOf(error.code);
  const title = textOf(error.title) ?? textOf(error.message) ?? "The message failed";
  const details = textOf(objectOf(error.error_data).details) ?? textOf(error.details);
  if (code === null || !/^\d{1,9}$/.test(code)) return { code: code ?? "unknown", title, details, retryable: false };
  return providerError({ code: Number(code), title, details, transient: error.is_transient === true });
}

/** What the message costs; the conversation it was charged to belongs to it (versions before v24.0 still say so). */
function pricingOf(raw: JsonObject): Record<string, unknown> | null {
  const conversation = isObject(raw.conversation) ? raw.conversation : null;
  const { pricing: nested, ...plain } = conversation ?? {};
  const pricing = isObject(raw.pricing) ? raw.pricing : isObject(nested) ? nested : null;
  if (pricing === null && conversation === null) return null;
  return { ...pricing, ...(conversation === null ? {} : { conversation: plain }) };
}
