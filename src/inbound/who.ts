/** Who is who in a batch (pipeline 10): everybody is united and matched with the stored contacts before a statement runs. */
import type { NewId } from "../platform/ids";
import { type Key, keyText, phoneOf } from "./names";
import { type Entry, nameOf, Ownership } from "./ownership";
import type { Named } from "./people";
import type { RoutedEvent } from "./routing";
import type {
  ContactFacts,
  FormerName,
  KnownFacts,
  NewContact,
  NewIdentity,
  Owner,
  ReleasedName,
} from "./store-people";

/** Somebody as the batch's rows refer to them. */
export interface Whom {
  /** A name that is theirs alone once the batch is stored. */
  key: Key;
  /** What the event called them: names a thread's object. */
  peer: string;
  contactId: string;
}

export interface Resolved {
  contacts: NewContact[];
  identities: NewIdentity[];
  facts: ContactFacts[];
  releases: ReleasedName[];
  merges: { workspaceId: string; contactIds: [string, string] }[];
  /** People of whom the batch stores a name, with all their names: another batch may have been faster. */
  claimants: { workspaceId: string; keys: Key[] }[];
  whoIs(routed: RoutedEvent): Whom | null;
}

/** Of everybody in the batch: who is new, which names are, and who turned out to be two contacts. */
export function resolveWho(
  all: readonly Named[],
  before: { owners: readonly Owner[]; formers: readonly FormerName[] },
  newId: NewId,
): Resolved {
  const ownership = new Ownership(before, all);
  const whoIs = new Map<RoutedEvent, Whom>();
  const resolved: Resolved = {
    contacts: [],
    identities: [],
    facts: [],
    releases: ownership.releases(),
    merges: [],
    claimants: [],
    whoIs: (routed) => whoIs.get(routed) ?? null,
  };
  for (const group of united(all.map((named) => ownership.entryOf(named)))) {
    const contactId = settle(group, ownership, newId, resolved);
    if (contactId === null) continue;
    for (const { named, dated } of group) {
      const [key] = dated;
      const [called] = named.keys;
      if (!key || !called) continue;
      const peer = called.kind === "group" ? `group-${called.value}` : called.value;
      whoIs.set(named.routed, { key, peer, contactId });
    }
  }
  return resolved;
}

/** Everybody once: entries that share a name, a spelling or a contact of a workspace are one. */
function united(entries: readonly Entry[]): Entry[][] {
  const parents = entries.map((_, place) => place);
  const rootOf = (place: number): number => {
    const parent = parents[place] ?? place;
    return parent === place ? place : rootOf(parent);
  };
  const byName = new Map<string, number>();
  for (const [place, entry] of entries.entries()) {
    for (const name of namesOf(entry)) {
      const other = byName.get(name);
      if (other === undefined) byName.set(name, place);
      // Under the earlier one: a chain is never longer than the names of one person.
      else parents[Math.max(rootOf(place), rootOf(other))] = Math.min(rootOf(place), rootOf(other));
    }
  }
  return [...Map.groupBy(entries, (_, place) => rootOf(place)).values()];
}

function namesOf({ named, dated, ended, spellings, contactIds }: Entry): string[] {
  const ws = named.routed.workspaceId;
  return [
    ...[...dated, ...ended, ...spellings].map((key) => nameOf(ws, key)),
    ...contactIds.map((id) => `${ws} contact ${id}`),
  ];
}

