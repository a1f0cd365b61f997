import { formerKey, type Key, keyText, otherSpellings } from "./names";
import type { Named } from "./people";
import type { FormerName, KnownFacts, Owner, ReleasedName } from "./store-people";

/** One event's names as they count at its time. */
export interface Entry {
  named: Named;
  /** `named.keys`, place by place: a name given up since stands as its former one. */
  dated: Key[];
  /** The former names this event makes. */
  ended: Key[];
  /** Also looked for, not claimed. */
  spellings: Key[];
  /** Contacts the names belong to. */
  contactIds: string[];
}

interface Former {
  key: Key;
  until: number;
  /** Null when this batch is the first to tell. */
  contactId: string | null;
}

export function nameOf(workspaceId: string, key: Key): string {
  return `${workspaceId} ${keyText(key)}`;
}

/**
 * Which name is whose, by what was read and by what the batch itself changes. A name counts from when until when it
 * was somebody's, so that the order in which webhooks come decides nothing: what was said under a number before it was
 * given up belongs to who gave it up, and whoever has it next is somebody else.
 */
export class Ownership {
  readonly #owners = new Map<string, Owner>();
  /** Of each name those who gave it up, ascending by when. */
  readonly #formers = new Map<string, Former[]>();
  readonly #storedFormers = new Set<string>();
  /** When names are given up in this batch, the last time. */
  readonly #released = new Map<string, number>();
  readonly #facts = new Map<string, KnownFacts>();

  constructor(before: { owners: readonly Owner[]; formers: readonly FormerName[] }, all: readonly Named[]) {
    for (const owner of before.owners) {
      this.#owners.set(nameOf(owner.ws, owner.key), owner);
      this.#facts.set(`${owner.ws} ${owner.contactId}`, owner.facts);
    }
    for (const { ws, ...former } of before.formers) {
      this.#addFormer(ws, former);
      this.#storedFormers.add(nameOf(ws, formerKey(former.key, former.until)));
    }
    for (const { routed, replaced, at } of all) {
      for (const key of replaced) this.#release(routed.workspaceId, key, at);
    }
    for (const formers of this.#formers.values()) formers.sort((a, b) => a.until - b.until);
  }

  #release(ws: string, key: Key, at: number): void {
    this.#addFormer(ws, { key, until: at, contactId: null });
    for (const spelled of [key, ...otherSpellings(key)]) {
      const name = nameOf(ws, spelled);
      this.#released.set(name, Math.max(this.#released.get(name) ?? at, at));
    }
  }

  #addFormer(ws: string, former: Former): void {
    const name = nameOf(ws, former.key);
    const known = this.#formers.get(name) ?? [];
    if (!known.some(({ until }) => until === former.until)) this.#formers.set(name, [...known, former]);
  }

  entryOf(named: Named): Entry {
    const { keys, replaced, at } = named;
    const ws = named.routed.workspaceId;
    const formers = keys.map((key) => this.#formers.get(nameOf(ws, key))?.find(({ until }) => until >= at) ?? null);
    const dated = keys.map((key, place) => {
      const former = formers[place];
      return former ? formerKey(key, former.until) : key;
    });
    const live = keys.filter((_, place) => !formers[place]);
    const spellings = live.flatMap(otherSpellings);
    const owners = [
      ...[...live, ...spellings].flatMap((key) => this.#ownerOf(ws, key) ?? []),
      ...formers.flatMap((former) => (former ? this.#holdersOf(ws, former.key, former.until) : [])),
      ...replaced.flatMap((key) => this.#holdersOf(ws, key, at)),
    ];
    const ended = replaced.map((key) => formerKey(key, at));
    return { named, dated, ended, spellings, contactIds: [...new Set(owners)] };
  }

  /** The contact a name belongs to and goes on belonging to. */
  #ownerOf(ws: string, key: Key): string | null {
    const owner = this.#owners.get(nameOf(ws, key));
    const released = this.#released.get(nameOf(ws, key));
    if (!owner || (released !== undefined && owner.since <= released)) return null;
    return owner.contactId;
  }

  /** Who held a name until then. A later holder of the same name is somebody else. */
  #holdersOf(ws: string, key: Key, until: number): string[] {
    const stored = this.#formers.get(nameOf(ws, key))?.find((former) => former.until === until)?.contactId;
    if (stored) return [stored];
    return [key, ...otherSpellings(key)].flatMap((spelled) => {
      const owner = this.#owners.get(nameOf(ws, spelled));
      return owner && owner.since <= until ? [owner.contactId] : [];
    });
  }

  /** Whether a name, a former one included, is stored and stays. */
  isStored(ws: string, key: Key): boolean {
    return key.kind === "former" ? this.#storedFormers.has(nameOf(ws, key)) : this.#ownerOf(ws, key) !== null;
  }

  /** Stored names that the batch ends. */
  releases(): ReleasedName[] {
    return [...this.#released].flatMap(([name, at]) => {
      const owner = this.#owners.get(name);
      if (!owner || owner.since > at) return [];
      return [{ ws: owner.ws, k: owner.key.kind, v: owner.key.value, c: owner.contactId }];
    });
  }

  /** What is stored of a contact, as far as it was read. */
  factsOf(ws: string, contactId: string): KnownFacts | null {
    return this.#facts.get(`${ws} ${contactId}`) ?? null;
  }
}
