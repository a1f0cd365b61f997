import type { Change, MetaItem } from "./meta-envelope";
import type { Person } from "./provider";
import { isObject, type JsonObject, objectOf, textOf } from "./provider-json";

/** A business-scoped user id: `US.13491208655302741918`, or a parent's, `US.ENT.11815799212886844830`. */
const USER_ID = /^[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}$/;

/** Digits of a number however it is written; what is no number stays as the provider wrote it (contract 1). */
function waIdOf(value: unknown): string | null {
  const text = textOf(value);
  if (text === null || USER_ID.test(text)) return null;
  return /^\+?[\d\s().-]+$/.test(text) ? text.replaceAll(/\D/g, "") || null : text;
}

/** A person by whatever names them: a number, a user id, or both. A user id may stand where a number did. */
export function personOf(wa: unknown, user?: unknown, parent?: unknown): Person {
  const text = textOf(wa);
  const inPlaceOfNumber = text !== null && USER_ID.test(text) ? text : null;
  return {
    waId: waIdOf(wa),
    userId: textOf(user) ?? inPlaceOfNumber,
    parentUserId: textOf(parent),
    username: null,
    name: null,
  };
}

export function isSomebody(person: Person): boolean {
  return person.waId !== null || person.userId !== null || person.parentUserId !== null;
}

/** One of a value's `contacts`. */
export function contactPerson(contact: JsonObject): Person {
  const profile = objectOf(contact.profile);
  return {
    ...personOf(contact.wa_id, contact.user_id, contact.parent_user_id),
    username: textOf(profile.username),
    name: textOf(profile.name),
  };
}

/** Whether our side wrote a message of a history or an echo: it is from our number. */
export function isFromUs(raw: JsonObject, change: Change): boolean {
  const from = waIdOf(raw.from);
  return from !== null && from === change.number.displayDigits;
}

/**
 * The person an item is about, as the item itself names them: nobody (an empty person) where it should name one and
 * does not; null where `contacts` have nothing to add.
 */
export function namedIn(item: MetaItem): Person | null {
  if (item.kind === "threaded") return threadPerson(item.thread);
  if (item.kind !== "listed" || !isObject(item.raw)) return null;
  const { raw, change } = item;
  switch (item.list) {
    case "messages":
      return change.field === "history" && isFromUs(raw, change)
        ? personOf(raw.to, raw.to_user_id, raw.to_parent_user_id)
        : personOf(raw.from, raw.from_user_id, raw.from_parent_user_id);
    case "message_echoes":
      return personOf(raw.to, raw.to_user_id, raw.to_parent_user_id);
    case "statuses":
      return statusPerson(raw);
    case "user_preferences":
      return personOf(raw.wa_id, raw.user_id, raw.parent_user_id);
    case "user_id_update":
      return personOf(raw.wa_id, objectOf(raw.user_id).current, objectOf(raw.parent_user_id).current);
    case "state_sync":
    case "groups":
    case "calls":
    case "errors":
      return null;
  }
}

/** A thread is named by the other side's number or user id; newer chunks say more in its `context`. */
function threadPerson(thread: JsonObject): Person {
  const context = objectOf(thread.context);
  return {
    ...personOf(thread.id ?? context.wa_id, context.user_id, context.parent_user_id),
    username: textOf(context.username),
  };
}

/** The participant of a group status, else the recipient. Feeds write the participant's name both ways round. */
function statusPerson(raw: JsonObject): Person {
  if (raw.recipient_type !== "group") {
    return personOf(raw.recipient_id, raw.recipient_user_id, raw.recipient_parent_user_id);
  }
  return personOf(
    raw.recipient_participant_id ?? raw.participant_recipient_id,
    raw.recipient_participant_user_id,
    raw.recipient_participant_parent_user_id,
  );
}

function samePerson(a: Person, b: Person): boolean {
  return (a.waId !== null && a.waId === b.waId) || (a.userId !== null && a.userId === b.userId);
}

/**
 * Places in `contacts` that may tell more of a person. They are matched by number or user id, never by place: the
 * list may be shorter, or in another order. Of a person nobody named it may be any.
 */
export function contactsAbout(person: Person, contacts: readonly (Person | null)[]): number[] {
  const unnamed = !isSomebody(person);
  const places: number[] = [];
  for (const [place, contact] of contacts.entries()) {
    if (unnamed || (contact && samePerson(contact, person))) places.push(place);
  }
  return places;
}

/**
 * The person with what the webhook's `contacts` add. A message that names nobody is the only contact's: so come
 * people without a number from some senders.
 */
export function completed(person: Person, contacts: readonly (Person | null)[]): Person {
  const places = contactsAbout(person, contacts);
  if (!isSomebody(person) && places.length > 1) return person;
  const match = contacts[places[0] ?? -1];
  if (!match) return person;
  return {
    waId: person.waId ?? match.waId,
    userId: person.userId ?? match.userId,
    parentUserId: person.parentUserId ?? match.parentUserId,
    username: person.username ?? match.username,
    name: person.name ?? match.name,
  };
}
