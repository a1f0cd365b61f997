/** Delivery and seen reports. The id of a message is the one we sent it under, so it is our callback id as well. */
import { isDuplicate, isRetryable } from "./infobip-errors";
import { infobipPerson, infobipTime } from "./infobip-values";
import type { EventFields } from "./meta-webhook";
import type { ProviderError, StatusName } from "./provider";
import { isObject, type JsonObject, objectOf, textOf } from "./provider-json";

const PENDING = 1;
const DELIVERED = 3;
/** Handed to an operator, which is not yet the person. */
const TO_OPERATOR = 2;

function statusName(groupId: number, id: number): StatusName {
  if (groupId === DELIVERED) return id === TO_OPERATOR ? "sent" : "delivered";
  return groupId === PENDING || groupId === 0 ? "sent" : "failed";
}

/** What a delivery report is; a text says why it is none. */
export function reportEvent(raw: JsonObject, status: JsonObject): EventFields | string {
  const waMessageId = textOf(raw.messageId);
  if (waMessageId === null) return "The report names no message";
  const { groupId, id } = status;
  if (typeof groupId !== "number" || typeof id !== "number") return "The report has no status";
  // A repeated call is reported on as well as the first one, whose report is the one that counts.
  if (isDuplicate(id)) return { kind: "notice", topic: "other", field: "delivery.duplicate", numberUpdate: null };
  const at = infobipTime(raw.doneAt) ?? infobipTime(raw.sentAt);
  if (at === null) return "The report has no time";
  const name = statusName(groupId, id);
  return {
    ...reportOf(raw, waMessageId),
    status: name,
    at,
    error: name === "failed" ? failureOf(status, objectOf(raw.error)) : null,
    pricing: pricingOf(raw.price),
  };
}

/** What a seen report is. */
export function seenEvent(raw: JsonObject): EventFields | string {
  const waMessageId = textOf(raw.messageId);
  if (waMessageId === null) return "The report names no message";
  const at = infobipTime(raw.seenAt);
  if (at === null) return "The report has no time";
  return { ...reportOf(raw, waMessageId), status: "read", at, error: null, pricing: null };
}

function reportOf(raw: JsonObject, waMessageId: string) {
  // A seen report writes who saw it in `from`, a delivery report in `to`; `contact` says it plainly.
  const recipient = infobipPerson(
    isObject(raw.contact) ? null : raw.seenAt === undefined ? raw.to : raw.from,
    raw.contact,
  );
  return { kind: "status" as const, waMessageId, callbackId: waMessageId, recipient, participant: null };
}

/** The error says more than the status where it is one; `permanent` decides whether to try again (facts 3.2). */
function failureOf(status: JsonObject, error: JsonObject): ProviderError {
  const isError = typeof error.id === "number" && error.id !== 0;
  const said = isError ? error : status;
  const code = typeof said.id === "number" ? said.id : "unknown";
  return {
    code,
    title: textOf(said.description) ?? textOf(said.name) ?? "The message failed",
    details: textOf(said.name),
    retryable: isError ? error.permanent === false : typeof code === "number" && isRetryable(code),
  };
}

function pricingOf(price: unknown): Record<string, unknown> | null {
  const { pricePerMessage, currency } = objectOf(price);
  if (typeof pricePerMessage !== "number") return null;
  return { price: pricePerMessage, currency: textOf(currency), billable: pricePerMessage > 0 };
}
