/** What webhooks call people by, and from when until when a name was theirs (pipeline 10). */
import { type IdentityKind, numberVariants } from "../contacts/service";
import type { Person } from "../providers/provider";

export interface Key {
  kind: IdentityKind;
  value: string;
}

export function keyText(key: Key): string {
  return `${key.kind} ${key.value}`;
}

/** A person's names, the one a thread is named by first. */
export function personKeys(person: Person): Key[] {
  return [
    ...(person.waId === null ? [] : [{ kind: "wa" as const, value: person.waId }]),
    ...(person.userId === null ? [] : [{ kind: "user" as const, value: person.userId }]),
    ...(person.parentUserId === null ? [] : [{ kind: "parent" as const, value: person.parentUserId }]),
  ];
}

/** Other ways to write the same name: a WhatsApp id is also a phone number, and in some countries has two spellings. */
export function otherSpellings(key: Key): Key[] {
  if (key.kind !== "wa") return [];
  const spelled = numberVariants(key.value).flatMap((value): Key[] => [
    { kind: "wa", value },
    { kind: "phone", value },
  ]);
  return spelled.filter((other) => keyText(other) !== keyText(key));
}

/** `+` and digits; null for a WhatsApp id that is no number, which some feeds have (contract 1). */
export function phoneOf(waId: string | null): string | null {
  return waId !== null && /^\d+$/.test(waId) ? `+${waId}` : null;
}

const UNTIL_DIGITS = 15;
const FORMER = /^(wa|user|parent):(.*)@(\d{15})$/s;

function untilText(ms: number): string {
  return String(ms).padStart(UNTIL_DIGITS, "0");
}

/** The name somebody gave up at `until` (provider time, ms): whatever it said up to then, they said. */
export function formerKey(key: Key, until: number): Key {
  return { kind: "former", value: `${key.kind}:${key.value}@${untilText(until)}` };
}

/** Bounds of the values of all former holders of a name who held it at `at` or later. */
export function formerRange(key: Key, at: number): { from: string; to: string } {
  const start = `${key.kind}:${key.value}`;
  // "A" follows "@".
  return { from: `${start}@${untilText(at)}`, to: `${start}A` };
}

export function readFormer(value: string): { key: Key; until: number } | null {
  const match = FORMER.exec(value);
  if (!match) return null;
  const [, kind, name, until] = match;
  if (kind !== "wa" && kind !== "user" && kind !== "parent") return null;
  return { key: { kind, value: name ?? "" }, until: Number(until) };
}

/** Names of the previous person that the current one does not have: given up, each for one of the same kind. */
export function replacedKeys(previous: Person, current: Person): Key[] {
  const kept = new Set(personKeys(current).map(keyText));
  const kinds = new Set(personKeys(current).map((key) => key.kind));
  // A name of a kind that was not replaced stays: a new user id says nothing about the number.
  return personKeys(previous).filter((key) => !kept.has(keyText(key)) && kinds.has(key.kind));
}
