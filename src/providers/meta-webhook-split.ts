import { unreachable } from "../platform/errors";
import { type Change, type Entry, itemsOf, type MetaItem } from "./meta-envelope";
import { contactsAbout, namedIn } from "./meta-people";
import { isObject, type JsonObject, listOf, parseProviderJson } from "./provider-json";

/** A piece of a webhook that is a whole webhook body by itself. */
export interface WebhookPart {
  text: string;
  /** One item that alone is larger than a part may be, or a body that cannot be split. */
  oversized: boolean;
  /** Place of the part's first item in the webhook: `firstPosition` of `parseMetaWebhook`. */
  firstPosition: number;
}

/**
 * Cuts a body of Meta's into parts of at most `maxBytes`, item by item, in order. Each part keeps the envelope its
 * items need: entry, field, metadata, and the contacts that name their people; parsing the parts gives what parsing
 * the whole gives. A body that is small enough, and most are, comes back as the very text it was; so does one that is
 * no webhook, marked oversized.
 */
export function splitMetaWebhook(text: string, maxBytes: number): WebhookPart[] {
  if (fits(text, maxBytes)) return [{ text, oversized: false, firstPosition: 0 }];
  const body = parsed(text);
  const items = itemsOf(body);
  if (!items || items.length === 0) return [{ text, oversized: true, firstPosition: 0 }];
  const parts: WebhookPart[] = [];
  let draft = new Draft(body);
  let firstPosition = 0;
  const close = () => {
    const partText = JSON.stringify(draft.body);
    parts.push({ text: partText, oversized: !fits(partText, maxBytes), firstPosition });
    firstPosition += draft.size;
    draft = new Draft(body);
  };
  for (const item of items) {
    let cost = draft.costOf(item);
    if (draft.size > 0 && draft.bytes + cost > maxBytes) {
      close();
      cost = draft.costOf(item);
    }
    draft.add(item, cost);
  }
  close();
  return parts;
}

/** A string has at least one byte per UTF-16 unit and at most three, so most are settled without encoding. */
function fits(text: string, maxBytes: number): boolean {
  if (text.length > maxBytes) return false;
  return text.length * 3 <= maxBytes || bytesOf(text) <= maxBytes;
}

const encoder = new TextEncoder();

function bytesOf(text: string): number {
  return encoder.encode(text).byteLength;
}

function jsonBytes(value: unknown): number {
  return value === undefined ? 0 : bytesOf(JSON.stringify(value));
}

