import { unreachable } from "../platform/errors";
import { itemsOf, type MetaItem, timeOf } from "./meta-envelope";
import { messageEvent } from "./meta-message-events";
import { listedNotice, wholeChangeEvent } from "./meta-notices";
import { completed, isFromUs, isSomebody, namedIn, personOf } from "./meta-people";
import { statusEvent } from "./meta-status-events";
import type { EventNumber, InboundEvent, Person } from "./provider";
import { isObject, type JsonObject, objectOf, textOf } from "./provider-json";

type FieldsOf<E> = E extends unknown ? Omit<E, "number" | "position" | "raw"> : never;

/** An event without its place in the webhook. */
export type EventFields = FieldsOf<InboundEvent>;

const NOWHERE: EventNumber = { providerNumberId: null, businessId: null, displayDigits: null };
const NOBODY = personOf(null);

/**
 * Everything one webhook body of Meta's says, item by item: as many events as the body has items, in their order. An
 * item that is malformed or not known becomes `unknown` with its raw JSON and the reason, and its neighbours are what
 * they would be without it. Parse the body with `parseProviderJson`, so that long ids keep their digits.
 *
 * `receivedAt` (ms) dates an opt-out, a contact or an id change that carries no time of its own; `firstPosition` is
 * the place of the body's first item in the webhook it was split from. Never throws.
 */
export function parseMetaWebhook(
  body: unknown,
  { receivedAt = 0, firstPosition = 0 }: { receivedAt?: number; firstPosition?: number } = {},
): InboundEvent[] {
  const items = itemsOf(body);
  if (!items) {
    const reason = "The body is no webhook of WhatsApp's";
    return [{ number: NOWHERE, position: firstPosition, raw: body, kind: "unknown", field: null, reason }];
  }
  return items.map((item, index) => {
    const number = "change" in item ? item.change.number : numberOfBroken(item);
    const place = { number, position: firstPosition + index, raw: item.raw };
    const fields = eventOf(item, receivedAt);
    if (typeof fields !== "string") return { ...place, ...fields };
    return { ...place, kind: "unknown", field: "change" in item ? item.change.field : null, reason: fields };
  });
}

function numberOfBroken(item: Extract<MetaItem, { kind: "broken_change" | "broken_entry" }>): EventNumber {
  return item.kind === "broken_change" ? { ...NOWHERE, businessId: item.entry.businessId } : NOWHERE;
}

/** The numbers that events name, each once: what to look up before they are stored. */
export function numbersOf(events: readonly InboundEvent[]): EventNumber[] {
  const distinct = new Map<string, EventNumber>();
  for (const { number } of events) {
    distinct.set(JSON.stringify([number.providerNumberId, number.businessId, number.displayDigits]), number);
  }
  return [...distinct.values()];
}

function eventOf(item: MetaItem, receivedAt: number): EventFields | string {
  switch (item.kind) {
    case "listed":
      return listedEvent(item, receivedAt);
    case "threaded": {
      const byUs = isObject(item.raw) && sentByUs(item.raw, item);
      return messageEvent(item.raw, { change: item.change, person: personIn(item), byUs, origin: "history" });
    }
    case "chunk": {
      const topic = Array.isArray(item.raw.errors) ? "history_declined" : "history_progress";
      return { kind: "notice", topic, field: item.change.field, numberUpdate: null };
    }
    case "rest":
      return `Not known beside the lists of ${item.change.field}: ${Object.keys(item.raw).join(", ").slice(0, 200)}`;
    case "whole":
      return wholeChangeEvent(item.change);
    case "broken_history":
    case "broken_change":
    case "broken_entry":
      return item.reason;
    default:
      return unreachable(item);
  }
}

function personIn(item: Extract<MetaItem, { kind: "listed" | "threaded" }>): Person {
  const named = namedIn(item);
  return named === null ? NOBODY : completed(named, item.change.contacts);
}

/** In a thread, what is from our number, or from neither side by name, is ours; `from_me` says it where it is given. */
function sentByUs(raw: JsonObject, item: Extract<MetaItem, { kind: "threaded" }>): boolean {
  const said = objectOf(raw.history_context).from_me;
  if (typeof said === "boolean") return said;
  if (item.change.number.displayDigits !== null) return isFromUs(raw, item.change);
  const from = textOf(raw.from);
  return from !== null && from !== textOf(item.thread.id);
}

function listedEvent(item: Extract<MetaItem, { kind: "listed" }>, receivedAt: number): EventFields | string {
  const { list, raw, change } = item;
  const person = personIn(item);
  switch (list) {
    case "messages": {
      const fromHistory = change.field === "history";
      const byUs = fromHistory && isObject(raw) && isFromUs(raw, change);
      return messageEvent(raw, { change, person, byUs, origin: fromHistory ? "history" : "live" });
    }
    case "message_echoes":
      return messageEvent(raw, { change, person, byUs: true, origin: "echo" });
    case "statuses":
      return statusEvent(raw, person);
    case "user_preferences":
      return preferenceEvent(raw, person, change.entry.at ?? receivedAt);
    case "user_id_update":
      return idUpdateEvent(raw, person, change.entry.at ?? receivedAt);
    case "state_sync":
      return contactSyncEvent(raw, change.entry.at ?? receivedAt);
    case "groups":
    case "calls":
    case "errors":
      return listedNotice(list, change.field) ?? `The list ${list} is not known`;
    default:
      return unreachable(list);
  }
}

function preferenceEvent(raw: unknown, sender: Person, fallback: number): EventFields | string {
  if (!isObject(raw)) return "The preference is no object";
  if (!isSomebody(sender)) return "The preference does not say whose it is";
  if (raw.category !== undefined && raw.category !== "marketing_messages") {
    return `The preference is about ${String(raw.category).slice(0, 100)}, which is not known`;
  }
  const at = timeOf(raw.timestamp) ?? fallback;
  const detail = textOf(raw.detail);
  switch (raw.value) {
    case "stop":
      return { kind: "preference", sender, marketing: "stop", detail, at };
    case "resume":
    case "signup":
      return { kind: "preference", sender, marketing: "resume", detail, at };
    default:
      return "The preference has a value that is not known";
  }
}

function idUpdateEvent(raw: unknown, current: Person, fallback: number): EventFields | string {
  if (!isObject(raw)) return "The id update is no object";
  const user = objectOf(raw.user_id);
  const parent = objectOf(raw.parent_user_id);
  const previous = personOf(raw.wa_id, user.previous, parent.previous);
  if (!isSomebody(previous) || current.userId === null) return "The id update does not name both ids";
  return { kind: "identity_change", previous, current, at: timeOf(raw.timestamp) ?? fallback };
}

function contactSyncEvent(raw: unknown, fallback: number): EventFields | string {
  if (!isObject(raw)) return "The contact is no object";
  const contact = objectOf(raw.contact);
  const person: Person = {
    ...personOf(contact.phone_number, contact.user_id, contact.parent_user_id),
    username: textOf(contact.username),
    name: textOf(contact.full_name) ?? textOf(contact.first_name),
  };
  if (!isSomebody(person)) return "The contact has neither number nor id";
  if (raw.action !== "add" && raw.action !== "remove") return "The contact's action is not known";
  return { kind: "contact_sync", person, action: raw.action, at: timeOf(objectOf(raw.metadata).timestamp) ?? fallback };
}
