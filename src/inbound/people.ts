/** Who is who in a batch: everything a webhook calls a person by, united before a statement runs (pipeline 10). */
import type { IdentityKind } from "../contacts/service";
import { numberVariants } from "../contacts/variants";
import type { Person } from "../providers/provider";

export interface Key {
  kind: IdentityKind;
  value: string;
}

/** One person (or WhatsApp group) of one workspace, under all the names the batch and the database know. */
export interface Someone {
  workspaceId: string;
  kind: "person" | "group";
  /** Every identity the batch names; each will belong to this contact. */
  keys: Key[];
  /** Also looked for, but not claimed: the other spellings of a number. */
  alsoKnownAs: Key[];
  name: string | null;
  username: string | null;
  waId: string | null;
  userId: string | null;
  parentUserId: string | null;
  /** Only these get a contact when nobody knows them. */
  createIfUnknown: boolean;
}

export function personKeys(person: Person): Key[] {
  return [
    ...(person.waId === null ? [] : [{ kind: "wa" as const, value: person.waId }]),
    ...(person.userId === null ? [] : [{ kind: "user" as const, value: person.userId }]),
    ...(person.parentUserId === null ? [] : [{ kind: "parent" as const, value: person.parentUserId }]),
  ];
}

export function keyText(key: Key): string {
  return `${key.kind} ${key.value}`;
}

/** Collects people and groups of a batch; `resolve` unites those that share a name. */
export class People {
  readonly #entries: Someone[] = [];

  /** Answers the key by which the person's contact is found once the batch's identities are stored; null for nobody. */
  person(workspaceId: string, person: Person, createIfUnknown: boolean): Key | null {
    const keys = personKeys(person);
    const [first] = keys;
    if (!first) return null;
    this.#entries.push({
      workspaceId,
      kind: "person",
      keys,
      alsoKnownAs: person.waId === null ? [] : numberVariants(person.waId).flatMap(bothKinds),
      name: person.name,
      username: person.username,
      waId: person.waId,
      userId: person.userId,
      parentUserId: person.parentUserId,
      createIfUnknown,
    });
    return first;
  }

  group(workspaceId: string, groupId: string): Key {
    const key: Key = { kind: "group", value: groupId };
    this.#entries.push({
      workspaceId,
      kind: "group",
      keys: [key],
      alsoKnownAs: [],
      name: null,
      username: null,
      waId: null,
      userId: null,
      parentUserId: null,
      createIfUnknown: true,
    });
    return key;
  }

  /** Says that two names mean one person (a number or id that changed). */
  same(workspaceId: string, a: Person, b: Person): void {
    this.#entries.push({
      workspaceId,
      kind: "person",
      keys: [...personKeys(a), ...personKeys(b)],
      alsoKnownAs: [],
      name: null,
      username: null,
      waId: b.waId ?? a.waId,
      userId: b.userId ?? a.userId,
      parentUserId: b.parentUserId ?? a.parentUserId,
      createIfUnknown: false,
    });
  }

  /** Everybody once: entries that share any name (or spelling) of a workspace are one. Later entries win a fact. */
  united(): Someone[] {
    const groups: Someone[] = [];
    const byName = new Map<string, Someone>();
    for (const entry of this.#entries) {
      const names = [...entry.keys, ...entry.alsoKnownAs].map((key) => `${entry.workspaceId} ${keyText(key)}`);
      const known = [...new Set(names.map((name) => byName.get(name)).filter((s) => s !== undefined))];
      const merged = known.reduce(unite, entry);
      for (const old of known) groups.splice(groups.indexOf(old), 1);
      groups.push(merged);
      for (const key of [...merged.keys, ...merged.alsoKnownAs])
        byName.set(`${merged.workspaceId} ${keyText(key)}`, merged);
    }
    return groups;
  }
}

/** A number is looked for as WhatsApp id and as the phone a contact was created with. */
function bothKinds(value: string): Key[] {
  return [
    { kind: "wa", value },
    { kind: "phone", value },
  ];
}

/** `b` was there before `a`. */
function unite(a: Someone, b: Someone): Someone {
  return {
    workspaceId: a.workspaceId,
    kind: a.kind,
    keys: distinct([...b.keys, ...a.keys]),
    alsoKnownAs: distinct([...b.alsoKnownAs, ...a.alsoKnownAs]),
    name: a.name ?? b.name,
    username: a.username ?? b.username,
    waId: a.waId ?? b.waId,
    userId: a.userId ?? b.userId,
    parentUserId: a.parentUserId ?? b.parentUserId,
    createIfUnknown: a.createIfUnknown || b.createIfUnknown,
  };
}

function distinct(keys: Key[]): Key[] {
  return [...new Map(keys.map((key) => [keyText(key), key])).values()];
}