/** Finds or makes the contact of one person and notes what changes; null for a stranger who gets none. */
function settle(group: readonly Entry[], ownership: Ownership, newId: NewId, resolved: Resolved): string | null {
  const [first] = group;
  if (!first) return null;
  const ws = first.named.routed.workspaceId;
  const contactIds = [...new Set(group.flatMap((entry) => entry.contactIds))].sort();
  const [oldest, ...others] = contactIds;
  if (oldest === undefined && !group.some((entry) => entry.named.createIfUnknown)) return null;
  const contactId = oldest ?? newId();
  const keys = keysOf(group);
  const told = toldBy(group);
  if (oldest === undefined) {
    const { name, username, wa, user } = told;
    const kind = first.named.kind;
    resolved.contacts.push({
      ws,
      id: contactId,
      kind,
      phone: phoneOf(wa),
      wa,
      user,
      username,
      name,
      keys: pairs(keys),
    });
  }
  for (const id of contactIds) {
    const facts = factsToStore(ws, id, told, ownership.factsOf(ws, id));
    if (facts) resolved.facts.push(facts);
  }
  for (const other of others) resolved.merges.push({ workspaceId: ws, contactIds: [contactId, other] });
  const claims = claimsOf(group, ownership);
  for (const { key, since } of claims) {
    resolved.identities.push({ ws, k: key.kind, v: key.value, c: contactId, since, keys: pairs(keys) });
  }
  if (claims.length > 0 && keys.length > 1) resolved.claimants.push({ workspaceId: ws, keys });
  return contactId;
}

/** More names of one person in one batch than this say nothing more about who they are. */
const MAX_KEYS = 40;

function keysOf(group: readonly Entry[]): Key[] {
  const keys = group.flatMap(({ dated, ended, spellings }) => [...dated, ...ended, ...spellings]);
  return [...new Map(keys.map((key) => [keyText(key), key])).values()].slice(0, MAX_KEYS);
}

function pairs(keys: readonly Key[]): { k: string; v: string }[] {
  return keys.map((key) => ({ k: key.kind, v: key.value }));
}

/** Names that nobody owns yet, and since when they are this person's. */
function claimsOf(group: readonly Entry[], ownership: Ownership): { key: Key; since: number | null }[] {
  const claims = new Map<string, { key: Key; since: number | null }>();
  for (const { named, dated, ended } of group) {
    for (const key of [...dated, ...ended]) {
      if (ownership.isStored(named.routed.workspaceId, key)) continue;
      const dates = key.kind !== "former" && key.kind !== "group";
      const known = claims.get(keyText(key));
      const since = dates ? Math.min(named.at, known?.since ?? named.at) : null;
      claims.set(keyText(key), { key, since });
    }
  }
  return [...claims.values()];
}

/** What a batch says of one person: the newest of each. */
interface Told {
  name: string | null;
  username: string | null;
  wa: string | null;
  user: string | null;
  /** The name of that kind replaces the one before it. */
  newWa: boolean;
  newUser: boolean;
}

function toldBy(group: readonly Entry[]): Told {
  const told: Told = { name: null, username: null, wa: null, user: null, newWa: false, newUser: false };
  for (const { named, dated } of [...group].sort((a, b) => a.named.at - b.named.at)) {
    told.name = named.name ?? told.name;
    told.username = named.username ?? told.username;
    const replaced = new Set(named.replaced.map((key) => key.kind));
    for (const key of dated) {
      if (key.kind === "wa") {
        told.wa = key.value;
        told.newWa ||= replaced.has("wa");
      }
      if (key.kind === "user") {
        told.user = key.value;
        told.newUser ||= replaced.has("user");
      }
    }
  }
  return told;
}

/** The row that brings a contact up to date; null when it is. */
function factsToStore(ws: string, id: string, told: Told, known: KnownFacts | null): ContactFacts | null {
  const { name, username, wa, user, newWa, newUser } = told;
  const tells =
    !known ||
    (name !== null && known.name === null) ||
    (username !== null && known.username !== username) ||
    (wa !== null && (newWa ? known.waId !== wa : known.waId === null)) ||
    (user !== null && (newUser ? known.userId !== user : known.userId === null)) ||
    (phoneOf(wa) !== null && known.phoneNumber === null);
  return tells ? { ws, id, name, username, wa, user, phone: phoneOf(wa), newWa, newUser } : null;
}
