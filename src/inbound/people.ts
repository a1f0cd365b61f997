/** Whom a batch names, event by event (pipeline 10). Nothing is read or decided here. */
import type { Person } from "../providers/provider";
import { formerRange, type Key, keyText, otherSpellings, personKeys, replacedKeys } from "./names";
import type { RoutedEvent } from "./routing";

/** What an event says of somebody. */
export interface Named {
  routed: RoutedEvent;
  kind: "person" | "group";
  keys: Key[];
  /** Provider time, ms. */
  at: number;
  name: string | null;
  username: string | null;
  /** Only these get a contact when nobody knows them. */
  createIfUnknown: boolean;
  /** Names given up with this event. */
  replaced: Key[];
}

/** What must be read before a batch to know who is who. */
export interface Lookups {
  names: { ws: string; k: string; v: string }[];
  formers: { ws: string; from: string; to: string }[];
}

/** Whom each event names. What names nobody, or nobody that matters, is passed over. */
export function namedIn(events: readonly RoutedEvent[]): Named[] {
  return events.flatMap((routed) => namedBy(routed) ?? []);
}

function namedBy(routed: RoutedEvent): Named | null {
  const { event } = routed;
  switch (event.kind) {
    case "message":
      if (event.groupId !== null) return group(routed, event.groupId, event.message.at);
      return person(routed, event.sender, event.message.at, true);
    case "echo":
      if (event.groupId !== null) return group(routed, event.groupId, event.message.at);
      return person(routed, event.recipient, event.message.at, true);
    case "preference":
      return person(routed, event.sender, event.at, true);
    case "contact_sync":
      return person(routed, event.person, event.at, event.action === "add");
    case "identity_change":
      return change(routed, event.previous, event.current, event.at);
    case "status":
      // A status may be the first to tell a known person's user id.
      if (!event.recipient?.waId || !event.recipient.userId) return null;
      return person(routed, event.recipient, event.at, false);
    case "reaction":
    case "edit":
    case "revoke":
    case "notice":
    case "unknown":
      return null;
  }
}

function person(routed: RoutedEvent, { name, username, ...ids }: Person, at: number, create: boolean): Named | null {
  const keys = personKeys({ ...ids, name, username });
  if (keys.length === 0) return null;
  return { routed, kind: "person", keys, at, name, username, createIfUnknown: create, replaced: [] };
}

function group(routed: RoutedEvent, groupId: string, at: number): Named {
  const keys: Key[] = [{ kind: "group", value: groupId }];
  return { routed, kind: "group", keys, at, name: null, username: null, createIfUnknown: true, replaced: [] };
}

/** A person's number or id changed. A stranger's is kept too: what they said before may come later. */
function change(routed: RoutedEvent, previous: Person, current: Person, at: number): Named | null {
  const replaced = replacedKeys(previous, current);
  const gone = new Set(replaced.map(keyText));
  const name = current.name ?? previous.name;
  const named = person(routed, { ...current, name, username: current.username ?? previous.username }, at, true);
  if (!named) return null;
  const kept = personKeys(previous).filter((key) => !gone.has(keyText(key)));
  const keys = [...new Map([...named.keys, ...kept].map((key) => [keyText(key), key])).values()];
  return { ...named, keys, replaced };
}

/** Every name and spelling once, and for whom else a name stood since the earliest time the batch speaks of. */
export function lookupsOf(all: readonly Named[]): Lookups {
  const names = new Map<string, Lookups["names"][number]>();
  const formers = new Map<string, { ws: string; key: Key; at: number }>();
  for (const { routed, keys, replaced, at } of all) {
    const ws = routed.workspaceId;
    for (const key of [...keys, ...replaced]) {
      for (const spelled of [key, ...otherSpellings(key)]) {
        names.set(`${ws} ${keyText(spelled)}`, { ws, k: spelled.kind, v: spelled.value });
      }
      const name = `${ws} ${keyText(key)}`;
      const known = formers.get(name);
      if (key.kind !== "group" && (!known || at < known.at)) formers.set(name, { ws, key, at });
    }
  }
  return {
    names: [...names.values()],
    formers: [...formers.values()].map(({ ws, key, at }) => ({ ws, ...formerRange(key, at) })),
  };
}