function parsed(text: string): unknown {
  try {
    return parseProviderJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function without(object: JsonObject, member: string): JsonObject {
  const { [member]: _left, ...kept } = object;
  return kept;
}

/** Punctuation and member names around a list, generously: their names have at most 20 letters. */
const AROUND = 64;

/**
 * A part in the making. Sizes are counted from above, so that a part is never larger than it was counted. Items come
 * in order, so what one opens (entry, change, chunk, thread) is known again by being the same object.
 */
class Draft {
  readonly body: { object?: unknown; entry: unknown[] };
  bytes: number;
  size = 0;
  #entry: { of: Entry; changes: unknown[] } | null = null;
  #change: { of: Change; value: JsonObject; contacts: Set<number> } | null = null;
  #chunk: { of: unknown; threads: unknown[] } | null = null;
  #thread: { of: JsonObject; messages: unknown[] } | null = null;

  constructor(whole: unknown) {
    const object = isObject(whole) ? whole.object : undefined;
    this.body = object === undefined ? { entry: [] } : { object, entry: [] };
    this.bytes = jsonBytes(this.body);
  }

  /** Bytes the part grows by with this item, at most. */
  costOf(item: MetaItem): number {
    // One comma, and brackets where it is the first of its list.
    let cost = jsonBytes(item.raw) + (this.#continues(item) ? 1 : AROUND);
    if (item.kind === "broken_entry") return cost;
    const entry = item.kind === "broken_change" ? item.entry : item.change.entry;
    if (this.#entry?.of !== entry) cost += jsonBytes(without(entry.raw, "changes")) + AROUND;
    if (item.kind === "broken_change" || item.kind === "whole") return cost;
    const { change } = item;
    if (this.#change?.of !== change)
      cost += jsonBytes(without(change.raw, "value")) + jsonBytes(envelopeOf(change)) + AROUND;
    const contacts = listOf(change.value.contacts);
    const held = this.#change?.of === change ? this.#change.contacts : null;
    for (const place of contactsOf(item)) if (!held?.has(place)) cost += jsonBytes(contacts[place]) + 1;
    if (item.kind === "threaded" && this.#thread?.of !== item.thread) {
      cost += jsonBytes(without(item.thread, "messages")) + AROUND;
    }
    return cost;
  }

  /** Whether the list this item goes into is there already. */
  #continues(item: MetaItem): boolean {
    if (item.kind === "listed") return this.#change?.of === item.change && item.list in this.#change.value;
    return item.kind === "threaded" && this.#change?.of === item.change && this.#thread?.of === item.thread;
  }

  /** Adds an item at the cost that was told for it. */
  add(item: MetaItem, cost: number): void {
    this.bytes += cost;
    this.size += 1;
    switch (item.kind) {
      case "broken_entry":
        this.body.entry.push(item.raw);
        return;
      case "broken_change":
        this.#changesOf(item.entry).push(item.raw);
        return;
      case "whole":
        this.#changesOf(item.change.entry).push(item.raw);
        return;
      case "listed": {
        const value = this.#valueOf(item);
        value[item.list] = [...listOf(value[item.list]), item.raw];
        return;
      }
      case "rest":
        Object.assign(this.#valueOf(item), item.raw);
        return;
      case "chunk":
        this.#threadsOf(this.#valueOf(item), item.chunk, item.raw);
        return;
      case "threaded":
        this.#messagesOf(this.#valueOf(item), item).push(item.raw);
        return;
      case "broken_history":
        this.#addBrokenHistory(this.#valueOf(item), item);
        return;
      default:
        unreachable(item);
    }
  }

  #addBrokenHistory(value: JsonObject, item: Extract<MetaItem, { kind: "broken_history" }>): void {
    if (item.thread === undefined) value.history = [...listOf(value.history), item.raw];
    else this.#threadsOf(value, item.chunk, {}).push(item.raw);
  }

  #changesOf(entry: Entry): unknown[] {
    if (this.#entry?.of === entry) return this.#entry.changes;
    const changes: unknown[] = [];
    this.#entry = { of: entry, changes };
    this.body.entry.push({ ...entry.raw, changes });
    return changes;
  }

  #valueOf(item: Extract<MetaItem, { change: Change }>): JsonObject {
    const { change } = item;
    const open = this.#change?.of === change ? this.#change : this.#openChange(change);
    for (const place of contactsOf(item)) open.contacts.add(place);
    const contacts = listOf(change.value.contacts);
    const needed = [...open.contacts].sort((a, b) => a - b).map((place) => contacts[place]);
    if (needed.length > 0) open.value.contacts = needed;
    return open.value;
  }

  #openChange(change: Change) {
    const open = { of: change, value: envelopeOf(change), contacts: new Set<number>() };
    this.#changesOf(change.entry).push({ ...change.raw, value: open.value });
    this.#change = open;
    return open;
  }

  #threadsOf(value: JsonObject, chunk: unknown, head: JsonObject): unknown[] {
    if (this.#chunk !== null && this.#chunk.of === chunk) return this.#chunk.threads;
    const threads: unknown[] = [];
    this.#chunk = { of: chunk, threads };
    value.history = [...listOf(value.history), "threads" in head ? head : { ...head, threads }];
    return threads;
  }

  #messagesOf(value: JsonObject, item: Extract<MetaItem, { kind: "threaded" }>): unknown[] {
    const threads = this.#threadsOf(value, item.chunk, {});
    if (this.#thread?.of !== item.thread) {
      this.#thread = { of: item.thread, messages: [] };
      threads.push({ ...item.thread, messages: this.#thread.messages });
    }
    return this.#thread.messages;
  }
}

/** What of a value belongs to every item in it: which number it is about. */
function envelopeOf(change: Change): JsonObject {
  const { messaging_product, metadata } = change.value;
  return {
    ...(messaging_product === undefined ? {} : { messaging_product }),
    ...(metadata === undefined ? {} : { metadata }),
  };
}

/** Places in `contacts` that this item needs to be understood as in the whole. */
function contactsOf(item: MetaItem): number[] {
  const named = namedIn(item);
  return named === null || !("change" in item) ? [] : contactsAbout(named, item.change.contacts);
}
