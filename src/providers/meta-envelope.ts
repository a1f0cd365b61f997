import { contactPerson } from "./meta-people";
import type { EventNumber, Person } from "./provider";
import { isObject, type JsonObject, listOf, objectOf, textOf } from "./provider-json";

/**
 * A webhook of Meta's is `{object, entry: [{id, time?, changes: [{field, value}]}]}`, and the lists of a `value` hold
 * what happened. This file finds those items, in one order that parsing and splitting share; it judges none of them.
 */

/** The lists of a value whose every element is an item. `history` is one too, of chunks. */
const LISTS = [
  "messages",
  "message_echoes",
  "statuses",
  "errors",
  "user_preferences",
  "user_id_update",
  "state_sync",
  "groups",
  "calls",
] as const;

export type ListName = (typeof LISTS)[number];

/** Members of a value that say where its items belong. */
const ENVELOPE_MEMBERS = new Set(["messaging_product", "metadata", "contacts"]);

const LIST_MEMBERS = new Set<string>([...LISTS, "history"]);

/** Fields whose values hold lists. `message_deliveries` and `message_reads` are older names of parts of `messages`. */
const LIST_FIELDS = new Set([
  "messages",
  "message_deliveries",
  "message_reads",
  "message_echoes",
  "smb_message_echoes",
  "history",
  "smb_app_state_sync",
  "user_preferences",
  "user_id_update",
  "calls",
  "group_lifecycle_update",
  "group_participants_update",
  "group_settings_update",
  "group_status_update",
]);

export interface Entry {
  raw: JsonObject;
  /** `entry[].time` in ms; present on some fields only. */
  at: number | null;
  businessId: string | null;
}

export interface Change {
  entry: Entry;
  raw: JsonObject;
  field: string;
  value: JsonObject;
  number: EventNumber;
  /** `value.contacts`, place by place; null for what is no contact. */
  contacts: (Person | null)[];
}

/** One thing a webhook says, and where it stood. */
export type MetaItem =
  | { kind: "listed"; change: Change; list: ListName; raw: unknown }
  /** A message of a history chunk, with the thread it belongs to. */
  | { kind: "threaded"; change: Change; chunk: JsonObject; thread: JsonObject; raw: unknown }
  /** What a history chunk says of itself: progress, or that sharing was declined. */
  | { kind: "chunk"; change: Change; chunk: JsonObject; raw: JsonObject }
  /** A thread or a chunk that has not the shape of one. */
  | { kind: "broken_history"; change: Change; chunk: unknown; thread: unknown; raw: unknown; reason: string }
  /** Members of a value beside its lists that nobody knows. */
  | { kind: "rest"; change: Change; raw: JsonObject }
  /** A change that is one item as a whole. */
  | { kind: "whole"; change: Change; raw: JsonObject }
  /** A change or an entry that has not the shape of one. */
  | { kind: "broken_change"; entry: Entry; raw: unknown; reason: string }
  | { kind: "broken_entry"; raw: unknown; reason: string };

/** All items of a body in their order; null when the body is no WhatsApp webhook of Meta's. */
export function itemsOf(body: unknown): MetaItem[] | null {
  if (!isObject(body) || !Array.isArray(body.entry)) return null;
  if (body.object !== undefined && body.object !== "whatsapp_business_account") return null;
  return body.entry.flatMap(entryItems);
}

function entryItems(raw: unknown): MetaItem[] {
  if (!isObject(raw)) return [{ kind: "broken_entry", raw, reason: "The entry is no object" }];
  if (!Array.isArray(raw.changes)) return [{ kind: "broken_entry", raw, reason: "The entry has no list of changes" }];
  const entry: Entry = { raw, at: timeOf(raw.time), businessId: textOf(raw.id) };
  return raw.changes.flatMap((change) => changeItems(entry, change));
}

function changeItems(entry: Entry, raw: unknown): MetaItem[] {
  if (!isObject(raw)) return [{ kind: "broken_change", entry, raw, reason: "The change is no object" }];
  const { value } = raw;
  if (!isObject(value)) return [{ kind: "broken_change", entry, raw, reason: "The change has no value" }];
  // A missing field means messages (contract 23).
  const field = raw.field === undefined ? "messages" : String(raw.field);
  const hasLists = LIST_FIELDS.has(field);
  const contacts = listOf(value.contacts).map((contact) => (isObject(contact) ? contactPerson(contact) : null));
  const change: Change = { entry, raw, field, value, number: numberOf(entry, value, hasLists), contacts };
  if (!hasLists) return [{ kind: "whole", change, raw }];
  const items: MetaItem[] = LISTS.flatMap((list) =>
    listOf(value[list]).map((item): MetaItem => ({ kind: "listed", change, list, raw: item })),
  );
  for (const chunk of listOf(value.history)) items.push(...chunkItems(change, chunk));
  const rest = restOf(value);
  if (items.length === 0) return [{ kind: "whole", change, raw }];
  if (Object.keys(rest).length > 0) items.push({ kind: "rest", change, raw: rest });
  return items;
}

/** What is neither envelope nor a list; a list's name with something else under it is here too. */
function restOf(value: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(value).filter(
      ([name, member]) =>
        member !== null && !ENVELOPE_MEMBERS.has(name) && !(LIST_MEMBERS.has(name) && Array.isArray(member)),
    ),
  );
}

function chunkItems(change: Change, chunk: unknown): MetaItem[] {
  if (!isObject(chunk)) {
    return [{ kind: "broken_history", change, chunk, thread: undefined, raw: chunk, reason: "The chunk is no object" }];
  }
  const { threads, ...said } = chunk;
  // Threads that are no list are something the chunk says.
  const head = threads === undefined || Array.isArray(threads) ? said : chunk;
  const items: MetaItem[] = [];
  if (Object.keys(head).length > 0) items.push({ kind: "chunk", change, chunk, raw: head });
  for (const thread of listOf(threads)) {
    if (!isObject(thread) || !Array.isArray(thread.messages)) {
      const reason = "The thread has no list of messages";
      items.push({ kind: "broken_history", change, chunk, thread, raw: thread, reason });
      continue;
    }
    for (const raw of thread.messages) items.push({ kind: "threaded", change, chunk, thread, raw });
  }
  return items;
}

/** Fields that are one item name their number in a place of their own; the others in `metadata`. */
function numberOf(entry: Entry, value: JsonObject, hasLists: boolean): EventNumber {
  const metadata = objectOf(value.metadata);
  const recipient: JsonObject = hasLists ? {} : objectOf(value.recipient);
  const settings: JsonObject = hasLists ? {} : objectOf(value.phone_number_settings);
  const beside = hasLists ? null : textOf(value.display_phone_number);
  const display = textOf(metadata.display_phone_number) ?? textOf(recipient.display_phone_number) ?? beside;
  return {
    providerNumberId:
      textOf(metadata.phone_number_id) ?? textOf(recipient.phone_number_id) ?? textOf(settings.phone_number_id),
    businessId: entry.businessId,
    displayDigits: display === null ? null : display.replaceAll(/\D/g, "") || null,
  };
}

/**
 * A provider time in ms: whole seconds as text or number (Meta mixes both), or ms where a feed sends those. Null when
 * it is no time.
 */
export function timeOf(value: unknown): number | null {
  const text = textOf(value);
  if (text === null || !/^\d{1,14}$/.test(text)) return null;
  const time = Number(text);
  // 10^11 seconds are in the year 5138; 10^11 ms were in 1973.
  return time >= 1e11 ? time : time * 1000;
}
