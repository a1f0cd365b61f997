/** What Infobip posts (facts 3.3): messages and reports in `results`, everything else as one object. */
import { infobipMessageEvent } from "./infobip-message-events";
import { infobipNotice } from "./infobip-notices";
import { reportEvent, seenEvent } from "./infobip-reports";
import { digitsOf } from "./infobip-values";
import type { EventFields } from "./meta-webhook";
import type { EventNumber, InboundEvent } from "./provider";
import { isObject, type JsonObject, objectOf } from "./provider-json";

/** The sender is the number: Infobip has no other id of it. */
function numberOf(sender: unknown): EventNumber {
  const digits = digitsOf(sender);
  return { providerNumberId: digits, businessId: null, displayDigits: digits };
}

const NOWHERE: EventNumber = { providerNumberId: null, businessId: null, displayDigits: null };

interface Found {
  number: EventNumber;
  fields: EventFields | string;
}

/** One of `results`: what was seen, what was delivered, or a message. */
function resultEvent(raw: unknown): Found {
  if (!isObject(raw)) return { number: NOWHERE, fields: "The result is no object" };
  if (isObject(raw.message)) return { number: numberOf(raw.to), fields: infobipMessageEvent(raw, raw.message) };
  // A report names the person in `to`; its sender stands in `from`, or nowhere.
  if (raw.seenAt !== undefined) return { number: NOWHERE, fields: seenEvent(raw) };
  if (isObject(raw.status)) return { number: NOWHERE, fields: reportEvent(raw, raw.status) };
  return { number: raw.to === undefined ? NOWHERE : numberOf(raw.to), fields: "The result is of no known kind" };
}

/** A body that is one event. Those of accounts and templates name no sender: their address says whose they are. */
function wholeEvent(body: JsonObject, receivedAt: number): Found {
  const content = objectOf(body.content);
  const sender = content.sender ?? body.from;
  return {
    number: sender === undefined ? NOWHERE : numberOf(sender),
    fields: infobipNotice(body, content, receivedAt),
  };
}

/** The items of a body, in order: its results, or itself. */
export function infobipItems(body: unknown): unknown[] {
  return isObject(body) && Array.isArray(body.results) ? body.results : [body];
}

/**
 * Everything one webhook body of Infobip's says, item by item, in order. A malformed or unknown item becomes `unknown`
 * with its raw JSON and the reason. `receivedAt` (ms) dates what has no time of its own. Never throws.
 */
export function parseInfobipWebhook(
  body: unknown,
  { receivedAt = 0, firstPosition = 0 }: { receivedAt?: number; firstPosition?: number } = {},
): InboundEvent[] {
  const inResults = isObject(body) && Array.isArray(body.results);
  return infobipItems(body).map((raw, index): InboundEvent => {
    const found = inResults
      ? resultEvent(raw)
      : isObject(raw)
        ? wholeEvent(raw, receivedAt)
        : { number: NOWHERE, fields: "The body is no webhook of Infobip's" };
    const place = { number: found.number, position: firstPosition + index, raw };
    if (typeof found.fields !== "string") return { ...place, ...found.fields };
    return { ...place, kind: "unknown", field: null, reason: found.fields };
  });
}
